// The attributes of a file in a store, by which filters choose it: each a text, a number, or true or false.
import { useState } from "preact/hooks";
import { post } from "../api.js";
import { html } from "../html.js";
import { Action, Dialog, Failure } from "../parts.js";
import { translator } from "../words.js";
import { MOST_KEYS, attributesOf, rowsOf } from "./knowledge_values.js";

const t = translator({
  en: {
    add: "Add an attribute",
    boolean: "true or false",
    drop: "Remove attribute {n}",
    empty: "None yet. Filters of a search choose files by their attributes.",
    hint: "Up to {n}. Filters see a change from the next search on. Answers link a source to its attribute url, where it is a web address.",
    key: "Name of attribute {n}",
    kind: "Kind of attribute {n}",
    longKey: "A name has at most 64 characters.",
    longValue: "A text has at most 512 characters.",
    noKey: "Give it a name.",
    noNumber: "This is no number; decimals have a point: 2.5.",
    number: "number",
    remove: "Remove",
    sameKey: "This name is there already.",
    save: "Save",
    string: "text",
    title: "Attributes of {name}",
    value: "Value of attribute {n}",
  },
  pt: {
    add: "Adicionar um atributo",
    boolean: "verdadeiro ou falso",
    drop: "Remover o atributo {n}",
    empty: "Nenhum ainda. Os filtros de uma busca escolhem arquivos pelos atributos.",
    hint: "Até {n}. Os filtros enxergam a mudança a partir da próxima busca. As respostas ligam a fonte ao atributo url, quando é um endereço da web.",
    key: "Nome do atributo {n}",
    kind: "Tipo do atributo {n}",
    longKey: "Um nome tem no máximo 64 caracteres.",
    longValue: "Um texto tem no máximo 512 caracteres.",
    noKey: "Dê um nome a ele.",
    noNumber: "Isto não é um número; decimais usam ponto: 2.5.",
    number: "número",
    remove: "Remover",
    sameKey: "Esse nome já está em uso.",
    save: "Salvar",
    string: "texto",
    title: "Atributos de {name}",
    value: "Valor do atributo {n}",
  },
});

const KINDS = ["string", "number", "boolean"];

export function EditAttributes({ file, path, onClose, onDone }) {
  const [rows, setRows] = useState(() => rowsOf(file.attributes));
  const [tried, setTried] = useState(false);
  const [error, setError] = useState(null);
  const { attributes, problems } = attributesOf(rows);
  const change = (place, values) => setRows(rows.map((row, at) => (at === place ? { ...row, ...values } : row)));
  const save = async () => {
    setTried(true);
    if (problems.some(Boolean)) return;
    try {
      await post(path, { attributes });
      onDone();
      onClose();
    } catch (failure) {
      setError(failure);
    }
  };
  return html`<${Dialog} title=${t("title", { name: file.filename })} onClose=${onClose} wide>
    <div class="stack">
      <p class="faint">${rows.length ? t("hint", { n: MOST_KEYS }) : t("empty")}</p>
      ${rows.map((row, place) => html`<${Row} row=${row} n=${place + 1} problem=${tried && problems[place]} onChange=${(values) => change(place, values)} onDrop=${() => setRows(rows.filter((_, at) => at !== place))} />`)}
      <div><button type="button" disabled=${rows.length >= MOST_KEYS} onClick=${() => setRows([...rows, { key: "", kind: "string", value: "" }])}>${t("add")}</button></div>
      <${Failure} error=${error} />
    </div>
    <footer><${Action} kind="main" onPress=${save}>${t("save")}<//></footer>
  <//>`;
}

function Row({ row, n, problem, onChange, onDrop }) {
  const kindChosen = (kind) => onChange({ kind, value: kind === "boolean" ? String(row.value === "true") : row.value });
  const given = { "aria-label": t("value", { n }), value: row.value, "aria-invalid": Boolean(problem), onInput: (event) => onChange({ value: event.target.value }) };
  return html`<div class="stack tight">
    <div class="attribute">
      <input aria-label=${t("key", { n })} value=${row.key} onInput=${(event) => onChange({ key: event.target.value })} />
      <select aria-label=${t("kind", { n })} value=${row.kind} onChange=${(event) => kindChosen(event.target.value)}>
        ${KINDS.map((kind) => html`<option value=${kind}>${t(kind)}</option>`)}
      </select>
      ${row.kind === "boolean"
        ? html`<select ...${given}><option value="true">true</option><option value="false">false</option></select>`
        : html`<input inputmode=${row.kind === "number" ? "decimal" : "text"} ...${given} />`}
      <button type="button" aria-label=${t("drop", { n })} onClick=${onDrop}>${t("remove")}</button>
    </div>
    ${problem && html`<p class="wrong" role="alert">${t(problem)}</p>`}
  </div>`;
}
