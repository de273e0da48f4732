// The losses of a job as curves. Training is a line, validation dashes with dots: they are told apart without colour.
import { useMemo, useRef } from "preact/hooks";
import { html } from "../html.js";
import { AXIS, Plot, colour } from "../plot.js";
import { number, translator } from "../words.js";
import { smoothed } from "./jobs_facts.js";

const t = translator({
  en: {
    each: "each step",
    first: "{name} from {first} to {last}, lowest {least} at step {step}",
    loss: "Loss by step",
    none: "Not measured yet.",
    summary: "Loss by step, {n} of {total} steps. {series}",
    training: "training",
    validation: "validation",
  },
  pt: {
    each: "cada passo",
    first: "{name} de {first} a {last}, mínimo {least} no passo {step}",
    loss: "Perda por passo",
    none: "Ainda não medida.",
    summary: "Perda por passo, {n} de {total} passos. {series}",
    training: "treino",
    validation: "validação",
  },
});

const HEIGHT = 240;

/** `steps`: `[{step, training, validation}]`; `total`: how many there will be, or null. */
export function LossChart({ steps, total }) {
  const last = useRef(1);
  last.current = Math.max(total ?? 0, steps.at(-1)?.step ?? 0, 2);
  const data = useMemo(() => dataOf(steps), [steps.length, steps.at(-1)?.step, total]);
  const options = useMemo(() => optionsOf(last), []);
  const isSmoothed = data[1].some((value) => value !== null);
  return html`<figure class="job-losses">
    <figcaption>
      ${t("loss")}
      <span class="faint">
        <span class="job-key training">${t("training")}</span>
        ${isSmoothed && html`<span class="job-key each">${t("each")}</span>`}
        <span class="job-key validation">${t("validation")}</span>
      </span>
    </figcaption>
    ${steps.length ? html`<${Plot} options=${options} data=${data} label=${summary(steps, total)} />` : html`<p class="nothing">${t("none")}</p>`}
  </figure>`;
}

export const shownLoss = (value) => number(value, { minimumFractionDigits: 3, maximumFractionDigits: 3 });

function summary(steps, total) {
  const series = ["training", "validation"].map((name) => {
    const known = steps.filter((step) => step[name] !== null);
    if (!known.length) return null;
    const lowest = known.reduce((least, step) => (step[name] < least[name] ? step : least));
    const [first, last, least] = [known[0], known.at(-1), lowest].map((step) => shownLoss(step[name]));
    return t("first", { name: t(name), first, last, least, step: lowest.step });
  });
  return t("summary", { n: steps.at(-1).step, total: total ?? steps.at(-1).step, series: series.filter(Boolean).join("; ") });
}

/** Columns for uPlot: steps, training smoothed, each step's training, validation. */
function dataOf(steps) {
  const training = steps.map((step) => step.training);
  const smooth = smoothed(steps);
  return [steps.map((step) => step.step), smooth ?? training.map(() => null), training, steps.map((step) => step.validation)];
}

function optionsOf(last) {
  const isSmoothed = (plot) => plot.data[1].some((value) => value !== null);
  return {
    height: HEIGHT,
    legend: { show: false },
    cursor: { show: false },
    padding: [8, 20, 0, 0],
    scales: {
      x: { time: false, range: () => [0, last.current] },
      y: { range: (_, least, most) => withRoom(least ?? 0, most ?? 1) },
    },
    axes: [
      { ...AXIS, values: (_, steps) => steps.map((step) => (Number.isInteger(step) ? number(step) : "")), space: 50, size: 28 },
      { ...AXIS, values: (_, values) => values.map((value) => number(value, { maximumFractionDigits: 3 })), size: 54, space: 30 },
    ],
    series: [
      {},
      { stroke: () => colour("--main"), width: 2.5, points: { show: false } },
      // each step's own loss steps back behind the mean of many
      { stroke: (plot) => (isSmoothed(plot) ? colour("--faint") : colour("--main")), width: 1.25, points: { show: (plot) => !isSmoothed(plot), size: 5 } },
      { stroke: () => colour("--warn"), width: 2, dash: [7, 5], spanGaps: true, points: { show: true, size: 8, fill: () => colour("--surface") } },
    ],
  };
}

function withRoom(least, most) {
  const room = (most - least) * 0.08 || Math.abs(most) * 0.1 || 1;
  return [Math.min(least, Math.max(0, least - room)), most + room];
}
