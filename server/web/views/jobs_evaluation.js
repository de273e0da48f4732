// What the training was worth: the base and the adapter on the validation file, side by side, with a verdict in words.
import { html } from "../html.js";
import { Badge } from "../parts.js";
import { number, translator } from "../words.js";
import { comparisons } from "./jobs_facts.js";

const t = translator({
  en: {
    accuracy: "Right label",
    adapter: "Adapter",
    base: "Base",
    better: "better",
    exact_match: "Exact answers",
    examples: { one: "{n} example that it was not trained on", other: "{n} examples that it was not trained on" },
    loss: "Loss, nats per token",
    measure: "Measure",
    measures: "Measures",
    perplexity: "Perplexity",
    same: "the same",
    title: "Base and adapter on the validation file",
    token_accuracy: "Right tokens",
    verdict: "Adapter is",
    worse: "worse",
  },
  pt: {
    accuracy: "Rótulo certo",
    adapter: "Adaptador",
    base: "Base",
    better: "melhor",
    exact_match: "Respostas exatas",
    examples: { one: "{n} exemplo fora do treino", other: "{n} exemplos fora do treino" },
    loss: "Perda, nats por token",
    measure: "Medida",
    measures: "Medidas",
    perplexity: "Perplexidade",
    same: "igual",
    title: "Base e adaptador no arquivo de validação",
    token_accuracy: "Tokens certos",
    verdict: "O adaptador é",
    worse: "pior",
  },
});

const KINDS = { better: "good", worse: "bad", same: "" };

/** `of`: a job's `evaluation`, `{base: {…}, adapter: {…}}`; nothing where there is none. */
export function Evaluation({ of }) {
  const rows = comparisons(of);
  if (!rows.length) return null;
  return html`<section class="card stack" aria-labelledby="evaluation">
    <h2 id="evaluation">${t("title")}</h2>
    <div class="scroll" tabindex="0" role="region" aria-label=${t("measures")}>
      <table class="job-measures">
        ${of.adapter.n && html`<caption>${t("examples", { n: of.adapter.n })}</caption>`}
        <thead><tr>${["measure", "base", "adapter", "verdict"].map((key) => html`<th scope="col" class=${key === "measure" || key === "verdict" ? "" : "number"}>${t(key)}</th>`)}</tr></thead>
        <tbody>${rows.map(({ measure, base, adapter, verdict }) => html`<tr key=${measure}>
          <th scope="row">${t(measure)}</th>
          <td class="number">${shown(measure, base)}</td>
          <td class="number">${shown(measure, adapter)}</td>
          <td><${Badge} kind=${KINDS[verdict]}>${t(verdict)}<//></td>
        </tr>`)}</tbody>
      </table>
    </div>
  </section>`;
}

function shown(measure, value) {
  if (measure === "perplexity") return number(value, { maximumSignificantDigits: 4 });
  if (measure === "loss") return number(value, { minimumFractionDigits: 3, maximumFractionDigits: 3 });
  return number(value, { style: "percent", minimumFractionDigits: 1, maximumFractionDigits: 1 });
}
