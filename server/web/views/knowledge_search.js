// One question to one store by all rankers, side by side, so that one sees what each of them finds and why.
import { useEffect, useRef, useState } from "preact/hooks";
import { ApiError, post, session } from "../api.js";
import { html } from "../html.js";
import { Failure, Field, Working } from "../parts.js";
import { number, translator } from "../words.js";
import { Attributes } from "./knowledge_files.js";
import { marked } from "./knowledge_marks.js";

const t = translator({
  en: {
    back: "All vector stores",
    dense: "Dense: meaning",
    filters: "Filters over attributes, as JSON",
    filtersHint: "For example {example}",
    found: { one: "{n} passage in {ms} ms", other: "{n} passages in {ms} ms" },
    hybrid: "Hybrid: both",
    less: "Less",
    lexical: "Lexical: words",
    noJson: "This is not JSON: {why}",
    nothing: "Nothing found.",
    options: "Filters and limits",
    page: "page {n}",
    parts: "dense {dense}, lexical {lexical}",
    query: "Question",
    rerank: "Rerank: judged again",
    results: "Results of each",
    score: "Score {score}",
    search: "Search",
    threshold: "Least score, 0 to 1",
    title: "Search in {name}",
    whole: "Whole passage",
  },
  pt: {
    back: "Todas as bases",
    dense: "Dense: significado",
    filters: "Filtros sobre atributos, em JSON",
    filtersHint: "Por exemplo {example}",
    found: { one: "{n} trecho em {ms} ms", other: "{n} trechos em {ms} ms" },
    hybrid: "Hybrid: os dois",
    less: "Menos",
    lexical: "Lexical: palavras",
    noJson: "Isto não é JSON: {why}",
    nothing: "Nada encontrado.",
    options: "Filtros e limites",
    page: "página {n}",
    parts: "dense {dense}, lexical {lexical}",
    query: "Pergunta",
    rerank: "Rerank: julgado de novo",
    results: "Resultados de cada um",
    score: "Pontuação {score}",
    search: "Pesquisar",
    threshold: "Pontuação mínima, 0 a 1",
    title: "Busca em {name}",
    whole: "Trecho inteiro",
  },
});

const EXAMPLE = '{"type": "eq", "key": "language", "value": "en"}';
const LONG = 420; // characters from which a passage is folded

/** The page of a store that is searched by its name, perhaps one that the key may only search. */
export function SharedSearch({ name }) {
  return html`<div class="stack">
    <a href="#/knowledge">${t("back")}</a>
    <h1 class="name">${t("title", { name })}</h1>
    <${Search} store=${name} />
  </div>`;
}

/** `store`: its id or its name. */
export function Search({ store }) {
  const [given, setGiven] = useState({ query: "", results: "5", threshold: "", filters: "" });
  const [error, setError] = useState(null);
  const [search, setSearch] = useState(null); // what the columns search for
  const rankers = ["hybrid", "dense", "lexical", ...(session.value.reranker ? ["rerank"] : [])];
  const bind = (key) => ({ value: given[key], onInput: (event) => setGiven({ ...given, [key]: event.target.value }) });
  const refuse = (failure) => {
    setError(failure);
    setSearch(null);
  };
  const submit = (event) => {
    event.preventDefault();
    setError(null);
    try {
      const filters = given.filters.trim() ? JSON.parse(given.filters) : undefined;
      const threshold = given.threshold === "" ? undefined : Number(given.threshold);
      setSearch({ query: given.query, max_num_results: Number(given.results), filters, threshold });
    } catch (failure) {
      setError(new Error(t("noJson", { why: failure.message })));
    }
  };
  return html`<div class="stack">
    <form class="card stack" onSubmit=${submit}>
      <div class="row ask">
        <${Field} class="grow" label=${t("query")}><input type="search" required maxlength="32768" ...${bind("query")} /><//>
        <button type="submit" class="main">${t("search")}</button>
      </div>
      <details>
        <summary>${t("options")}</summary>
        <div class="stack">
          <div class="row">
            <${Field} class="grow" label=${t("results")}><input type="number" required min="1" max="50" ...${bind("results")} /><//>
            <${Field} class="grow" label=${t("threshold")}><input type="number" min="0" max="1" step="any" ...${bind("threshold")} /><//>
          </div>
          <${Field} label=${t("filters")} hint=${t("filtersHint", { example: EXAMPLE })}><textarea class="mono" rows="3" spellcheck="false" ...${bind("filters")}></textarea><//>
        </div>
      </details>
      <${Failure} error=${error} />
    </form>
    ${search && html`<div class="columns">${rankers.map((ranker) => html`<${Column} key=${ranker} store=${store} ranker=${ranker} search=${search} onRefused=${refuse} />`)}</div>`}
  </div>`;
}

function Column({ store, ranker, search, onRefused }) {
  const [state, setState] = useState({});
  const refused = useRef(onRefused);
  useEffect(() => {
    const stop = new AbortController();
    const { threshold, ...rest } = search;
    const begun = performance.now();
    setState({ working: true });
    post(`/v1/vector_stores/${encodeURIComponent(store)}/search`, { ...rest, ranking_options: { ranker, score_threshold: threshold } }, { signal: stop.signal })
      .then((answer) => setState({ hits: answer.data, query: search.query, ms: Math.round(performance.now() - begun) }))
      .catch((error) => {
        if (stop.signal.aborted) return;
        const ofAll = error instanceof ApiError && [400, 404].includes(error.status); // the question is wrong, not the ranker
        if (ofAll) refused.current(error);
        setState({ error: ofAll ? null : error });
      });
    return () => stop.abort();
  }, [store, search]);
  const { hits, error, ms, query, working } = state;
  return html`<section class="stack" aria-label=${t(ranker)}>
    <div class="row apart"><h2>${t(ranker)}</h2><span class="faint" role="status">${hits && t("found", { n: hits.length, ms })}</span></div>
    ${working && html`<${Working} />`}
    <${Failure} error=${error} />
    ${hits?.length === 0 && html`<p class="faint">${t("nothing")}</p>`}
    ${hits?.length > 0 && html`<ol class="plain-list hits">${hits.map((hit) => html`<${Hit} key=${hit.chunk_id} hit=${hit} query=${query} />`)}</ol>`}
  </section>`;
}

function Hit({ hit, query }) {
  const [whole, setWhole] = useState(false);
  const text = hit.content.map((part) => part.text).join("\n");
  const two = (value) => number(value, { minimumFractionDigits: 2, maximumFractionDigits: 2 });
  const { dense, lexical } = hit.scores;
  const known = (value) => (value === null || value === undefined ? "–" : two(value));
  const place = [hit.page !== null && t("page", { n: hit.page }), hit.heading.join(" › ")].filter(Boolean).join(" · ");
  return html`<li class="card stack tight">
    <p class="name"><strong>${hit.filename}</strong> ${place && html`<span class="faint">${place}</span>`}</p>
    <p><${Meter} value=${hit.score} label=${t("score", { score: two(hit.score) })} /> <span class="faint">${t("parts", { dense: known(dense), lexical: known(lexical) })}</span></p>
    <p class=${`passage${whole || text.length < LONG ? "" : " folded"}`}>${marked(text, query).map((part) => (part.marked ? html`<mark>${part.text}</mark>` : part.text))}</p>
    ${text.length >= LONG && html`<div><button type="button" class="link" aria-expanded=${whole} onClick=${() => setWhole(!whole)}>${t(whole ? "less" : "whole")}</button></div>`}
    <${Attributes} attributes=${hit.attributes} />
  </li>`;
}

function Meter({ value, label }) {
  return html`<span class="score"><strong>${label}</strong><span class="bar-of" aria-hidden="true"><span style=${{ width: `${Math.round(value * 100)}%` }}></span></span></span>`;
}
