// What a conversation asks for.
import assert from "node:assert/strict";
import { test } from "node:test";
import { answered, asked, edited, nameOf, newConversation, requestBody, storesOf, unanswered } from "../../../server/web/conversation.js";

const empty = newConversation({ id: "c", model: "demo", created: 0 });
const answer = (text, error = null) => ({ text, error });
const two = asked(answered(asked(empty, "one"), answer("two")), "three");

test("what is empty is left to the server", () => {
  assert.deepEqual(requestBody(asked(empty, "hi")), {
    model: "demo",
    messages: [{ role: "user", content: "hi" }],
    stream: true,
    stream_options: { include_usage: true },
  });
});

test("a system prompt, sampling and stops", () => {
  const sampling = { temperature: "0", top_p: "", max_tokens: "12", seed: "7", stop: "END\n\n --" };
  const body = requestBody({ ...asked(empty, "hi"), system: "Be brief.", sampling });
  assert.deepEqual(body.messages[0], { role: "system", content: "Be brief." });
  assert.deepEqual([body.temperature, body.max_tokens, body.seed, body.stop], [0, 12, 7, ["END", " --"]]);
  assert.ok(!("top_p" in body));
});

test("retrieval: the assistant's, none, or named stores", () => {
  const body = (retrieval) => requestBody({ ...asked(empty, "hi"), retrieval: { ...empty.retrieval, ...retrieval } });
  assert.ok(!("retrieval" in body({})));
  assert.equal(body({ mode: "off" }).retrieval, null);
  assert.deepEqual(body({ mode: "stores", stores: ["vs_1"], others: "shop, vs_1 ,", results: "3", ranker: "dense" }).retrieval, {
    vector_store_ids: ["vs_1", "shop"],
    max_num_results: 3,
    ranking_options: { ranker: "dense" },
  });
  assert.deepEqual(storesOf({ ...empty.retrieval, stores: ["vs_1"] }), []);
});

test("an edited turn takes what came after it along", () => {
  assert.deepEqual(edited(two, 0, "other").turns, [{ role: "user", text: "other" }]);
  assert.deepEqual(unanswered(answered(two, answer("four"))), two);
});

test("an answer that failed before its first word is not sent back", () => {
  const failed = answered(asked(empty, "one"), answer("", new Error("no")));
  assert.deepEqual(requestBody(asked(failed, "again")).messages.map((message) => message.content), ["one", "again"]);
  assert.equal(JSON.parse(JSON.stringify(failed)).turns[1].answer.error.message, "no");
});

test("its name is the reader's, else the first line asked", () => {
  assert.equal(nameOf(empty), "");
  assert.equal(nameOf(asked(empty, " Hello\nyou")), "Hello");
  assert.equal(nameOf(asked(empty, "x".repeat(80))).length, 60);
  assert.equal(nameOf({ ...two, name: "Mine" }), "Mine");
});
