// Markdown that somebody else wrote (a model, a document), drawn so that nothing in it can run, load, submit or pretend
// to be a part of the page.
import { Lexer, Marked } from "marked";
import { useLayoutEffect, useRef } from "preact/hooks";
import { pieces } from "./citation_markers.js";
import { copy } from "./clipboard.js";
import { html } from "./html.js";
import "./vendor/purify.js"; // a script of the older kind, which leaves its name on the window
import { language, translator } from "./words.js";

const t = translator({
  en: { code: "Code", copied: "Copied", copy: "Copy", picture: "Picture: {name}", source: "Source {n}" },
  pt: { code: "Código", copied: "Copiado", copy: "Copiar", picture: "Imagem: {name}", source: "Fonte {n}" },
});

const PURE = {
  ALLOWED_TAGS: (
    "a b blockquote br code del details div em h3 h4 h5 h6 hr i kbd li ol p pre s strong sub summary sup " +
    "table tbody td th thead tr u ul"
  ).split(" "),
  ALLOWED_ATTR: ["align", "colspan", "data-language", "href", "rowspan", "start"],
  ADD_URI_SAFE_ATTR: ["align", "colspan", "data-language", "rowspan", "start"], // which are no addresses
  ALLOW_ARIA_ATTR: false,
  ALLOW_DATA_ATTR: false,
  ALLOWED_URI_REGEXP: /^(?:https?:|mailto:)/i,
  RETURN_DOM_FRAGMENT: true, // what was purified is what is shown; as text it would be read a second time
};

// Of HTML in Markdown only these tags count, and only bare ones. Another is text that the reader sees: it is not even
// parsed, since a script or a style that the policy refuses leaves an error in the browser's log.
const OTHER_TAG = /<(?!\/?(?:b|br|details|em|i|kbd|s|strong|sub|summary|sup|u)\s*\/?>)/gi;

const marked = new Marked({
  gfm: true,
  renderer: {
    checkbox: ({ checked }) => (checked ? "[x] " : "[ ] "),
    code: ({ text, lang }) =>
      `<pre data-language="${escaped(/^[\w+#.-]*/.exec(lang ?? "")[0])}"><code>${escaped(text)}</code></pre>`,
    heading({ tokens, depth }) {
      const level = Math.min(6, depth + 2); // the page's own headings stand above
      return `<h${level}>${this.parser.parseInline(tokens)}</h${level}>`;
    },
    html: ({ text }) => text.replace(OTHER_TAG, "&lt;"),
    // A picture's address would tell its server that it was read, and when.
    image: ({ href, text }) => `<a href="${escaped(href)}">${escaped(t("picture", { name: text || href }))}</a> (${escaped(href)})`,
  },
});

/**
 * Markdown as elements. Markers such as `[1]` that name one of `sources` become buttons, which call `onSource(1)`.
 * While text is added at the end only the last block is read anew.
 */
export function Markdown({ text, sources = [], onSource = () => {} }) {
  const lexer = new Lexer(marked.defaults);
  const blocks = lexer.blockTokens(text.replace(/\r\n?/g, "\n"), lexer.tokens).filter((block) => block.type !== "space" && block.type !== "def");
  const links = definitions(lexer.tokens.links);
  const numbers = sources.map((source) => source.number).join();
  const choose = (event) => {
    const number = event.target.closest?.("button[data-source]")?.dataset.source;
    if (number) onSource(Number(number));
  };
  return html`<div class="markdown" onClick=${choose}>
    ${blocks.map((block, at) => html`<${Block} key=${at} raw=${block.raw} links=${links} numbers=${numbers} />`)}
  </div>`;
}

function Block({ raw, links, numbers }) {
  const place = useRef(null);
  const tongue = language.value;
  useLayoutEffect(() => {
    place.current.replaceChildren(drawn(links && raw.includes("[") ? `${raw}\n\n${links}` : raw, numbers));
  }, [raw, links, numbers, tongue]);
  return html`<div ref=${place}></div>`;
}

/** Definitions of links (`[name]: address`), which may stand in another block than the link. */
function definitions(links) {
  return Object.entries(links)
    .map(([name, { href, title }]) => `[${name}]: <${href}>${title ? ` "${title.replaceAll('"', "&quot;")}"` : ""}`)
    .join("\n");
}

function drawn(source, numbers) {
  const fragment = globalThis.DOMPurify.sanitize(marked.parse(source), PURE);
  fragment.normalize();
  for (const link of fragment.querySelectorAll("a[href]")) {
    link.target = "_blank";
    link.rel = "noopener noreferrer";
  }
  if (numbers) cite(fragment, numbers.split(",").map(Number));
  for (const block of fragment.querySelectorAll("pre")) addCopyButton(block);
  for (const table of fragment.querySelectorAll("table")) wrap(table);
  return fragment;
}

/** Puts buttons in the place of citation markers; in code and in links they mean something else. */
function cite(fragment, numbers) {
  const walker = document.createTreeWalker(fragment, NodeFilter.SHOW_TEXT);
  const texts = [];
  while (walker.nextNode()) {
    const node = walker.currentNode;
    if (node.data.includes("[") && !node.parentElement?.closest("code, pre, a")) texts.push(node);
  }
  for (const node of texts) {
    const parts = pieces(node.data, numbers);
    node.replaceWith(...parts.flatMap((part) => (typeof part === "string" ? part : part.map(citation))));
  }
}

function citation(number) {
  const button = element("button", "cite", String(number));
  button.type = "button";
  button.dataset.source = number;
  button.setAttribute("aria-label", t("source", { n: number }));
  return button;
}

function addCopyButton(block) {
  const head = element("div", "code-head");
  const button = element("button", "small plain", t("copy"));
  button.type = "button";
  button.setAttribute("aria-live", "polite");
  const code = block.textContent;
  button.addEventListener("click", async () => {
    await copy(code);
    button.textContent = t("copied");
    setTimeout(() => (button.textContent = t("copy")), 1500);
  });
  head.append(element("span", "faint", block.dataset.language || t("code")), button);
  block.tabIndex = 0; // it scrolls, also by keyboard
  const frame = element("div", "code-frame");
  block.replaceWith(frame);
  frame.append(head, block);
}

function wrap(table) {
  const frame = element("div", "scroll");
  table.replaceWith(frame);
  frame.append(table);
}

function element(name, className, text = "") {
  const made = document.createElement(name);
  made.className = className;
  made.textContent = text;
  return made;
}

function escaped(text) {
  return text.replace(/[&<>"']/g, (character) => `&#${character.charCodeAt(0)};`);
}
