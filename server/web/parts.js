// Small parts that several views use. They carry meaning in HTML's own elements, so that keyboards and screen readers work.
import { useEffect, useRef, useState } from "preact/hooks";
import { ApiError } from "./api.js";
import { copy } from "./clipboard.js";
import { html } from "./html.js";
import { translator } from "./words.js";

const t = translator({
  en: {
    cancel: "Cancel",
    close: "Close",
    copied: "Copied",
    copy: "Copy",
    empty: "Nothing here yet.",
    offline: "The server cannot be reached.",
    request: "request {id}",
    working: "Working…",
  },
  pt: {
    cancel: "Cancelar",
    close: "Fechar",
    copied: "Copiado",
    copy: "Copiar",
    empty: "Nada aqui ainda.",
    offline: "O servidor não responde.",
    request: "requisição {id}",
    working: "Trabalhando…",
  },
});

/** What went wrong, read out at once; nothing for null. An ApiError shows its code and request id too. */
export function Failure({ error }) {
  if (!error) return null;
  const known = error instanceof ApiError;
  const message = known || !(error instanceof TypeError) ? error.message : t("offline");
  return html`<div class="failure" role="alert">
    <p>${message}</p>
    ${known && error.code && html`<p class="faint"><code>${error.code}</code> ${error.requestId && t("request", { id: error.requestId })}</p>`}
  </div>`;
}

/** A labelled control: `<${Field} label="Name" hint="…">${input}<//>`. */
export function Field({ label, hint, children, class: extra = "" }) {
  return html`<label class="field ${extra}"><span>${label}</span>${children}${hint && html`<small>${hint}</small>`}</label>`;
}

/** A button that shows that its work goes on and cannot be pressed twice; `onPress` may return a promise. */
export function Action({ onPress, kind = "", disabled = false, children, ...rest }) {
  const [busy, setBusy] = useState(false);
  const alive = useRef(true);
  useEffect(() => () => (alive.current = false), []);
  const press = async () => {
    setBusy(true);
    try {
      await onPress();
    } finally {
      if (alive.current) setBusy(false);
    }
  };
  return html`<button type="button" class=${kind} disabled=${disabled || busy} aria-busy=${busy} onClick=${press} ...${rest}>
    ${children}
  </button>`;
}

/** A modal dialog; `onClose` is called by Escape, by its button and by the backdrop. */
export function Dialog({ title, onClose, children, wide = false }) {
  const dialog = useRef(null);
  useEffect(() => {
    const before = document.activeElement;
    dialog.current.showModal();
    return () => before?.focus?.();
  }, []);
  const outside = (event) => event.target === dialog.current && onClose();
  return html`<dialog ref=${dialog} class=${wide ? "wide" : ""} aria-label=${title} onCancel=${onClose} onClick=${outside}>
    <header>
      <h2>${title}</h2>
      <button type="button" class="plain icon" aria-label=${t("close")} onClick=${onClose}>✕</button>
    </header>
    ${children}
  </dialog>`;
}

/** A question before what cannot be undone. `onYes` may return a promise; the dialog stays until it is kept. `no`: not to do it. */
export function Question({ title, children, yes, no = t("cancel"), onYes, onClose }) {
  const [error, setError] = useState(null);
  const agree = async () => {
    try {
      await onYes();
      onClose();
    } catch (failure) {
      setError(failure);
    }
  };
  return html`<${Dialog} title=${title} onClose=${onClose}>
    <div class="stack">${children}</div>
    <${Failure} error=${error} />
    <footer>
      <button type="button" onClick=${onClose}>${no}</button>
      <${Action} kind="danger" onPress=${agree}>${yes}<//>
    </footer>
  <//>`;
}

/** Puts text into the clipboard, and says so. */
export function CopyButton({ text, label = t("copy") }) {
  const [copied, setCopied] = useState(false);
  const press = async () => {
    await copy(text);
    setCopied(true);
    setTimeout(() => setCopied(false), 1500);
  };
  return html`<button type="button" class="small" onClick=${press}><span aria-live="polite">${copied ? t("copied") : label}</span></button>`;
}

/** A state in a word, with a colour that only repeats it: good, warn, bad, or none. */
export function Badge({ kind = "", children }) {
  return html`<span class="badge ${kind}">${children}</span>`;
}

export function Working() {
  return html`<p class="faint" role="status">${t("working")}</p>`;
}

export function Nothing({ children }) {
  return html`<p class="nothing">${children ?? t("empty")}</p>`;
}

/**
 * Loads something when `inputs` change and again on `reload()`: `{data, error, reload}`. `load` gets an AbortSignal.
 * With `every` (ms) it is loaded again by itself while the page is seen.
 */
export function useLoaded(load, inputs = [], { every = 0 } = {}) {
  const [state, setState] = useState({ data: null, error: null });
  const [round, setRound] = useState(0);
  const isLoading = useRef(false);
  const reload = useRef(() => setRound((number) => number + 1)).current;
  useEffect(() => {
    const stop = new AbortController();
    isLoading.current = true;
    load(stop.signal)
      .then((data) => stop.signal.aborted || setState({ data, error: null }))
      .catch((error) => stop.signal.aborted || setState((before) => ({ data: before.data, error })))
      .finally(() => stop.signal.aborted || (isLoading.current = false));
    return () => stop.abort();
  }, [...inputs, round]);
  useEffect(() => {
    if (!every) return undefined;
    const timer = setInterval(() => document.hidden || isLoading.current || reload(), every); // a slow answer is waited for
    return () => clearInterval(timer);
  }, [every]);
  return { ...state, reload };
}
