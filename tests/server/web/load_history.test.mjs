// What the load view makes of looks at /metrics.
import assert from "node:assert/strict";
import { test } from "node:test";
import { adapterRows, added, engineFacts, errorsBy, memoryRows, newHistory, pointOf, stageRows } from "../../../server/web/load_history.js";
import { NOTHING, look } from "../../../server/web/prometheus.js";

/** A server that has answered so many chats in all, each of ten tokens. */
function server(chats, at, more = "") {
  return look(
    `manyhats_requests_total{adapter="pirate",endpoint="/v1/chat/completions",status="200"} ${chats}
manyhats_requests_total{adapter="",endpoint="/metrics",status="200"} ${at}
manyhats_requests_total{adapter="",endpoint="/console/{path:path}",status="200"} ${at}
manyhats_tokens_total{adapter="pirate",kind="prompt"} ${chats * 50}
manyhats_tokens_total{adapter="pirate",kind="completion"} ${chats * 10}
manyhats_time_to_first_token_seconds_bucket{adapter="pirate",le="0.1"} ${chats}
manyhats_time_to_first_token_seconds_bucket{adapter="pirate",le="+Inf"} ${chats}
manyhats_time_to_first_token_seconds_count{adapter="pirate"} ${chats}
manyhats_time_per_output_token_seconds_bucket{adapter="pirate",le="+Inf"} ${chats}
manyhats_time_per_output_token_seconds_count{adapter="pirate"} ${chats}
manyhats_time_per_output_token_seconds_sum{adapter="pirate"} ${chats * 0.02}
manyhats_requests_running 5
manyhats_queue_depth 2
${more}`,
    at,
  );
}

const latest = (history) => history.points.at(-1);

test("the first look has gauges and no rates", () => {
  const point = latest(added(newHistory(), server(8, 100)));
  assert.equal(point.at, 100);
  assert.deepEqual([point.running, point.waiting], [3, 2]);
  assert.deepEqual([point.requests, point.tokens, point.median, point.p95, point.cache], [null, null, null, null, null]);
});

test("rates are of the last ten seconds, and what this page asks does not count", () => {
  let history = newHistory();
  for (const at of [100, 102, 104, 106, 108, 110, 112]) history = added(history, server(at < 112 ? 1000 : 1040, at));
  assert.deepEqual([latest(history).requests, latest(history).tokens], [4, 40]);
  assert.equal(latest(history).median, 0.05);
});

test("a minute of looks and five minutes of points are kept", () => {
  let history = newHistory();
  for (let at = 0; at <= 400; at += 2) history = added(history, server(0, at));
  assert.ok(history.looks[0].at >= 400 - 62);
  assert.ok(history.points[0].at >= 100 && history.points.length <= 151);
});

test("after a pause the curve has a gap and rates begin anew", () => {
  let history = newHistory();
  for (const at of [0, 2, 60]) history = added(history, server(at, at));
  assert.equal(history.looks.length, 1);
  assert.deepEqual(history.points.map((point) => point.requests ?? null), [null, 1, null, null]);
});

test("a server that began anew has rates of what it answered since", () => {
  const history = added(added(newHistory(), server(1000, 0)), server(4, 2));
  assert.equal(latest(history).requests, 2);
});

test("the engine's own count of tokens goes first: it grows while answers are written", () => {
  const point = pointOf(server(0, 0, "vllm:generation_tokens_total 10"), server(0, 2, "vllm:generation_tokens_total 70"));
  assert.equal(point.tokens, 30);
});

test("an adapter's row", () => {
  const [row, ...others] = adapterRows(server(10, 0), server(20, 5));
  assert.deepEqual(others, []);
  assert.equal(row.name, "pirate");
  assert.deepEqual([row.requests, row.perSecond, row.tokens, row.median], [20, 2, 20, 0.05]);
  assert.ok(Math.abs(row.oneAnswer - 50) < 1e-9);
});

test("without a look before only the counts are known; since the start all but the rates", () => {
  const [row] = adapterRows(null, server(20, 5));
  assert.deepEqual([row.requests, row.perSecond, row.median, row.oneAnswer], [20, null, null, null]);
  const [whole] = adapterRows(NOTHING, server(20, 5));
  assert.deepEqual([whole.perSecond, whole.median], [null, 0.05]);
});

test("errors by what clients were told, the most frequent first", () => {
  const failed = (n) => `manyhats_requests_total{adapter="",endpoint="/x",status="404"} ${n}
manyhats_requests_total{adapter="",endpoint="/y",status="404"} 1
manyhats_requests_total{adapter="",endpoint="/x",status="429"} 9
manyhats_errors_total{adapter="",type="model_not_found"} ${n}`;
  const [before, now] = [server(1, 0, failed(2)), server(1, 2, failed(5))];
  assert.deepEqual(errorsBy("status", before, now), [{ name: "429", all: 9, recent: 0 }, { name: "404", all: 6, recent: 3 }]);
  assert.deepEqual(errorsBy("type", null, now), [{ name: "model_not_found", all: 5, recent: null }]);
  assert.deepEqual(errorsBy("status", null, server(1, 0)), []);
});

test("adapters in memory, and those that were", () => {
  const now = look(
    `manyhats_adapter_resident{adapter="pirate"} 2
manyhats_adapter_load_seconds_count{adapter="pirate"} 3
manyhats_adapter_load_seconds_sum{adapter="pirate"} 0.6
manyhats_adapter_load_seconds_count{adapter="json"} 1
manyhats_adapter_load_seconds_sum{adapter="json"} 0.1
manyhats_adapter_evictions_total{adapter="json"} 1`,
    0,
  );
  const [json, pirate] = memoryRows(now);
  assert.deepEqual(json, { name: "json", versions: 0, loads: 1, seconds: 0.1, evictions: 1 });
  assert.deepEqual([pirate.versions, pirate.loads, pirate.evictions], [2, 3, 0]);
  assert.ok(Math.abs(pirate.seconds - 0.2) < 1e-9);
});

test("what the engine computes with, where it tells", () => {
  const now = look('vllm:lora_requests_info{max_lora="4",running_lora_adapters="pirate@0123, json@4567",waiting_lora_adapters=""} 1.7e9', 0);
  assert.deepEqual(engineFacts(now), { active: ["pirate@0123", "json@4567"], slots: 4 });
  assert.deepEqual(engineFacts(server(1, 0)), { active: null, slots: null });
});

test("stages of searches", () => {
  const now = look(
    `manyhats_retrieval_seconds_bucket{stage="embed",le="0.01"} 4
manyhats_retrieval_seconds_bucket{stage="embed",le="+Inf"} 4
manyhats_retrieval_seconds_count{stage="embed"} 4
manyhats_retrieval_failures_total{stage="embed"} 1`,
    0,
  );
  assert.deepEqual(stageRows(NOTHING, now), [{ name: "embed", all: 4, median: 0.005, p95: 0.0095, failures: 1 }]);
});
