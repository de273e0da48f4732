// The load by adapter, by error and by step of a search; what is in memory, and what waits to be read.
import { html } from "../html.js";
import { adapterRows, engineFacts, errorsBy, memoryRows, stageRows } from "../load_history.js";
import { Nothing } from "../parts.js";
import { total } from "../prometheus.js";
import { bytes, duration, number, translator } from "../words.js";

const t = translator({
  en: {
    adapter: "Adapter",
    adapters: "Answers by adapter",
    active: "Computed with now",
    allVersions: "Versions in memory",
    count: "Searches",
    embed: "embed the question",
    error: "Error",
    errors: "Errors",
    evictions: "Evictions",
    failures: "Failures",
    files: "Files that wait",
    filesDone: "Files read",
    filesFailed: "Files failed",
    index: "Indexes",
    ingestion: "Reading of files",
    later: "Tried again later",
    loads: "Loads",
    loadTime: "Time per load",
    median: "First token, median",
    memory: "Adapters in memory",
    name: "Stage",
    noErrors: "No request has failed since the server started.",
    noneActive: "none",
    noRequests: "No request since the server started.",
    noSearches: "No search since the server started.",
    noVersions: "No adapter was loaded since the server started.",
    oldest: "The oldest has waited",
    oneAnswer: "Tokens/s of one answer",
    ofSlots: "{names} (at most {n} at once)",
    p95: "First token, 95%",
    perSecond: "Requests/s",
    recent: "Recent",
    requests: "Requests since the start",
    search: "search",
    shortMedian: "Median",
    shortP95: "95%",
    since: "Since the start",
    stages: "Searches by stage",
    status: "Status",
    stores: "find the stores",
    tokens: "Tokens/s",
    versions: "In memory",
    working: "Being read",
  },
  pt: {
    adapter: "Adaptador",
    adapters: "Respostas por adaptador",
    active: "Em cálculo agora",
    allVersions: "Versões na memória",
    count: "Buscas",
    embed: "vetorizar a pergunta",
    error: "Erro",
    errors: "Erros",
    evictions: "Descartes",
    failures: "Falhas",
    files: "Arquivos na fila",
    filesDone: "Arquivos lidos",
    filesFailed: "Arquivos com falha",
    index: "Índices",
    ingestion: "Leitura de arquivos",
    later: "Nova tentativa depois",
    loads: "Cargas",
    loadTime: "Tempo por carga",
    median: "Primeiro token, mediana",
    memory: "Adaptadores na memória",
    name: "Etapa",
    noErrors: "Nenhuma requisição falhou desde que o servidor iniciou.",
    noneActive: "nenhum",
    noRequests: "Nenhuma requisição desde que o servidor iniciou.",
    noSearches: "Nenhuma busca desde que o servidor iniciou.",
    noVersions: "Nenhum adaptador foi carregado desde que o servidor iniciou.",
    oldest: "O mais antigo espera há",
    oneAnswer: "Tokens/s de uma resposta",
    ofSlots: "{names} (no máximo {n} ao mesmo tempo)",
    p95: "Primeiro token, 95%",
    perSecond: "Requisições/s",
    recent: "Recentes",
    requests: "Requisições desde o início",
    search: "buscar",
    shortMedian: "Mediana",
    shortP95: "95%",
    since: "Desde o início",
    stages: "Buscas por etapa",
    status: "Status",
    stores: "achar as bases",
    tokens: "Tokens/s",
    versions: "Na memória",
    working: "Em leitura",
  },
});

const STAGES = ["stores", "embed", "search"];

/** What is reckoned between two looks is empty as long as `before` is null. */
export function Tables({ before, now }) {
  return html`
    <${ByAdapter} rows=${adapterRows(before, now)} />
    <div class="load-pairs">
      <${Memory} now=${now} />
      <${Errors} before=${before} now=${now} />
      <${Stages} rows=${stageRows(before, now)} />
      <${Ingestion} now=${now} />
    </div>
  `;
}

function ByAdapter({ rows }) {
  const columns = [
    ["requests", ({ requests }) => count(requests)],
    ["perSecond", ({ perSecond }) => rate(perSecond)],
    ["median", ({ median }) => duration(median)],
    ["p95", ({ p95 }) => duration(p95)],
    ["tokens", ({ tokens }) => rate(tokens)],
    ["oneAnswer", ({ oneAnswer }) => rate(oneAnswer)],
  ];
  return html`<${Part} name="adapters">
    ${rows.length ? html`<${Table} name="adapters" first="adapter" columns=${columns} rows=${rows} />` : html`<${Nothing}>${t("noRequests")}<//>`}
  <//>`;
}

function Memory({ now }) {
  const rows = memoryRows(now);
  const { active, slots } = engineFacts(now);
  const columns = [
    ["versions", ({ versions }) => count(versions)],
    ["loads", ({ loads }) => count(loads)],
    ["loadTime", (row) => duration(row.seconds)],
    ["evictions", ({ evictions }) => count(evictions)],
  ];
  const names = active?.length ? active.join(", ") : t("noneActive");
  return html`<${Part} name="memory">
    <dl>
      <dt>${t("allVersions")}</dt><dd>${count(total(now, "manyhats_adapters_resident"))}</dd>
      ${active && html`<dt>${t("active")}</dt><dd>${t("ofSlots", { names, n: slots })}</dd>`}
    </dl>
    ${rows.length ? html`<${Table} name="memory" first="adapter" columns=${columns} rows=${rows} />` : html`<p class="faint">${t("noVersions")}</p>`}
  <//>`;
}

function Errors({ before, now }) {
  const columns = [
    ["since", ({ all }) => count(all)],
    ["recent", ({ recent }) => count(recent)],
  ];
  const [statuses, kinds] = [errorsBy("status", before, now), errorsBy("type", before, now)];
  return html`<${Part} name="errors">
    ${!statuses.length && !kinds.length && html`<p class="faint">${t("noErrors")}</p>`}
    ${statuses.length > 0 && html`<${Table} name="errors" first="status" columns=${columns} rows=${statuses} />`}
    ${kinds.length > 0 && html`<${Table} name="errors" first="error" columns=${columns} rows=${kinds} />`}
  <//>`;
}

function Stages({ rows }) {
  const columns = [
    ["count", ({ all }) => count(all)],
    ["shortMedian", ({ median }) => duration(median)],
    ["shortP95", ({ p95 }) => duration(p95)],
    ["failures", ({ failures }) => count(failures)],
  ];
  const named = rows.map((row) => ({ ...row, name: STAGES.includes(row.name) ? t(row.name) : row.name }));
  return html`<${Part} name="stages">
    ${rows.length ? html`<${Table} name="stages" first="name" columns=${columns} rows=${named} />` : html`<p class="faint">${t("noSearches")}</p>`}
  <//>`;
}

function Ingestion({ now }) {
  const queue = (wanted) => count(total(now, "manyhats_ingestion_queue", ({ state }) => state === wanted));
  const files = (wanted) => count(total(now, "manyhats_store_files", ({ status }) => status === wanted));
  const size = total(now, "manyhats_index_bytes");
  const rows = [
    ["files", queue("waiting")],
    ["working", queue("working")],
    ["later", queue("later")],
    ["oldest", duration(total(now, "manyhats_ingestion_oldest_seconds") || null)],
    ["filesDone", files("completed")],
    ["filesFailed", files("failed")],
    ["index", size === null ? "–" : bytes(size)],
  ];
  return html`<${Part} name="ingestion">
    <dl>${rows.map(([name, value]) => html`<dt>${t(name)}</dt><dd>${value}</dd>`)}</dl>
  <//>`;
}

function Part({ name, children }) {
  return html`<section class="card stack" aria-labelledby=${`load-${name}`}>
    <h2 id=${`load-${name}`}>${t(name)}</h2>
    ${children}
  </section>`;
}

/** Rows with a name first, then columns `[word, cell of a row]` of figures. It scrolls by itself where it is wider. */
function Table({ name, first, columns, rows }) {
  return html`<div class="scroll" tabindex="0" role="group" aria-labelledby=${`load-${name}`}>
    <table>
      <thead>
        <tr><th scope="col">${t(first)}</th>${columns.map(([word]) => html`<th scope="col" class="number">${t(word)}</th>`)}</tr>
      </thead>
      <tbody>
        ${rows.map((row) => html`<tr key=${row.name}><th scope="row">${row.name}</th>${columns.map(([word, cell]) => html`<td class="number" key=${word}>${cell(row)}</td>`)}</tr>`)}
      </tbody>
    </table>
  </div>`;
}

const known = (value) => value !== null && value !== undefined;
const count = (value) => (known(value) ? number(value, { maximumFractionDigits: 0 }) : "–");
const rate = (value) => (known(value) ? number(value, { maximumFractionDigits: value < 10 ? 2 : 0 }) : "–");
