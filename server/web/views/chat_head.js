// Above a conversation: who answers, how, and what can be done with the whole of it.
import { useState } from "preact/hooks";
import { nameOf } from "../conversation.js";
import { html } from "../html.js";
import { ModelChoice } from "../models.js";
import { Dialog, Field, Question } from "../parts.js";
import { save } from "../saving.js";
import { translator } from "../words.js";
import { RequestDialog } from "./chat_request.js";
import { SettingsDialog } from "./chat_settings.js";
import { change, forget } from "./chat_store.js";

const t = translator({
  en: {
    delete: "Delete",
    deleteSure: "“{name}” and its answers will be gone from this browser.",
    deleteTitle: "Delete this conversation?",
    export: "Export",
    model: "Model",
    name: "Name",
    new: "New conversation",
    rename: "Rename",
    request: "The exact request",
    save: "Save",
    settings: "Settings",
  },
  pt: {
    delete: "Excluir",
    deleteSure: "“{name}” e suas respostas vão sumir deste navegador.",
    deleteTitle: "Excluir esta conversa?",
    export: "Exportar",
    model: "Modelo",
    name: "Nome",
    new: "Nova conversa",
    rename: "Renomear",
    request: "A requisição exata",
    save: "Salvar",
    settings: "Ajustes",
  },
});

export function ConversationHead({ conversation }) {
  const [asks, setAsks] = useState(null); // which dialog is open
  const close = () => setAsks(null);
  const name = nameOf(conversation) || t("new");
  const exported = () => save(new Blob([JSON.stringify(conversation, null, 2)], { type: "application/json" }), fileName(name));
  const begun = conversation.turns.length > 0;
  return html`<header class="chat-head">
    <div class="row apart">
      <h2>${name}</h2>
      ${begun && html`<div class="row tight">
        <button type="button" class="small" onClick=${() => setAsks("rename")}>${t("rename")}</button>
        <button type="button" class="small" onClick=${exported}>${t("export")}</button>
        <button type="button" class="small" onClick=${() => setAsks("delete")}>${t("delete")}</button>
      </div>`}
    </div>
    <div class="row">
      <${ModelChoice} label=${t("model")} value=${conversation.model} onChange=${(model) => change({ ...conversation, model })} />
      <button type="button" onClick=${() => setAsks("settings")}>${t("settings")}</button>
      <button type="button" onClick=${() => setAsks("request")}>${t("request")}</button>
    </div>
    ${asks === "settings" && html`<${SettingsDialog} conversation=${conversation} onClose=${close} />`}
    ${asks === "request" && html`<${RequestDialog} conversation=${conversation} onClose=${close} />`}
    ${asks === "rename" && html`<${Rename} conversation=${conversation} name=${name} onClose=${close} />`}
    ${asks === "delete" &&
    html`<${Question} title=${t("deleteTitle")} yes=${t("delete")} onYes=${() => forget(conversation.id)} onClose=${close}>
      <p>${t("deleteSure", { name })}</p>
    <//>`}
  </header>`;
}

function Rename({ conversation, name, onClose }) {
  const [typed, setTyped] = useState(name);
  const submit = (event) => {
    event.preventDefault();
    change({ ...conversation, name: typed.trim() });
    onClose();
  };
  return html`<${Dialog} title=${t("rename")} onClose=${onClose}>
    <form onSubmit=${submit}>
      <${Field} label=${t("name")}><input maxlength="200" value=${typed} onInput=${(event) => setTyped(event.target.value)} /><//>
      <footer><button type="submit" class="main">${t("save")}</button></footer>
    </form>
  <//>`;
}

function fileName(name) {
  return `${name.replace(/[^\p{L}\p{N}]+/gu, "-").replace(/^-+|-+$/g, "") || "conversation"}.json`;
}
