// What the server does now, from /metrics: read every two seconds while somebody looks.
import { signal } from "@preact/signals";
import { useEffect, useState } from "preact/hooks";
import { text } from "../api.js";
import { html } from "../html.js";
import { LOOK_SECONDS, TABLE_SECONDS, added, newHistory } from "../load_history.js";
import { Failure, Field, Working } from "../parts.js";
import { NOTHING, look } from "../prometheus.js";
import { duration, number, tag, translator } from "../words.js";
import { Charts } from "./load_charts.js";
import { Tables } from "./load_tables.js";

const t = translator({
  en: {
    cache: "KV cache in use",
    continue: "Continue",
    first: "First token, median",
    firstLook: "Rates appear with the second look, in a moment.",
    minute: "The last minute",
    over: "Times and rates over",
    pause: "Pause",
    paused: "Paused: these figures are of {time}.",
    p95: "First token, 95%",
    requests: "Requests/s",
    running: "Running",
    start: "All since the start",
    title: "Load",
    tokens: "Tokens/s",
    unread: "This key may not read the metrics.",
    waiting: "Waiting",
  },
  pt: {
    cache: "Cache KV em uso",
    continue: "Continuar",
    first: "Primeiro token, mediana",
    firstLook: "As taxas aparecem na segunda leitura, em instantes.",
    minute: "O último minuto",
    over: "Tempos e taxas sobre",
    pause: "Pausar",
    paused: "Em pausa: estes números são das {time}.",
    p95: "Primeiro token, 95%",
    requests: "Requisições/s",
    running: "Em curso",
    start: "Tudo desde o início",
    title: "Carga",
    tokens: "Tokens/s",
    unread: "Esta chave não pode ler as métricas.",
    waiting: "Na fila",
  },
});

/** It outlives the view: who comes back finds the curves as they were, with a gap. */
const history = signal(newHistory());

export default function Load() {
  const [paused, setPaused] = useState(false);
  const [sinceStart, setSinceStart] = useState(false);
  const error = useLooking(paused);
  const { looks, points } = history.value;
  const now = looks.at(-1);
  const before = sinceStart ? NOTHING : looks.length > 1 ? looks[0] : null;
  return html`<div class="stack load">
    <div class="row apart">
      <h1>${t("title")}</h1>
      <div class="row">
        <${Field} class="load-over" label=${t("over")}>
          <select value=${sinceStart ? "start" : "minute"} onChange=${(event) => setSinceStart(event.target.value === "start")}>
            <option value="minute">${t("minute")}</option>
            <option value="start">${t("start")}</option>
          </select>
        <//>
        <button type="button" onClick=${() => setPaused(!paused)}>${paused ? t("continue") : t("pause")}</button>
      </div>
    </div>
    ${error?.status === 403 && html`<p>${t("unread")}</p>`}
    <${Failure} error=${error} />
    ${!now && !error && html`<${Working} />`}
    ${now &&
    html`
      <p class="faint" role="status">${note(now, paused, looks.length)}</p>
      <${Figures} point=${points.at(-1)} />
      <${Charts} points=${points} now=${now.at} />
      <${Tables} before=${before} now=${now} />
    `}
  </div>`;
}

function note(now, paused, nLooks) {
  if (paused) return t("paused", { time: new Date(now.at * 1000).toLocaleTimeString(tag()) });
  return nLooks < 2 ? t("firstLook") : "";
}

/** Looks again and again unless paused or out of sight; the error of the last try, or null. */
function useLooking(paused) {
  const [error, setError] = useState(null);
  useEffect(() => {
    if (paused) return undefined;
    const stop = new AbortController();
    let timer = null;
    const lookAgain = async () => {
      try {
        if (!document.hidden) {
          const seen = await text("/metrics", { signal: stop.signal });
          history.value = added(history.value, look(seen, Date.now() / 1000));
          setError(null);
        }
      } catch (failure) {
        if (stop.signal.aborted) return;
        setError(failure);
      }
      if (!stop.signal.aborted) timer = setTimeout(lookAgain, LOOK_SECONDS * 1000);
    };
    lookAgain();
    return () => {
      stop.abort();
      clearTimeout(timer);
    };
  }, [paused]);
  return error;
}

function Figures({ point }) {
  const shown = (value, digits = 1) => (value === null || value === undefined ? "–" : number(value, { maximumFractionDigits: digits }));
  const figures = [
    ["requests", shown(point.requests)],
    ["running", shown(point.running, 0)],
    ["waiting", shown(point.waiting, 0)],
    ["tokens", shown(point.tokens)],
    ["first", duration(point.median)],
    ["p95", duration(point.p95)],
    ...(point.cache === null ? [] : [["cache", number(point.cache, { style: "percent", maximumFractionDigits: 0 })]]),
  ];
  return html`<dl class="load-figures">
    ${figures.map(([name, value]) => html`<div class="card" key=${name}><dt>${t(name)}</dt><dd>${value}</dd></div>`)}
  </dl>`;
}
