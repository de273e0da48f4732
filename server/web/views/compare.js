// One question to several models at once, side by side.
import { useEffect } from "preact/hooks";
import { all } from "../api.js";
import { MOST, addressOf, columnsIn, usualColumns } from "../compared_columns.js";
import { html } from "../html.js";
import { models } from "../models.js";
import { Field, Working, useLoaded } from "../parts.js";
import { translator } from "../words.js";
import { Column } from "./compare_column.js";
import { add, askAll, columns, isAsking, marking, question, sampling, show, stopAll, system } from "./compare_state.js";

const t = translator({
  en: {
    add: "Add a column",
    ask: "Ask",
    columns: "Answers",
    default: "server's default",
    ended: "{n} of {all} answers have ended.",
    hint: "Enter asks, Shift+Enter begins a line.",
    mark: "Mark what the first answer does not say",
    max_tokens: "Most tokens of an answer",
    question: "Question",
    seed: "Seed",
    settings: "Sampling and instructions",
    stop: "Stop all",
    system: "System prompt",
    temperature: "Temperature",
    temperatureHint: "0: the likeliest words each time",
    title: "Compare",
  },
  pt: {
    add: "Adicionar coluna",
    ask: "Perguntar",
    columns: "Respostas",
    default: "padrão do servidor",
    ended: "{n} de {all} respostas terminaram.",
    hint: "Enter pergunta, Shift+Enter quebra a linha.",
    mark: "Marcar o que a primeira resposta não diz",
    max_tokens: "Máximo de tokens de uma resposta",
    question: "Pergunta",
    seed: "Semente",
    settings: "Amostragem e instruções",
    stop: "Parar todas",
    system: "Prompt de sistema",
    temperature: "Temperatura",
    temperatureHint: "0: sempre as palavras mais prováveis",
    title: "Comparar",
  },
});

export default function Compare({ path }) {
  const wanted = path.join("/");
  const ready = models.value !== null;
  const { data: stores } = useLoaded((signal) => all("/v1/vector_stores", {}, { signal }).catch(() => [])); // a key without them compares models
  useEffect(() => {
    if (path.length) show(columnsIn(path));
    else if (ready && !columns.value.length) show(usualColumns(models.value));
  }, [wanted, ready]);
  const address = columns.value.length ? addressOf(columns.value) : null;
  useEffect(() => {
    if (columns.value.length) location.replace(addressOf(columns.value)); // no step of its own in the history
  }, [address]);
  useEffect(() => stopAll, []);
  return html`<div class="stack">
    <h1>${t("title")}</h1>
    <${Asking} />
    ${columns.value.length ? html`<${Columns} stores=${stores ?? []} />` : html`<${Working} />`}
  </div>`;
}

function Asking() {
  const asking = isAsking();
  const submit = (event) => {
    event.preventDefault();
    if (question.value.trim() && !asking) askAll();
  };
  const key = (event) => {
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing) submit(event);
  };
  return html`<form class="stack" onSubmit=${submit}>
    <textarea
      rows="2" aria-label=${t("question")} placeholder=${t("hint")} value=${question.value}
      onInput=${(event) => (question.value = event.target.value)} onKeyDown=${key}
    ></textarea>
    <div class="row">
      ${asking
        ? html`<button key="stop" type="button" class="danger" onClick=${stopAll}>${t("stop")}</button>`
        : html`<button key="ask" type="submit" class="main" disabled=${!question.value.trim() || !columns.value.length}>${t("ask")}</button>`}
      <button type="button" disabled=${columns.value.length >= MOST || !columns.value.length} onClick=${add}>${t("add")}</button>
      <${Field} class="beside" label=${t("mark")}>
        <input type="checkbox" role="switch" checked=${marking.value} onChange=${(event) => (marking.value = event.target.checked)} />
      <//>
    </div>
    <${Settings} />
  </form>`;
}

function Settings() {
  const number = (name, bounds, hint) => html`<${Field} label=${t(name)} hint=${hint}>
    <input
      type="number" ...${bounds} placeholder=${t("default")} value=${sampling.value[name]}
      onInput=${(event) => (sampling.value = { ...sampling.value, [name]: event.target.value })}
    />
  <//>`;
  return html`<details>
    <summary>${t("settings")}</summary>
    <div class="stack compare-settings">
      <div class="compare-numbers">
        ${number("temperature", { min: 0, max: 2, step: 0.1 }, t("temperatureHint"))} ${number("max_tokens", { min: 1, step: 1 })}
        ${number("seed", { step: 1 })}
      </div>
      <${Field} label=${t("system")}>
        <textarea rows="2" value=${system.value} onInput=${(event) => (system.value = event.target.value)}></textarea>
      <//>
    </div>
  </details>`;
}

function Columns({ stores }) {
  const shown = columns.value;
  const asked = shown.filter((column) => column.answer.value);
  const n = asked.filter((column) => column.answer.value.done).length;
  return html`<section aria-label=${t("columns")}>
    <p class="hidden" role="status">${asked.length > 0 && t("ended", { n, all: asked.length })}</p>
    <div class="compared" style=${{ "--columns": shown.length }}>
      ${shown.map((column, at) => html`<${Column} key=${column.id} column=${column} at=${at} first=${shown[0]} stores=${stores} alone=${shown.length <= 2} />`)}
    </div>
  </section>`;
}
