// Starting a fine-tuning job: a file of examples, a name, and as much of the rest as somebody wants to decide.
import { signal } from "@preact/signals";
import { useEffect, useRef, useState } from "preact/hooks";
import { get, session } from "../api.js";
import { html } from "../html.js";
import { ModelChoice } from "../models.js";
import { Failure, Field, useLoaded } from "../parts.js";
import { number, translator } from "../words.js";
import { begin, blamed } from "./jobs_begin.js";
import { nameFrom } from "./jobs_facts.js";
import { DataFile } from "./jobs_data_file.js";
import { METHODS, PUBLISH, way } from "./jobs_words.js";

const t = translator({
  en: {
    all: "All jobs",
    alpha: "Alpha",
    alphaHint: "Empty: twice the rank.",
    auto: "Empty: chosen by the number of examples.",
    batch: "Examples in a step",
    beta: "Beta",
    betaHint: "How close it stays to the base. Empty: 0.1.",
    checking: "The server reads each line and counts…",
    continued_pretraining: "What it reads becomes more likely: a language, a field, a manner. Plain text with empty lines between documents, or a JSON object on each line.",
    dpo: "To each prompt one answer that is preferred and one that is not.",
    epochs: "Epochs",
    example: "A line looks like this",
    line: "{file}, line {n}",
    method: "What the file holds",
    model: "Train on",
    modelHint: "The base, or an adapter to go on from.",
    more: "More settings",
    name: "Name",
    nameIsNew: "A new name; clients write it as the model.",
    nameIsThere: "The name is there: this becomes a further version of it.",
    nf4: "Hold the base in 4 bits while training",
    nf4Hint: "QLoRA: less memory, slower, a little less exact.",
    prompt_tuning: "A few learnt tokens before each prompt, the base as it is. Conversations, as above.",
    publish: "Point the name to it when it is done",
    rank: "Rank",
    rankHint: "Empty: 16. More holds more, and takes more room.",
    rate: "Learning rate, times the usual",
    rateHint: "Empty: 1.",
    refused: "The job was not started",
    seed: "Seed",
    seedHint: "Empty: any.",
    sending: "Sending {file}, {share}",
    start: "Start",
    stop: "Stop",
    supervised: "Conversations as the assistant should have them; it learns the assistant's turns.",
    title: "Train an adapter",
    tokens: "Virtual tokens",
    training: "Examples",
    validation: "Validation, if you have some",
    validationHint: "Examples that it is not trained on: base and adapter are compared on them.",
  },
  pt: {
    all: "Todos os treinos",
    alpha: "Alfa",
    alphaHint: "Vazio: o dobro do rank.",
    auto: "Vazio: escolhido pelo número de exemplos.",
    batch: "Exemplos por passo",
    beta: "Beta",
    betaHint: "O quanto ele fica perto da base. Vazio: 0,1.",
    checking: "O servidor lê cada linha e conta…",
    continued_pretraining: "O que ele lê fica mais provável: um idioma, uma área, um estilo. Texto puro com linhas vazias entre documentos, ou um objeto JSON por linha.",
    dpo: "Para cada pergunta, uma resposta preferida e uma que não é.",
    epochs: "Épocas",
    example: "Uma linha é assim",
    line: "{file}, linha {n}",
    method: "O que o arquivo contém",
    model: "Treinar sobre",
    modelHint: "A base, ou um adaptador a partir do qual continuar.",
    more: "Mais ajustes",
    name: "Nome",
    nameIsNew: "Um nome novo; os clientes o usam como modelo.",
    nameIsThere: "O nome já existe: esta será mais uma versão dele.",
    nf4: "Manter a base em 4 bits durante o treino",
    nf4Hint: "QLoRA: menos memória, mais lento, um pouco menos exato.",
    prompt_tuning: "Alguns tokens aprendidos antes de cada pergunta, a base como está. Conversas, como acima.",
    publish: "Apontar o nome para ele ao terminar",
    rank: "Rank",
    rankHint: "Vazio: 16. Mais comporta mais e ocupa mais espaço.",
    rate: "Taxa de aprendizado, vezes a usual",
    rateHint: "Vazio: 1.",
    refused: "O treino não foi iniciado",
    seed: "Semente",
    seedHint: "Vazio: qualquer uma.",
    sending: "Enviando {file}, {share}",
    start: "Iniciar",
    stop: "Parar",
    supervised: "Conversas como o assistente deveria tê-las; ele aprende os turnos do assistente.",
    title: "Treinar um adaptador",
    tokens: "Tokens virtuais",
    training: "Exemplos",
    validation: "Validação, se houver",
    validationHint: "Exemplos que ficam fora do treino: base e adaptador são comparados neles.",
  },
});

const CHAT = '{"messages": [{"role": "user", "content": "…"}, {"role": "assistant", "content": "…"}]}';
const EXAMPLES = {
  supervised: CHAT,
  prompt_tuning: CHAT,
  dpo: '{"input": {"messages": [{"role": "user", "content": "…"}]}, "preferred_output": [{"role": "assistant", "content": "…"}], "non_preferred_output": [{"role": "assistant", "content": "…"}]}',
  continued_pretraining: '{"text": "…"}',
};
const EMPTY = { name: "", model: "", method: "supervised", training: null, validation: null, epochs: "", rank: "", alpha: "", batch: "", rate: "", beta: "", tokens: "", nf4: false, seed: "", publish: "always" };

/** What was typed and chosen, also while other views are shown. */
const draft = signal(EMPTY);

export function NewJob() {
  const [stage, setStage] = useState({}); // one of {doing, file, share}, {error, line}
  const flight = useRef(null);
  const { data: names } = useLoaded(namesInUse);
  useEffect(() => () => flight.current?.abort(), []);
  const given = { ...draft.value, model: draft.value.model || session.value.base };
  const isThere = names?.has(given.name.trim()) ?? false;

  const start = async (event) => {
    event.preventDefault();
    flight.current = new AbortController();
    try {
      const job = await begin(given, setStage, flight.current.signal);
      draft.value = EMPTY;
      location.hash = `#/jobs/${encodeURIComponent(job.id)}`;
    } catch (error) {
      setStage(error.name === "AbortError" ? {} : { error, line: await blamed(error, given) });
    }
  };
  const busy = Boolean(stage.doing);
  return html`<div class="stack">
    <p><a href="#/jobs">${t("all")}</a></p>
    <h1>${t("title")}</h1>
    <form class="card stack narrow" onSubmit=${start}>
      <fieldset class="bare stack" disabled=${busy}>
        <${Method} />
        <${DataFile} label=${t("training")} file=${given.training} onFile=${take} />
        <${DataFile} label=${t("validation")} hint=${t("validationHint")} file=${given.validation} onFile=${(validation) => change({ validation })} />
        <${Field} label=${t("name")} hint=${given.name && names ? t(isThere ? "nameIsThere" : "nameIsNew") : ""}>
          <input required maxlength="64" pattern="[A-Za-z0-9][A-Za-z0-9._:\\-]*" autocomplete="off" spellcheck=${false} value=${given.name} onInput=${typed("name")} />
        <//>
        <div class="sides">
          <${Amount} name="epochs" hint=${t("auto")} min="1" max="1000" />
          ${given.method === "prompt_tuning" ? html`<${Amount} name="tokens" min="1" max="256" />` : html`<${Amount} name="rank" hint=${t("rankHint")} min="1" max="512" />`}
        </div>
        ${given.method !== "prompt_tuning" && html`<${Field} label=${t("nf4")} hint=${t("nf4Hint")} class="tick"><input type="checkbox" checked=${given.nf4} onChange=${(event) => change({ nf4: event.target.checked })} /><//>`}
        <${More} given=${given} />
      </fieldset>
      <${Progress} stage=${stage} />
      <${Refused} stage=${stage} />
      <div class="row">
        ${busy ? html`<button type="button" onClick=${() => flight.current.abort()}>${t("stop")}</button>` : html`<button class="main" disabled=${!given.training || !given.name.trim()}>${t("start")}</button>`}
      </div>
    </form>
  </div>`;
}

function Method() {
  const { method } = draft.value;
  const offered = METHODS.filter((name) => name !== "prompt_tuning" || session.value.prompt_tuning);
  return html`<${Field} label=${t("method")} hint=${t(method)}>
      <select value=${method} onChange=${typed("method")}>${offered.map((name) => html`<option value=${name}>${way(name)}</option>`)}</select>
    <//>
    <details><summary>${t("example")}</summary><pre class="wrapped"><code>${EXAMPLES[method]}</code></pre></details>`;
}

function More({ given }) {
  return html`<details>
    <summary>${t("more")}</summary>
    <div class="stack job-more">
      <${Field} label=${t("model")} hint=${t("modelHint")}><${ModelChoice} value=${given.model} onChange=${(model) => change({ model })} /><//>
      <div class="sides">
        <${Amount} name="batch" hint=${t("auto")} min="1" max="1024" />
        <${Amount} name="rate" hint=${t("rateHint")} min="0" max="100" step="any" />
        ${given.method !== "prompt_tuning" && html`<${Amount} name="alpha" hint=${t("alphaHint")} min="0" step="any" />`}
        ${given.method === "dpo" && html`<${Amount} name="beta" hint=${t("betaHint")} min="0" max="10" step="any" />`}
        <${Amount} name="seed" hint=${t("seedHint")} min="0" />
      </div>
      <${Field} label=${t("publish")}>
        <select value=${given.publish} onChange=${typed("publish")}>${PUBLISH.map((name) => html`<option value=${name} disabled=${name === "if_better" && !given.validation}>${way(name)}</option>`)}</select>
      <//>
    </div>
  </details>`;
}

/** A number of the draft; empty is the server's to choose. */
function Amount({ name, hint, ...limits }) {
  return html`<${Field} label=${t(name)} hint=${hint}><input type="number" value=${draft.value[name]} onInput=${typed(name)} ...${limits} /><//>`;
}

function Progress({ stage: { doing, file, share } }) {
  const percent = number(share ?? 0, { style: "percent" });
  return html`<div aria-live="off">${doing && html`<progress max="1" value=${doing === "sending" ? share : undefined} aria-label=${t(doing, { file, share: "" })} />`}</div>
    <p class=${doing ? "" : "hidden"} role="status">${doing && t(doing, { file, share: percent })}</p>`;
}

function Refused({ stage: { error, line } }) {
  if (!error) return null;
  return html`<section class="stack" aria-label=${t("refused")}>
    <h2>${t("refused")}</h2>
    <${Failure} error=${error} />
    ${line && html`<figure class="refused-line"><figcaption>${t("line", line)}</figcaption><pre class="wrapped"><code>${line.text}</code></pre></figure>`}
  </section>`;
}

function change(part) {
  draft.value = { ...draft.value, ...part };
}

const typed = (name) => (event) => change({ [name]: event.target.value });

function take(training) {
  change({ training, name: draft.value.name || (training ? nameFrom(training.name) : "") });
}

async function namesInUse(signal) {
  const { data } = await get("/v1/adapters", {}, { signal });
  return new Set(data.filter((one) => one.versions.length).map((one) => one.name));
}
