// The console: asks who the caller is, then shows the view that the address names (#/chat, #/knowledge/vs_1, …).
import { signal } from "@preact/signals";
import { render } from "preact";
import { useEffect, useState } from "preact/hooks";
import { isAdmin, key, locked, openSession, session, takeKey } from "./api.js";
import { html } from "./html.js";
import { readModels } from "./models.js";
import { Action, Dialog, Failure, Field, Working } from "./parts.js";
import { VIEWS } from "./views.js";
import { LANGUAGES, choose, language, show, translator } from "./words.js";

const t = translator({
  en: {
    forget: "Forget the key",
    key: "API key",
    keyHint: "Kept for this tab only.",
    keyTitle: "This server asks for a key",
    keyWhere: "`manyhats keys create NAME` on the server makes one.",
    language: "Language",
    missing: "There is no such page.",
    needsAdmin: "This page needs an admin key.",
    open: "Open",
    role: "{name}, {role}",
    skip: "To the content",
    theme: "Light or dark",
    useKey: "Use another key",
    views: "Pages",
  },
  pt: {
    forget: "Esquecer a chave",
    key: "Chave de API",
    keyHint: "Guardada só para esta aba.",
    keyTitle: "Este servidor pede uma chave",
    keyWhere: "`manyhats keys create NOME` no servidor cria uma.",
    language: "Idioma",
    missing: "Esta página não existe.",
    needsAdmin: "Esta página precisa de uma chave de administrador.",
    open: "Entrar",
    role: "{name}, {role}",
    skip: "Ir ao conteúdo",
    theme: "Claro ou escuro",
    useKey: "Usar outra chave",
    views: "Páginas",
  },
});

const address = signal(read());
window.addEventListener("hashchange", () => (address.value = read()));

/** The parts of the address: `#/knowledge/vs_1` is ["knowledge", "vs_1"]. */
function read() {
  const parts = location.hash.replace(/^#\/?/, "").split("/").filter(Boolean).map(decodeURIComponent);
  return parts.length ? parts : ["chat"];
}

function App() {
  const [failure, setFailure] = useState(null);
  const [asksForKey, setAsksForKey] = useState(false);
  useEffect(() => {
    let stale = false;
    session.value = null;
    setFailure(null);
    openSession()
      .then(readModels)
      .catch((error) => stale || error.status === 401 || setFailure(error));
    return () => (stale = true);
  }, [key.value]);
  const mustUnlock = locked.value !== null;
  return html`
    <a class="skip" href="#content" onClick=${toContent}>${t("skip")}</a>
    <${Bar} onKey=${() => setAsksForKey(true)} />
    <main id="content" tabindex="-1">
      <${Failure} error=${failure} />
      ${session.value ? html`<${Page} />` : !failure && !mustUnlock && html`<${Working} />`}
    </main>
    ${(mustUnlock || asksForKey) && html`<${KeyDialog} onClose=${() => setAsksForKey(false)} />`}
  `;
}

function toContent(event) {
  event.preventDefault(); // the address after # is the view's
  document.getElementById("content").focus();
}

function Bar({ onKey }) {
  const [current] = address.value;
  const seen = VIEWS.filter((view) => !view.admin || isAdmin());
  const who = session.value;
  return html`<header class="bar">
    <a class="brand" href="#/chat"><img src="/console/icon.svg" alt="" width="28" height="28" /> Manyhats</a>
    <nav aria-label=${t("views")}>
      ${seen.map(
        (view) => html`<a href=${`#/${view.name}`} aria-current=${view.name === current ? "page" : undefined}>
          ${view.title()}
        </a>`,
      )}
    </nav>
    <div class="corner">
      <select aria-label=${t("language")} value=${language.value} onChange=${(event) => choose(event.target.value)}>
        ${Object.entries(LANGUAGES).map(([code, name]) => html`<option value=${code}>${name}</option>`)}
      </select>
      <button type="button" class="icon" aria-label=${t("theme")} title=${t("theme")} onClick=${switchTheme}>
        <svg viewBox="0 0 16 16" width="18" height="18" aria-hidden="true"><circle cx="8" cy="8" r="6.2" fill="none" stroke="currentColor" stroke-width="1.6" /><path d="M8 2a6 6 0 0 1 0 12z" fill="currentColor" /></svg>
      </button>
      <button type="button" class="icon" aria-label=${t("useKey")} title=${t("useKey")} onClick=${onKey}>
        <svg viewBox="0 0 16 16" width="18" height="18" aria-hidden="true" fill="none" stroke="currentColor" stroke-width="1.6"><circle cx="4.7" cy="8" r="3" /><path d="M7.7 8h6.8v3M11.8 8v2.4" /></svg>
      </button>
      ${who && html`<p class="faint who">${t("role", who)}<br />${who.version}</p>`}
    </div>
  </header>`;
}

function Page() {
  const [name, ...rest] = address.value;
  const view = VIEWS.find((one) => one.name === name);
  const [loaded, setLoaded] = useState({ name: null, View: null, error: null });
  useEffect(() => {
    let stale = false;
    document.title = view ? `${view.title()} · Manyhats` : "Manyhats";
    view
      ?.load()
      .then((module) => stale || setLoaded({ name, View: module.default, error: null }))
      .catch((error) => stale || setLoaded({ name, View: null, error }));
    return () => (stale = true);
  }, [name, language.value]);
  if (!view) return html`<p>${t("missing")}</p>`;
  if (view.admin && !isAdmin()) return html`<p>${t("needsAdmin")}</p>`;
  if (loaded.name !== name) return html`<${Working} />`;
  if (loaded.error) return html`<${Failure} error=${loaded.error} />`;
  return html`<${loaded.View} path=${rest} />`;
}

function KeyDialog({ onClose }) {
  const [secret, setSecret] = useState("");
  const submit = (event) => {
    event.preventDefault();
    takeKey(secret.trim());
    onClose();
  };
  const forget = () => {
    takeKey("");
    onClose();
  };
  return html`<${Dialog} title=${locked.value ? t("keyTitle") : t("key")} onClose=${onClose}>
    <form class="stack" onSubmit=${submit}>
      ${locked.value?.code === "invalid_api_key" && html`<${Failure} error=${locked.value} />`}
      <${Field} label=${t("key")} hint=${t("keyHint")}>
        <input type="password" autocomplete="off" required value=${secret} onInput=${(event) => setSecret(event.target.value)} />
      <//>
      <p class="faint">${t("keyWhere")}</p>
      <footer>
        ${key.value && html`<${Action} onPress=${forget}>${t("forget")}<//>`}
        <button type="submit" class="main">${t("open")}</button>
      </footer>
    </form>
  <//>`;
}

const THEME = "manyhats.theme";

function switchTheme() {
  const dark = document.documentElement.dataset.theme ?? (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light");
  const next = dark === "dark" ? "light" : "dark";
  document.documentElement.dataset.theme = next;
  try {
    localStorage.setItem(THEME, next);
  } catch {
    // the browser's own preference holds the next time
  }
}

try {
  const kept = localStorage.getItem(THEME);
  if (kept === "light" || kept === "dark") document.documentElement.dataset.theme = kept;
} catch {
  // as above
}
show(language.value);
render(html`<${App} />`, document.getElementById("app"));
