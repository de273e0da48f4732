// The last five minutes as curves. What they say is in the figures and tables too; their labels tell the rest.
import { useMemo, useRef } from "preact/hooks";
import { html } from "../html.js";
import { CHART_SECONDS } from "../load_history.js";
import { AXIS, Plot, colour } from "../plot.js";
import { number, tag, translator } from "../words.js";

const t = translator({
  en: {
    first: "Time to first token, seconds",
    median: "median",
    none: "none yet",
    p95: "95%",
    queue: "Requests in the server",
    requests: "Requests per second",
    running: "running",
    series: "{name}: now {now}, at most {most}",
    summary: "{title}, the last five minutes. {series}",
    tokens: "Generated tokens per second",
    waiting: "waiting",
  },
  pt: {
    first: "Tempo até o primeiro token, segundos",
    median: "mediana",
    none: "nenhum ainda",
    p95: "95%",
    queue: "Requisições no servidor",
    requests: "Requisições por segundo",
    running: "em curso",
    series: "{name}: agora {now}, no máximo {most}",
    summary: "{title}, os últimos cinco minutos. {series}",
    tokens: "Tokens gerados por segundo",
    waiting: "na fila",
  },
});

const CHARTS = [
  { title: "requests", series: ["requests"] },
  { title: "tokens", series: ["tokens"] },
  { title: "queue", series: ["running", "waiting"] },
  { title: "first", series: ["median", "p95"] },
];
const STROKES = ["--main", "--warn"];
const HEIGHT = 140;

export function Charts({ points, now }) {
  return html`<div class="load-charts">
    ${CHARTS.map((chart) => html`<${Chart} key=${chart.title} ...${chart} points=${points} now=${now} />`)}
  </div>`;
}

function Chart({ title, series, points, now }) {
  const end = useRef(now);
  end.current = now;
  const options = useMemo(() => optionsOf(series, end), []);
  const data = useMemo(() => dataOf(series, points), [points]);
  return html`<figure class="card">
    <figcaption>
      ${t(title)}
      ${series.length > 1 && html`<span class="faint">${series.map((name, at) => html`<span class=${`load-key key-${at}`} key=${name}>${t(name)}</span>`)}</span>`}
    </figcaption>
    <${Plot} options=${options} data=${data} label=${summary(title, series, points)} />
  </figure>`;
}

function summary(title, series, points) {
  const shown = (value) => (value === null || value === undefined ? t("none") : number(value, { maximumFractionDigits: 2 }));
  const said = series.map((name) => {
    const known = points.map((point) => point[name]).filter((value) => value !== null && value !== undefined);
    const most = known.length ? Math.max(...known) : null;
    return t("series", { name: t(name), now: shown(points.at(-1)?.[name]), most: shown(most) });
  });
  return t("summary", { title: t(title), series: said.join("; ") });
}

function dataOf(series, points) {
  return [points.map((point) => point.at), ...series.map((name) => points.map((point) => point[name] ?? null))];
}

function optionsOf(series, end) {
  return {
    height: HEIGHT,
    legend: { show: false },
    cursor: { show: false },
    padding: [8, 20, 0, 0],
    scales: {
      x: { range: () => [end.current - CHART_SECONDS, end.current] },
      y: { range: (_, least, most) => [0, Math.max(most ?? 0, 0) * 1.1 || 1] },
    },
    axes: [
      { ...AXIS, values: (_, moments) => moments.map(hour), space: 40, size: 28 },
      { ...AXIS, values: (_, values) => values.map((value) => number(value, { maximumFractionDigits: 3 })), size: 54, space: 30 },
    ],
    series: [
      {},
      ...series.map((_, at) => ({ stroke: () => colour(STROKES[at]), width: 2, dash: at ? [6, 4] : undefined, points: { show: false }, spanGaps: false })),
    ],
  };
}

function hour(seconds) {
  return new Intl.DateTimeFormat(tag(), { hour: "2-digit", minute: "2-digit", hourCycle: "h23" }).format(new Date(seconds * 1000));
}
