// What the console reckons about adapters: the archive that it packs, the way out of a refusal, shares and counts.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { gunzipSync } from "node:zlib";
import { CONFIG, WEIGHTS, chosen, nameFrom, packed } from "../../../server/web/views/adapters_archive.js";
import { byError, canary, lastUse, mixOf, movement, shares, usage } from "../../../server/web/views/adapters_facts.js";
import { conversionFor, wayOut } from "../../../server/web/views/adapters_refusals.js";

const read = (path) => readFileSync(new URL(`../../../${path}`, import.meta.url), "utf8");
const file = (name, text = "") => new File([text], name);

test("an archive is taken as it is, the two files together, and nothing else", () => {
  const archive = file("sailor.tar.gz");
  assert.equal(chosen([archive, file("notes.txt")]).archive, archive);
  assert.deepEqual(chosen([file("README.md"), file(CONFIG), file(WEIGHTS)]).files.map((one) => one.name), [CONFIG, WEIGHTS]);
  assert.equal(chosen([file("a.zip"), file("b.zip")]).problem, "several");
  assert.equal(chosen([file(CONFIG), file(CONFIG)]).problem, "several");
  assert.equal(chosen([file("photo.png")]).problem, "neither");
  assert.equal(chosen([]).problem, "nothing");
  assert.equal(chosen([file("adapter_model.bin")]).files.length, 1, "the server says what is wrong with a pickle");
});

test("a name comes from the archive's, in the characters that names have", () => {
  assert.equal(nameFrom("sailor.tar.gz"), "sailor");
  assert.equal(nameFrom("Meu adaptador (2).zip"), "Meu-adaptador-2");
  assert.equal(nameFrom("_-x.tgz"), "x");
});

test("the packed archive is a tar whose sizes, sums and padding are right", async () => {
  const tar = gunzipSync(Buffer.from(await (await packed([file(CONFIG, "{}"), file(WEIGHTS, "w".repeat(513))])).arrayBuffer()));
  assert.equal(tar.length % 512, 0);
  const text = (from, length) => tar.subarray(from, from + length).toString();
  assert.equal(text(0, CONFIG.length + 1), `${CONFIG}\0`);
  assert.equal(text(124, 11), "00000000002");
  assert.equal(text(257, 8), "ustar\x0000");
  const header = Buffer.from(tar.subarray(0, 512));
  header.fill(" ", 148, 156);
  assert.equal(parseInt(text(148, 6), 8), header.reduce((sum, byte) => sum + byte, 0));
  assert.equal(text(512, 2), "{}");
  assert.equal(text(1024, WEIGHTS.length), WEIGHTS);
  assert.equal(text(1536, 513), "w".repeat(513));
  assert.equal(tar.length, 512 + 512 + 512 + 1024 + 1024);
});

test("every kind of refusal that is documented has a way out, in words", () => {
  const documented = read("docs/refusals.md");
  const words = new Set([...read("server/web/views/adapters_ways.js").matchAll(/^    (\w+): "/gm)].map(([, way]) => way));
  const kinds = [...documented.matchAll(/^\| `(\w+)` \|/gm)].map(([, kind]) => kind);
  assert.ok(kinds.length > 40);
  for (const kind of kinds) {
    assert.ok(words.has(wayOut(kind)), kind);
  }
  assert.equal(wayOut("internal_error"), null);
});

test("a conversion is offered where one helps", () => {
  const tooLarge = "the adapter's rank is 64 and this server takes up to 16; register it with convert, which cuts it";
  assert.deepEqual(conversionFor({ code: "rank_above_limit", message: tooLarge }), { rank: 16 });
  assert.deepEqual(conversionFor({ code: "modified_base", message: "init is 'pissa': register it with convert, or" }), {});
  assert.equal(conversionFor({ code: "modified_base", message: "init is 'corda': save it with PEFT's" }), null);
  assert.deepEqual(conversionFor({ code: "dora", message: "use_dora is true: register it with convert, which" }), {});
  assert.equal(conversionFor({ code: "dora", message: "" }), null);
});

test("weights are told in percent, and a slider's ends are whole moves", () => {
  assert.deepEqual(shares({ a: 1, b: 3 }), [{ version: "b", percent: 75 }, { version: "a", percent: 25 }]);
  assert.deepEqual(shares({}), []);
  assert.deepEqual(movement("a", "b", 0), { version: "a" });
  assert.deepEqual(movement("a", "b", 100), { version: "b" });
  assert.deepEqual(movement("a", "a", 30), { version: "a" });
  assert.deepEqual(movement("a", "b", 5), { traffic: { a: 95, b: 5 } });
});

test("a canary begins with the newest version that can be served, and goes on where it is", () => {
  const versions = [{ id: "x@1" }, { id: "x@2" }, { id: "x@3", error: "lost" }];
  assert.deepEqual(canary({ versions, traffic: { "x@1": 1 } }), { stable: "x@1", trial: "x@2", percent: 10 });
  assert.deepEqual(canary({ versions, traffic: { "x@1": 70, "x@2": 30 } }), { stable: "x@1", trial: "x@2", percent: 30 });
});

test("a mix names each adapter once; only what thins them has a density, and a rank is a conversion", () => {
  const parts = [{ name: "a", weight: "0.7" }, { name: "b@1", weight: "0.5" }, { name: "b@1", weight: "-0.25" }];
  const given = { name: " blend ", method: "linear", density: "0.5", rank: "", parts };
  assert.deepEqual(mixOf(given), { name: "blend", mix: { adapters: { a: 0.7, "b@1": 0.25 }, method: "linear" } });
  const thinned = mixOf({ ...given, method: "ties", density: "0.3", rank: "16" });
  assert.equal(thinned.mix.density, 0.3);
  assert.deepEqual(thinned.convert, { rank: 16 });
});

test("the last use is the latest of the versions, the worst module comes first", () => {
  assert.equal(lastUse({ versions: [{ last_used_at: 5 }, { last_used_at: 9 }, { last_used_at: null }] }), 9);
  assert.equal(lastUse({ versions: [{ last_used_at: null }] }), null);
  assert.deepEqual(byError({ a: 0.1, b: 0.4 })[0], ["b", 0.4]);
});

test("requests and errors are summed over endpoints and statuses", () => {
  const lines = [
    'manyhats_requests_total{adapter="sailor",endpoint="/v1/chat/completions",status="200"} 3.0',
    'manyhats_requests_total{adapter="sailor",endpoint="/v1/adapters/{name}",status="404"} 1.0',
    'manyhats_errors_total{adapter="sailor",type="engine_error"} 2.0',
    'manyhats_requests_created{adapter="sailor",endpoint="/x",status="200"} 1.7e+09',
  ];
  const used = usage(lines.join("\n"));
  assert.deepEqual(used.of("sailor"), { requests: 4, errors: 2 });
  assert.deepEqual(used.of("idle"), { requests: 0, errors: 0 });
  assert.equal(usage('manyhats_requests_total{adapter="other"} 1').of("idle"), null);
});
