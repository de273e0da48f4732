// The fields of an assistant.
import { session } from "../api.js";
import { html } from "../html.js";
import { ModelChoice } from "../models.js";
import { Field } from "../parts.js";
import { translator } from "../words.js";
import { SCHEMA, has, moved, toggled } from "./assistants_fields.js";

const t = translator({
  en: {
    addExample: "Add an example",
    addMetadata: "Add an entry",
    answer: "Answer",
    auto: "Auto",
    dense: "By meaning (dense)",
    description: "Description",
    down: "Move example {n} down",
    example: "Example {n}",
    examples: "Examples",
    examplesHint: "A question with the answer as it should be. The first to go when the context gets short.",
    format: "Form of the answer",
    hybrid: "By meaning and words (hybrid)",
    instructions: "Instructions",
    json: "JSON by a schema, or another format",
    json_object: "JSON",
    key: "Name",
    lexical: "By words (lexical)",
    metadata: "Metadata",
    model: "Model",
    name: "Name",
    nameHint: "What clients put into model: letters, digits and . _ : -",
    noStores: "No vector store yet.",
    question: "Question",
    ranker: "Ranking",
    remove: "Remove example {n}",
    removeEntry: "Remove {name}",
    rerank: "With the reranker",
    results: "Passages at most",
    sampling: "Sampling",
    schema: "response_format, as JSON",
    stores: "Vector stores it answers with",
    temperature: "Temperature",
    text: "Text",
    threshold: "Lowest score",
    topP: "Top p",
    unset: "The server's default",
    unsetNumber: "default",
    up: "Move example {n} up",
    value: "Value",
  },
  pt: {
    addExample: "Adicionar um exemplo",
    addMetadata: "Adicionar um item",
    answer: "Resposta",
    auto: "Automático",
    dense: "Por significado (dense)",
    description: "Descrição",
    down: "Mover o exemplo {n} para baixo",
    example: "Exemplo {n}",
    examples: "Exemplos",
    examplesHint: "Uma pergunta com a resposta como ela deve ser. São os primeiros a sair quando falta espaço no contexto.",
    format: "Formato da resposta",
    hybrid: "Por significado e palavras (hybrid)",
    instructions: "Instruções",
    json: "JSON conforme um esquema, ou outro formato",
    json_object: "JSON",
    key: "Nome",
    lexical: "Por palavras (lexical)",
    metadata: "Metadados",
    model: "Modelo",
    name: "Nome",
    nameHint: "O que os clientes colocam em model: letras, dígitos e . _ : -",
    noStores: "Nenhuma base de documentos ainda.",
    question: "Pergunta",
    ranker: "Ordenação",
    remove: "Remover o exemplo {n}",
    removeEntry: "Remover {name}",
    rerank: "Com o reordenador",
    results: "Máximo de trechos",
    sampling: "Amostragem",
    schema: "response_format, em JSON",
    stores: "Bases de documentos de que responde",
    temperature: "Temperatura",
    text: "Texto",
    threshold: "Menor pontuação",
    topP: "Top p",
    unset: "Padrão do servidor",
    unsetNumber: "padrão",
    up: "Mover o exemplo {n} para cima",
    value: "Valor",
  },
});

/** `wrong`: `{part, told}`, which field the server refused and why; `onChange` gets the fields that change. */
export function AssistantForm({ form, stores, wrong, readOnly, onChange }) {
  const set = (name) => (event) => onChange({ [name]: event.target.value });
  const state = (part) => ({ "aria-invalid": wrong.part === part, disabled: readOnly });
  const told = (part) => wrong.part === part && html`<small class="wrong">${wrong.told}</small>`;
  const text = (name, hint) => html`<div><${Field} label=${t(name)} hint=${hint}>
    <input ...${state(name)} value=${form[name]} spellcheck=${false} autocomplete="off" onInput=${set(name)} />
  <//>${told(name)}</div>`;
  const figure = (name, label, most, step) => html`<div><${Field} label=${t(label)}>
    <input ...${state(name)} type="number" min="0" max=${most} step=${step} placeholder=${t("unsetNumber")} value=${form[name]} onInput=${set(name)} />
  <//>${told(name)}</div>`;
  return html`
    <div class="sides">
      ${text("name", t("nameHint"))}
      <div><div class="field"><label for="assistant-model">${t("model")}</label>
        ${readOnly ? html`<code>${form.model}</code>` : html`<${ModelChoice} id="assistant-model" value=${form.model} onChange=${(model) => onChange({ model })} />`}
      </div>${told("model")}</div>
    </div>
    ${text("description")}
    <div><${Field} label=${t("instructions")}>
      <textarea ...${state("instructions")} rows="6" value=${form.instructions} onInput=${set("instructions")}></textarea>
    <//>${told("instructions")}</div>
    <${Stores} form=${form} stores=${stores} readOnly=${readOnly} onChange=${onChange} figure=${figure} />
    ${told("stores")}
    <${Examples} examples=${form.examples} readOnly=${readOnly} onChange=${(examples) => onChange({ examples })} />
    ${told("examples")}
    <fieldset class="bare stack" disabled=${readOnly}>
      <legend>${t("sampling")}</legend>
      <div class="sides">${figure("temperature", "temperature", 2, 0.1)} ${figure("top_p", "topP", 1, 0.05)}</div>
      <${Field} label=${t("format")}>
        <select value=${form.format} onChange=${(event) => onChange({ format: event.target.value, schema: form.schema || (event.target.value === "json" ? SCHEMA : "") })}>
          <option value="">${t("unset")}</option>
          ${["auto", "text", "json_object", "json"].map((format) => html`<option value=${format}>${t(format)}</option>`)}
        </select>
      <//>
      ${form.format === "json" && html`<${Field} label=${t("schema")}>
        <textarea ...${state("response_format")} class="code" rows="8" spellcheck=${false} value=${form.schema} onInput=${set("schema")}></textarea>
      <//>`}
      ${told("response_format")}
    </fieldset>
    <${Metadata} entries=${form.metadata} readOnly=${readOnly} onChange=${(metadata) => onChange({ metadata })} />
    ${told("metadata")}
  `;
}

function Stores({ form, stores, readOnly, onChange, figure }) {
  const known = (name) => stores.some((store) => store.id === name || store.name === name);
  const unknown = form.stores.filter((name) => !known(name)).map((name) => ({ id: name, name: "" }));
  const rankers = ["hybrid", "dense", "lexical", ...(session.value.reranker ? ["rerank"] : [])];
  const choices = rankers.includes(form.ranker) || !form.ranker ? rankers : [...rankers, form.ranker];
  return html`<fieldset class="bare stack" disabled=${readOnly}>
    <legend>${t("stores")}</legend>
    ${stores.length + unknown.length === 0 && html`<p class="faint">${t("noStores")}</p>`}
    <div class="choices">
      ${[...stores, ...unknown].map((store) => html`<label key=${store.id}>
        <input type="checkbox" checked=${has(form.stores, store)} onChange=${() => onChange({ stores: toggled(form.stores, store) })} />
        ${store.name || store.id}
      </label>`)}
    </div>
    ${form.stores.length > 0 && html`<div class="sides">
      ${figure("results", "results", 50, 1)}
      <${Field} label=${t("ranker")}>
        <select value=${form.ranker} onChange=${(event) => onChange({ ranker: event.target.value })}>
          <option value="">${t("unset")}</option>
          ${choices.map((name) => html`<option value=${name}>${rankers.includes(name) ? t(name) : name}</option>`)}
        </select>
      <//>
      ${figure("threshold", "threshold", 1, 0.05)}
    </div>`}
  </fieldset>`;
}

function Examples({ examples, readOnly, onChange }) {
  const put = (at, part) => onChange(examples.map((one, place) => (place === at ? { ...one, ...part } : one)));
  return html`<fieldset class="bare stack" disabled=${readOnly}>
    <legend>${t("examples")}</legend>
    <p class="faint">${t("examplesHint")}</p>
    ${examples.map((example, at) => html`<div class="example" role="group" aria-label=${t("example", { n: at + 1 })}>
      <${Field} label=${t("question")}><textarea rows="2" value=${example.user} onInput=${(event) => put(at, { user: event.target.value })}></textarea><//>
      <${Field} label=${t("answer")}><textarea rows="2" value=${example.assistant} onInput=${(event) => put(at, { assistant: event.target.value })}></textarea><//>
      <div class="row">
        <button type="button" class="small" aria-label=${t("up", { n: at + 1 })} disabled=${at === 0} onClick=${() => onChange(moved(examples, at, -1))}>↑</button>
        <button type="button" class="small" aria-label=${t("down", { n: at + 1 })} disabled=${at === examples.length - 1} onClick=${() => onChange(moved(examples, at, 1))}>↓</button>
        <button type="button" class="small" aria-label=${t("remove", { n: at + 1 })} onClick=${() => onChange(examples.filter((_, place) => place !== at))}>✕</button>
      </div>
    </div>`)}
    ${!readOnly && html`<div><button type="button" onClick=${() => onChange([...examples, { user: "", assistant: "" }])}>${t("addExample")}</button></div>`}
  </fieldset>`;
}

function Metadata({ entries, readOnly, onChange }) {
  const put = (at, part) => onChange(entries.map((one, place) => (place === at ? { ...one, ...part } : one)));
  return html`<details open=${entries.length > 0}>
    <summary>${t("metadata")}</summary>
    <fieldset class="bare stack" disabled=${readOnly}>
      <legend class="hidden">${t("metadata")}</legend>
      ${entries.map(({ key, value }, at) => html`<div class="entry">
        <input aria-label=${t("key")} placeholder=${t("key")} maxlength="64" value=${key} onInput=${(event) => put(at, { key: event.target.value })} />
        <input aria-label=${t("value")} placeholder=${t("value")} maxlength="512" value=${value} onInput=${(event) => put(at, { value: event.target.value })} />
        <button type="button" class="small" aria-label=${t("removeEntry", { name: key })} onClick=${() => onChange(entries.filter((_, place) => place !== at))}>✕</button>
      </div>`)}
      ${!readOnly && html`<div><button type="button" onClick=${() => onChange([...entries, { key: "", value: "" }])}>${t("addMetadata")}</button></div>`}
    </fieldset>
  </details>`;
}
