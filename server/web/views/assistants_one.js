// One assistant: its form, kept while it is not saved, and a chat with what is saved beside it.
import { useEffect, useRef, useState } from "preact/hooks";
import { all, get, post, remove, session } from "../api.js";
import { html } from "../html.js";
import { readModels } from "../models.js";
import { Action, Failure, Question, Working, useLoaded } from "../parts.js";
import { translator } from "../words.js";
import { EMPTY, bodyOf, formOf, partOf, same } from "./assistants_fields.js";
import { AssistantForm } from "./assistants_form.js";
import { Trial } from "./assistants_trial.js";

const t = translator({
  en: {
    all: "All assistants",
    askRemove: "Remove {name}?",
    askRemoveText: "Requests that name it get a 404 from now on. Its model, stores and files stay.",
    discard: "Discard the changes",
    kept: "Changes that were not saved are still here.",
    managed: "This assistant comes from the operator's file (MANYHATS_ASSISTANTS_FILE) and is changed there; a restart reads it again.",
    new: "New assistant",
    notJson: "This is no JSON.",
    remove: "Remove",
    save: "Save",
    saved: "Saved.",
    unsaved: "Not saved yet.",
  },
  pt: {
    all: "Todos os assistentes",
    askRemove: "Remover {name}?",
    askRemoveText: "Requisições que o citam recebem 404 a partir de agora. O modelo, as bases e os arquivos ficam.",
    discard: "Descartar as alterações",
    kept: "As alterações que não foram salvas continuam aqui.",
    managed: "Este assistente vem do arquivo do operador (MANYHATS_ASSISTANTS_FILE) e é alterado lá; uma reinicialização o lê de novo.",
    new: "Novo assistente",
    notJson: "Isto não é JSON.",
    remove: "Remover",
    save: "Salvar",
    saved: "Salvo.",
    unsaved: "Ainda não salvo.",
  },
});

const NEW = "+new";
const place = (id) => `manyhats.assistant.${id}`;

/** The form of an assistant as it was left without saving, or null. */
export function unsaved(id) {
  try {
    return JSON.parse(sessionStorage.getItem(place(id)));
  } catch {
    return null;
  }
}

function keep(id, form) {
  try {
    if (form) sessionStorage.setItem(place(id), JSON.stringify(form));
    else sessionStorage.removeItem(place(id));
  } catch {
    // then it is lost with the view
  }
}

/** `name` is null for a new one. */
export function AssistantPage({ name }) {
  const { data, error } = useLoaded(async (signal) => {
    const [found, stores] = await Promise.all([
      name && get(`/v1/assistants/${encodeURIComponent(name)}`, {}, { signal }),
      all("/v1/vector_stores", {}, { signal }),
    ]);
    return { found, stores };
  }, [name]);
  return html`<div class="stack">
    <p><a href="#/assistants">${t("all")}</a></p>
    <h1 class="name">${name ?? t("new")}</h1>
    <${Failure} error=${error} />
    ${!data && !error && html`<${Working} />`}
    ${data && html`<${Editor} stores=${data.stores} found=${data.found} />`}
  </div>`;
}

function Editor({ found, stores }) {
  const [saved, setSaved] = useState(found);
  const id = saved?.id ?? NEW;
  const [before] = useState(() => unsaved(id));
  const clean = saved ? formOf(saved) : { ...EMPTY, model: session.value.base };
  const [form, setForm] = useState(before ?? clean);
  const [refusal, setRefusal] = useState({}); // {error, part, told}
  const [said, setSaid] = useState(before ? "kept" : null);
  const [asks, setAsks] = useState(false);
  const area = useRef(null);
  const dirty = !same(form, clean);
  useEffect(() => keep(id, dirty ? form : null), [form, id]);
  useEffect(() => {
    const warn = (event) => event.preventDefault(); // the browser asks in its own words
    if (dirty) window.addEventListener("beforeunload", warn);
    return () => window.removeEventListener("beforeunload", warn);
  }, [dirty]);
  useEffect(() => area.current?.querySelector("[aria-invalid=true]")?.focus(), [refusal]);

  const change = (part) => {
    setForm((now) => ({ ...now, ...part }));
    setSaid(null);
  };
  const save = async () => {
    const { body, wrong } = bodyOf(form, saved);
    if (wrong) return setRefusal({ part: wrong, told: t("notJson") });
    try {
      const now = await post(saved ? `/v1/assistants/${encodeURIComponent(saved.id)}` : "/v1/assistants", body);
      keep(id, null);
      setSaved(now);
      setForm(formOf(now));
      setRefusal({});
      setSaid("saved");
      await readModels();
      if (now.name !== saved?.name) location.replace(`#/assistants/${encodeURIComponent(now.name)}`);
    } catch (error) {
      setRefusal({ error, part: partOf(error.param), told: error.message });
    }
    return undefined;
  };
  const discard = () => {
    setForm(clean);
    setRefusal({});
    setSaid(null);
  };
  const removeIt = async () => {
    await remove(`/v1/assistants/${encodeURIComponent(saved.id)}`);
    keep(id, null);
    location.hash = "#/assistants";
    await readModels();
  };
  const readOnly = saved !== null && saved.managed !== "api";
  return html`<div class="editor">
    <form class="stack" ref=${area} noValidate onSubmit=${(event) => event.preventDefault()}>
      ${readOnly && html`<p class="note">${t("managed")}</p>`}
      <${AssistantForm} form=${form} stores=${stores} wrong=${refusal} readOnly=${readOnly} onChange=${change} />
      <div class="save row">
        ${!readOnly && html`<${Action} kind="main" disabled=${!dirty && saved !== null} onPress=${save}>${t("save")}<//>
          ${dirty && html`<button type="button" onClick=${discard}>${t("discard")}</button>`}
          ${saved && html`<button type="button" class="danger" onClick=${() => setAsks(true)}>${t("remove")}</button>`}`}
        <span class="faint" role="status">${said ? t(said) : dirty && saved ? t("unsaved") : ""}</span>
      </div>
      <${Failure} error=${refusal.error} />
    </form>
    <${Trial} key=${id} saved=${saved} dirty=${dirty} onSave=${save} />
    ${asks && html`<${Question} title=${t("askRemove", { name: saved.name })} yes=${t("remove")} onYes=${removeIt} onClose=${() => setAsks(false)}>
      <p>${t("askRemoveText")}</p>
    <//>`}
  </div>`;
}
