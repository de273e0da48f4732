// The files in a store: how far each was read, why one failed, and what can be done with it.
import { useState } from "preact/hooks";
import { all, download, post } from "../api.js";
import { html } from "../html.js";
import { Action, Badge, Failure, Nothing, Working, useLoaded } from "../parts.js";
import { bytes, moment, translator } from "../words.js";
import { EditAttributes } from "./knowledge_attributes.js";
import { FileText, RemoveFile } from "./knowledge_file.js";
import { readShare } from "./knowledge_progress.js";

const t = translator({
  en: {
    again: "Read again",
    all: "All",
    allAgain: "Read the failed ones again",
    attributes: "Attributes",
    cancelled: "cancelled",
    chunks: { one: "{n} chunk", other: "{n} chunks" },
    chunksOf: "{done} of {all} chunks embedded",
    completed: "ready",
    download: "Download",
    empty: "No files here yet.",
    failed: "failed",
    in_progress: "being read",
    list: "Files of the store",
    more: "More",
    none: "No file is in this state.",
    remove: "Remove",
    show: "Show",
    sizes: "chunks of {max_chunk_size_tokens} tokens, {chunk_overlap_tokens} in common",
    text: "Text",
    waiting: "waiting, or being opened",
  },
  pt: {
    again: "Ler de novo",
    all: "Todos",
    allAgain: "Ler de novo os que falharam",
    attributes: "Atributos",
    cancelled: "cancelado",
    chunks: { one: "{n} trecho", other: "{n} trechos" },
    chunksOf: "{done} de {all} trechos vetorizados",
    completed: "pronto",
    download: "Baixar",
    empty: "Nenhum arquivo aqui ainda.",
    failed: "falhou",
    in_progress: "em leitura",
    list: "Arquivos da base",
    more: "Mais",
    none: "Nenhum arquivo neste estado.",
    remove: "Remover",
    show: "Mostrar",
    sizes: "trechos de {max_chunk_size_tokens} tokens, {chunk_overlap_tokens} em comum",
    text: "Texto",
    waiting: "esperando ou sendo aberto",
  },
});

const STATES = ["completed", "in_progress", "failed", "cancelled"];
const KINDS = { completed: "good", in_progress: "warn", failed: "bad" };
const PAGE = 50;
const AT_ONCE = 2000; // that one batch may name
const SOON_MS = 1500;

export function StoreFiles({ store, onChange }) {
  const path = `/v1/vector_stores/${store.id}/files`;
  const [filter, setFilter] = useState("");
  const [most, setMost] = useState(PAGE);
  const [act, setAct] = useState(null); // {kind, file}: the dialog that is open
  const [failure, setFailure] = useState(null);
  const count = store.file_counts;
  const load = (signal) => all(path, { filter, limit: Math.min(100, most) }, { limit: most, signal });
  const { data, error, reload } = useLoaded(load, [path, filter, most, STATES.map((state) => count[state]).join()], { every: count.in_progress ? SOON_MS : 0 });
  const changed = () => {
    reload();
    onChange();
  };
  const attempt = (work) => () => {
    setFailure(null);
    return work().then(changed, setFailure);
  };
  const readAgain = async () => {
    const failed = await all(path, { filter: "failed" }, { limit: AT_ONCE });
    if (failed.length) await post(`/v1/vector_stores/${store.id}/file_batches`, { file_ids: failed.map((file) => file.id) });
  };
  const close = () => setAct(null);
  const dialog = act && { file: act.file, path: `${path}/${act.file.id}`, onClose: close, onDone: changed };
  const acts = {
    again: (file) => attempt(() => post(path, { file_id: file.id })),
    download: (file) => attempt(() => download(`/v1/files/${file.id}/content`, file.filename)),
    open: (kind, file) => setAct({ kind, file }),
  };
  return html`<div class="stack">
    <div class="row">
      <div class="row tight" role="group" aria-label=${t("show")}>
        ${["", ...STATES].map((state) => html`<button type="button" class="small" aria-pressed=${filter === state} onClick=${() => setFilter(state)}>${t(state || "all")} ${state ? count[state] : count.total}</button>`)}
      </div>
      ${count.failed > 0 && html`<${Action} kind="small" onPress=${attempt(readAgain)}>${t("allAgain")}<//>`}
    </div>
    <${Failure} error=${failure ?? error} />
    ${!data && !error && html`<${Working} />`}
    ${data?.length === 0 && html`<${Nothing}>${t(count.total ? "none" : "empty")}<//>`}
    ${data?.length > 0 && html`<ul class="plain-list card" aria-label=${t("list")}>${data.map((file) => html`<${File} key=${file.id} file=${file} acts=${acts} />`)}</ul>`}
    ${data && data.length >= most && html`<div><button type="button" onClick=${() => setMost(most + 100)}>${t("more")}</button></div>`}
    ${act?.kind === "text" && html`<${FileText} ...${dialog} />`}
    ${act?.kind === "attributes" && html`<${EditAttributes} ...${dialog} />`}
    ${act?.kind === "remove" && html`<${RemoveFile} ...${dialog} />`}
  </div>`;
}

function File({ file, acts }) {
  const named = (key) => `${t(key)}: ${file.filename}`;
  const isRead = file.status === "completed";
  return html`<li class="file">
    <div class="grow">
      <p class="name"><strong>${file.filename}</strong> <${Badge} kind=${KINDS[file.status]}>${t(file.status)}<//></p>
      <p class="faint">${facts(file)}</p>
      <${Attributes} attributes=${file.attributes} />
      ${file.status === "in_progress" && html`<${Progress} file=${file} />`}
      ${file.last_error && html`<p class="wrong">${file.last_error.message} <code>${file.last_error.code}</code></p>`}
    </div>
    <div class="row tight">
      ${!isRead && file.status !== "in_progress" && html`<${Action} kind="small" aria-label=${named("again")} onPress=${acts.again(file)}>${t("again")}<//>`}
      ${isRead && html`<button type="button" class="small" aria-label=${named("text")} onClick=${() => acts.open("text", file)}>${t("text")}</button>`}
      <button type="button" class="small" aria-label=${named("attributes")} onClick=${() => acts.open("attributes", file)}>${t("attributes")}</button>
      <${Action} kind="small" aria-label=${named("download")} onPress=${acts.download(file)}>${t("download")}<//>
      <button type="button" class="small" aria-label=${named("remove")} onClick=${() => acts.open("remove", file)}>${t("remove")}</button>
    </div>
  </li>`;
}

function facts(file) {
  const sizes = file.chunking_strategy.static;
  const read = file.status === "completed" && [t("chunks", { n: file.progress.chunks_total }), bytes(file.usage_bytes)];
  return [...(read || []), sizes && t("sizes", sizes), moment(file.created_at)].filter(Boolean).join(" · ");
}

/** As JSON, so that the text "2026" and the number 2026 look different. */
export function Attributes({ attributes }) {
  const pairs = Object.entries(attributes);
  return pairs.length > 0 && html`<p class="states">${pairs.map(([key, value]) => html`<code class="pair">${key}: ${JSON.stringify(value)}</code>`)}</p>`;
}

function Progress({ file }) {
  const share = readShare(file.progress);
  const { chunks_done: done, chunks_total: count } = file.progress;
  return html`<div class="reading">
    <progress aria-label=${file.filename} value=${share ?? undefined}></progress>
    <span class="faint">${share === null ? t("waiting") : t("chunksOf", { done, all: count })}</span>
  </div>`;
}
