// How a conversation is answered: instructions, sampling, and what is searched. Each change counts from the next answer on.
import { all, session } from "../api.js";
import { SAMPLING } from "../conversation.js";
import { html } from "../html.js";
import { Dialog, Failure, Field, Working, useLoaded } from "../parts.js";
import { translator } from "../words.js";
import { change, current } from "./chat_store.js";

const t = translator({
  en: {
    assistant: "As the model has it",
    assistantHint: "an assistant with stores answers from them",
    close: "Done",
    default: "server's default",
    dense: "Meaning (dense)",
    frequency_penalty: "Frequency penalty",
    hybrid: "Meaning and words (hybrid)",
    lexical: "Words (lexical)",
    max_tokens: "Most tokens of the answer",
    noStores: "This key has no vector stores of its own.",
    off: "Off",
    others: "Further stores, by id or name",
    othersHint: "Separated by commas.",
    presence_penalty: "Presence penalty",
    ranker: "Ranked by",
    rerank: "A cross-encoder (rerank)",
    results: "Number of results",
    retrieval: "Answers from documents",
    sampling: "Sampling",
    seed: "Seed",
    stop: "Stop at",
    stopHint: "One text a line.",
    stores: "From these stores",
    system: "System prompt",
    temperature: "Temperature",
    title: "Settings of this conversation",
    top_p: "Top p",
  },
  pt: {
    assistant: "Como o modelo define",
    assistantHint: "um assistente com bases responde a partir delas",
    close: "Pronto",
    default: "padrão do servidor",
    dense: "Sentido (dense)",
    frequency_penalty: "Penalidade de frequência",
    hybrid: "Sentido e palavras (hybrid)",
    lexical: "Palavras (lexical)",
    max_tokens: "Máximo de tokens da resposta",
    noStores: "Esta chave não tem bases vetoriais próprias.",
    off: "Desligado",
    others: "Outras bases, por id ou nome",
    othersHint: "Separadas por vírgulas.",
    presence_penalty: "Penalidade de presença",
    ranker: "Ordenar por",
    rerank: "Um cross-encoder (rerank)",
    results: "Número de resultados",
    retrieval: "Respostas a partir de documentos",
    sampling: "Amostragem",
    seed: "Semente",
    stop: "Parar em",
    stopHint: "Um texto por linha.",
    stores: "Destas bases",
    system: "Prompt de sistema",
    temperature: "Temperatura",
    title: "Ajustes desta conversa",
    top_p: "Top p",
  },
});

/** Least, most and step of a number; the server judges in the end. */
const BOUNDS = {
  temperature: [0, 2, 0.1],
  top_p: [0, 1, 0.05],
  max_tokens: [1, undefined, 1],
  seed: [undefined, undefined, 1],
  presence_penalty: [-2, 2, 0.1],
  frequency_penalty: [-2, 2, 0.1],
};

export function SettingsDialog({ conversation, onClose }) {
  const set = (changes) => change({ ...current.value, ...changes });
  const sample = (name, value) => set({ sampling: { ...conversation.sampling, [name]: value } });
  return html`<${Dialog} wide title=${t("title")} onClose=${onClose}>
    <div class="stack">
      <${Field} label=${t("system")}>
        <textarea rows="3" value=${conversation.system} onInput=${(event) => set({ system: event.target.value })}></textarea>
      <//>
      <fieldset>
        <legend>${t("sampling")}</legend>
        <div class="chat-numbers">
          ${SAMPLING.map((name) => {
            const [min, max, step] = BOUNDS[name];
            return html`<${Field} label=${t(name)}>
              <input type="number" min=${min} max=${max} step=${step} placeholder=${t("default")} value=${conversation.sampling[name] ?? ""} onInput=${(event) => sample(name, event.target.value)} />
            <//>`;
          })}
        </div>
        <${Field} label=${t("stop")} hint=${t("stopHint")}>
          <textarea rows="2" value=${conversation.sampling.stop} onInput=${(event) => sample("stop", event.target.value)}></textarea>
        <//>
      </fieldset>
      <${Retrieval} chosen=${conversation.retrieval} onChange=${(changes) => set({ retrieval: { ...conversation.retrieval, ...changes } })} />
    </div>
    <footer><button type="button" class="main" onClick=${onClose}>${t("close")}</button></footer>
  <//>`;
}

function Retrieval({ chosen, onChange }) {
  const mode = (name, hint) => html`<${Field} class="beside" label=${hint ? `${t(name)} (${hint})` : t(name)}>
    <input type="radio" name="retrieval" checked=${chosen.mode === name} onChange=${() => onChange({ mode: name })} />
  <//>`;
  const rankers = ["hybrid", "dense", "lexical", ...(session.value?.reranker ? ["rerank"] : [])];
  return html`<fieldset>
    <legend>${t("retrieval")}</legend>
    ${mode("assistant", t("assistantHint"))} ${mode("off")} ${mode("stores")}
    ${chosen.mode === "stores" &&
    html`<div class="stack inset">
      <${Stores} chosen=${chosen.stores} onChange=${(stores) => onChange({ stores })} />
      <div class="chat-numbers">
        <${Field} label=${t("others")} hint=${t("othersHint")}>
          <input value=${chosen.others} onInput=${(event) => onChange({ others: event.target.value })} />
        <//>
        <${Field} label=${t("results")}>
          <input type="number" min="1" max="50" placeholder=${session.value?.retrieval_results} value=${chosen.results} onInput=${(event) => onChange({ results: event.target.value })} />
        <//>
        <${Field} label=${t("ranker")}>
          <select value=${chosen.ranker} onChange=${(event) => onChange({ ranker: event.target.value })}>
            <option value="">${t("default")}</option>
            ${rankers.map((name) => html`<option value=${name}>${t(name)}</option>`)}
          </select>
        <//>
      </div>
    </div>`}
  </fieldset>`;
}

function Stores({ chosen, onChange }) {
  const { data, error } = useLoaded((signal) => all("/v1/vector_stores", {}, { signal }));
  if (error) return html`<${Failure} error=${error} />`;
  if (!data) return html`<${Working} />`;
  if (!data.length) return html`<p class="faint">${t("noStores")}</p>`;
  const toggle = (id) => onChange(chosen.includes(id) ? chosen.filter((one) => one !== id) : [...chosen, id]);
  return html`<div class="chat-stores">
    ${data.map(
      (store) => html`<${Field} class="beside" label=${store.name || store.id}>
        <input type="checkbox" checked=${chosen.includes(store.id)} onChange=${() => toggle(store.id)} />
      <//>`,
    )}
  </div>`;
}
