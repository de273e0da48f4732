// An answer that comes in pieces: one plain object, made anew with each chunk of a stream. Nothing here knows the page.

export function newAnswer() {
  return {
    text: "",
    annotations: [],
    query: null, // what was searched for
    skipped: null, // why nothing was
    sources: [],
    dropped: [],
    cited: [],
    usage: null,
    firstTokenSeconds: null, // from the request on, as all seconds here
    seconds: null,
    finishReason: null, // the server's, or "stopped" where the reader stopped it
    model: null,
    toolCalls: [], // {id, name, arguments}
    reasoning: "",
    error: null,
    done: false,
  };
}

/** The answer with one more chunk of `/v1/chat/completions` in it; `seconds` is when that came. */
export function fold(answer, chunk, seconds = null) {
  const choice = chunk.choices?.[0];
  const delta = choice?.delta ?? {};
  const next = { ...answer, model: chunk.model ?? answer.model, usage: chunk.usage ?? answer.usage };
  if (chunk.retrieval) takeRetrieval(next, chunk.retrieval);
  next.text += delta.content ?? "";
  next.reasoning += delta.reasoning_content ?? delta.reasoning ?? "";
  if (delta.tool_calls) next.toolCalls = withCalls(answer.toolCalls, delta.tool_calls);
  if (delta.annotations) next.annotations = delta.annotations;
  if (choice?.finish_reason) next.finishReason = choice.finish_reason;
  const said = delta.content || delta.reasoning_content || delta.reasoning || delta.tool_calls;
  if (said && next.firstTokenSeconds === null) next.firstTokenSeconds = seconds;
  return next;
}

/** The answer at its end, which `changes` may tell more of: `{error}`, `{finishReason: "stopped"}`. */
export function ended(answer, seconds, changes = {}) {
  return { ...answer, seconds, done: true, ...changes };
}

/** How fast the tokens after the first came; null where that cannot be told. */
export function tokensPerSecond({ usage, seconds, firstTokenSeconds }) {
  const rest = (usage?.completion_tokens ?? 0) - 1;
  const took = seconds - firstTokenSeconds;
  if (firstTokenSeconds === null || seconds === null || rest < 1 || took <= 0) return null;
  return rest / took;
}

/** The first chunk has the search, the last one what of it is cited. */
function takeRetrieval(answer, retrieval) {
  for (const name of ["query", "skipped", "sources", "dropped", "cited"]) {
    if (retrieval[name] !== undefined) answer[name] = retrieval[name];
  }
}

function withCalls(calls, deltas) {
  const next = [...calls];
  for (const { index = 0, id, function: piece = {} } of deltas) {
    const before = next[index] ?? { id: null, name: "", arguments: "" };
    next[index] = {
      id: id ?? before.id,
      name: before.name + (piece.name ?? ""),
      arguments: before.arguments + (piece.arguments ?? ""),
    };
  }
  return next;
}
