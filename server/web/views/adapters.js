// Adapters: the list with what each one does now, and the pages of one adapter and of a new one.
import { get, session, text } from "../api.js";
import { html } from "../html.js";
import { Badge, Failure, Nothing, Working, useLoaded } from "../parts.js";
import { bytes, moment, number, translator } from "../words.js";
import { lastUse, usage } from "./adapters_facts.js";
import { MixAdapters } from "./adapters_mix.js";
import { AdapterPage } from "./adapters_one.js";
import { NewAdapter } from "./adapters_new.js";
import { shown } from "./adapters_traffic.js";

const t = translator({
  en: {
    add: "Register an adapter",
    adapter: "Adapter",
    caption: { one: "{n} adapter over {base}; requests and last use since the server started", other: "{n} adapters over {base}; requests and last use since the server started" },
    created: "Registered",
    empty: "No adapter yet. Register the first one: a LoRA as PEFT saves it.",
    errors: "Errors",
    failed: "failed",
    loaded: "loaded",
    mix: "Mix adapters",
    otherBase: "other base",
    pinned: "pinned",
    points: "Points to",
    rank: "Rank",
    ready: "ready",
    requests: "Requests",
    size: "Size",
    staging: "being fetched",
    title: "Adapters",
    used: "Last use",
  },
  pt: {
    add: "Registrar um adaptador",
    adapter: "Adaptador",
    caption: { one: "{n} adaptador sobre {base}; requisições e último uso desde o início do servidor", other: "{n} adaptadores sobre {base}; requisições e último uso desde o início do servidor" },
    created: "Registrado",
    empty: "Nenhum adaptador ainda. Registre o primeiro: um LoRA como o PEFT o salva.",
    errors: "Erros",
    failed: "falhou",
    loaded: "carregado",
    mix: "Misturar adaptadores",
    otherBase: "outra base",
    pinned: "fixado",
    points: "Aponta para",
    rank: "Rank",
    ready: "pronto",
    requests: "Requisições",
    size: "Tamanho",
    staging: "sendo buscado",
    title: "Adaptadores",
    used: "Último uso",
  },
});

const LOOK_AGAIN_MS = 5000;
const KINDS = { ready: "good", staging: "warn", failed: "bad" };

export default function Adapters({ path: [name, version] }) {
  if (name === "+new") return html`<${NewAdapter} key=${version ?? ""} of=${version} />`;
  if (name === "+mix") return html`<${MixAdapters} />`;
  if (name) return html`<${AdapterPage} key=${name} name=${name} states=${States} />`;
  return html`<${List} />`;
}

function List() {
  const { data, error } = useLoaded(read, [], { every: LOOK_AGAIN_MS });
  return html`<div class="stack">
    <div class="row apart">
      <h1>${t("title")}</h1>
      <div class="row">
        ${data?.adapters.length > 1 && html`<a class="button" href="#/adapters/+mix">${t("mix")}</a>`}
        <a class="button" href="#/adapters/+new">${t("add")}</a>
      </div>
    </div>
    <${Failure} error=${error} />
    ${!data && !error && html`<${Working} />`}
    ${data && (data.adapters.length ? html`<${Table} ...${data} />` : html`<${Nothing}>${t("empty")}<//>`)}
  </div>`;
}

async function read(signal) {
  const [{ data: adapters }, metrics] = await Promise.all([get("/v1/adapters", {}, { signal }), text("/metrics", { signal }).catch(() => null)]);
  return { adapters, used: metrics === null ? { of: () => null } : usage(metrics) };
}

function Table({ adapters, used }) {
  const head = [["adapter"], ["points"], ["rank", "number spare"], ["size", "number spare"], ["requests", "number"], ["errors", "number"], ["used", "spare"], ["created", "spare"]];
  return html`<p class="faint">${t("caption", { n: adapters.length, base: session.value.base })}</p>
  <div class="scroll card">
    <table class="adapters">
      <thead><tr>${head.map(([key, kind]) => html`<th scope="col" class=${kind}>${t(key)}</th>`)}</tr></thead>
      <tbody>${adapters.map((adapter) => html`<${Row} key=${adapter.name} adapter=${adapter} count=${used.of(adapter.name)} />`)}</tbody>
    </table>
  </div>`;
}

function Row({ adapter, count }) {
  const active = adapter.versions.filter((version) => version.id in adapter.traffic);
  const most = (key) => active.reduce((largest, version) => Math.max(largest, version[key]), 0);
  const used = lastUse(adapter);
  return html`<tr>
    <th scope="row"><a href=${`#/adapters/${encodeURIComponent(adapter.name)}`}>${adapter.name}</a> <${States} adapter=${adapter} /></th>
    <td><code>${shown(adapter.traffic) || "–"}</code>${adapter.error && html`<p class="wrong">${adapter.error}</p>`}</td>
    <td class="number spare">${active.length ? number(most("rank")) : "–"}</td>
    <td class="number spare">${active.length ? bytes(most("bytes")) : "–"}</td>
    <td class="number">${count ? number(count.requests) : "–"}</td>
    <td class="number">${count ? number(count.errors) : "–"}</td>
    <td class="spare">${used ? moment(used) : "–"}</td>
    <td class="spare">${moment(adapter.created_at)}</td>
  </tr>`;
}

/** The state of an adapter in words. */
function States({ adapter }) {
  return html`<span class="states">
    <${Badge} kind=${KINDS[adapter.status]}>${t(adapter.status)}<//>
    ${adapter.versions.some((version) => version.loaded) && html`<${Badge}>${t("loaded")}<//>`}
    ${adapter.pinned && html`<${Badge}>${t("pinned")}<//>`}
    ${!adapter.fits && html`<${Badge} kind="warn">${t("otherBase")}<//>`}
  </span>`;
}
