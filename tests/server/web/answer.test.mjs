// How the chunks of a stream become an answer.
import assert from "node:assert/strict";
import { test } from "node:test";
import { ended, fold, newAnswer, tokensPerSecond } from "../../../server/web/answer_fold.js";

const chunk = (delta, more = {}, finish_reason = null) => ({ model: "guide", choices: [{ index: 0, delta, finish_reason }], ...more });
const folded = (chunks) => chunks.reduce((answer, one, at) => fold(answer, one, at), newAnswer());

test("a grounded stream: sources first, what is cited last, usage behind it", () => {
  const sources = [{ number: 1, filename: "a.md" }];
  const annotation = { type: "url_citation" };
  const answer = folded([
    chunk({ role: "assistant", content: "" }, { retrieval: { query: "q", queries: ["q"], sources, dropped: [], failed: null, skipped: null } }),
    chunk({ content: "At nine" }),
    chunk({ content: " [1]", annotations: [annotation] }, { retrieval: { cited: [1] } }, "stop"),
    { model: "guide", choices: [], usage: { completion_tokens: 7 } },
  ]);
  assert.equal(answer.text, "At nine [1]");
  assert.deepEqual([answer.query, answer.sources, answer.cited, answer.annotations], ["q", sources, [1], [annotation]]);
  assert.deepEqual([answer.finishReason, answer.model, answer.usage.completion_tokens], ["stop", "guide", 7]);
  assert.equal(answer.firstTokenSeconds, 1, "the chunk that only says who speaks is no token");
  assert.equal(answer.done, false);
});

test("a chunk makes a new answer and leaves the old one as it was", () => {
  const before = newAnswer();
  assert.equal(fold(before, chunk({ content: "x" })).text, "x");
  assert.deepEqual(before, newAnswer());
});

test("calls of tools come in pieces", () => {
  const calls = (given) => chunk({ tool_calls: given });
  const answer = folded([
    calls([{ index: 0, id: "a", function: { name: "weather", arguments: "" } }]),
    calls([{ index: 0, function: { arguments: '{"in":' } }]),
    calls([{ index: 0, function: { arguments: '"Rio"}' } }, { index: 1, id: "b", function: { name: "time", arguments: "{}" } }]),
  ]);
  assert.deepEqual(answer.toolCalls, [
    { id: "a", name: "weather", arguments: '{"in":"Rio"}' },
    { id: "b", name: "time", arguments: "{}" },
  ]);
});

test("reasoning is kept apart from the text", () => {
  const answer = folded([chunk({ reasoning_content: "hm" }), chunk({ reasoning: "!" }), chunk({ content: "yes" })]);
  assert.deepEqual([answer.reasoning, answer.text, answer.firstTokenSeconds], ["hm!", "yes", 0]);
});

test("a search that was not made says why", () => {
  assert.equal(folded([chunk({}, { retrieval: { query: null, sources: [], dropped: [], skipped: "no words" } })]).skipped, "no words");
});

test("tokens per second count from the first one on", () => {
  const answer = { ...newAnswer(), usage: { completion_tokens: 11 }, firstTokenSeconds: 1 };
  assert.equal(tokensPerSecond(ended(answer, 3)), 5);
  assert.equal(tokensPerSecond(answer), null);
  assert.equal(tokensPerSecond(ended({ ...answer, usage: null }, 3)), null);
  assert.equal(tokensPerSecond(ended({ ...answer, usage: { completion_tokens: 1 } }, 3)), null);
  assert.equal(tokensPerSecond(ended(answer, 1)), null);
});
