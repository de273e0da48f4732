// An assistant as a form holds it, in texts and lists, and as the API takes it.

const FORMATS = ["auto", "text", "json_object"]; // those without further fields; every other is written as JSON

export const EMPTY = {
  name: "", model: "", description: "", instructions: "", examples: [], stores: [], results: "", ranker: "",
  threshold: "", temperature: "", top_p: "", format: "", schema: "", metadata: [],
};

export const SCHEMA = JSON.stringify(
  { type: "json_schema", json_schema: { name: "answer", schema: { type: "object", properties: { answer: { type: "string" } }, required: ["answer"] } } },
  null,
  2,
);

/** The API's object as a form. */
export function formOf(assistant) {
  const search = searchOf(assistant);
  const kind = formatOf(assistant.response_format);
  return {
    name: assistant.name,
    model: assistant.model,
    description: assistant.description ?? "",
    instructions: assistant.instructions ?? "",
    examples: assistant.examples.map(({ user, assistant: answer }) => ({ user, assistant: answer })),
    stores: [...(assistant.tool_resources?.file_search?.vector_store_ids ?? [])],
    results: texted(search.max_num_results),
    ranker: search.ranking_options?.ranker ?? "",
    threshold: texted(search.ranking_options?.score_threshold),
    temperature: texted(assistant.temperature),
    top_p: texted(assistant.top_p),
    format: kind,
    schema: kind === "json" ? JSON.stringify(assistant.response_format, null, 2) : "",
    metadata: Object.entries(assistant.metadata ?? {}).map(([key, value]) => ({ key, value })),
  };
}

/**
 * `{body}` for POST, or `{wrong: field}` for the first field that is no JSON. Null and empty lists mean not set. What
 * `before`, the assistant as it is, has beside the form's fields (other tools, filters) stays.
 */
export function bodyOf(form, before = null) {
  const body = {
    name: form.name.trim() || null,
    model: form.model,
    description: form.description || null,
    instructions: form.instructions || null,
    examples: form.examples,
    temperature: numbered(form.temperature),
    top_p: numbered(form.top_p),
    metadata: Object.fromEntries(form.metadata.filter(({ key }) => key).map(({ key, value }) => [key, value])),
    response_format: form.format || null,
    ...toolsOf(form, before),
  };
  if (form.format === "text" || form.format === "json_object") body.response_format = { type: form.format };
  if (form.format === "json") {
    try {
      body.response_format = JSON.parse(form.schema);
    } catch {
      return { wrong: "response_format" };
    }
  }
  return { body };
}

/** The form's part that a refusal is about, by the API's name of the field: `examples.0.assistant` is "examples". */
export function partOf(param) {
  const field = /^\w+/.exec(param ?? "")?.[0] ?? null;
  return field === "tools" || field === "tool_resources" ? "stores" : field;
}

export const same = (one, other) => JSON.stringify(one) === JSON.stringify(other);

/** The list with one entry moved by so many places. */
export function moved(list, at, by) {
  const rest = list.filter((_, place) => place !== at);
  return rest.toSpliced(at + by, 0, list[at]);
}

/** The stores with one taken in or out; an assistant may know it by its id or by its name. */
export function toggled(stores, { id, name }) {
  return has(stores, { id, name }) ? stores.filter((one) => one !== id && one !== name) : [...stores, id];
}

export const has = (stores, { id, name }) => stores.includes(id) || (Boolean(name) && stores.includes(name));

function toolsOf(form, before) {
  const { file_search: _, ...otherResources } = before?.tool_resources ?? {};
  const otherTools = (before?.tools ?? []).filter((tool) => tool.type !== "file_search");
  if (!form.stores.length) {
    return { tools: otherTools, tool_resources: Object.keys(otherResources).length ? otherResources : null };
  }
  const { max_num_results: _results, ranking_options: _ranking, ...otherOptions } = before ? searchOf(before) : {};
  const ranking = given({ ranker: form.ranker || null, score_threshold: numbered(form.threshold) });
  const search = given({ ...otherOptions, max_num_results: numbered(form.results), ranking_options: Object.keys(ranking).length ? ranking : null });
  return {
    tools: [...otherTools, { type: "file_search", ...(Object.keys(search).length ? { file_search: search } : {}) }],
    tool_resources: { ...otherResources, file_search: { ...before?.tool_resources?.file_search, vector_store_ids: form.stores } },
  };
}

function searchOf(assistant) {
  return assistant.tools.find((tool) => tool.type === "file_search")?.file_search ?? {};
}

function formatOf(format) {
  if (!format) return "";
  const simple = typeof format === "string" ? format : Object.keys(format).length === 1 && format.type;
  return FORMATS.includes(simple) ? simple : "json";
}

const texted = (value) => (value === null || value === undefined ? "" : String(value));

const numbered = (text) => (String(text).trim() === "" ? null : Number(text));

const given = (object) => Object.fromEntries(Object.entries(object).filter(([, value]) => value !== null && value !== undefined));
