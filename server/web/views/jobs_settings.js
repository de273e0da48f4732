// How a job trains, as it was settled from what was asked for and from the data.
import { get } from "../api.js";
import { html } from "../html.js";
import { CopyButton, useLoaded } from "../parts.js";
import { moment, number, translator } from "../words.js";
import { METHODS, PUBLISH, way } from "./jobs_words.js";

const t = translator({
  en: {
    alpha: "Alpha",
    auto: "chosen when it begins",
    batch: "Examples in a step",
    beta: "Beta",
    created: "Created",
    ended: "Ended",
    epochs: "Epochs",
    id: "Job",
    learned: "Tokens trained",
    method: "Method",
    model: "Trained on",
    nf4: "Base in 4 bits (QLoRA)",
    nf4Yes: "yes, while training",
    publish: "Name moves to it",
    rank: "Rank",
    rate: "Learning rate, times the usual",
    seed: "Seed",
    title: "How it trains",
    training: "Examples",
    validation: "Validation",
    virtual: "Virtual tokens",
  },
  pt: {
    alpha: "Alfa",
    auto: "escolhido ao começar",
    batch: "Exemplos por passo",
    beta: "Beta",
    created: "Criado",
    ended: "Fim",
    epochs: "Épocas",
    id: "Treino",
    learned: "Tokens treinados",
    method: "Método",
    model: "Treinado sobre",
    nf4: "Base em 4 bits (QLoRA)",
    nf4Yes: "sim, durante o treino",
    publish: "O nome passa a ele",
    rank: "Rank",
    rate: "Taxa de aprendizado, vezes a usual",
    seed: "Semente",
    title: "Como treina",
    training: "Exemplos",
    validation: "Validação",
    virtual: "Tokens virtuais",
  },
});

export function JobFacts({ job }) {
  const { type } = job.method;
  const told = job.method[type].hyperparameters;
  const facts = [
    ["method", METHODS.includes(type) ? way(type) : type],
    ["model", html`<code>${job.model}</code>`],
    ["training", html`<${FileName} id=${job.training_file} />`],
    job.validation_file && ["validation", html`<${FileName} id=${job.validation_file} />`],
    ["epochs", settled(told.n_epochs)],
    ["batch", settled(told.batch_size)],
    ["rate", settled(told.learning_rate_multiplier)],
    told.lora && ["rank", settled(told.lora.r)],
    told.lora?.alpha && ["alpha", settled(told.lora.alpha)],
    told.quantization === "nf4" && ["nf4", t("nf4Yes")],
    told.beta !== undefined && ["beta", settled(told.beta)],
    told.n_virtual_tokens !== undefined && ["virtual", settled(told.n_virtual_tokens)],
    ["seed", String(job.seed)],
    PUBLISH.includes(job.publish) && ["publish", way(job.publish)],
    job.trained_tokens !== null && ["learned", number(job.trained_tokens)],
    ["created", moment(job.created_at)],
    job.finished_at && ["ended", moment(job.finished_at)],
    ["id", html`<code class="digest">${job.id}</code> <${CopyButton} text=${job.id} />`],
  ];
  return html`<section class="card stack" aria-labelledby="job-settings">
    <h2 id="job-settings">${t("title")}</h2>
    <dl class="version-facts">${facts.filter(Boolean).map(([key, value]) => html`<dt>${t(key)}</dt><dd>${value}</dd>`)}</dl>
  </section>`;
}

function settled(value) {
  return value === "auto" ? html`<span class="faint">${t("auto")}</span>` : number(value, { maximumSignificantDigits: 4 });
}

/** What the file was called; its id once it was deleted. */
function FileName({ id }) {
  const { data } = useLoaded((signal) => get(`/v1/files/${encodeURIComponent(id)}`, {}, { signal }), [id]);
  return data ? data.filename : html`<code class="digest">${id}</code>`;
}
