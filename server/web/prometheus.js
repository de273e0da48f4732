// Prometheus' text format (https://prometheus.io/docs/instrumenting/exposition_formats/), read into looks; and what
// changed between two looks. A look is `{at, names}`: when it was taken, in seconds, and the samples by name.

const LINE = /^([a-zA-Z_:][\w:]*)(?:\{(.*)\})?\s+(\S+)(?:\s+-?\d+)?\s*$/;
const LABEL = /([a-zA-Z_]\w*)="((?:\\.|[^"\\])*)"/g;

const any = () => true;

/** What `/metrics` says at a moment. Lines that are no samples are passed over. */
export function look(text, at) {
  const names = new Map();
  for (const line of text.split("\n")) {
    const found = line.startsWith("#") ? null : LINE.exec(line);
    if (!found) continue;
    const [, name, written = "", value] = found;
    const labels = Object.fromEntries([...written.matchAll(LABEL)].map(([, label, quoted]) => [label, unquoted(quoted)]));
    if (!names.has(name)) names.set(name, []);
    names.get(name).push({ key: keyOf(labels), labels, value: numeric(value) });
  }
  return { at, names };
}

/** A look at a server that has not answered anything yet: what changed since then is everything. */
export const NOTHING = { at: null, names: new Map() };

/** The different values of a label, in their order of appearance. */
export function labelled(now, name, label, where = any) {
  return [...new Set(samples(now, name, where).map(({ labels }) => labels[label]))];
}

/** The sum of the samples; null where there is none. */
export function total(now, name, where = any) {
  const found = samples(now, name, where);
  return found.length ? found.reduce((sum, { value }) => sum + value, 0) : null;
}

/** How much counters grew, 0 where there are none; null without a look before. One that fell began anew, from 0. */
export function increase(before, now, name, where = any) {
  if (!before) return null;
  const known = byKey(before, name);
  return samples(now, name, where).reduce((sum, { key, value }) => sum + grown(known.get(key), value), 0);
}

/** The same for a second; null where no time passed that we know of. */
export function perSecond(before, now, name, where = any) {
  const seconds = before && before.at !== null ? now.at - before.at : 0;
  return seconds > 0 ? increase(before, now, name, where) / seconds : null;
}

/** What a histogram took in between two looks: `{count, sum, buckets: [[upper bound, how many up to it]]}`, or null. */
export function observed(before, now, name, where = any) {
  if (!before) return null;
  const counts = byKey(before, `${name}_count`);
  const fell = new Set(samples(now, `${name}_count`).filter(({ key, value }) => value < (counts.get(key) ?? 0)).map(({ key }) => key));
  const known = byKey(before, `${name}_bucket`);
  const upTo = new Map();
  for (const { key, labels: { le, ...rest }, value } of samples(now, `${name}_bucket`, where)) {
    const bound = numeric(le);
    const from = fell.has(keyOf(rest)) ? 0 : known.get(key);
    upTo.set(bound, (upTo.get(bound) ?? 0) + grown(from, value));
  }
  const buckets = [...upTo].sort(([one], [other]) => one - other);
  return { count: buckets.at(-1)?.[1] ?? 0, sum: increase(before, now, `${name}_sum`, where), buckets };
}

/**
 * The value that a share of the observations stays below, taken as spread evenly inside its bucket; the last finite
 * bound for those beyond it. Null where nothing was observed.
 */
export function quantile(histogram, share) {
  if (!histogram?.count) return null;
  const wanted = share * histogram.count;
  let [lower, below] = [0, 0];
  for (const [bound, upTo] of histogram.buckets) {
    if (upTo >= wanted && upTo > below) {
      return bound === Infinity ? lower : lower + ((bound - lower) * (wanted - below)) / (upTo - below);
    }
    [lower, below] = [bound, upTo];
  }
  return null;
}

function samples({ names }, name, where = any) {
  return (names.get(name) ?? []).filter(({ labels }) => where(labels));
}

function byKey(before, name) {
  return new Map(samples(before, name).map(({ key, value }) => [key, value]));
}

function grown(from = 0, to) {
  return to >= from ? to - from : to;
}

function keyOf(labels) {
  return JSON.stringify(Object.entries(labels).sort(([one], [other]) => (one < other ? -1 : 1)));
}

function numeric(value) {
  return value.endsWith("Inf") ? Number(`${value.slice(0, -3)}Infinity`) : Number(value);
}

function unquoted(text) {
  return text.replace(/\\(.)/g, (_, after) => (after === "n" ? "\n" : after));
}
