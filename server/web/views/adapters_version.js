// One version of an adapter: its facts, as the server found them when it checked the files.
import { Badge, CopyButton } from "../parts.js";
import { html } from "../html.js";
import { bytes, moment, number, translator } from "../words.js";
import { byError } from "./adapters_facts.js";

const t = translator({
  en: {
    alpha: "Alpha",
    base: "Trained on",
    changes: "Largest change of a layer",
    changesHint: "of its weights, in {module}",
    conversion: "Converted",
    created: "Registered",
    digest: "Digest",
    dtype: "Number format",
    error: "Relative error",
    errors: "to rank {rank}; largest relative error {worst}",
    module: "Module",
    modules: "Modules",
    modulesOf: "{n}: {names}",
    nats: "{value} nats per token",
    notMeasured: "measured after its first load",
    parameters: "Parameters",
    perModule: "Error of each module",
    rank: "Rank",
    shift: "Difference from the base",
    size: "Size",
    source: "From",
    upload: "an upload",
    warning: "Warning",
  },
  pt: {
    alpha: "Alfa",
    base: "Treinado sobre",
    changes: "Maior mudança em uma camada",
    changesHint: "dos pesos, em {module}",
    conversion: "Convertido",
    created: "Registrado",
    digest: "Digest",
    dtype: "Formato numérico",
    error: "Erro relativo",
    errors: "para rank {rank}; maior erro relativo {worst}",
    module: "Módulo",
    modules: "Módulos",
    modulesOf: "{n}: {names}",
    nats: "{value} nats por token",
    notMeasured: "medida após a primeira carga",
    parameters: "Parâmetros",
    perModule: "Erro de cada módulo",
    rank: "Rank",
    shift: "Diferença da base",
    size: "Tamanho",
    source: "Origem",
    upload: "um envio",
    warning: "Aviso",
  },
});

const percent = (share) => number(share, { style: "percent", maximumSignificantDigits: 3 });

/** What is worth knowing before using it, in a list; warnings first. */
export function VersionFacts({ version }) {
  const { details } = version;
  const facts = [
    ["digest", html`<code class="digest">${version.digest}</code> <${CopyButton} text=${version.digest} />`],
    ["rank", number(version.rank)],
    ["alpha", `${number(details.alpha)}${details.use_rslora ? " (rsLoRA)" : ""}`],
    ["modules", t("modulesOf", { n: details.modules, names: (details.target_modules ?? []).join(", ") })],
    ["parameters", number(details.n_parameters)],
    ["dtype", details.dtype],
    ["size", bytes(version.bytes)],
    details.effect !== undefined && ["changes", html`${percent(details.effect)} ${t("changesHint", { module: details.most_changed })}`],
    ["shift", details.logprob_difference === undefined ? t("notMeasured") : t("nats", { value: details.logprob_difference })],
    details.declared_base && ["base", details.declared_base],
    ["source", version.source === "upload" ? t("upload") : version.source],
    ["created", moment(version.created_at)],
    details.conversion && ["conversion", html`<${Conversion} ...${details.conversion} />`],
  ];
  return html`<div class="stack">
    ${version.error && html`<p class="failure">${version.error}</p>`}
    <${Warnings} of=${details.warnings} />
    <dl class="version-facts">${facts.filter(Boolean).map(([key, value]) => html`<dt>${t(key)}</dt><dd>${value}</dd>`)}</dl>
  </div>`;
}

function Warnings({ of }) {
  if (!of?.length) return null;
  return html`<ul class="warnings">${of.map((text) => html`<li><${Badge} kind="warn">${t("warning")}<//> ${text}</li>`)}</ul>`;
}

function Conversion({ rank, relative_error: errors }) {
  const modules = byError(errors);
  return html`${t("errors", { rank, worst: percent(modules[0]?.[1] ?? 0) })}
    <details>
      <summary>${t("perModule")}</summary>
      <div class="scroll module-errors" tabindex="0" role="region" aria-label=${t("perModule")}>
        <table>
          <thead><tr><th scope="col">${t("module")}</th><th scope="col" class="number">${t("error")}</th></tr></thead>
          <tbody>${modules.map(([module, error]) => html`<tr><td><code>${module}</code></td><td class="number">${percent(error)}</td></tr>`)}</tbody>
        </table>
      </div>
    </details>`;
}
