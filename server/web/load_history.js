// What the load view keeps: looks of the last minute to reckon rates from, and points of the last five for its charts.
import { increase, labelled, observed, perSecond, quantile, total } from "./prometheus.js";

export const LOOK_SECONDS = 2; // between two looks
export const TABLE_SECONDS = 60;
export const CHART_SECONDS = 300;
const RATE_SECONDS = 10; // that a point's rates are taken over: those of two seconds would jump
const GAP_SECONDS = 10; // without a look, after which everything begins anew
const OWN = /^\/(?:$|console|metrics$|ready$|health$)/; // endpoints that machines and this page ask

const FIRST_TOKEN = "manyhats_time_to_first_token_seconds";
const PER_TOKEN = "manyhats_time_per_output_token_seconds";

export function newHistory() {
  return { looks: [], points: [] };
}

/** The history with one more look in it. */
export function added({ looks, points }, now) {
  const last = looks.at(-1);
  const isGap = last !== undefined && now.at - last.at > GAP_SECONDS;
  const recent = isGap ? [] : looks.filter((one) => within(one, now, TABLE_SECONDS));
  const before = recent.find((one) => within(one, now, RATE_SECONDS)) ?? null;
  const kept = points.filter((point) => now.at - point.at <= CHART_SECONDS);
  return { looks: [...recent, now], points: [...kept, ...(isGap ? [{ at: last.at + LOOK_SECONDS }] : []), pointOf(before, now)] };
}

/** The figures of a moment; null for what cannot be told, as every rate at the first look. */
export function pointOf(before, now) {
  const first = observed(before, now, FIRST_TOKEN);
  const waiting = total(now, "manyhats_queue_depth");
  const unended = total(now, "manyhats_requests_running");
  const lives = total(now, "vllm:generation_tokens_total") !== null; // the engine counts while it writes, we at the end
  return {
    at: now.at,
    requests: perSecond(before, now, "manyhats_requests_total", ({ endpoint }) => !OWN.test(endpoint)),
    tokens: lives ? perSecond(before, now, "vllm:generation_tokens_total") : perSecond(before, now, "manyhats_tokens_total", isCompletion),
    running: unended === null ? null : Math.max(0, unended - (waiting ?? 0)),
    waiting,
    median: quantile(first, 0.5),
    p95: quantile(first, 0.95),
    cache: total(now, "vllm:kv_cache_usage_perc"),
  };
}

/** A row for each adapter, the busiest first; `requests` since the server's start, the rest since `before`. */
export function adapterRows(before, now) {
  const names = labelled(now, "manyhats_requests_total", "adapter", ({ adapter }) => adapter);
  const rows = names.map((name) => {
    const its = ({ adapter }) => adapter === name;
    const first = observed(before, now, FIRST_TOKEN, its);
    const each = observed(before, now, PER_TOKEN, its);
    return {
      name,
      requests: total(now, "manyhats_requests_total", its),
      perSecond: perSecond(before, now, "manyhats_requests_total", its),
      median: quantile(first, 0.5),
      p95: quantile(first, 0.95),
      tokens: perSecond(before, now, "manyhats_tokens_total", (labels) => its(labels) && isCompletion(labels)),
      oneAnswer: each?.sum > 0 ? each.count / each.sum : null, // tokens/s that a single reader gets
    };
  });
  return rows.sort((one, other) => other.requests - one.requests);
}

/** Adapters that are or were in memory. */
export function memoryRows(now) {
  const loads = "manyhats_adapter_load_seconds";
  const names = new Set([...labelled(now, "manyhats_adapter_resident", "adapter"), ...labelled(now, `${loads}_count`, "adapter")]);
  return [...names].sort().map((name) => {
    const its = ({ adapter }) => adapter === name;
    const n = total(now, `${loads}_count`, its) ?? 0;
    return {
      name,
      versions: total(now, "manyhats_adapter_resident", its) ?? 0,
      loads: n,
      seconds: n ? total(now, `${loads}_sum`, its) / n : null,
      evictions: total(now, "manyhats_adapter_evictions_total", its) ?? 0,
    };
  });
}

/** Of the engine, where it tells: adapters that it computes with at this moment, and how many it can. */
export function engineFacts(now) {
  const info = now.names.get("vllm:lora_requests_info")?.[0]?.labels;
  const listed = (names) => (names ? names.split(",").map((name) => name.trim()).filter(Boolean) : []);
  return {
    active: info ? listed(info.running_lora_adapters) : null,
    slots: info ? Number(info.max_lora) : null,
  };
}

/** Requests that failed by what the client was told: `[{name, all, recent}]`. */
export function errorsBy(label, before, now) {
  const [name, counts] = label === "status" ? ["manyhats_requests_total", ({ status }) => Number(status) >= 400] : ["manyhats_errors_total", () => true];
  return labelled(now, name, label, counts)
    .map((value) => {
      const its = (labels) => labels[label] === value && counts(labels);
      return { name: value, all: total(now, name, its), recent: increase(before, now, name, its) };
    })
    .sort((one, other) => other.all - one.all);
}

/** Stages of searches: `[{name, all, median, p95, failures}]`. */
export function stageRows(before, now) {
  const seconds = "manyhats_retrieval_seconds";
  return labelled(now, `${seconds}_count`, "stage").map((name) => {
    const its = ({ stage }) => stage === name;
    const took = observed(before, now, seconds, its);
    return {
      name,
      all: total(now, `${seconds}_count`, its),
      median: quantile(took, 0.5),
      p95: quantile(took, 0.95),
      failures: total(now, "manyhats_retrieval_failures_total", its) ?? 0,
    };
  });
}

function within(one, now, seconds) {
  return now.at - one.at <= seconds + LOOK_SECONDS / 2;
}

function isCompletion({ kind }) {
  return kind === "completion";
}
