// Knowledge: the vector stores, and the way to one of them, to all files and to the search of a shared store.
import { useState } from "preact/hooks";
import { all, get } from "../api.js";
import { html } from "../html.js";
import { Badge, Failure, Field, Nothing, Working, useLoaded } from "../parts.js";
import { bytes, moment, number, translator } from "../words.js";
import { AllFiles } from "./knowledge_all_files.js";
import { SharedSearch } from "./knowledge_search.js";
import { StoreSettings } from "./knowledge_settings.js";
import { StorePage } from "./knowledge_store.js";

const t = translator({
  en: {
    allFiles: "All files",
    byName: "Search a store by its name or id",
    byNameHint: "Also one that is shared with this key and not listed here.",
    cancelled: "{n} cancelled",
    caption: { one: "{n} vector store", other: "{n} vector stores" },
    completed: { one: "{n} file", other: "{n} files" },
    empty: "No vector store yet. Create one, and put files into it: answers can then be grounded in them.",
    exact: "exact",
    expired: "expired",
    expires: "Expires",
    failed: "{n} failed",
    files: "Files",
    go: "Search",
    hnsw: "graph",
    in_progress: "{n} being read",
    index: "Index",
    milvus: "Milvus",
    more: "More",
    name: "Name",
    never: "never",
    none: "none",
    store: "New vector store",
    title: "Knowledge",
    unnamed: "without a name",
    usage: "Size",
    used: "Last use",
  },
  pt: {
    allFiles: "Todos os arquivos",
    byName: "Pesquisar numa base pelo nome ou id",
    byNameHint: "Também numa que foi compartilhada com esta chave e não aparece aqui.",
    cancelled: "{n} cancelados",
    caption: { one: "{n} base de conhecimento", other: "{n} bases de conhecimento" },
    completed: { one: "{n} arquivo", other: "{n} arquivos" },
    empty: "Nenhuma base de conhecimento ainda. Crie uma e ponha arquivos nela: as respostas poderão se apoiar neles.",
    exact: "exato",
    expired: "expirada",
    expires: "Expira",
    failed: "{n} com falha",
    files: "Arquivos",
    go: "Pesquisar",
    hnsw: "grafo",
    in_progress: "{n} em leitura",
    index: "Índice",
    milvus: "Milvus",
    more: "Mais",
    name: "Nome",
    never: "nunca",
    none: "nenhum",
    store: "Nova base",
    title: "Conhecimento",
    unnamed: "sem nome",
    usage: "Tamanho",
    used: "Último uso",
  },
});

const LOOK_AGAIN_MS = 4000;
const PAGE = 20;

export default function Knowledge({ path: [first, second] }) {
  if (first === "files") return html`<${AllFiles} />`;
  if (first === "search") return html`<${SharedSearch} key=${second} name=${second} />`;
  if (first) return html`<${StorePage} key=${first} id=${first} tab=${second ?? "files"} />`;
  return html`<${List} />`;
}

function List() {
  const [most, setMost] = useState(PAGE);
  const [creates, setCreates] = useState(false);
  const { data, error } = useLoaded((signal) => all("/v1/vector_stores", { limit: Math.min(100, most + 1) }, { limit: most + 1, signal }), [most], { every: LOOK_AGAIN_MS });
  return html`<div class="stack">
    <div class="row apart">
      <h1>${t("title")}</h1>
      <div class="row">
        <a class="button" href="#/knowledge/files">${t("allFiles")}</a>
        <button type="button" class="main" onClick=${() => setCreates(true)}>${t("store")}</button>
      </div>
    </div>
    <${Failure} error=${error} />
    ${!data && !error && html`<${Working} />`}
    ${data && (data.length ? html`<${Table} stores=${data.slice(0, most)} />` : html`<${Nothing}>${t("empty")}<//>`)}
    ${data?.length > most && html`<div><button type="button" onClick=${() => setMost(most + 100)}>${t("more")}</button></div>`}
    <${ByName} />
    ${creates && html`<${StoreSettings} onClose=${() => setCreates(false)} onDone=${(store) => (location.hash = `#/knowledge/${store.id}`)} />`}
  </div>`;
}

function Table({ stores }) {
  const head = [["name"], ["files"], ["usage", "number spare"], ["index", "spare"], ["used", "spare"], ["expires", "spare"]];
  return html`<div class="scroll card">
    <table class="stores">
      <caption>${t("caption", { n: stores.length })}</caption>
      <thead><tr>${head.map(([key, kind]) => html`<th scope="col" class=${kind}>${t(key)}</th>`)}</tr></thead>
      <tbody>${stores.map((store, place) => html`<${Row} key=${store.id} store=${store} asks=${place < PAGE} />`)}</tbody>
    </table>
  </div>`;
}

function Row({ store, asks }) {
  const count = store.file_counts;
  return html`<tr>
    <th scope="row">
      <a href=${`#/knowledge/${store.id}`}>${store.name || t("unnamed")}</a>
      ${store.description && html`<p class="faint about">${store.description}</p>`}
    </th>
    <td><span class="states">
      <span>${t("completed", { n: count.completed })}</span>
      ${count.in_progress > 0 && html`<${Badge} kind="warn">${t("in_progress", { n: count.in_progress })}<//>`}
      ${count.failed > 0 && html`<${Badge} kind="bad">${t("failed", { n: count.failed })}<//>`}
      ${count.cancelled > 0 && html`<${Badge}>${t("cancelled", { n: count.cancelled })}<//>`}
      ${store.status === "expired" && html`<${Badge} kind="bad">${t("expired")}<//>`}
    </span></td>
    <td class="number spare">${bytes(store.usage_bytes)}</td>
    <td class="spare">${asks ? html`<${IndexKind} store=${store} />` : "–"}</td>
    <td class="spare">${moment(store.last_active_at)}</td>
    <td class="spare">${store.expires_at ? moment(store.expires_at) : html`<span class="faint">${t("never")}</span>`}</td>
  </tr>`;
}

/** The list does not say it: each store of the first page is asked, again when its files have changed. */
function IndexKind({ store }) {
  const { data } = useLoaded((signal) => get(`/v1/vector_stores/${store.id}`, {}, { signal }), [store.id, store.file_counts.completed]);
  const dense = data?.index?.dense;
  if (!dense) return "–";
  return dense.vectors ? html`${t(dense.kind)} <span class="faint">${number(dense.vectors)}</span>` : t(dense.kind);
}

function ByName() {
  const [name, setName] = useState("");
  const go = (event) => {
    event.preventDefault();
    location.hash = `#/knowledge/search/${encodeURIComponent(name.trim())}`;
  };
  return html`<form class="card row by-name" onSubmit=${go}>
    <${Field} label=${t("byName")} hint=${t("byNameHint")} class="grow">
      <input required pattern=".*\\S.*" value=${name} onInput=${(event) => setName(event.target.value)} />
    <//>
    <button type="submit">${t("go")}</button>
  </form>`;
}
