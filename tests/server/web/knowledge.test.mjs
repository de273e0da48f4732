// What the knowledge view works out by itself: the kinds of attributes, the words of a question in a passage, progress.
import assert from "node:assert/strict";
import { test } from "node:test";
import { chosenFiles, droppedFiles } from "../../../server/web/views/knowledge_dropped.js";
import { folded, marked } from "../../../server/web/views/knowledge_marks.js";
import { countOf, readShare, sentShare, startable, worthShowing } from "../../../server/web/views/knowledge_progress.js";
import { attributesOf, rowsOf } from "../../../server/web/views/knowledge_values.js";

const row = (key, kind, value) => ({ key, kind, value });
const upload = (state, { bytes = 100, sent = 0 } = {}) => ({ state, bytes, sent });
const found = (text, question) => marked(text, question).filter((part) => part.marked).map((part) => part.text);

test("attributes come back from their rows as they were, each of its kind", () => {
  const attributes = { text: "2026", empty: "", year: 2026, share: -2.5, tiny: 1e-7, large: 1e21, yes: true, no: false, __proto: "x" };
  assert.deepEqual(attributesOf(rowsOf(attributes)), { attributes, problems: Object.keys(attributes).map(() => null) });
});

test("a kind is what was chosen, not what the value looks like", () => {
  const { attributes } = attributesOf([row("a", "string", "true"), row("b", "string", "7"), row("c", "number", " 7 "), row("d", "boolean", "false")]);
  assert.deepEqual(attributes, { a: "true", b: "7", c: 7, d: false });
});

test("what is no number is said, and not taken for one", () => {
  for (const value of ["", " ", "2,5", "1,000", "0x10", "Infinity", "NaN", "1e999", "7 days", "1.2.3"]) {
    assert.deepEqual(attributesOf([row("a", "number", value)]).problems, ["noNumber"], value);
  }
});

test("names are there, once, and not too long; values neither", () => {
  const rows = [row("", "string", "x"), row("a", "string", "x"), row("a", "number", "1"), row("k".repeat(65), "string", "x"), row("b", "string", "v".repeat(513)), row("k".repeat(64), "string", "v".repeat(512))];
  assert.deepEqual(attributesOf(rows).problems, ["noKey", null, "sameKey", "longKey", "longValue", null]);
  assert.deepEqual(attributesOf([row("c", "string", "\u{1f6b2}".repeat(512))]).problems, [null]);
});

test("words are found whatever their case and accents, and shown as they stand", () => {
  assert.equal(folded("ÔNIBUS"), "onibus");
  assert.deepEqual(found("O ônibus e o CAFÉ.", "Onibus cafe?"), ["ônibus", "CAFÉ"]);
  assert.deepEqual(found("cafe\u0301 forte", "café"), ["cafe\u0301"]);
});

test("other endings are the same word, other words are not", () => {
  assert.deepEqual(found("Warranties of bicycles; a wart.", "warranty of a bicycle"), ["Warranties", "bicycles"]);
  assert.deepEqual(found("A garantia vale.", "garantias"), ["garantia"]);
  assert.deepEqual(found("international interest, cart, car", "internet card"), []);
});

test("words that stand everywhere are marked only where there are no others", () => {
  assert.deepEqual(found("The shop is of the town", "What is the shop?"), ["shop"]);
  assert.deepEqual(found("The shop is here", "what is the?"), ["The", "is"]);
});

test("the parts of a text are the text, whatever stands in it", () => {
  for (const text of ["", "no hit at all", "hit", "<b>hit</b> & hit.", "hit hit", "\nhit\n", "日本 hit 語"]) {
    assert.equal(marked(text, "hit").map((part) => part.text).join(""), text);
  }
  assert.deepEqual(found("anything", "?!"), []);
});

test("how far a file was read is known when its chunks were counted", () => {
  assert.equal(readShare({ chunks_done: 0, chunks_total: 0 }), null);
  assert.equal(readShare({ chunks_done: 3, chunks_total: 12 }), 0.25);
  assert.equal(readShare({ chunks_done: 13, chunks_total: 12 }), 1);
});

test("bytes count, not files, and what was given up does not", () => {
  assert.equal(sentShare([upload("done", { bytes: 300, sent: 1 }), upload("sending", { bytes: 100, sent: 0 })]), 0.75);
  assert.equal(sentShare([upload("done", { sent: 1 }), upload("failed"), upload("stopped")]), 1);
  assert.equal(sentShare([upload("waiting", { bytes: 0 })]), 0);
  assert.equal(sentShare([]), 1);
});

test("as many begin as there is room for", () => {
  const uploads = [upload("done"), upload("sending"), upload("saving"), upload("waiting"), upload("waiting")];
  assert.deepEqual(startable(uploads, 3), [uploads[3]]);
  assert.deepEqual(startable(uploads, 2), []);
  assert.deepEqual(startable(uploads.slice(3), 3), uploads.slice(3));
  assert.deepEqual(countOf(uploads), { waiting: 2, sending: 1, saving: 1, done: 1, failed: 0, stopped: 0 });
});

test("what failed is seen before what waits, and what is done takes no room", () => {
  const uploads = [upload("waiting"), upload("done"), upload("sending"), upload("failed")];
  assert.deepEqual(worthShowing(uploads, 2), [uploads[3], uploads[2]]);
  assert.equal(uploads[0].state, "waiting");
});

test("dropped folders are opened, and what is hidden in them is left", async () => {
  const file = (name) => ({ isFile: true, name, file: (yes) => yes({ name }) });
  const folder = (name, ...parts) => ({ isFile: false, name, createReader: () => ({ readEntries: (yes) => yes(parts.splice(0, 2)) }) });
  const item = (entry) => ({ kind: "file", webkitGetAsEntry: () => entry });
  const plain = { kind: "file", webkitGetAsEntry: () => null, getAsFile: () => ({ name: "made.txt" }) };
  const tree = folder("docs", file("a.md"), file(".DS_Store"), folder("deep", file("b.md")), folder(".git", file("config")));
  const got = await droppedFiles({ items: [item(file(".env")), item(tree), plain, { kind: "string" }] });
  assert.deepEqual(got.map((one) => [one.file.name, one.path]), [[".env", null], ["a.md", "docs/a.md"], ["b.md", "docs/deep/b.md"], ["made.txt", null]]);
});

test("chosen files have a path only inside a chosen folder", () => {
  const files = [{ name: "a.md", webkitRelativePath: "" }, { name: "b.md", webkitRelativePath: "docs/b.md" }, { name: "c", webkitRelativePath: "docs/.git/c" }];
  assert.deepEqual(chosenFiles({ files }).map((one) => one.path), [null, "docs/b.md"]);
});
