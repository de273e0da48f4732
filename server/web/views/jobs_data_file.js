// Where a file of examples is dropped or chosen.
import { useState } from "preact/hooks";
import { html } from "../html.js";
import { bytes, translator } from "../words.js";

const t = translator({
  en: { choose: "Choose a file", drop: "or drop it here: .jsonl, or plain text", remove: "Remove" },
  pt: { choose: "Escolher um arquivo", drop: "ou solte-o aqui: .jsonl, ou texto puro", remove: "Remover" },
});

const ACCEPTED = ".jsonl,.json,.txt,.md";

/** `onFile` gets the File, or null when it is taken away. */
export function DataFile({ label, hint, file, onFile }) {
  const [over, setOver] = useState(false);
  const drop = (event) => {
    event.preventDefault();
    setOver(false);
    if (event.dataTransfer.files.length) onFile(event.dataTransfer.files[0]);
  };
  const hover = (event) => {
    event.preventDefault(); // else the browser opens the file
    setOver(true);
  };
  const choose = (event) => {
    if (event.target.files.length) onFile(event.target.files[0]);
    event.target.value = ""; // the same file may be chosen again, corrected
  };
  return html`<div class=${over ? "drop data-file over" : "drop data-file"} onDragOver=${hover} onDragLeave=${() => setOver(false)} onDrop=${drop}>
    <strong>${label}</strong>
    ${hint && html`<small>${hint}</small>`}
    <div class="row">
      <label class="button chooser">${t("choose")}<input type="file" class="hidden" accept=${ACCEPTED} aria-label=${`${label}: ${t("choose")}`} onChange=${choose} /></label>
      <small>${t("drop")}</small>
    </div>
    <p role="status" class=${file ? "row" : "hidden"}>
      ${file && html`<code class="name">${file.name}</code> ${bytes(file.size)} <button type="button" class="small" aria-label=${`${t("remove")}: ${file.name}`} onClick=${() => onFile(null)}>${t("remove")}</button>`}
    </p>
  </div>`;
}
