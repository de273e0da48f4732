// One fine-tuning job: how far it is, its losses as they fall, what it was worth, and what can be done with it.
import { useState } from "preact/hooks";
import { download, get, post, session } from "../api.js";
import { html } from "../html.js";
import { readModels } from "../models.js";
import { Action, Badge, CopyButton, Failure, Question, Working, useLoaded } from "../parts.js";
import { moment, span, translator } from "../words.js";
import { LossChart, shownLoss } from "./jobs_chart.js";
import { Evaluation } from "./jobs_evaluation.js";
import { isOver, possible, secondsLeft } from "./jobs_facts.js";
import { pathOf, useFollowed, useSteps } from "./jobs_following.js";
import { JobFacts } from "./jobs_settings.js";

const t = translator({
  en: {
    all: "All jobs",
    ask: "Ask it",
    cancel: "Cancel",
    cancelSure: "What it has learnt so far is thrown away, and no version is made of it. To go on later, pause it.",
    cancelTitle: "Cancel this job?",
    checkpoint: "After step {step}",
    checkpoints: "Checkpoints",
    checkpointsHint: "The adapter as it was at the end of an epoch, served under a name of its own.",
    compare: "Compare with the base",
    csv: "Every step as CSV",
    error: "Error",
    events: "What happened",
    failed: "The job failed: {why}",
    keepJob: "Keep it",
    left: "{time} left",
    losses: "loss {training}",
    lossesBoth: "loss {training}, on the validation file {validation}",
    model: "Its name for good",
    pause: "Pause",
    resume: "Resume",
    see: "To {name}",
    waits: "Nothing has begun yet. Jobs are worked on one after the other, the oldest first.",
    warn: "Warning",
  },
  pt: {
    all: "Todos os treinos",
    ask: "Perguntar a ele",
    cancel: "Cancelar",
    cancelSure: "O que ele aprendeu até aqui é descartado e não vira uma versão. Para continuar depois, pause.",
    cancelTitle: "Cancelar este treino?",
    checkpoint: "Após o passo {step}",
    checkpoints: "Checkpoints",
    checkpointsHint: "O adaptador como estava no fim de uma época, servido com um nome próprio.",
    compare: "Comparar com a base",
    csv: "Todos os passos em CSV",
    error: "Erro",
    events: "O que aconteceu",
    failed: "O treino falhou: {why}",
    keepJob: "Manter",
    left: "faltam {time}",
    losses: "perda {training}",
    lossesBoth: "perda {training}, no arquivo de validação {validation}",
    model: "Nome permanente",
    pause: "Pausar",
    resume: "Retomar",
    see: "Ver {name}",
    waits: "Nada começou ainda. Os treinos são feitos um após o outro, o mais antigo primeiro.",
    warn: "Aviso",
  },
});

const SHOWN_EVENTS = 100;

/** `states` and `bar`: the components that show a job's status in words and how far it is. */
export function JobPage({ id, states: States, bar: Bar }) {
  const { job, events, error, reload } = useFollowed(id);
  const steps = useSteps(job, events);
  return html`<div class="stack">
    <p><a href="#/jobs">${t("all")}</a></p>
    <div class="row apart">
      <h1 class="name">${job?.suffix ?? id}</h1>
      ${job && html`<${States} job=${job} />`}
    </div>
    ${!job && !error && html`<${Working} />`}
    <${Failure} error=${error} />
    ${job &&
    html`
      <${Progress} job=${job} bar=${Bar} />
      ${job.error && html`<p class="failure" role="alert">${t("failed", { why: job.error.message })}${job.error.code && html` <code>${job.error.code}</code>`}</p>`}
      <${Steering} job=${job} onDone=${reload} />
      ${job.fine_tuned_model && html`<${Outcome} job=${job} />`}
      <${Evaluation} of=${job.evaluation} />
      <section class="card"><${LossChart} steps=${steps} total=${job.n_steps} /></section>
      <${Checkpoints} job=${job} />
      <${JobFacts} job=${job} />
      <${Events} events=${events} />
    `}
  </div>`;
}

function Progress({ job, bar: Bar }) {
  const left = secondsLeft(job, Date.now() / 1000);
  if (!job.n_steps) return isOver(job) ? null : html`<p class="faint">${t("waits")}</p>`;
  return html`<div class="row job-progress">
    <${Bar} job=${job} />
    ${left !== null && html`<span class="faint">${t("left", { time: span(left) })}</span>`}
  </div>`;
}

function Steering({ job, onDone }) {
  const [asks, setAsks] = useState(false);
  const [error, setError] = useState(null);
  const can = possible(job);
  const tell = async (what) => {
    await post(`${pathOf(job.id)}/${what}`);
    onDone();
  };
  const act = (what) => async () => {
    setError(null);
    await tell(what).catch(setError);
  };
  if (!can.length && !error) return null;
  return html`<div class="row">
      ${["pause", "resume"].filter((what) => can.includes(what)).map((what) => html`<${Action} key=${what} onPress=${act(what)}>${t(what)}<//>`)}
      ${can.includes("cancel") && html`<button type="button" class="danger" onClick=${() => setAsks(true)}>${t("cancel")}</button>`}
    </div>
    <${Failure} error=${error} />
    ${asks && html`<${Question} title=${t("cancelTitle")} yes=${t("cancel")} no=${t("keepJob")} onYes=${() => tell("cancel")} onClose=${() => setAsks(false)}><p>${t("cancelSure")}</p><//>`}`;
}

/** What came of it, and the ways to try it. */
function Outcome({ job }) {
  const model = job.fine_tuned_model;
  const [file] = job.result_files;
  const [error, setError] = useState(null);
  useLoaded(readModels, [model]); // the menus of models know the new name from now on
  const save = () => download(`/v1/files/${encodeURIComponent(file)}/content`, `${job.suffix}-${job.id}.csv`).catch(setError);
  return html`<section class="card stack" aria-label=${t("model")}>
    <p>${t("model")}: <code class="digest">${model}</code> <${CopyButton} text=${model} /></p>
    <div class="row">
      <a class="button main" href=${`#/chat/${encodeURIComponent(model)}`}>${t("ask")}</a>
      <a class="button" href=${`#/compare/${encodeURIComponent(session.value.base)}/${encodeURIComponent(model)}`}>${t("compare")}</a>
      <a class="button" href=${`#/adapters/${encodeURIComponent(job.suffix)}`}>${t("see", { name: job.suffix })}</a>
      ${file && html`<${Action} onPress=${save}>${t("csv")}<//>`}
    </div>
    <${Failure} error=${error} />
  </section>`;
}

function Checkpoints({ job }) {
  const read = async (signal) => (job.step ? (await get(`${pathOf(job.id)}/checkpoints`, {}, { signal })).data : []);
  const { data } = useLoaded(read, [job.id, job.status, Math.floor(job.step / 10)]);
  if (!data?.length) return null;
  return html`<section class="card stack" aria-labelledby="checkpoints">
    <h2 id="checkpoints">${t("checkpoints")}</h2>
    <p class="faint">${t("checkpointsHint")}</p>
    <ul class="plain-list">${data.map((one) => html`<li key=${one.id} class="row">
      <span class="grow">${t("checkpoint", { step: one.step_number })} <span class="faint">${measured(one.metrics)}</span></span>
      <code class="digest">${one.fine_tuned_model_checkpoint}</code>
      <a class="button" href=${`#/chat/${encodeURIComponent(one.fine_tuned_model_checkpoint)}`}>${t("ask")}</a>
    </li>`)}</ul>
  </section>`;
}

function measured({ train_loss: training, valid_loss: some, full_valid_loss: validation = some }) {
  if (training === undefined || training === null) return "";
  const both = validation !== undefined && validation !== null;
  return t(both ? "lossesBoth" : "losses", { training: shownLoss(training), validation: both ? shownLoss(validation) : "" });
}

/** The newest first; what is a number stands in the chart. */
function Events({ events }) {
  const told = events.filter((event) => event.type !== "metrics").slice(-SHOWN_EVENTS).reverse();
  return html`<section class="card stack" aria-labelledby="events">
    <h2 id="events">${t("events")}</h2>
    <ul class="plain-list">${told.map((event) => html`<li key=${event.id}>
      <span class="faint">${moment(event.created_at)}</span>${" "}
      ${event.level === "warn" && html`<${Badge} kind="warn">${t("warn")}<//>`}
      ${event.level === "error" && html`<${Badge} kind="bad">${t("error")}<//>`}
      <span class="name">${event.message}</span>
    </li>`)}</ul>
  </section>`;
}
