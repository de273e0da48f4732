// One conversation: its turns, the answer that is being written, and where the next question is typed.
import { signal } from "@preact/signals";
import { useEffect, useLayoutEffect, useRef, useState } from "preact/hooks";
import { ask, newAnswer } from "../answer.js";
import { asked, edited, requestBody, unanswered } from "../conversation.js";
import { html } from "../html.js";
import { models } from "../models.js";
import { translator } from "../words.js";
import { ConversationHead } from "./chat_head.js";
import { addAnswer, change, drafts } from "./chat_store.js";
import { AnswerTurn, QuestionTurn } from "./chat_turn.js";

const t = translator({
  en: {
    answer: "Answer it",
    conversation: "Conversation",
    exampleHours: "When does Brisa Bikes open?",
    examplePrice: "Quanto custa a bicicleta de montanha Serra?",
    exampleWho: "Who are you?",
    hint: "Enter sends, Shift+Enter begins a line.",
    invite: "Ask the base model, an adapter on it, or an assistant that answers from documents and names its sources. Choose one above and type, or begin with one of these:",
    message: "Message",
    newest: "To the end",
    send: "Send",
    stop: "Stop",
    welcome: "One base model, many hats",
  },
  pt: {
    answer: "Responder",
    conversation: "Conversa",
    exampleHours: "When does Brisa Bikes open?",
    examplePrice: "Quanto custa a bicicleta de montanha Serra?",
    exampleWho: "Who are you?",
    hint: "Enter envia, Shift+Enter quebra a linha.",
    invite: "Pergunte ao modelo base, a um adaptador sobre ele ou a um assistente que responde a partir de documentos e cita as fontes. Escolha um acima e escreva, ou comece por uma destas:",
    message: "Mensagem",
    newest: "Ir ao fim",
    send: "Enviar",
    stop: "Parar",
    welcome: "Um modelo base, muitos chapéus",
  },
});

const GUIDE = "demo-guide"; // the demo's assistant, whose documents know of Brisa Bikes
const NEAR = 60; // pixels from the end that still count as the end

export function Conversation({ conversation }) {
  const [live, setLive] = useState(null); // {answer: a signal, stop}
  const running = useRef(null);
  const { follow, toEnd, away } = useFollowing();
  useEffect(() => () => running.current?.abort(), []);
  useLayoutEffect(follow, [conversation.turns.length]);

  const answer = async (next) => {
    const stop = new AbortController();
    const growing = signal(newAnswer());
    running.current = stop;
    change(next);
    setLive({ answer: growing, stop });
    toEnd();
    addAnswer(next.id, await ask(requestBody(next), growing, { signal: stop.signal }));
    running.current = null;
    setLive(null);
  };
  const send = (text, model = conversation.model) => answer(asked({ ...conversation, model }, text));
  const { turns } = conversation;
  const isLast = (at) => at === turns.length - 1;
  return html`
    <${ConversationHead} conversation=${conversation} />
    <div class="chat-log" role="log" aria-label=${t("conversation")} aria-busy=${live !== null}>
      ${!turns.length && html`<${Welcome} onAsk=${send} />`}
      ${turns.map((turn, at) =>
        turn.role === "user"
          ? html`<${QuestionTurn} key=${at} text=${turn.text} last=${isLast(at)} onEdit=${live ? null : (text) => answer(edited(conversation, at, text))} />`
          : html`<${AnswerTurn} key=${at} answer=${turn.answer} conversation=${conversation} onAgain=${!live && isLast(at) ? () => answer(unanswered(conversation)) : null} />`,
      )}
      ${live && html`<${LiveTurn} answer=${live.answer} conversation=${conversation} follow=${follow} />`}
      ${!live && turns.at(-1)?.role === "user" && html`<p><button type="button" onClick=${() => answer(conversation)}>${t("answer")}</button></p>`}
    </div>
    <div class="chat-foot">
      ${away && html`<button type="button" class="small newest" onClick=${toEnd}>${t("newest")}</button>`}
      <${Composer} id=${conversation.id} onSend=${send} onStop=${live && (() => live.stop.abort())} />
    </div>
  `;
}

function LiveTurn({ answer, conversation, follow }) {
  const now = answer.value;
  useLayoutEffect(follow); // after what has come was drawn
  return html`<${AnswerTurn} answer=${now} conversation=${conversation} live />`;
}

function Welcome({ onAsk }) {
  const hasGuide = models.value?.some((entry) => entry.id === GUIDE);
  const examples = [[t("exampleWho")], ...(hasGuide ? [[t("exampleHours"), GUIDE], [t("examplePrice"), GUIDE]] : [])];
  return html`<section class="welcome stack">
    <h2>${t("welcome")}</h2>
    <p>${t("invite")}</p>
    <ul class="row">
      ${examples.map(
        ([text, model]) => html`<li>
          <button type="button" onClick=${() => onAsk(text, model)}>${text}${model && html` <span class="faint">${model}</span>`}</button>
        </li>`,
      )}
    </ul>
  </section>`;
}

function Composer({ id, onSend, onStop }) {
  const [text, setText] = useState(drafts.get(id) ?? "");
  const area = useRef(null);
  const write = (next) => {
    setText(next);
    drafts.set(id, next);
  };
  const opened = useRef(false);
  useEffect(() => {
    // A button that was pressed and went must not take the focus along; a page that has just come keeps its own order.
    const at = document.activeElement;
    const isFree = opened.current ? at === document.body : at.closest(".chat");
    if (isFree && matchMedia("(pointer: fine)").matches) area.current.focus({ preventScroll: true });
    opened.current = true;
  }, [Boolean(onStop)]);
  const submit = (event) => {
    event.preventDefault();
    if (onStop || !text.trim()) return;
    write("");
    onSend(text);
  };
  const key = (event) => {
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing) submit(event);
  };
  return html`<form class="composer" onSubmit=${submit}>
    <textarea
      ref=${area} rows="2" aria-label=${t("message")} placeholder=${t("hint")} value=${text}
      onInput=${(event) => write(event.target.value)} onKeyDown=${key}
    ></textarea>
    ${onStop
      ? html`<button key="stop" type="button" class="danger" onClick=${onStop}>${t("stop")}</button>`
      : html`<button key="send" type="submit" class="main" disabled=${!text.trim()}>${t("send")}</button>`}
  </form>`;
}

/** Keeps the end of the page in sight while it grows, until the reader scrolls up; `away` tells that they did. */
function useFollowing() {
  const following = useRef(true);
  const [away, setAway] = useState(false);
  useEffect(() => {
    let before = window.scrollY;
    const look = () => {
      const { scrollY, innerHeight } = window;
      const atEnd = document.documentElement.scrollHeight - innerHeight - scrollY < NEAR;
      if (atEnd) following.current = true;
      else if (scrollY < before) following.current = false; // growing text moves nothing up
      before = scrollY;
      setAway(!following.current);
    };
    window.addEventListener("scroll", look, { passive: true });
    return () => window.removeEventListener("scroll", look);
  }, []);
  const follow = () => {
    if (following.current) window.scrollTo(0, document.documentElement.scrollHeight);
  };
  const toEnd = () => {
    following.current = true;
    setAway(false);
    requestAnimationFrame(follow);
  };
  return { follow, toEnd, away };
}
