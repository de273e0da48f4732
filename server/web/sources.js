// The passages that an answer was given, what was found and left out, and the file that a passage stands in.
import { useEffect, useRef, useState } from "preact/hooks";
import { all, download, get, isAdmin } from "./api.js";
import { html } from "./html.js";
import { Action, Badge, Dialog, Failure, Working } from "./parts.js";
import { around, placeOf } from "./passages.js";
import { number, translator } from "./words.js";

const t = translator({
  en: {
    cited: "cited",
    control_tokens: "holds control tokens of the model",
    download: "Download the file",
    dropped: { one: "1 more was found and left out", other: "{n} more were found and left out" },
    duplicate: "another source says it already",
    none: "Nothing was found.",
    open: "Open the passage in its file",
    page: "page {n}",
    part: "A part of the file; more stands before or after it.",
    passage: "Passage {n}",
    passageOnly: "Only the passage: this key may not read the file around it.",
    query: "Searched for “{query}”",
    room: "no room left in the context",
    score: "score {score}",
    skipped: "Nothing was searched for: {why}",
    source: "Source",
    sources: "Sources",
  },
  pt: {
    cited: "citada",
    control_tokens: "contém tokens de controle do modelo",
    download: "Baixar o arquivo",
    dropped: { one: "Mais 1 foi encontrada e ficou de fora", other: "Mais {n} foram encontradas e ficaram de fora" },
    duplicate: "outra fonte já diz o mesmo",
    none: "Nada foi encontrado.",
    open: "Abrir o trecho no arquivo",
    page: "página {n}",
    part: "Uma parte do arquivo; há mais texto antes ou depois.",
    passage: "Trecho {n}",
    passageOnly: "Só o trecho: esta chave não pode ler o arquivo em volta.",
    query: "Busca por “{query}”",
    room: "não cabia mais no contexto",
    score: "pontuação {score}",
    skipped: "Nada foi buscado: {why}",
    source: "Fonte",
    sources: "Fontes",
  },
});

const REACH = 12; // passages before and after the one that is shown
const MOST_STORES = 20; // that are asked for a file

/**
 * The sources of an answer, numbered as it cites them. `chosen` is the number of the one whose file is open, `onChoose`
 * gets another or null. `stores` and `assistant` say where the passages came from, as far as the request named it.
 */
export function Sources({ answer, chosen = null, onChoose, stores = [], assistant = null }) {
  const { sources, dropped, cited, query, skipped } = answer;
  if (query === null && skipped === null && !sources.length) return null;
  const open = sources.find((source) => source.number === chosen);
  return html`<section class="sources" aria-label=${t("sources")}>
    <h3>${t("sources")}</h3>
    ${query !== null && html`<p class="faint">${t("query", { query })}</p>`}
    ${skipped !== null && html`<p class="faint">${t("skipped", { why: skipped })}</p>`}
    ${!sources.length && !dropped.length && skipped === null && html`<p class="faint">${t("none")}</p>`}
    <ol>
      ${sources.map((source) => html`<${Passage} source=${source} cited=${cited.includes(source.number)} onChoose=${onChoose} />`)}
    </ol>
    ${dropped.length > 0 && html`<${Dropped} dropped=${dropped} />`}
    ${open && html`<${PassageDialog} key=${open.number} source=${open} stores=${stores} assistant=${assistant} onClose=${() => onChoose(null)} />`}
  </section>`;
}

function Passage({ source, cited, onChoose }) {
  return html`<li class=${cited ? "cited" : ""}>
    <button type="button" title=${t("open")} onClick=${() => onChoose(source.number)}>
      <span class="source-head">
        <span class="source-number"><span class="hidden">${t("source")} </span>${source.number}</span>
        <span class="source-file">${source.filename}</span>
        ${cited && html`<${Badge} kind="good">${t("cited")}<//>`}
      </span>
      <${Where} source=${source} />
      <span class="source-text">${excerpt(source.text)}</span>
    </button>
  </li>`;
}

/** Without the headings, which are shown already. */
function excerpt(text) {
  return text.replace(/^#{1,6} .*$/gm, "").trim() || text;
}

function Where({ source }) {
  const parts = [
    source.page && t("page", { n: source.page }),
    source.heading?.join(" › "),
    t("score", { score: number(source.score, { minimumFractionDigits: 2, maximumFractionDigits: 2 }) }),
  ];
  return html`<span class="faint">${parts.filter(Boolean).join(" · ")}</span>`;
}

function Dropped({ dropped }) {
  return html`<details class="faint">
    <summary>${t("dropped", { n: dropped.length })}</summary>
    <ul>
      ${dropped.map((one) => html`<li>${one.filename}: ${t(one.reason)}<br /><${Where} source=${one} /></li>`)}
    </ul>
  </details>`;
}

function PassageDialog({ source, stores, assistant, onClose }) {
  const [found, setFound] = useState(undefined); // null: nobody lets us read the file
  const [error, setError] = useState(null);
  const marked = useRef(null);
  useEffect(() => {
    const stop = new AbortController();
    textAround(source, { stores, assistant }, stop.signal)
      .then(setFound)
      .catch((failure) => stop.signal.aborted || setError(failure));
    return () => stop.abort();
  }, []);
  useEffect(() => marked.current?.scrollIntoView({ block: "center" }), [found]);
  const save = async () => {
    setError(null);
    await download(`/v1/files/${encodeURIComponent(source.file_id)}/content`, source.filename).catch(setError);
  };
  const shown = found ?? { before: "", passage: source.text, after: "" };
  return html`<${Dialog} wide title=${`[${source.number}] ${source.filename}`} onClose=${onClose}>
    <div class="row apart">
      <${Where} source=${source} />
      <${Action} kind="small" onPress=${save}>${t("download")}<//>
    </div>
    <${Failure} error=${error} />
    ${found === undefined && !error && html`<${Working} />`}
    ${found === null && html`<p class="faint">${t("passageOnly")}</p>`}
    ${(found?.cutBefore || found?.cutAfter) && html`<p class="faint">${t("part")}</p>`}
    <div class="file-text" tabindex="0" role="region" aria-label=${t("passage", { n: source.number })}>${shown.before}<mark ref=${marked}>${shown.passage}</mark>${shown.after}</div>
  <//>`;
}

/** The passage with the text around it, from the first store that has the file; null where the caller may read none. */
async function textAround(source, origin, signal) {
  for (const store of await storesToAsk(origin, signal)) {
    try {
      const texts = await textsOf(store, source, signal);
      const at = placeOf(source.text, texts);
      if (at >= 0) return around(texts, at, REACH);
    } catch (error) {
      if (error.status !== 404 && error.status !== 403) throw error;
    }
  }
  return null;
}

/** The caller's stores, those first that the request or its assistant names. */
async function storesToAsk({ stores, assistant }, signal) {
  const own = await all("/v1/vector_stores", {}, { signal });
  const named = new Set(stores.length ? stores : await storesOf(assistant, signal));
  const isNamed = (store) => named.has(store.id) || named.has(store.name);
  return [...own.filter(isNamed), ...own.filter((store) => !isNamed(store))].slice(0, MOST_STORES).map((store) => store.id);
}

async function storesOf(assistant, signal) {
  if (!assistant || !isAdmin()) return [];
  const assistants = await all("/v1/assistants", {}, { signal });
  return assistants.find((one) => one.name === assistant)?.tool_resources?.file_search?.vector_store_ids ?? [];
}

/** The texts of a file's passages, up to those behind the source. */
async function textsOf(store, source, signal) {
  const path = `/v1/vector_stores/${encodeURIComponent(store)}/files/${encodeURIComponent(source.file_id)}/content`;
  const texts = [];
  let page;
  do {
    const content = await get(path, { page }, { signal });
    texts.push(...content.data.map((one) => one.text));
    page = content.next_page;
  } while (page && placeOf(source.text, texts.slice(0, -REACH)) < 0);
  return texts;
}
