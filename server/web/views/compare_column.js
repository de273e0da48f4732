// One column of a comparison: who answers and from what, the answer as it comes, and its figures.
import { useMemo, useState } from "preact/hooks";
import { tokensPerSecond } from "../answer.js";
import { OFF } from "../compared_columns.js";
import { differingWords } from "../differing_words.js";
import { html } from "../html.js";
import { Markdown } from "../markdown.js";
import { ModelChoice } from "../models.js";
import { CopyButton, Failure } from "../parts.js";
import { Sources } from "../sources.js";
import { duration, number, translator } from "../words.js";
import { change, marking, take } from "./compare_state.js";

const t = translator({
  en: {
    answer: "Answer {n}",
    cited: "{n}, {cited} cited",
    differing: "{different} of {n} words differ from the first answer.",
    end: "Ended by",
    first: "First token",
    inBetween: "stopped by you",
    length: "limit of tokens",
    model: "Model of answer {n}",
    nothing: "The answer is empty.",
    off: "Documents: none",
    own: "Documents: as it is",
    reasoning: "Reasoning",
    remove: "Remove",
    removeOf: "Remove answer {n}",
    retrieval: "Documents of answer {n}",
    same: "The same words as the first answer.",
    sources: "Sources",
    speed: "Tokens/s",
    stop: "the model",
    stores: "Documents in",
    tokens: "Tokens",
    tooLong: "Too long to mark what differs.",
    waiting: "Waiting for the first token…",
  },
  pt: {
    answer: "Resposta {n}",
    cited: "{n}, {cited} citadas",
    differing: "{different} de {n} palavras diferem da primeira resposta.",
    end: "Encerrada por",
    first: "Primeiro token",
    inBetween: "você",
    length: "limite de tokens",
    model: "Modelo da resposta {n}",
    nothing: "A resposta está vazia.",
    off: "Documentos: nenhum",
    own: "Documentos: padrão",
    reasoning: "Raciocínio",
    remove: "Remover",
    removeOf: "Remover a resposta {n}",
    retrieval: "Documentos da resposta {n}",
    same: "As mesmas palavras da primeira resposta.",
    sources: "Fontes",
    speed: "Tokens/s",
    stop: "o modelo",
    stores: "Documentos de",
    tokens: "Tokens",
    tooLong: "Longa demais para marcar as diferenças.",
    waiting: "Esperando o primeiro token…",
  },
});

export function Column({ column, at, first, stores, alone }) {
  const n = at + 1;
  const answer = column.answer.value;
  const heading = `compared-${column.id}`;
  return html`<article class="card compared-one" aria-labelledby=${heading} aria-busy=${column.stop !== null}>
    <header>
      <div class="compared-name">
        <h2 id=${heading}>${t("answer", { n })}</h2>
        <button type="button" class="small" disabled=${alone} aria-label=${t("removeOf", { n })} onClick=${() => take(column.id)}>${t("remove")}</button>
      </div>
      <${ModelChoice} label=${t("model", { n })} value=${column.model} onChange=${(model) => change(column.id, { model })} />
      <${DocumentsChoice} label=${t("retrieval", { n })} value=${column.from} stores=${stores} onChange=${(from) => change(column.id, { from })} />
    </header>
    ${answer && html`<${Answered} answer=${answer} column=${column} first=${column === first ? null : first.answer.value} />`}
  </article>`;
}

function DocumentsChoice({ label, value, stores, onChange }) {
  const isElse = value && value !== OFF && !stores.some((store) => store.id === value);
  return html`<select aria-label=${label} value=${value} onChange=${(event) => onChange(event.target.value)}>
    <option value="">${t("own")}</option>
    <option value=${OFF}>${t("off")}</option>
    ${(stores.length > 0 || isElse) &&
    html`<optgroup label=${t("stores")}>
      ${isElse && html`<option value=${value}>${value}</option>`}
      ${stores.map((store) => html`<option value=${store.id}>${store.name || store.id}</option>`)}
    </optgroup>`}
  </select>`;
}

function Answered({ answer, column, first }) {
  const [chosen, setChosen] = useState(null);
  const { text, reasoning, error, done, finishReason } = answer;
  const marks = marking.value && first?.done && done && text && first.text;
  return html`
    <div class="compared-text">
      ${reasoning && html`<details open=${!done && !text}><summary>${t("reasoning")}</summary><p class="faint plain-text">${reasoning}</p></details>`}
      ${marks
        ? html`<${Marked} text=${text} first=${first.text} />`
        : text && html`<${Markdown} text=${text} sources=${answer.sources} onSource=${setChosen} />`}
      ${!text && !reasoning && !done && html`<p class="faint">${t("waiting")}</p>`}
      ${!text && done && !error && finishReason !== "stopped" && html`<p class="faint">${t("nothing")}</p>`}
      <${Failure} error=${error} />
    </div>
    <footer>
      <${Figures} answer=${answer} />
      <${Passages} answer=${answer} column=${column} chosen=${chosen} onChoose=${setChosen} />
      ${done && text && html`<div><${CopyButton} text=${text} /></div>`}
    </footer>
  `;
}

/** A text whose words that the first answer lacks are marked. */
function Marked({ text, first }) {
  const found = useMemo(() => differingWords(first, text), [first, text]);
  if (!found) return html`<p class="faint">${t("tooLong")}</p><p class="plain-text">${text}</p>`;
  const { pieces, words, different } = found;
  return html`
    <p class="plain-text">${pieces.map((piece) => (piece.differs ? html`<mark>${piece.text}</mark>` : piece.text))}</p>
    <p class="faint">${different ? t("differing", { different, n: words }) : t("same")}</p>
  `;
}

function Figures({ answer }) {
  const { firstTokenSeconds, usage, sources, cited, finishReason, done, error } = answer;
  const speed = tokensPerSecond(answer);
  const short = (value, digits) => number(value, { maximumFractionDigits: digits });
  const rows = [
    ["first", duration(firstTokenSeconds)],
    ["speed", speed !== null && short(speed, speed < 100 ? 1 : 0)],
    ["tokens", usage && short(usage.completion_tokens, 0)],
    ["sources", (done || sources.length > 0) && (cited.length ? t("cited", { n: sources.length, cited: cited.length }) : short(sources.length, 0))],
    ["end", error ? (error.code ?? error.name) : finishReason && ended(finishReason)],
  ];
  return html`<dl class="compared-figures">
    ${rows.map(([name, value]) => html`<div key=${name}><dt>${t(name)}</dt><dd>${value || value === 0 ? value : "–"}</dd></div>`)}
  </dl>`;
}

function ended(reason) {
  if (reason === "stopped") return t("inBetween");
  return reason === "stop" || reason === "length" ? t(reason) : reason;
}

/** The dialog of a passage is shown only while the list around it is open. */
function Passages({ answer, column, chosen, onChoose }) {
  const [open, setOpen] = useState(false);
  if (answer.query === null && answer.skipped === null && !answer.sources.length) return null;
  return html`<details open=${open || chosen !== null} onToggle=${(event) => setOpen(event.target.open)}>
    <summary>${t("sources")}</summary>
    <${Sources} answer=${answer} chosen=${chosen} onChoose=${onChoose} stores=${column.from ? [column.from] : []} assistant=${column.model} />
  </details>`;
}
