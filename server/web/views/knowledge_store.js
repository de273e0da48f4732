// One vector store: what it is, its files, and a place to try a search.
import { useState } from "preact/hooks";
import { ApiError, get, post } from "../api.js";
import { html } from "../html.js";
import { Action, Badge, CopyButton, Failure, Working, useLoaded } from "../parts.js";
import { bytes, moment, number, translator } from "../words.js";
import { StoreFiles } from "./knowledge_files.js";
import { Search } from "./knowledge_search.js";
import { DeleteStore, StoreSettings } from "./knowledge_settings.js";
import { Upload } from "./knowledge_upload.js";

const t = translator({
  en: {
    asked: "Asked for; it goes on in the background.",
    back: "All vector stores",
    chunks: { one: "{n} chunk", other: "{n} chunks" },
    copyId: "Copy the id",
    delete: "Delete",
    exact: "exact, {n} vectors",
    expired: "expired",
    expiredText: "The time of this store is over: nothing is found in it any more. Its files are still there; make another store of them.",
    expires: "Expires",
    files: "Files",
    hnsw: "graph (HNSW), {n} vectors",
    id: "Id",
    index: "Index",
    languages: "Languages",
    milvus: "Milvus, {n} vectors",
    never: "never",
    none: "no vectors",
    otherEmbedder: "The vectors of this store are from another embedder. It is embedded anew in the background; until then hybrid goes by words alone and dense does not answer.",
    parts: "Parts of the store",
    reading: { one: "{n} being read", other: "{n} being read" },
    reembed: "Embed anew now",
    search: "Try a search",
    searchOnly: "This key may perhaps search it all the same.",
    settings: "Settings",
    size: "Size",
    unnamed: "Vector store without a name",
    used: "Last use",
  },
  pt: {
    asked: "Pedido feito; continua em segundo plano.",
    back: "Todas as bases",
    chunks: { one: "{n} trecho", other: "{n} trechos" },
    copyId: "Copiar o id",
    delete: "Apagar",
    exact: "exato, {n} vetores",
    expired: "expirada",
    expiredText: "O prazo desta base acabou: nada mais é encontrado nela. Os arquivos continuam aqui; crie outra base com eles.",
    expires: "Expira",
    files: "Arquivos",
    hnsw: "grafo (HNSW), {n} vetores",
    id: "Id",
    index: "Índice",
    languages: "Idiomas",
    milvus: "Milvus, {n} vetores",
    never: "nunca",
    none: "sem vetores",
    otherEmbedder: "Os vetores desta base são de outro modelo de embeddings. Ela está sendo refeita em segundo plano; até lá, hybrid se guia só pelas palavras e dense não responde.",
    parts: "Partes da base",
    reading: { one: "{n} em leitura", other: "{n} em leitura" },
    reembed: "Refazer agora",
    search: "Testar uma busca",
    searchOnly: "Talvez esta chave possa pesquisar nela mesmo assim.",
    settings: "Configurações",
    size: "Tamanho",
    unnamed: "Base sem nome",
    used: "Último uso",
  },
});

const SOON_MS = 1500; // while files are read
const LATER_MS = 8000;

export function StorePage({ id, tab }) {
  const [soon, setSoon] = useState(false);
  const { data: store, error, reload } = useLoaded(read, [id], { every: soon ? SOON_MS : LATER_MS });
  function read(signal) {
    return get(`/v1/vector_stores/${encodeURIComponent(id)}`, {}, { signal }).then((found) => {
      setSoon(found.status === "in_progress" || isOtherEmbedders(found));
      return found;
    });
  }
  return html`<div class="stack">
    <a href="#/knowledge">${t("back")}</a>
    ${!store && html`<h1>${id}</h1>`}
    <${Failure} error=${error} />
    ${!store && error instanceof ApiError && error.status === 404 && html`<p>${t("searchOnly")} <a href=${`#/knowledge/search/${encodeURIComponent(id)}`}>${t("search")}</a></p>`}
    ${!store && !error && html`<${Working} />`}
    ${store && html`<${Store} store=${store} tab=${tab} reload=${reload} />`}
  </div>`;
}

function Store({ store, tab, reload }) {
  const [asks, setAsks] = useState(null); // "settings" or "delete"
  const close = () => setAsks(null);
  const tabs = ["files", "search"];
  return html`
    <div class="row apart">
      <h1 class="name">${store.name || t("unnamed")}</h1>
      <div class="row">
        <button type="button" onClick=${() => setAsks("settings")}>${t("settings")}</button>
        <button type="button" onClick=${() => setAsks("delete")}>${t("delete")}</button>
      </div>
    </div>
    ${store.description && html`<p class="name">${store.description}</p>`}
    <${Facts} store=${store} />
    ${store.status === "expired" && html`<p class="failure">${t("expiredText")}</p>`}
    ${isOtherEmbedders(store) && html`<${OtherEmbedder} store=${store} />`}
    <nav class="tabs" aria-label=${t("parts")}>
      ${tabs.map((one) => html`<a class="button tab" href=${`#/knowledge/${store.id}/${one}`} aria-current=${one === tab ? "page" : undefined}>${t(one)}</a>`)}
    </nav>
    <section class="stack" hidden=${tab === "search"} aria-label=${t("files")}>
      ${store.status !== "expired" && html`<${Upload} storeId=${store.id} onStored=${reload} />`}
      <${StoreFiles} store=${store} onChange=${reload} />
    </section>
    <section hidden=${tab !== "search"} aria-label=${t("search")}><${Search} store=${store.id} /></section>
    ${asks === "settings" && html`<${StoreSettings} store=${store} onClose=${close} onDone=${reload} />`}
    ${asks === "delete" && html`<${DeleteStore} store=${store} onClose=${close} onDone=${() => (location.hash = "#/knowledge")} />`}
  `;
}

function Facts({ store }) {
  const { dense, lexical, error } = store.index ?? {};
  const facts = [
    ["files", html`<${Files} store=${store} chunks=${lexical?.chunks} />`],
    ["size", bytes(store.usage_bytes)],
    ["index", dense ? t(dense.kind, { n: dense.vectors }) : (error ?? "–")],
    ["languages", Object.keys(lexical?.languages ?? {}).sort().join(", ") || "–"],
    ["used", moment(store.last_active_at)],
    ["expires", store.expires_at ? moment(store.expires_at) : t("never")],
    ["id", html`<code>${store.id}</code> <${CopyButton} text=${store.id} label=${t("copyId")} />`],
  ];
  return html`<dl class="card facts">${facts.map(([key, value]) => html`<div><dt>${t(key)}</dt><dd>${value}</dd></div>`)}</dl>`;
}

function Files({ store, chunks }) {
  const { completed, in_progress: reading } = store.file_counts;
  return html`${number(completed)}${chunks === undefined ? "" : ` · ${t("chunks", { n: chunks })}`}
    ${reading > 0 && html` <${Badge} kind="warn">${t("reading", { n: reading })}<//>`}
    ${store.status === "expired" && html` <${Badge} kind="bad">${t("expired")}<//>`}`;
}

/** Whether it has texts, and no vectors that this server's embedder could compare a question with. */
function isOtherEmbedders({ index }) {
  return index?.dense?.kind === "none" && index.lexical.chunks > 0;
}

function OtherEmbedder({ store }) {
  const [state, setState] = useState({ asked: false, error: null });
  const reembed = () =>
    post(`/v1/vector_stores/${store.id}/reembed`, {}).then(
      () => setState({ asked: true, error: null }),
      (error) => setState({ asked: false, error }),
    );
  return html`<div class="card stack" role="status">
    <p>${t("otherEmbedder")}</p>
    <div class="row"><${Action} disabled=${state.asked} onPress=${reembed}>${t("reembed")}<//> ${state.asked && t("asked")}</div>
    <${Failure} error=${state.error} />
  </div>`;
}
