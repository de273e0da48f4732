// One file of a store: its text as it was read, and the question before it goes.
import { useEffect, useState } from "preact/hooks";
import { get } from "../api.js";
import { html } from "../html.js";
import { Action, Dialog, Failure, Question, Working } from "../parts.js";
import { joined } from "../passages.js";
import { translator } from "../words.js";
import { gone } from "./knowledge_settings.js";

const t = translator({
  en: {
    delete: "Delete the file, from here and from every store. This cannot be undone.",
    more: "More of the text",
    remove: "Remove",
    removeTitle: "Remove “{name}”?",
    shown: { one: "{n} chunk, in its order; overlaps are shown once.", other: "{n} chunks, in their order; overlaps are shown once." },
    takeOut: "Take it out of this store. It stays a file.",
  },
  pt: {
    delete: "Apagar o arquivo, daqui e de todas as bases. Não há como desfazer.",
    more: "Mais do texto",
    remove: "Remover",
    removeTitle: "Remover “{name}”?",
    shown: { one: "{n} trecho, em ordem; o que se repete aparece uma vez.", other: "{n} trechos, em ordem; o que se repete aparece uma vez." },
    takeOut: "Tirar desta base. Continua sendo um arquivo.",
  },
});

const CHUNKS = 100;

/** `path`: the file's address in its store. */
export function FileText({ file, path, onClose }) {
  const [chunks, setChunks] = useState(null);
  const [next, setNext] = useState(null);
  const [error, setError] = useState(null);
  const [stop] = useState(() => new AbortController());
  const read = async (page) => {
    try {
      const answer = await get(`${path}/content`, { limit: CHUNKS, page }, { signal: stop.signal });
      setChunks((before) => [...(before ?? []), ...answer.data.map((part) => part.text)]);
      setNext(answer.next_page);
      setError(null);
    } catch (failure) {
      if (!stop.signal.aborted) setError(failure);
    }
  };
  useEffect(() => {
    read();
    return () => stop.abort();
  }, []);
  return html`<${Dialog} title=${file.filename} onClose=${onClose} wide>
    <div class="stack">
      ${!chunks && !error && html`<${Working} />`}
      ${chunks && html`<p class="faint">${t("shown", { n: chunks.length })}</p>`}
      ${chunks?.length > 0 && html`<div class="as-read" tabindex="0" role="region" aria-label=${file.filename}>${joined(chunks)}</div>`}
      <${Failure} error=${error} />
      ${next && html`<div><${Action} onPress=${() => read(next)}>${t("more")}<//></div>`}
    </div>
  <//>`;
}

export function RemoveFile({ file, path, onClose, onDone }) {
  const [everywhere, setEverywhere] = useState(false);
  const carryOut = async () => {
    await gone(everywhere ? `/v1/files/${file.id}` : path);
    onDone();
  };
  const choice = (value, words) => html`<label class="field beside"><span>${words}</span><input type="radio" name="where" checked=${everywhere === value} onChange=${() => setEverywhere(value)} /></label>`;
  return html`<${Question} title=${t("removeTitle", { name: file.filename })} yes=${t("remove")} onYes=${carryOut} onClose=${onClose}>
    ${choice(false, t("takeOut"))} ${choice(true, t("delete"))}
  <//>`;
}
