// One adapter of several: their names with weights, and how they are put together.
import { useState } from "preact/hooks";
import { get, post } from "../api.js";
import { html } from "../html.js";
import { readModels } from "../models.js";
import { Action, Failure, Field, Working, useLoaded } from "../parts.js";
import { translator } from "../words.js";
import { mixOf } from "./adapters_facts.js";
import { Accepted, Refused } from "./adapters_verdict.js";

const t = translator({
  en: {
    all: "All adapters",
    add: "One more",
    dare_linear: "DARE: a random share of each, summed",
    dare_ties: "DARE and TIES: a random share of each, by the sign that prevails",
    density: "Share that is kept",
    linear: "Sum, exactly; ranks add up",
    method: "How",
    mix: "Mix",
    name: "Name",
    nameHint: "A name that is there gets a further version.",
    parts: "Adapters and their weights",
    rank: "Rank at most",
    rankHint: "Empty: as it comes, of a sum.",
    remove: "Remove {name}",
    removeShort: "Remove",
    title: "Mix adapters",
    ties: "TIES: the largest share of each, by the sign that prevails",
    weight: "Weight of {name}",
    which: "Adapter {n}",
  },
  pt: {
    all: "Todos os adaptadores",
    add: "Mais um",
    dare_linear: "DARE: uma parte aleatória de cada, somada",
    dare_ties: "DARE e TIES: uma parte aleatória de cada, pelo sinal que prevalece",
    density: "Parte que fica",
    linear: "Soma, exata; os ranks se somam",
    method: "Como",
    mix: "Misturar",
    name: "Nome",
    nameHint: "Um nome que já existe recebe mais uma versão.",
    parts: "Adaptadores e seus pesos",
    rank: "Rank máximo",
    rankHint: "Vazio: o que resultar, em uma soma.",
    remove: "Remover {name}",
    removeShort: "Remover",
    title: "Misturar adaptadores",
    ties: "TIES: a maior parte de cada, pelo sinal que prevalece",
    weight: "Peso de {name}",
    which: "Adaptador {n}",
  },
});

const METHODS = ["linear", "ties", "dare_linear", "dare_ties"];

export function MixAdapters() {
  const { data, error, reload } = useLoaded((signal) => get("/v1/adapters", {}, { signal }));
  const usable = data?.data.filter((adapter) => adapter.fits && adapter.versions.length);
  return html`<div class="stack">
    <p><a href="#/adapters">${t("all")}</a></p>
    <h1>${t("title")}</h1>
    <${Failure} error=${error} />
    ${usable ? html`<${Form} adapters=${usable} onMixed=${reload} />` : !error && html`<${Working} />`}
  </div>`;
}

function Form({ adapters, onMixed }) {
  const names = adapters.map((adapter) => adapter.name);
  const [draft, setDraft] = useState({ name: "", method: "linear", density: "0.5", rank: "", parts: names.slice(0, 2).map((name) => ({ name, weight: "0.5" })) });
  const [end, setEnd] = useState({}); // {error} or {taken}
  const change = (part) => setDraft({ ...draft, ...part });
  const typed = (name) => (event) => change({ [name]: event.target.value });
  const mix = async (given) => {
    setEnd({});
    const name = given.name.trim();
    const path = names.includes(name) ? `/v1/adapters/${encodeURIComponent(name)}/versions` : "/v1/adapters";
    try {
      setEnd({ taken: await post(path, mixOf(given)) });
      onMixed(); // its name is there from now on
      await readModels();
    } catch (failure) {
      setEnd({ error: failure });
    }
  };
  const convertAnd = (convert) => {
    const given = { ...draft, rank: String(convert.rank ?? "") };
    setDraft(given);
    return mix(given);
  };
  const free = names.find((name) => !draft.parts.some((part) => part.name === name));
  return html`${end.taken && html`<${Accepted} taken=${end.taken} />`}
    <form class="card stack narrow" onSubmit=${(event) => event.preventDefault()}>
      <fieldset class="bare stack">
        <legend>${t("parts")}</legend>
        ${draft.parts.map((part, at) => html`<${Part} key=${at} n=${at + 1} part=${part} adapters=${adapters} onChange=${(next) => change({ parts: draft.parts.with(at, next) })} onRemove=${draft.parts.length > 2 && (() => change({ parts: draft.parts.toSpliced(at, 1) }))} />`)}
        ${free && html`<div><button type="button" onClick=${() => change({ parts: [...draft.parts, { name: free, weight: "0.5" }] })}>${t("add")}</button></div>`}
      </fieldset>
      <${Field} label=${t("method")}><select value=${draft.method} onChange=${typed("method")}>${METHODS.map((name) => html`<option value=${name}>${t(name)}</option>`)}</select><//>
      <div class="sides">
        ${draft.method !== "linear" && html`<${Field} label=${t("density")}><input type="number" min="0.01" max="1" step="any" value=${draft.density} onInput=${typed("density")} /><//>`}
        <${Field} label=${t("rank")} hint=${t("rankHint")}><input type="number" min="1" value=${draft.rank} onInput=${typed("rank")} /><//>
      </div>
      <${Field} label=${t("name")} hint=${t("nameHint")}><input maxlength="96" autocomplete="off" spellcheck=${false} value=${draft.name} onInput=${typed("name")} /><//>
      <${Refused} error=${end.error} onConvert=${convertAnd} />
      <div><${Action} kind="main" disabled=${!draft.name.trim() || draft.parts.some((part) => part.weight === "")} onPress=${() => mix(draft)}>${t("mix")}<//></div>
    </form>`;
}

/** One adapter, or one of its versions, with its weight. */
function Part({ n, part, adapters, onChange, onRemove }) {
  return html`<div class="row mix-part">
    <select aria-label=${t("which", { n })} class="grow" value=${part.name} onChange=${(event) => onChange({ ...part, name: event.target.value })}>
      ${adapters.map(({ name, versions }) => html`<optgroup key=${name} label=${name}>
        <option value=${name}>${name}</option>
        ${versions.length > 1 && versions.map(({ id }) => html`<option value=${id}>${id}</option>`)}
      </optgroup>`)}
    </select>
    <input type="number" step="any" aria-label=${t("weight", { name: part.name })} value=${part.weight} onInput=${(event) => onChange({ ...part, weight: event.target.value })} />
    ${onRemove && html`<button type="button" class="small" aria-label=${t("remove", { name: part.name })} onClick=${onRemove}>${t("removeShort")}</button>`}
  </div>`;
}
