// How far uploads and files that are being read have come.
/** From 0 to 1, or null as long as nobody knows how many chunks there will be. */
export function readShare({ chunks_done, chunks_total }) {
  return chunks_total > 0 ? Math.min(1, chunks_done / chunks_total) : null;
}

/** Of all bytes of those uploads that were not given up, how many are sent, from 0 to 1. */
export function sentShare(uploads) {
  const meant = uploads.filter((one) => one.state !== "failed" && one.state !== "stopped");
  const weight = (one) => Math.max(1, one.bytes);
  const all = meant.reduce((sum, one) => sum + weight(one), 0);
  return all ? meant.reduce((sum, one) => sum + weight(one) * one.sent, 0) / all : 1;
}

/** How many are in each state. */
export function countOf(uploads) {
  const count = { waiting: 0, sending: 0, saving: 0, done: 0, failed: 0, stopped: 0 };
  for (const one of uploads) count[one.state] += 1;
  return count;
}

/** Those that may begin now, so that at most so many are under way. */
export function startable(uploads, most) {
  const { sending, saving } = countOf(uploads);
  return uploads.filter((one) => one.state === "waiting").slice(0, Math.max(0, most - sending - saving));
}

/** What is worth a row: what failed, what is under way, and the first few that wait; never what is done. */
export function worthShowing(uploads, most) {
  const order = ["failed", "stopped", "saving", "sending", "waiting"];
  const seen = uploads.filter((one) => one.state !== "done");
  return seen.sort((one, other) => order.indexOf(one.state) - order.indexOf(other.state)).slice(0, most);
}
