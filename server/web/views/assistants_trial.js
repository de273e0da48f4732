// A small chat beside an assistant's form, with the assistant as it is saved.
import { useSignal } from "@preact/signals";
import { useEffect, useRef, useState } from "preact/hooks";
import { ask, newAnswer } from "../answer.js";
import { html } from "../html.js";
import { Action } from "../parts.js";
import { translator } from "../words.js";
import { AnswerTurn, QuestionTurn } from "./chat_turn.js";

const t = translator({
  en: {
    again: "Start over",
    dirty: "The form has unsaved changes; answers come from what is saved.",
    hint: "Ask {name}…",
    log: "Trial",
    message: "Message",
    save: "Save and try",
    send: "Send",
    stop: "Stop",
    title: "Try it",
    unsaved: "Save it, then it can be tried here.",
  },
  pt: {
    again: "Recomeçar",
    dirty: "O formulário tem alterações não salvas; as respostas vêm do que está salvo.",
    hint: "Pergunte a {name}…",
    log: "Teste",
    message: "Mensagem",
    save: "Salvar e testar",
    send: "Enviar",
    stop: "Parar",
    title: "Testar",
    unsaved: "Salve para poder testar aqui.",
  },
});

const WITHOUT_STORES = { retrieval: { mode: "assistant", stores: [], others: "" } }; // the assistant brings its own

export function Trial({ saved, dirty, onSave }) {
  const [turns, setTurns] = useState([]); // {text} of questions, {answer}
  const [text, setText] = useState("");
  const [busy, setBusy] = useState(false);
  const growing = useSignal(newAnswer());
  const flight = useRef(null);
  useEffect(() => () => flight.current?.abort(), []);

  const send = async () => {
    const asked = [...turns, { text }];
    setTurns(asked);
    setText("");
    setBusy(true);
    flight.current = new AbortController();
    const body = { model: saved.name, messages: asked.filter((turn) => turn.text || turn.answer?.text).map(message) };
    const answer = await ask(body, growing, { signal: flight.current.signal });
    setTurns([...asked, { answer }]);
    setBusy(false);
  };
  const submit = (event) => {
    event.preventDefault();
    if (text.trim() && !busy) send();
  };
  const key = (event) => {
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing) submit(event);
  };
  return html`<section class="trial card stack" aria-labelledby="trial">
    <div class="row apart">
      <h2 id="trial">${t("title")}</h2>
      ${turns.length > 0 && !busy && html`<button type="button" class="small" onClick=${() => setTurns([])}>${t("again")}</button>`}
    </div>
    ${(dirty || !saved) && html`<div class="row">
      <p class="faint grow">${t(saved ? "dirty" : "unsaved")}</p>
      <${Action} kind="small" onPress=${onSave}>${t("save")}<//>
    </div>`}
    <div class="stack" role="log" aria-label=${t("log")} aria-busy=${busy}>
      ${turns.map((turn, at) => (turn.answer ? html`<${AnswerTurn} key=${at} answer=${turn.answer} conversation=${WITHOUT_STORES} />` : html`<${QuestionTurn} key=${at} text=${turn.text} />`))}
      ${busy && html`<${Growing} answer=${growing} />`}
    </div>
    ${saved && html`<form class="stack" onSubmit=${submit}>
      <textarea rows="2" aria-label=${t("message")} placeholder=${t("hint", { name: saved.name })} value=${text} onInput=${(event) => setText(event.target.value)} onKeyDown=${key}></textarea>
      <div class="row">
        ${busy
          ? html`<button key="stop" type="button" class="danger" onClick=${() => flight.current.abort()}>${t("stop")}</button>`
          : html`<button key="send" type="submit" class="main" disabled=${!text.trim()}>${t("send")}</button>`}
      </div>
    </form>`}
  </section>`;
}

function Growing({ answer }) {
  return html`<${AnswerTurn} answer=${answer.value} conversation=${WITHOUT_STORES} live />`;
}

function message({ text, answer }) {
  return answer ? { role: "assistant", content: answer.text } : { role: "user", content: text };
}
