// One job, followed while it may change and the page is seen.
import { useEffect, useState } from "preact/hooks";
import { get, text } from "../api.js";
import { joined, lookAgainMs, stepsOf, stepsOfCsv } from "./jobs_facts.js";

const PAGE = 500;
const MAX_EVENTS = 10_000; // that a page holds; a longer job's curve begins later, until its result file is there
const UNSEEN_MS = 1000;
const RETRY_MS = 5000;
const NOTHING = { job: null, events: [], error: null };

export const pathOf = (id) => `/v1/fine_tuning/jobs/${encodeURIComponent(id)}`;

/** `{job, events, error, reload}`: the events oldest first; the error of the last try, or null. */
export function useFollowed(id) {
  const [seen, setSeen] = useState(NOTHING);
  const [round, setRound] = useState(0);
  useEffect(() => {
    const stop = new AbortController();
    let events = seen.job?.id === id ? seen.events : [];
    let timer = null;
    const look = async () => {
      let wait = UNSEEN_MS;
      if (!document.hidden) {
        try {
          const job = await get(pathOf(id), {}, stop); // before its events: those of a job that is over are all there
          events = joined(events, await newEvents(id, events.at(-1)?.id, stop));
          setSeen({ job, events, error: null });
          wait = lookAgainMs(job);
        } catch (error) {
          if (stop.signal.aborted) return;
          setSeen((before) => ({ ...before, error }));
          wait = error.status === 404 ? null : RETRY_MS;
        }
      }
      if (!stop.signal.aborted && wait !== null) timer = setTimeout(look, wait);
    };
    look();
    return () => {
      stop.abort();
      clearTimeout(timer);
    };
  }, [id, round]);
  return { ...seen, reload: () => setRound((number) => number + 1) };
}

/** Losses by step: every one of them from the result file as soon as there is one, else those that events told. */
export function useSteps(job, events) {
  const [file] = job?.result_files ?? [];
  const [whole, setWhole] = useState(null);
  useEffect(() => {
    setWhole(null);
    if (!file) return undefined;
    const stop = new AbortController();
    text(`/v1/files/${encodeURIComponent(file)}/content`, stop)
      .then((csv) => setWhole(stepsOfCsv(csv)))
      .catch(() => {}); // a file that was deleted: what the events told is shown still
    return () => stop.abort();
  }, [file]);
  return whole ?? stepsOf(events);
}

/** Newest first, down to the one that is known. */
async function newEvents(id, known, { signal }) {
  const found = [];
  for (let after; found.length < MAX_EVENTS; after = found.at(-1).id) {
    const { data, has_more: more } = await get(`${pathOf(id)}/events`, { limit: PAGE, after }, { signal });
    const end = data.findIndex((event) => event.id === known);
    found.push(...(end < 0 ? data : data.slice(0, end)));
    if (end >= 0 || !more || !data.length) break;
  }
  return found;
}
