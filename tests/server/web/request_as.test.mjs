// A request as curl and as Python: a shell and Python themselves read what was written, and find the same request.
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { test } from "node:test";
import { asShell, asPython, python, shell } from "../../../server/web/request_as.js";

const NASTY = `'"\\ $HOME \`id\` !! %s \n\t\r\u0007\u2028 é 🎩 \ud800 </script> {x} #'`;
const BODY = {
  model: "pirate@4f1a22",
  messages: [{ role: "user", content: NASTY }],
  temperature: 0.5,
  seed: 7,
  stop: ["'", '"""'],
  stream: true,
  stream_options: { include_usage: true },
  retrieval: null,
  "odd name": [true, false, null, 1e21, -1, {}],
};

function run(program, words, input) {
  const ran = spawnSync(program, words, { input, encoding: "utf8" });
  assert.equal(ran.status, 0, ran.stderr);
  return ran.stdout;
}

test("curl gets the body byte for byte, and the key from the environment", () => {
  const command = asShell("http://127.0.0.1:8000", BODY).replace(/^curl /, 'printf "%s\\0" ');
  const words = run("sh", ["-c", `MANYHATS_API_KEY=secret; ${command}`]).split("\0");
  assert.deepEqual(words.slice(0, -2), [
    "-N", "http://127.0.0.1:8000/v1/chat/completions", "-H", "Authorization: Bearer secret", "-H", "Content-Type: application/json", "-d",
  ]);
  assert.deepEqual(JSON.parse(words.at(-2)), BODY);
});

test("curl sends no key where none is needed", () => {
  assert.ok(!asShell("http://x", BODY, { needsKey: false }).includes("Authorization"));
});

const READ_BACK = `
import json, sys, types
class Completions:
    def create(self, **given):
        print(json.dumps(given))
        return []
class OpenAI:
    def __init__(self, base_url, api_key):
        print(json.dumps([base_url, api_key]))
        self.chat = types.SimpleNamespace(completions=Completions())
sys.modules["openai"] = types.SimpleNamespace(OpenAI=OpenAI)
exec(compile(sys.stdin.buffer.read().decode(), "program", "exec"))
`;

test("Python makes the same call", () => {
  const [client, call] = run("python3", ["-c", READ_BACK], asPython("http://127.0.0.1:8000", BODY)).split("\n").map((line) => line && JSON.parse(line));
  assert.deepEqual(client, ["http://127.0.0.1:8000/v1", process.env.MANYHATS_API_KEY ?? "none-needed"]);
  const { extra_body, ...known } = call;
  assert.deepEqual({ ...known, ...extra_body }, BODY);
  assert.deepEqual(Object.keys(extra_body), ["retrieval", "odd name"]);
});

test("words that need no quotes have none", () => {
  assert.equal(shell("http://x:1/v1"), "http://x:1/v1");
  assert.equal(shell(""), "''");
  assert.equal(shell("it's"), `'it'\\''s'`);
});

test("literals of Python", () => {
  assert.equal(python([true, null, { a: "b" }]), '[True, None, {"a": "b"}]');
});
