// An assistant between the API's object and the form's texts and lists.
import assert from "node:assert/strict";
import { test } from "node:test";
import { EMPTY, bodyOf, formOf, has, moved, partOf, toggled } from "../../../server/web/views/assistants_fields.js";

const OBJECT = {
  id: "asst_1", name: "clerk", model: "demo", description: null, instructions: "Be kind.", temperature: 0, top_p: null,
  tools: [
    { type: "function", function: { name: "clock" } },
    { type: "file_search", file_search: { max_num_results: 3, filters: { key: "year", type: "eq", value: 2024 }, ranking_options: { ranker: "dense", score_threshold: 0.2 } } },
  ],
  tool_resources: { file_search: { vector_store_ids: ["shop"] }, code_interpreter: { file_ids: [] } },
  response_format: null, examples: [{ user: "Hi", assistant: "Hello" }], metadata: { team: "door" },
};

test("an object that goes through the form unchanged stays what it was", () => {
  const { body } = bodyOf(formOf(OBJECT), OBJECT);
  for (const field of ["name", "model", "instructions", "temperature", "tools", "tool_resources", "examples", "metadata"]) {
    assert.deepEqual(body[field], OBJECT[field], field);
  }
  assert.deepEqual([body.description, body.top_p, body.response_format], [null, null, null]);
});

test("nothing filled in is nothing set", () => {
  const { body } = bodyOf({ ...EMPTY, model: "demo" });
  assert.deepEqual(body, {
    name: null, model: "demo", description: null, instructions: null, examples: [], temperature: null, top_p: null,
    metadata: {}, response_format: null, tools: [], tool_resources: null,
  });
});

test("stores bring the tool, and the last one takes it along", () => {
  const { body } = bodyOf({ ...EMPTY, model: "demo", stores: ["vs_1"], results: "5" });
  assert.deepEqual(body.tools, [{ type: "file_search", file_search: { max_num_results: 5 } }]);
  assert.deepEqual(body.tool_resources, { file_search: { vector_store_ids: ["vs_1"] } });
  const without = bodyOf({ ...formOf(OBJECT), stores: [] }, OBJECT).body;
  assert.deepEqual(without.tools, [OBJECT.tools[0]]);
  assert.deepEqual(without.tool_resources, { code_interpreter: { file_ids: [] } });
});

test("forms of answers", () => {
  const schema = { type: "json_schema", json_schema: { name: "x", schema: {} } };
  for (const format of ["auto", { type: "text" }, { type: "json_object" }, schema]) {
    assert.deepEqual(bodyOf(formOf({ ...OBJECT, response_format: format })).body.response_format, format);
  }
  assert.equal(formOf({ ...OBJECT, response_format: schema }).format, "json");
  assert.equal(bodyOf({ ...EMPTY, format: "json", schema: "{" }).wrong, "response_format");
});

test("a refusal finds its part of the form", () => {
  assert.equal(partOf("examples.0.assistant"), "examples");
  assert.equal(partOf("tool_resources.file_search.vector_store_ids[0]"), "stores");
  assert.equal(partOf("top_p"), "top_p");
  assert.equal(partOf(null), null);
});

test("examples move, stores go in and out by id or name", () => {
  assert.deepEqual(moved(["a", "b", "c"], 2, -1), ["a", "c", "b"]);
  assert.deepEqual(moved(["a", "b", "c"], 0, 1), ["b", "a", "c"]);
  const store = { id: "vs_1", name: "shop" };
  assert.deepEqual(toggled([], store), ["vs_1"]);
  assert.deepEqual(toggled(["shop", "law"], store), ["law"]);
  assert.equal(has(["law"], { id: "vs_2", name: null }), false);
});
