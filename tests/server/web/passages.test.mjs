// The text of a file from its passages, which overlap or do not.
import assert from "node:assert/strict";
import { test } from "node:test";
import { around, joined, overlap, placeOf } from "../../../server/web/passages.js";

const ONE = "The shop opens at nine. It closes at seven.";
const TWO = "It closes at seven. On Sunday it is closed.";
const THREE = "Holidays are asked for in writing.";

test("what two passages share is said once", () => {
  assert.equal(joined([ONE, TWO]), "The shop opens at nine. It closes at seven. On Sunday it is closed.");
  assert.equal(joined([TWO, THREE]), `${TWO}\n\n${THREE}`);
  assert.equal(overlap("a full stop.", ". begins"), 0, "one letter is chance");
});

test("the text around a passage", () => {
  assert.deepEqual(around([ONE, TWO, THREE], 1, 1), {
    before: "The shop opens at nine. ",
    passage: TWO,
    after: `\n\n${THREE}`,
    cutBefore: false,
    cutAfter: false,
  });
  assert.deepEqual(around([ONE, TWO, THREE], 0, 0), { before: "", passage: ONE, after: "", cutBefore: false, cutAfter: true });
});

test("where a passage stands", () => {
  assert.equal(placeOf(TWO, [ONE, TWO]), 1);
  assert.equal(placeOf("On Sunday", [ONE, TWO]), 1);
  assert.equal(placeOf("elsewhere", [ONE, TWO]), -1);
});
