// Attributes of a file as rows of a form and back: text, numbers and booleans are told apart by a choice, never guessed.
export const MOST_KEYS = 16;
const LONGEST_KEY = 64;
const LONGEST_VALUE = 512;
const NUMBER = /^[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?$/i;

/** `{year: 2026}` as [{key: "year", kind: "number", value: "2026"}]. */
export function rowsOf(attributes) {
  return Object.entries(attributes).map(([key, value]) => ({ key, kind: typeof value, value: String(value) }));
}

/** The rows as `{attributes, problems}`; a problem is a word for what is wrong with a row, or null. */
export function attributesOf(rows) {
  const keys = rows.map((row) => row.key);
  const problems = rows.map((row, place) => problemOf(row, keys.indexOf(row.key) < place));
  const pairs = rows.map((row) => [row.key, typed(row)]);
  return { attributes: Object.fromEntries(pairs), problems };
}

function typed({ kind, value }) {
  if (kind === "number") return Number(value);
  return kind === "boolean" ? value === "true" : value;
}

function problemOf({ key, kind, value }, again) {
  if (!key) return "noKey";
  if (again) return "sameKey";
  if ([...key].length > LONGEST_KEY) return "longKey";
  if (kind === "number" && !(NUMBER.test(value.trim()) && Number.isFinite(Number(value)))) return "noNumber";
  if (kind === "string" && [...value].length > LONGEST_VALUE) return "longValue";
  return null;
}
