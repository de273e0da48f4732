// A request to /v1/chat/completions as a command and as a program. Quoting is exact; the key itself is never written.

/** Of the fields that OpenAI's client knows by name; others go into `extra_body`. */
const OPENAIS = (
  "model messages temperature top_p max_tokens seed stop presence_penalty frequency_penalty tools stream stream_options"
).split(" ");

/** For a shell: `needsKey` tells whether to send one. */
export function asShell(origin, body, { needsKey = true } = {}) {
  return [
    `curl ${body.stream ? "-N " : ""}${shell(`${origin}/v1/chat/completions`)}`,
    ...(needsKey ? [`  -H "Authorization: Bearer $MANYHATS_API_KEY"`] : []),
    "  -H 'Content-Type: application/json'",
    `  -d ${shell(JSON.stringify(body, null, 2))}`,
  ].join(" \\\n");
}

/** For Python with OpenAI's client. */
export function asPython(origin, body) {
  const known = Object.keys(body).filter((name) => OPENAIS.includes(name));
  const extra = Object.fromEntries(Object.entries(body).filter(([name]) => !OPENAIS.includes(name)));
  const given = known.map((name) => `    ${name}=${python(body[name], 4)},`);
  if (Object.keys(extra).length) given.push(`    extra_body=${python(extra, 4)},`);
  const call = `client.chat.completions.create(\n${given.join("\n")}\n)`;
  return `import os

from openai import OpenAI

client = OpenAI(base_url=${python(`${origin}/v1`)}, api_key=os.environ.get("MANYHATS_API_KEY", "none-needed"))
${body.stream ? `stream = ${call}${READ_STREAM}` : `answer = ${call}\nprint(answer.choices[0].message.content)`}
`;
}

const READ_STREAM = `
for chunk in stream:
    if chunk.choices:
        print(chunk.choices[0].delta.content or "", end="", flush=True)
print()`;

/** One word of a POSIX shell: in single quotes only a single quote means anything. */
export function shell(word) {
  return /^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", `'\\''`)}'`;
}

/** A JSON value as a Python expression; JSON's strings are Python's. */
export function python(value, indent = 0) {
  if (value === null) return "None";
  if (value === true) return "True";
  if (value === false) return "False";
  if (typeof value !== "object") return JSON.stringify(value);
  const inner = " ".repeat(indent + 4);
  const items = Array.isArray(value)
    ? value.map((item) => python(item, indent + 4))
    : Object.entries(value).map(([name, item]) => `${JSON.stringify(name)}: ${python(item, indent + 4)}`);
  const [open, close] = Array.isArray(value) ? "[]" : "{}";
  const short = `${open}${items.join(", ")}${close}`;
  if (short.length <= 60 && !short.includes("\n")) return short;
  return `${open}\n${items.map((item) => `${inner}${item},\n`).join("")}${" ".repeat(indent)}${close}`;
}
