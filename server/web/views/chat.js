// The first view: conversations with any name that `model` may take.
import { useEffect, useState } from "preact/hooks";
import { nameOf } from "../conversation.js";
import { html } from "../html.js";
import { models } from "../models.js";
import { Working } from "../parts.js";
import { moment, translator } from "../words.js";
import { Conversation } from "./chat_conversation.js";
import { conversations, current, open, openLast, openNew, unkept } from "./chat_store.js";

const t = translator({
  en: {
    kept: "Kept in this browser only.",
    list: "Conversations",
    new: "New conversation",
    title: "Chat",
    unkept: "This browser has no room left for the conversation: it will be gone with this tab. Export it, or delete others.",
  },
  pt: {
    kept: "Guardadas só neste navegador.",
    list: "Conversas",
    new: "Nova conversa",
    title: "Conversa",
    unkept: "Não há mais espaço neste navegador para a conversa: ela some ao fechar a aba. Exporte-a ou exclua outras.",
  },
});

export default function Chat({ path }) {
  const named = path.join("/"); // names of models may have a slash
  const ready = models.value !== null;
  useEffect(() => {
    if (!ready) return;
    if (named) {
      openNew(named);
      history.replaceState(null, "", "#/chat"); // coming back to it is coming back to this conversation
    } else if (!current.value) {
      openLast();
    }
  }, [named, ready]);
  const conversation = current.value;
  return html`<div class="chat">
    <div class="chat-side">
      <div class="row apart">
        <h1>${t("title")}</h1>
        <button type="button" onClick=${() => openNew()}>${t("new")}</button>
      </div>
      <${List} />
    </div>
    <div class="chat-main">
      ${unkept.value && html`<p class="failure" role="alert">${t("unkept")}</p>`}
      ${conversation ? html`<${Conversation} key=${conversation.id} conversation=${conversation} />` : html`<${Working} />`}
    </div>
  </div>`;
}

function List() {
  const [wide] = useState(() => matchMedia("(min-width: 72rem)").matches);
  if (!conversations.value.length) return null;
  return html`<details class="chat-list" open=${wide}>
    <summary>${t("list")}</summary>
    <ul>
      ${conversations.value.map(
        (one) => html`<li key=${one.id}>
          <button type="button" class="plain" aria-current=${one.id === current.value?.id} title=${moment(one.created)} onClick=${() => open(one)}>
            ${nameOf(one)}
          </button>
        </li>`,
      )}
    </ul>
    <p class="faint">${t("kept")}</p>
  </details>`;
}
