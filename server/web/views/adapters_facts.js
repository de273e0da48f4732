// What the list and the pages of adapters reckon from the API's objects and from /metrics.

/** Which share of a name's traffic each version has, in percent, the largest first. */
export function shares(traffic) {
  const total = Object.values(traffic).reduce((sum, weight) => sum + weight, 0);
  return Object.entries(traffic)
    .map(([version, weight]) => ({ version, percent: (100 * weight) / total }))
    .sort((one, other) => other.percent - one.percent);
}

/** The body that moves a name: `percent` of the users to `trial`, the others to `stable`. */
export function movement(stable, trial, percent) {
  if (percent <= 0 || stable === trial) return { version: stable };
  if (percent >= 100) return { version: trial };
  return { traffic: { [stable]: 100 - percent, [trial]: percent } };
}

/** Two versions for a canary as it stands, or as it would be begun: the newest that gets nothing yet, for a tenth. */
export function canary(adapter) {
  const now = shares(adapter.traffic);
  if (now.length > 1) return { stable: now[0].version, trial: now[1].version, percent: Math.round(now[1].percent) };
  const stable = now[0]?.version ?? adapter.versions[0]?.id;
  const others = adapter.versions.filter((version) => version.id !== stable && !version.error);
  return { stable, trial: others.at(-1)?.id ?? stable, percent: 10 };
}

/** The body that mixes adapters: `parts` are names or version ids with weights; a name that stands twice counts once, with both. */
export function mixOf({ name, method, density, rank, parts }) {
  const adapters = {};
  for (const part of parts) adapters[part.name] = (adapters[part.name] ?? 0) + Number(part.weight);
  return {
    name: name.trim(),
    mix: { adapters, method, ...(method === "linear" ? {} : { density: Number(density) }) },
    ...(rank ? { convert: { rank: Number(rank) } } : {}),
  };
}

/** Versions, the newest first. */
export const newestFirst = (versions) => [...versions].reverse();

/** When one of the adapter's versions was last asked for since the server started, in Unix seconds, or null. */
export function lastUse(adapter) {
  return adapter.versions.reduce((latest, { last_used_at: at }) => (at && at > (latest ?? 0) ? at : latest), null);
}

/** Modules of a conversion by their relative error, the worst first. */
export function byError(errors) {
  return Object.entries(errors).sort(([, one], [, other]) => other - one);
}

/**
 * Requests and errors of each adapter since the server started, from Prometheus' text. An adapter without a series has
 * had none, unless the server ran out of series: then `capped`, and nobody knows.
 */
export function usage(metrics) {
  const counts = new Map();
  for (const line of metrics.split("\n")) {
    const found = /^manyhats_(requests|errors)_total\{(?:.*,)?adapter="([^"]*)".*\} (\S+)$/.exec(line);
    if (!found) continue;
    const [, kind, adapter, value] = found;
    const count = counts.get(adapter) ?? { requests: 0, errors: 0 };
    count[kind] += Number(value);
    counts.set(adapter, count);
  }
  const capped = counts.has("other");
  return { of: (name) => counts.get(name) ?? (capped ? null : { requests: 0, errors: 0 }) };
}
