// One adapter: its versions with their facts, and everything that can be done with them.
import { useState } from "preact/hooks";
import { get, post, remove, session } from "../api.js";
import { html } from "../html.js";
import { readModels } from "../models.js";
import { Action, Badge, Failure, Question, Working, useLoaded } from "../parts.js";
import { moment, translator } from "../words.js";
import { newestFirst } from "./adapters_facts.js";
import { Traffic } from "./adapters_traffic.js";
import { VersionFacts } from "./adapters_version.js";

const t = translator({
  en: {
    active: "in use by the name",
    all: "All adapters",
    askAll: "Remove {name} with its versions?",
    askAllText: { one: "{n} version goes. Requests that are running keep it and end as they would; then its files are deleted. New requests for {name} get a 404 from now on.", other: "{n} versions go. Requests that are running keep theirs and end as they would; then the files are deleted. New requests for {name} get a 404 from now on." },
    askOne: "Remove {id}?",
    askOneText: "The name does not point to it. Requests that are running on it end as they would; then its files are deleted, and the way back to it is gone.",
    compare: "Compare with the base",
    failed: "It could not be registered: {error}",
    lastUse: "last use {when}",
    loaded: "loaded",
    more: "Register a version",
    notUsed: "not used since the server started",
    otherBase: "Made for another base, {base}. Its name is kept; requests for it get a 409 until that base is served again.",
    pin: "Pin",
    pinHint: "A pinned adapter has a slot of its own and never waits for one.",
    point: "Point the name here",
    remove: "Remove",
    removeAll: "Remove the adapter",
    staging: "It is being fetched from {source}…",
    tryIt: "Try it in a chat",
    tryOne: "Try this version",
    unpin: "Unpin",
    versions: "Versions",
  },
  pt: {
    active: "em uso pelo nome",
    all: "Todos os adaptadores",
    askAll: "Remover {name} com suas versões?",
    askAllText: { one: "{n} versão será removida. Requisições em andamento a mantêm e terminam normalmente; depois os arquivos são apagados. Novas requisições para {name} recebem 404 a partir de agora.", other: "{n} versões serão removidas. Requisições em andamento mantêm as suas e terminam normalmente; depois os arquivos são apagados. Novas requisições para {name} recebem 404 a partir de agora." },
    askOne: "Remover {id}?",
    askOneText: "O nome não aponta para ela. Requisições em andamento terminam normalmente; depois os arquivos são apagados, e não há como voltar a ela.",
    compare: "Comparar com a base",
    failed: "Não pôde ser registrado: {error}",
    lastUse: "último uso {when}",
    loaded: "carregada",
    more: "Registrar uma versão",
    notUsed: "sem uso desde o início do servidor",
    otherBase: "Feito para outra base, {base}. O nome é mantido; requisições para ele recebem 409 até que essa base volte a ser servida.",
    pin: "Fixar",
    pinHint: "Um adaptador fixado tem um slot próprio e nunca espera por um.",
    point: "Apontar o nome para cá",
    remove: "Remover",
    removeAll: "Remover o adaptador",
    staging: "Está sendo buscado em {source}…",
    tryIt: "Testar em uma conversa",
    tryOne: "Testar esta versão",
    unpin: "Desafixar",
    versions: "Versões",
  },
});

const LOOK_AGAIN_MS = 3000;

/** `states`: the component that shows an adapter's state in words. */
export function AdapterPage({ name, states: States }) {
  const [asks, setAsks] = useState(null); // {version} or {} for the whole adapter
  const [error, setError] = useState(null);
  const path = `/v1/adapters/${encodeURIComponent(name)}`;
  const { data: adapter, error: unread, reload } = useLoaded((signal) => get(path, {}, { signal }), [name], { every: LOOK_AGAIN_MS });
  const changed = async () => {
    reload();
    await readModels();
  };
  const act = (body, where) => async () => {
    setError(null);
    try {
      await post(`${path}/${where}`, body);
      await changed();
    } catch (failure) {
      setError(failure);
    }
  };
  const removeIt = async () => {
    if (asks.version) {
      await remove(`${path}/versions/${encodeURIComponent(asks.version)}`);
      await changed();
    } else {
      await remove(path);
      location.hash = "#/adapters";
      await readModels();
    }
  };
  const usable = adapter?.fits && adapter.versions.length > 0;
  return html`<div class="stack">
    <p><a href="#/adapters">${t("all")}</a></p>
    <div class="row apart">
      <h1 class="name">${name}</h1>
      ${adapter && html`<${States} adapter=${adapter} />`}
    </div>
    ${!adapter && !unread && html`<${Working} />`}
    <${Failure} error=${unread ?? error} />
    ${adapter && html`
      ${adapter.status === "staging" && html`<p role="status">${t("staging", { source: adapter.source })}</p>`}
      ${adapter.status === "failed" && html`<p class="failure" role="alert">${t("failed", { error: adapter.error })}</p>`}
      ${!adapter.fits && html`<p class="note">${t("otherBase", { base: adapter.base })}</p>`}
      <div class="row">
        ${usable && html`
          <a class="button" href=${`#/chat/${encodeURIComponent(name)}`}>${t("tryIt")}</a>
          <a class="button" href=${`#/compare/${encodeURIComponent(session.value.base)}/${encodeURIComponent(name)}`}>${t("compare")}</a>
          <a class="button" href=${`#/adapters/+new/${encodeURIComponent(name)}`}>${t("more")}</a>
          <${Action} onPress=${act({ pinned: !adapter.pinned }, "pin")} title=${t("pinHint")}>${t(adapter.pinned ? "unpin" : "pin")}<//>`}
        <button type="button" class="danger" onClick=${() => setAsks({})}>${t("removeAll")}</button>
      </div>
      ${usable && html`<${Traffic} adapter=${adapter} onMoved=${changed} />`}
      <section class="stack" aria-labelledby="versions">
        <h2 id="versions">${t("versions")}</h2>
        ${newestFirst(adapter.versions).map((version) => html`<${VersionCard} key=${version.id} version=${version} adapter=${adapter} point=${act({ version: version.id }, "alias")} onRemove=${() => setAsks({ version: version.id })} />`)}
      </section>
    `}
    ${asks && html`<${Question} title=${asks.version ? t("askOne", { id: asks.version }) : t("askAll", { name })} yes=${t("remove")} onYes=${removeIt} onClose=${() => setAsks(null)}>
      <p>${asks.version ? t("askOneText") : t("askAllText", { n: adapter.versions.length, name })}</p>
    <//>`}
  </div>`;
}

function VersionCard({ version, adapter, point, onRemove }) {
  const isActive = version.id in adapter.traffic;
  const isAll = isActive && Object.keys(adapter.traffic).length === 1;
  return html`<article class="card stack" aria-label=${version.id}>
    <div class="row apart">
      <h3><code>${version.id}</code></h3>
      <span class="states">
        ${isActive && html`<${Badge} kind="good">${t("active")}<//>`}
        ${version.loaded && html`<${Badge}>${t("loaded")}<//>`}
      </span>
    </div>
    <p class="faint">${version.last_used_at ? t("lastUse", { when: moment(version.last_used_at) }) : t("notUsed")}</p>
    <${VersionFacts} version=${version} />
    <div class="row">
      ${adapter.fits && !version.error && html`<a class="button" href=${`#/chat/${encodeURIComponent(version.id)}`}>${t("tryOne")}</a>`}
      ${adapter.fits && !isAll && !version.error && html`<${Action} onPress=${point}>${t("point")}<//>`}
      ${!isActive && html`<button type="button" class="danger" onClick=${onRemove}>${t("remove")}</button>`}
    </div>
  </article>`;
}
