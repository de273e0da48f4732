// Which words of a text are not in another.
import assert from "node:assert/strict";
import { test } from "node:test";
import { differingWords } from "../../../server/web/differing_words.js";

const marked = (first, text) => differingWords(first, text).pieces.map(({ text: piece, differs }) => (differs ? `<${piece}>` : piece)).join("");

test("the same words are not marked, nor is other white space between them", () => {
  assert.equal(marked("I am here.", "I am here."), "I am here.");
  assert.equal(marked("I am here.", "I  am\nhere."), "I  am\nhere.");
  assert.equal(differingWords("a b", "a b").different, 0);
});

test("words that were put in, changed or left out", () => {
  assert.equal(marked("I am here", "I am not here"), "I am <not> here");
  assert.equal(marked("the red house", "the blue house"), "the <blue> house");
  assert.equal(marked("the big red house", "the house"), "the house");
  assert.equal(marked("one two", "zero one two three"), "<zero> one two <three>");
});

test("neighbours are one mark, with the white space between them", () => {
  assert.equal(marked("Hello there", "Ahoy there me hearty"), "<Ahoy> there <me hearty>");
});

test("a mark of punctuation is a word of its own", () => {
  assert.equal(marked("I am here.", "I am here!"), "I am here<!>");
});

test("nothing in common, and nothing at all", () => {
  assert.equal(marked("a b", "c d"), "<c d>");
  assert.equal(marked("", "c d"), "<c d>");
  assert.deepEqual(differingWords("a b", "").pieces, []);
});

test("pieces are the text again", () => {
  const text = "  Ahoy, matey!\n\nI be   Pirate.\n";
  const { pieces, words, different } = differingWords("I am an assistant.", text);
  assert.equal(pieces.map((piece) => piece.text).join(""), text);
  assert.deepEqual([words, different], [8, 6]);
});

test("languages without spaces are compared by words too", () => {
  assert.equal(marked("私は猫です", "私は犬です"), "私は<犬>です");
});

test("of several longest common subsequences one is taken: no more is marked than must be", () => {
  assert.equal(differingWords("a b c a b b a", "c b a b a c").different, 2);
});

test("what is too long to be compared is told; the same beginning and end cost nothing", () => {
  const [one, other] = ["x", "y"].map((word) => Array(50).fill(word).join(" "));
  assert.equal(differingWords(one, other, 2000), null);
  const same = Array(3000).fill("w").join(" ");
  assert.equal(differingWords(`${same} a ${same}`, `${same} b ${same}`).different, 1);
});
