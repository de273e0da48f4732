// English and Brazilian Portuguese, by the browser's language unless the reader chose one.
import { signal } from "@preact/signals";

const KEPT = "manyhats.language";

export const LANGUAGES = { en: "English", pt: "Português" };
export const language = signal(kept() ?? preferred(navigator.languages ?? [navigator.language]));

/** Which of our languages a reader wants most: the first in their list that we have. */
export function preferred(tags) {
  const ours = tags.map((tag) => tag.slice(0, 2).toLowerCase()).find((tag) => tag in LANGUAGES);
  return ours ?? "en";
}

export function choose(code) {
  show(code);
  try {
    localStorage.setItem(KEPT, code);
  } catch {
    // a browser that keeps nothing asks its own language the next time
  }
}

/** Speak this language from now on, without keeping the choice. */
export function show(code) {
  language.value = code;
  document.documentElement.lang = tag();
}

/**
 * A view's own words, `{en: {key: text}, pt: {key: text}}`, as a function of key and values: `t("files", {n: 3})`
 * fills `{n}`. A text may be `{one, other}`, chosen by `n`.
 */
export function translator(words) {
  return (key, values = {}) => {
    let text = words[language.value][key] ?? words.en[key];
    if (text === undefined) throw new Error(`no words for ${key}`);
    if (typeof text === "object") text = text[new Intl.PluralRules(tag()).select(values.n)] ?? text.other;
    return text.replace(/\{(\w+)\}/g, (whole, name) => (name in values ? shown(values[name]) : whole));
  };
}

/** The language as Intl knows it. */
export function tag() {
  return language.value === "pt" ? "pt-BR" : "en";
}

export function number(value, options) {
  return new Intl.NumberFormat(tag(), options).format(value);
}

export function bytes(count) {
  const units = ["B", "kB", "MB", "GB", "TB"];
  const power = count < 1000 ? 0 : Math.min(units.length - 1, Math.floor(Math.log10(count) / 3));
  return `${number(count / 1000 ** power, { maximumFractionDigits: power ? 1 : 0 })} ${units[power]}`;
}

/** A length of time in seconds, to two digits: "3.1 ms", "12 s"; a dash for null. */
export function duration(seconds) {
  if (seconds === null || seconds === undefined) return "–";
  const [value, unit] = seconds < 1 ? [seconds * 1000, "ms"] : [seconds, "s"];
  return `${number(value, { maximumSignificantDigits: 2 })}\u00a0${unit}`;
}

/** A length of time for which seconds are too fine: "45 s", "12 min", "2 h 5 min"; a dash for null. */
export function span(seconds) {
  if (seconds === null || seconds === undefined) return "–";
  if (seconds < 60) return `${number(Math.round(seconds))}\u00a0s`;
  const minutes = Math.round(seconds / 60);
  if (minutes < 60) return `${number(minutes)}\u00a0min`;
  return `${number(Math.floor(minutes / 60))}\u00a0h${minutes % 60 ? ` ${minutes % 60}\u00a0min` : ""}`;
}

/** A moment in seconds since 1970 as the reader's date and time. */
export function moment(seconds) {
  return new Intl.DateTimeFormat(tag(), { dateStyle: "medium", timeStyle: "short" }).format(new Date(seconds * 1000));
}

function shown(value) {
  return typeof value === "number" ? number(value) : String(value);
}

function kept() {
  try {
    const code = localStorage.getItem(KEPT);
    return code && code in LANGUAGES ? code : null;
  } catch {
    return null;
  }
}
