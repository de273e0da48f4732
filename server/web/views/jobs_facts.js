// What the pages of fine-tuning jobs reckon from the API's objects and from what was typed. Nothing here knows the page.

const OVER = ["succeeded", "failed", "cancelled"];
const LOOK_AGAIN_MS = { running: 1500, validating_files: 1500, queued: 3000, paused: 10_000 };
const SMOOTH_FROM = 20; // steps; fewer are told apart by eye

export const isOver = (job) => OVER.includes(job.status);

/** How long a job stays as it is, about: milliseconds to the next look at it; null for one that is over. */
export function lookAgainMs(job) {
  if (isOver(job)) return null;
  return job.wanted ? LOOK_AGAIN_MS.running : (LOOK_AGAIN_MS[job.status] ?? LOOK_AGAIN_MS.queued);
}

/** Seconds until the server thinks that it ends, at least 0; null where it does not say. */
export function secondsLeft(job, now) {
  return job.status === "running" && job.estimated_finish ? Math.max(0, job.estimated_finish - now) : null;
}

/** What can be asked of a job now, of `pause`, `resume` and `cancel`. */
export function possible(job) {
  if (isOver(job) || job.wanted === "cancel") return [];
  return job.status === "paused" || job.wanted === "pause" ? ["resume", "cancel"] : ["pause", "cancel"];
}

/** The body of POST /v1/fine_tuning/jobs; what was left empty is the server's to choose. */
export function orderOf(draft, { training, validation = null }) {
  const { method } = draft;
  const lora = given({ r: draft.rank, alpha: draft.alpha });
  const hyperparameters = {
    ...given({ n_epochs: draft.epochs, batch_size: draft.batch, learning_rate_multiplier: draft.rate }),
    ...(method === "dpo" ? given({ beta: draft.beta }) : {}),
    ...(method === "prompt_tuning" ? given({ n_virtual_tokens: draft.tokens }) : {}),
    ...(method !== "prompt_tuning" && Object.keys(lora).length ? { lora } : {}),
    ...(method !== "prompt_tuning" && draft.nf4 ? { quantization: "nf4" } : {}),
  };
  return {
    model: draft.model,
    training_file: training,
    ...(validation ? { validation_file: validation } : {}),
    suffix: draft.name.trim(),
    method: { type: method, [method]: { hyperparameters } },
    publish: draft.publish,
    ...given({ seed: draft.seed }),
  };
}

/** A name for the adapter from what its data is called. */
export function nameFrom(filename) {
  const plain = filename.normalize("NFD").replace(/\p{M}/gu, "").replace(/\.[A-Za-z]+$/, "");
  return plain.replace(/[^A-Za-z0-9._-]+/g, "-").replace(/^[^A-Za-z0-9]+|-+$/g, "").slice(0, 64);
}

/** Events that were not there before, put to the others, the oldest first; the API gives the newest first. */
export function joined(events, newest) {
  const known = new Set(events.map((event) => event.id));
  return [...events, ...newest.filter((event) => !known.has(event.id)).reverse()];
}

/** Losses of the steps that events tell of, in their order: `[{step, training, validation}]`, null where not measured. */
export function stepsOf(events) {
  const told = events.filter((event) => event.type === "metrics").map((event) => event.data);
  return inOrder(told.map((data) => ({ step: data.step, training: data.train_loss, validation: data.valid_loss })));
}

/** The same from a job's result file (https://platform.openai.com/docs/guides/fine-tuning). */
export function stepsOfCsv(csv) {
  const [head, ...rows] = csv.trim().split(/\r?\n/).map((line) => line.split(","));
  const at = (name) => head.indexOf(name);
  return inOrder(rows.map((row) => ({ step: row[at("step")], training: row[at("train_loss")], validation: row[at("valid_loss")] })));
}

/**
 * The training losses as a curve that a reader can follow: the mean of a fifteenth of the steps around each, of fewer
 * where it would reach past an end, so that a fall is not told late. Null where there are too few steps to need it.
 */
export function smoothed(steps) {
  if (steps.length < SMOOTH_FROM) return null;
  const most = Math.max(2, Math.round(steps.length / 30));
  return steps.map((_, at) => {
    const reach = Math.min(most, at, steps.length - 1 - at);
    const near = steps.slice(at - reach, at + reach + 1).map((step) => step.training).filter((loss) => loss !== null);
    return near.length ? near.reduce((sum, loss) => sum + loss, 0) / near.length : null;
  });
}

/** Base and adapter by each measure that both have: `[{measure, base, adapter, verdict}]`, the verdict on the adapter. */
export function comparisons(evaluation) {
  const { base, adapter } = evaluation ?? {};
  if (!base || !adapter) return [];
  return ["loss", "perplexity", "token_accuracy", "exact_match", "accuracy"]
    .filter((measure) => isNumber(base[measure]) && isNumber(adapter[measure]))
    .map((measure) => {
      const gain = (adapter[measure] - base[measure]) * (measure === "loss" || measure === "perplexity" ? -1 : 1);
      return { measure, base: base[measure], adapter: adapter[measure], verdict: gain > 0 ? "better" : gain < 0 ? "worse" : "same" };
    });
}

/** The line of a file that a refusal names, from 1, or null: "line 3: not JSON at column 5". */
export function refusedLine(message) {
  const found = /\bline (\d+):/.exec(message);
  return found ? Number(found[1]) : null;
}

/** One line of a Blob, read as far as needed and cut to `most` characters; null where the file has fewer lines. */
export async function lineOf(blob, wanted, most = 600) {
  const reader = blob.stream().pipeThrough(new TextDecoderStream()).getReader();
  let line = 1;
  let kept = "";
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return line === wanted ? cut(kept, most) : null;
      let start = 0;
      for (let end; (end = value.indexOf("\n", start)) >= 0 && line <= wanted; start = end + 1) {
        if (line === wanted) return cut((kept + value.slice(start, end)).replace(/\r$/, ""), most);
        line += 1;
      }
      if (line === wanted && kept.length <= most) kept += value.slice(start);
    }
  } finally {
    await reader.cancel().catch(() => {});
  }
}

function cut(text, most) {
  return text.length > most ? `${text.slice(0, most)}…` : text;
}

/** Numbers of what was typed, without what is empty. */
function given(typed) {
  const some = Object.entries(typed).filter(([, value]) => value !== "" && value !== null && value !== undefined);
  return Object.fromEntries(some.map(([name, value]) => [name, Number(value)]));
}

/** A step that was trained again after a stop counts once, as it was the last time. */
function inOrder(told) {
  const byStep = new Map();
  for (const one of told) {
    const [step, training, validation] = [one.step, one.training, one.validation].map(numberOf);
    if (step !== null && (training !== null || validation !== null)) byStep.set(step, { step, training, validation });
  }
  return [...byStep.values()].sort((one, other) => one.step - other.step);
}

function numberOf(value) {
  if (value === null || value === undefined || value === "") return null;
  return isNumber(Number(value)) ? Number(value) : null;
}

function isNumber(value) {
  return typeof value === "number" && Number.isFinite(value);
}
