// The request that the next answer takes, to run it elsewhere.
import { useState } from "preact/hooks";
import { key } from "../api.js";
import { asked, requestBody } from "../conversation.js";
import { html } from "../html.js";
import { CopyButton, Dialog } from "../parts.js";
import { asShell, asPython } from "../request_as.js";
import { translator } from "../words.js";
import { drafts } from "./chat_store.js";

const t = translator({
  en: { hello: "Hello", language: "As", title: "The exact request", what: "What is sent for the next answer. The key is read from the environment: MANYHATS_API_KEY." },
  pt: { hello: "Olá", language: "Como", title: "A requisição exata", what: "O que é enviado para a próxima resposta. A chave vem do ambiente: MANYHATS_API_KEY." },
});

export function RequestDialog({ conversation, onClose }) {
  const [kind, setKind] = useState("curl");
  const body = requestBody(asking(conversation));
  const code = kind === "curl" ? asShell(location.origin, body, { needsKey: key.value !== "" }) : asPython(location.origin, body);
  return html`<${Dialog} wide title=${t("title")} onClose=${onClose}>
    <div class="stack">
      <p class="faint">${t("what")}</p>
      <div class="row apart">
        <div class="tabs" role="group" aria-label=${t("language")}>
          ${["curl", "Python"].map((one) => html`<button type="button" class="small" aria-pressed=${one === kind} onClick=${() => setKind(one)}>${one}</button>`)}
        </div>
        <${CopyButton} text=${code} />
      </div>
      <pre tabindex="0">${code}</pre>
    </div>
  <//>`;
}

/** With what is typed as the next question; else the last one asked. */
function asking(conversation) {
  const draft = drafts.get(conversation.id)?.trim();
  if (draft) return asked(conversation, draft);
  const last = conversation.turns.findLastIndex((turn) => turn.role === "user");
  return last < 0 ? asked(conversation, t("hello")) : { ...conversation, turns: conversation.turns.slice(0, last + 1) };
}
