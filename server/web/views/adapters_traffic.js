// Where an adapter's name points: its versions' shares, the way back, and a canary between two versions.
import { useState } from "preact/hooks";
import { post } from "../api.js";
import { html } from "../html.js";
import { Action, Failure, Field } from "../parts.js";
import { number, translator } from "../words.js";
import { canary, movement, shares } from "./adapters_facts.js";

const t = translator({
  en: {
    apply: "Apply",
    back: "Roll back",
    backTo: "Back to {what}",
    canary: "Try a version on some users",
    means: "Of 100 users about {n} get {trial}, the others {stable}.",
    meansAll: "Every user gets {version}.",
    moved: "The name points to {what}.",
    percent: "Share of the trial, percent",
    stable: "Most use",
    sticky: "A user stays on one version: the one that prompt_cache_key, safety_identifier, user or metadata.user_id names, else the key with its first message.",
    title: "Where the name points",
    trial: "On trial",
  },
  pt: {
    apply: "Aplicar",
    back: "Reverter",
    backTo: "De volta a {what}",
    canary: "Testar uma versão com parte dos usuários",
    means: "De 100 usuários, cerca de {n} recebem {trial}; os demais, {stable}.",
    meansAll: "Todos os usuários recebem {version}.",
    moved: "O nome aponta para {what}.",
    percent: "Parcela em teste, por cento",
    stable: "A maioria usa",
    sticky: "Cada usuário fica em uma versão: o que prompt_cache_key, safety_identifier, user ou metadata.user_id indica, ou então a chave com a primeira mensagem.",
    title: "Para onde o nome aponta",
    trial: "Em teste",
  },
});

/** `sailor@1 (95 %), sailor@2 (5 %)`; a version alone without its 100 %. */
export function shown(traffic) {
  const parts = shares(traffic);
  if (parts.length === 1) return parts[0].version;
  return parts.map(({ version, percent }) => `${version} (${number(percent / 100, { style: "percent", maximumFractionDigits: 1 })})`).join(", ");
}

/** `onMoved` gets the adapter as it is then. */
export function Traffic({ adapter, onMoved }) {
  const [error, setError] = useState(null);
  const move = async (body) => {
    setError(null);
    try {
      onMoved(await post(`/v1/adapters/${encodeURIComponent(adapter.name)}/alias`, body));
    } catch (failure) {
      setError(failure);
    }
  };
  const servable = adapter.versions.filter((version) => !version.error);
  return html`<section class="card stack" aria-labelledby="traffic">
    <h2 id="traffic">${t("title")}</h2>
    <p role="status">${t("moved", { what: shown(adapter.traffic) })}</p>
    <ul class="shares" aria-hidden="true">
      ${shares(adapter.traffic).map(({ version, percent }) => html`<li key=${version} style=${{ flexGrow: percent }} />`)}
    </ul>
    ${adapter.previous && html`<div class="row">
      <${Action} onPress=${() => move({ version: "previous" })}>${t("back")}<//>
      <span class="faint">${t("backTo", { what: shown(adapter.previous) })}</span>
    </div>`}
    <${Failure} error=${error} />
    ${servable.length > 1 && html`<${Canary} key=${shown(adapter.traffic)} adapter=${adapter} versions=${servable} move=${move} />`}
  </section>`;
}

function Canary({ adapter, versions, move }) {
  const [{ stable, trial, percent }, set] = useState(() => canary(adapter));
  const change = (part) => set((before) => ({ ...before, ...part }));
  const body = movement(stable, trial, percent);
  const means = body.version ? t("meansAll", { version: body.version }) : t("means", { n: percent, trial, stable });
  const choice = (name, value) => html`<${Field} label=${t(name)}>
    <select value=${value} onChange=${(event) => change({ [name]: event.target.value })}>
      ${versions.map(({ id }) => html`<option value=${id}>${id}</option>`)}
    </select>
  <//>`;
  return html`<fieldset class="bare stack">
    <legend>${t("canary")}</legend>
    <div class="sides">${choice("stable", stable)} ${choice("trial", trial)}</div>
    <${Field} label=${t("percent")}>
      <div class="slider">
        <input type="range" min="0" max="100" value=${percent} aria-valuetext=${means} onInput=${(event) => change({ percent: Number(event.target.value) })} />
        <output>${number(percent / 100, { style: "percent" })}</output>
      </div>
    <//>
    <p>${means}</p>
    <p class="faint">${t("sticky")}</p>
    <div><${Action} kind="main" onPress=${() => move(body)}>${t("apply")}<//></div>
  </fieldset>`;
}
