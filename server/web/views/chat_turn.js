// One turn of a conversation: a question that can be asked otherwise, or an answer with what it cost and what it is based on.
import { useEffect, useRef, useState } from "preact/hooks";
import { tokensPerSecond } from "../answer.js";
import { ApiError } from "../api.js";
import { storesOf } from "../conversation.js";
import { html } from "../html.js";
import { Markdown } from "../markdown.js";
import { CopyButton, Failure } from "../parts.js";
import { Sources } from "../sources.js";
import { number, translator } from "../words.js";

const t = translator({
  en: {
    again: "Answer again",
    answer: "Answer",
    cancel: "Cancel",
    cut: "cut at the limit of tokens",
    edit: "Edit",
    first: "first token after {seconds} s",
    goes: "What came after it goes.",
    nothing: "The answer is empty.",
    question: "Question",
    reasoning: "Reasoning",
    resend: "Send again",
    speed: "{speed} tokens/s",
    stopped: "stopped",
    tokens: { one: "1 token", other: "{n} tokens" },
    waiting: "Waiting for the first token…",
  },
  pt: {
    again: "Responder de novo",
    answer: "Resposta",
    cancel: "Cancelar",
    cut: "cortada no limite de tokens",
    edit: "Editar",
    first: "primeiro token após {seconds} s",
    goes: "O que veio depois será apagado.",
    nothing: "A resposta está vazia.",
    question: "Pergunta",
    reasoning: "Raciocínio",
    resend: "Enviar de novo",
    speed: "{speed} tokens/s",
    stopped: "interrompida",
    tokens: { one: "1 token", other: "{n} tokens" },
    waiting: "Aguardando o primeiro token…",
  },
});

/** `onEdit(text)` asks with other words; null while that cannot be done. */
export function QuestionTurn({ text, last, onEdit }) {
  const [draft, setDraft] = useState(null);
  const area = useRef(null);
  useEffect(() => area.current?.focus(), [draft === null]);
  if (draft === null || !onEdit) {
    return html`<article class="turn question" aria-label=${t("question")}>
      <p>${text}</p>
      ${onEdit && html`<button type="button" class="small plain" onClick=${() => setDraft(text)}>${t("edit")}</button>`}
    </article>`;
  }
  const submit = (event) => {
    event.preventDefault();
    if (!draft.trim()) return;
    setDraft(null);
    onEdit(draft);
  };
  const key = (event) => {
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing) submit(event);
    if (event.key === "Escape") setDraft(null);
  };
  return html`<form class="turn question stack" onSubmit=${submit}>
    <textarea ref=${area} rows="3" aria-label=${t("question")} value=${draft} onInput=${(event) => setDraft(event.target.value)} onKeyDown=${key}></textarea>
    <div class="row">
      <button type="submit" class="main">${t("resend")}</button>
      <button type="button" onClick=${() => setDraft(null)}>${t("cancel")}</button>
      ${!last && html`<span class="faint">${t("goes")}</span>`}
    </div>
  </form>`;
}

/** `onAgain` asks for another answer; null while or where that cannot be done. */
export function AnswerTurn({ answer, conversation, live = false, onAgain = null }) {
  const [chosen, setChosen] = useState(null);
  const { text, sources, reasoning, toolCalls } = answer;
  const silent = !text && !reasoning && !toolCalls.length;
  return html`<article class="turn answer" aria-label=${t("answer")} aria-busy=${live}>
    <div class="answer-body stack">
      ${reasoning && html`<details open=${live && !text}><summary>${t("reasoning")}</summary><p class="faint plain-text">${reasoning}</p></details>`}
      <${Markdown} text=${text} sources=${sources} onSource=${setChosen} />
      ${toolCalls.map((call) => html`<pre>${call.name}(${call.arguments})</pre>`)}
      ${silent && live && html`<p class="faint">${t("waiting")}</p>`}
      ${silent && !live && !answer.error && answer.finishReason !== "stopped" && html`<p class="faint">${t("nothing")}</p>`}
      <${Failure} error=${answer.error && asError(answer.error)} />
      <p class="faint">${figures(answer)}</p>
      <div class="row tight">
        ${!live && text && html`<${CopyButton} text=${text} />`}
        ${onAgain && html`<button type="button" class="small" onClick=${onAgain}>${t("again")}</button>`}
      </div>
    </div>
    <${Sources} answer=${answer} chosen=${chosen} onChoose=${setChosen} stores=${storesOf(conversation.retrieval)} assistant=${answer.model} />
  </article>`;
}

function figures(answer) {
  const speed = tokensPerSecond(answer);
  const short = (value, digits) => number(value, { maximumFractionDigits: digits });
  return [
    answer.model,
    answer.usage && t("tokens", { n: answer.usage.completion_tokens }),
    answer.firstTokenSeconds !== null && t("first", { seconds: short(answer.firstTokenSeconds, 2) }),
    speed && t("speed", { speed: short(speed, speed < 10 ? 1 : 0) }),
    answer.finishReason === "length" && t("cut"),
    answer.finishReason === "stopped" && t("stopped"),
  ]
    .filter(Boolean)
    .join(" · ");
}

/** An error that was kept is an object without a class. */
function asError(error) {
  if (error instanceof Error) return error;
  if (error.status === null) return new TypeError(error.message); // the network's
  return Object.assign(new ApiError(error.status, { error }), { requestId: error.requestId });
}
