// Fine-tuning jobs: the list, and the way to one of them and to a new one.
import { useState } from "preact/hooks";
import { all, get, session } from "../api.js";
import { html } from "../html.js";
import { Badge, Failure, Nothing, Working, useLoaded } from "../parts.js";
import { moment, number, span, translator } from "../words.js";
import { shownLoss } from "./jobs_chart.js";
import { isOver, lookAgainMs, secondsLeft, stepsOf } from "./jobs_facts.js";
import { pathOf } from "./jobs_following.js";
import { NewJob } from "./jobs_new.js";
import { JobPage } from "./jobs_one.js";
import { METHODS, way } from "./jobs_words.js";

const t = translator({
  en: {
    add: "Train an adapter",
    began: "Created",
    caption: { one: "{n} job", other: "{n} jobs" },
    empty: "No job yet. Bring a file of examples, and an adapter that has learnt from them is served under the name that you give it.",
    left: "Time left",
    loss: "Loss",
    method: "Method",
    more: "More",
    name: "Adapter",
    off: "This server trains nothing itself (MANYHATS_TRAINING); jobs wait until somebody starts `manyhats worker train`.",
    steps: "Progress",
    stepsOf: "step {step} of {n}",
    title: "Jobs",
  },
  pt: {
    add: "Treinar um adaptador",
    began: "Criado",
    caption: { one: "{n} treino", other: "{n} treinos" },
    empty: "Nenhum treino ainda. Traga um arquivo de exemplos: o adaptador que aprende com eles é servido com o nome que você der.",
    left: "Tempo restante",
    loss: "Perda",
    method: "Método",
    more: "Mais",
    name: "Adaptador",
    off: "Este servidor não treina por si (MANYHATS_TRAINING); os treinos esperam até que alguém inicie `manyhats worker train`.",
    steps: "Andamento",
    stepsOf: "passo {step} de {n}",
    title: "Treinos",
  },
});

const PAGE = 20;
const LOOK_AGAIN_MS = 3000;
const IDLE_MS = 15_000; // when none of the jobs shown changes by itself
const BADGES = { succeeded: "good", running: "warn", failed: "bad" };

export default function Jobs({ path: [id] }) {
  if (id === "+new") return html`<${NewJob} />`;
  if (id) return html`<${JobPage} key=${id} id=${id} states=${States} bar=${Bar} />`;
  return html`<${List} />`;
}

function List() {
  const [most, setMost] = useState(PAGE);
  const [every, setEvery] = useState(LOOK_AGAIN_MS);
  const read = async (signal) => {
    const jobs = await all("/v1/fine_tuning/jobs", { limit: Math.min(100, most + 1) }, { limit: most + 1, signal });
    setEvery(jobs.some((job) => lookAgainMs(job) !== null) ? LOOK_AGAIN_MS : IDLE_MS);
    return jobs;
  };
  const { data, error } = useLoaded(read, [most], { every });
  return html`<div class="stack">
    <div class="row apart">
      <h1>${t("title")}</h1>
      <a class="button" href="#/jobs/+new">${t("add")}</a>
    </div>
    ${session.value.training === false && html`<p class="note">${t("off")}</p>`}
    <${Failure} error=${error} />
    ${!data && !error && html`<${Working} />`}
    ${data && (data.length ? html`<${Table} jobs=${data.slice(0, most)} />` : html`<${Nothing}>${t("empty")}<//>`)}
    ${data?.length > most && html`<div><button type="button" onClick=${() => setMost(most + 100)}>${t("more")}</button></div>`}
  </div>`;
}

function Table({ jobs }) {
  const head = [["name"], ["steps"], ["loss", "number"], ["left", "spare"], ["method", "spare"], ["began", "spare"]];
  const now = Date.now() / 1000;
  return html`<div class="scroll card">
    <table class="jobs">
      <caption>${t("caption", { n: jobs.length })}</caption>
      <thead><tr>${head.map(([key, kind]) => html`<th scope="col" class=${kind}>${t(key)}</th>`)}</tr></thead>
      <tbody>${jobs.map((job) => html`<${Row} key=${job.id} job=${job} now=${now} />`)}</tbody>
    </table>
  </div>`;
}

function Row({ job, now }) {
  return html`<tr>
    <th scope="row">
      <a href=${`#/jobs/${encodeURIComponent(job.id)}`}>${job.suffix}</a> <${States} job=${job} />
      ${job.error && html`<p class="wrong about">${job.error.message}</p>`}
    </th>
    <td><${Bar} job=${job} /></td>
    <td class="number">${job.evaluation?.adapter ? shownLoss(job.evaluation.adapter.loss) : html`<${LastLoss} job=${job} />`}</td>
    <td class="spare">${span(secondsLeft(job, now))}</td>
    <td class="spare">${METHODS.includes(job.method.type) ? way(job.method.type) : job.method.type}</td>
    <td class="spare">${moment(job.created_at)}</td>
  </tr>`;
}

/** The job does not say it; its newest events do. */
function LastLoss({ job }) {
  const read = async (signal) => {
    if (!job.step) return null;
    const { data } = await get(`${pathOf(job.id)}/events`, { limit: 20 }, { signal });
    return stepsOf(data).at(-1)?.training ?? null;
  };
  const { data: loss } = useLoaded(read, [job.id, job.step]);
  return loss === null ? "–" : shownLoss(loss);
}

/** How far it is, as a bar and in words. */
function Bar({ job }) {
  if (!job.n_steps) return "–";
  const said = t("stepsOf", { step: job.step, n: job.n_steps });
  return html`<span class="job-bar">
    ${!isOver(job) && html`<progress aria-label=${t("steps")} max=${job.n_steps} value=${job.step}></progress>`}
    <span>${said}</span>
  </span>`;
}

/** Its status in words, and what it was asked for and has not done yet. */
function States({ job }) {
  return html`<span class="states">
    <${Badge} kind=${BADGES[job.status]}>${way(job.status)}<//>
    ${job.wanted && html`<${Badge} kind="warn">${way(`will_${job.wanted}`)}<//>`}
  </span>`;
}
