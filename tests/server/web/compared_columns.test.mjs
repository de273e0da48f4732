// The address of a comparison.
import assert from "node:assert/strict";
import { test } from "node:test";
import { OFF, addressOf, columnsIn, retrievalFrom, usualColumns } from "../../../server/web/compared_columns.js";

/** As the page reads its address. */
const path = (address) => address.replace(/^#\/?/, "").split("/").filter(Boolean).map(decodeURIComponent).slice(1);

test("models alone", () => {
  assert.deepEqual(columnsIn(["demo", "pirate"]), [{ model: "demo", from: "" }, { model: "pirate", from: "" }]);
  assert.equal(addressOf([{ model: "demo", from: "" }, { model: "pirate", from: "" }]), "#/compare/demo/pirate");
});

test("an address leads to the same columns again, whatever the names", () => {
  const columns = [
    { model: "org/base 1", from: "" },
    { model: "pirate@0123456789ab", from: OFF },
    { model: "what?", from: "" },
    { model: "100 %", from: "vs_1" },
  ];
  assert.deepEqual(columnsIn(path(addressOf(columns))), columns);
});

test("no more than four", () => {
  assert.equal(columnsIn(["a", "b", "c", "d", "e"]).length, 4);
});

test("an address without models compares the base with an adapter, where there is one", () => {
  const base = { id: "demo", type: "base" };
  assert.deepEqual(usualColumns([base, { id: "pirate", type: "adapter" }]).map(({ model }) => model), ["demo", "pirate"]);
  assert.deepEqual(usualColumns([base]).map(({ model }) => model), ["demo", "demo"]);
  assert.deepEqual(usualColumns([]), []);
});

test("what a column answers from, as a conversation says it", () => {
  assert.equal(retrievalFrom("").mode, "assistant");
  assert.equal(retrievalFrom(OFF).mode, "off");
  assert.deepEqual(retrievalFrom("vs_1").stores, ["vs_1"]);
});
