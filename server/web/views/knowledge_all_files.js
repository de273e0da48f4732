// All files that the key sees, in a store or not: what they weigh, when they go, and a way to be rid of them.
import { useState } from "preact/hooks";
import { all, download } from "../api.js";
import { html } from "../html.js";
import { Action, Failure, Nothing, Question, Working, useLoaded } from "../parts.js";
import { bytes, moment, translator } from "../words.js";
import { gone } from "./knowledge_settings.js";
import { Upload } from "./knowledge_upload.js";

const t = translator({
  en: {
    actions: "Actions",
    back: "All vector stores",
    caption: { one: "{n} file; deleting one takes it out of every store", other: "{n} files; deleting one takes it out of every store" },
    created: "Uploaded",
    delete: "Delete",
    deleteText: "It goes from here and from every vector store. This cannot be undone.",
    deleteTitle: "Delete “{name}”?",
    download: "Download",
    expires: "Expires",
    more: "More",
    name: "Name",
    never: "never",
    purpose: "Purpose",
    size: "Size",
    title: "All files",
  },
  pt: {
    actions: "Ações",
    back: "Todas as bases",
    caption: { one: "{n} arquivo; apagar um o tira de todas as bases", other: "{n} arquivos; apagar um o tira de todas as bases" },
    created: "Enviado",
    delete: "Apagar",
    deleteText: "Ele sai daqui e de todas as bases. Não há como desfazer.",
    deleteTitle: "Apagar “{name}”?",
    download: "Baixar",
    expires: "Expira",
    more: "Mais",
    name: "Nome",
    never: "nunca",
    purpose: "Finalidade",
    size: "Tamanho",
    title: "Todos os arquivos",
  },
});

const PAGE = 100;

export function AllFiles() {
  const [most, setMost] = useState(PAGE);
  const [asked, setAsked] = useState(null);
  const [failure, setFailure] = useState(null);
  const { data, error, reload } = useLoaded((signal) => all("/v1/files", {}, { limit: most, signal }), [most]);
  const save = (file) => () => download(`/v1/files/${file.id}/content`, file.filename).then(() => setFailure(null), setFailure);
  const carryOut = () => gone(`/v1/files/${asked.id}`).then(reload);
  return html`<div class="stack">
    <a href="#/knowledge">${t("back")}</a>
    <h1>${t("title")}</h1>
    <${Upload} onStored=${reload} />
    <${Failure} error=${failure ?? error} />
    ${!data && !error && html`<${Working} />`}
    ${data?.length === 0 && html`<${Nothing} />`}
    ${data?.length > 0 && html`<${Table} files=${data} save=${save} ask=${setAsked} />`}
    ${data?.length >= most && html`<div><button type="button" onClick=${() => setMost(most + PAGE)}>${t("more")}</button></div>`}
    ${asked && html`<${Question} title=${t("deleteTitle", { name: asked.filename })} yes=${t("delete")} onYes=${carryOut} onClose=${() => setAsked(null)}>
      <p>${t("deleteText")}</p>
    <//>`}
  </div>`;
}

function Table({ files, save, ask }) {
  const head = [["name"], ["size", "number"], ["purpose", "spare"], ["created", "spare"], ["expires", "spare"], ["actions"]];
  return html`<div class="scroll card">
    <table class="stores">
      <caption>${t("caption", { n: files.length })}</caption>
      <thead><tr>${head.map(([key, kind]) => html`<th scope="col" class=${kind}>${t(key)}</th>`)}</tr></thead>
      <tbody>
        ${files.map((file) => html`<tr key=${file.id}>
          <th scope="row" class="name">${file.filename}</th>
          <td class="number">${bytes(file.bytes)}</td>
          <td class="spare">${file.purpose}</td>
          <td class="spare">${moment(file.created_at)}</td>
          <td class="spare">${file.expires_at ? moment(file.expires_at) : html`<span class="faint">${t("never")}</span>`}</td>
          <td><div class="row tight">
            <${Action} kind="small" aria-label=${`${t("download")}: ${file.filename}`} onPress=${save(file)}>${t("download")}<//>
            <button type="button" class="small" aria-label=${`${t("delete")}: ${file.filename}`} onClick=${() => ask(file)}>${t("delete")}</button>
          </div></td>
        </tr>`)}
      </tbody>
    </table>
  </div>`;
}
