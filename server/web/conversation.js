// A conversation as plain data, and the request that its next answer takes. Nothing here knows the page.

/** Sampling by the API's names, as typed: what is empty is the server's to choose. */
export const SAMPLING = ["temperature", "top_p", "max_tokens", "seed", "presence_penalty", "frequency_penalty"];

export function newConversation({ id, model, created }) {
  return {
    id,
    model,
    created, // seconds since 1970, as everywhere
    name: "", // the reader's; else the first question
    system: "",
    sampling: { stop: "" },
    retrieval: { mode: "assistant", stores: [], others: "", results: "", ranker: "" }, // mode: assistant, off, stores
    turns: [], // {role: "user", text} and {role: "assistant", answer}
  };
}

export function nameOf(conversation) {
  const first = conversation.turns.find((turn) => turn.role === "user")?.text ?? "";
  const [line] = first.trim().split("\n");
  return conversation.name || (line.length > 60 ? `${line.slice(0, 59)}…` : line);
}

/** The body that asks for the answer to the last turn. */
export function requestBody(conversation) {
  const { model, system, turns } = conversation;
  const messages = turns.map(messageOf).filter((message) => message.content);
  if (system.trim()) messages.unshift({ role: "system", content: system });
  const body = { model, messages, ...samplingOf(conversation.sampling), stream: true, stream_options: { include_usage: true } };
  const retrieval = retrievalOf(conversation.retrieval);
  return retrieval === undefined ? body : { ...body, retrieval };
}

/** Ids or names of the stores that the request names; none where the assistant's are taken. */
export function storesOf({ mode, stores, others }) {
  if (mode !== "stores") return [];
  const typed = others.split(",").map((name) => name.trim());
  return [...new Set([...stores, ...typed])].filter(Boolean);
}

/** The conversation up to a turn of the user's, with other words in it: what came after it was about the old ones. */
export function edited(conversation, at, text) {
  return { ...conversation, turns: [...conversation.turns.slice(0, at), { role: "user", text }] };
}

/** The conversation without the answers at its end. */
export function unanswered(conversation) {
  const last = conversation.turns.findLastIndex((turn) => turn.role === "user");
  return { ...conversation, turns: conversation.turns.slice(0, last + 1) };
}

export function asked(conversation, text) {
  return { ...conversation, turns: [...conversation.turns, { role: "user", text }] };
}

export function answered(conversation, answer) {
  return { ...conversation, turns: [...conversation.turns, { role: "assistant", answer: plain(answer) }] };
}

/** An error would be kept as {}. */
function plain(answer) {
  if (!answer.error) return answer;
  const { status = null, code = null, requestId = null, message } = answer.error;
  return { ...answer, error: { status, code, requestId, message } };
}

function messageOf(turn) {
  return turn.role === "user" ? { role: "user", content: turn.text } : { role: "assistant", content: turn.answer.text };
}

function samplingOf(sampling) {
  const given = SAMPLING.filter((name) => sampling[name]?.trim()).map((name) => [name, Number(sampling[name])]);
  const stop = (sampling.stop ?? "").split("\n").filter(Boolean);
  return { ...Object.fromEntries(given), ...(stop.length ? { stop } : {}) };
}

function retrievalOf(chosen) {
  if (chosen.mode === "off") return null;
  if (chosen.mode !== "stores") return undefined;
  const retrieval = { vector_store_ids: storesOf(chosen) };
  if (chosen.results.trim()) retrieval.max_num_results = Number(chosen.results);
  if (chosen.ranker) retrieval.ranking_options = { ranker: chosen.ranker };
  return retrieval;
}
