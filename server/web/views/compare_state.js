// What is compared: it outlives the view, so that nothing typed and no answer is lost by a look at another page.
import { signal } from "@preact/signals";
import { ask, newAnswer } from "../answer.js";
import { retrievalFrom } from "../compared_columns.js";
import { newConversation, requestBody } from "../conversation.js";

let ids = 0;

/** `{id, model, from, answer: a signal of null or an answer, stop: null or an AbortController}`. */
export const columns = signal([]);
export const question = signal("");
export const system = signal("");
/** Without chance in the choice of words what differs is the models' doing. */
export const sampling = signal({ temperature: "0", max_tokens: "", seed: "" });
export const marking = signal(false);

export const isAsking = () => columns.value.some((column) => column.stop);

/** Takes the columns that the address names; those that are there already keep their answers. */
export function show(wanted) {
  const left = [...columns.value];
  const next = wanted.map((one) => {
    const at = left.findIndex((column) => column.model === one.model && column.from === one.from);
    return at < 0 ? newColumn(one) : left.splice(at, 1)[0];
  });
  left.forEach((column) => column.stop?.abort());
  columns.value = next;
}

/** An answer of another model would mislead. */
export function change(id, changes) {
  columns.value = columns.value.map((column) => {
    if (column.id !== id) return column;
    column.stop?.abort();
    return newColumn({ ...column, ...changes });
  });
}

export function add() {
  const { model, from } = columns.value.at(-1);
  columns.value = [...columns.value, newColumn({ model, from })];
}

export function take(id) {
  columns.value.find((column) => column.id === id)?.stop?.abort();
  columns.value = columns.value.filter((column) => column.id !== id);
}

export function stopAll() {
  columns.value.forEach((column) => column.stop?.abort());
}

/** Asks all columns at once. */
export function askAll() {
  stopAll();
  columns.value = columns.value.map((column) => ({ ...column, answer: signal(newAnswer()), stop: new AbortController() }));
  for (const column of columns.value) {
    ask(bodyFor(column), column.answer, { signal: column.stop.signal }).then(() => ended(column));
  }
}

function bodyFor({ model, from }) {
  const begun = newConversation({ id: null, model, created: null });
  return requestBody({
    ...begun,
    system: system.value,
    sampling: { ...begun.sampling, ...sampling.value },
    retrieval: retrievalFrom(from),
    turns: [{ role: "user", text: question.value }],
  });
}

function ended(asked) {
  columns.value = columns.value.map((column) => (column.stop === asked.stop ? { ...column, stop: null } : column));
}

function newColumn({ model, from }) {
  return { id: (ids += 1), model, from, answer: signal(null), stop: null };
}
