// What the console reckons about fine-tuning jobs: the request, losses by step, the line that was refused, time left.
import assert from "node:assert/strict";
import { test } from "node:test";
import { comparisons, joined, lineOf, lookAgainMs, nameFrom, orderOf, possible, refusedLine, secondsLeft, smoothed, stepsOf, stepsOfCsv } from "../../../server/web/views/jobs_facts.js";

const DRAFT = { name: " clinica ", model: "demo", method: "supervised", epochs: "", rank: "", alpha: "", batch: "", rate: "", beta: "", tokens: "", nf4: false, seed: "", publish: "always" };

test("what is left empty is the server's to choose", () => {
  assert.deepEqual(orderOf(DRAFT, { training: "file-1" }), {
    model: "demo",
    training_file: "file-1",
    suffix: "clinica",
    method: { type: "supervised", supervised: { hyperparameters: {} } },
    publish: "always",
  });
});

test("what is typed stands under the method's own name, as numbers", () => {
  const typed = { ...DRAFT, method: "dpo", epochs: "3", rank: "8", beta: "0.2", tokens: "16", nf4: true, seed: "0" };
  const order = orderOf(typed, { training: "file-1", validation: "file-2" });
  assert.deepEqual(order.method, { type: "dpo", dpo: { hyperparameters: { n_epochs: 3, beta: 0.2, lora: { r: 8 }, quantization: "nf4" } } });
  assert.equal(order.validation_file, "file-2");
  assert.equal(order.seed, 0);
});

test("a soft prompt has no rank and no quantization", () => {
  const order = orderOf({ ...DRAFT, method: "prompt_tuning", rank: "8", nf4: true, beta: "1", tokens: "16" }, { training: "file-1" });
  assert.deepEqual(order.method.prompt_tuning.hyperparameters, { n_virtual_tokens: 16 });
});

test("a name comes from the file's, in the characters that names have", () => {
  assert.equal(nameFrom("Triagem da clínica (2).jsonl"), "Triagem-da-clinica-2");
  assert.equal(nameFrom("v1.2.txt"), "v1.2");
  assert.equal(nameFrom("_x.jsonl"), "x");
  assert.equal(nameFrom(`${"a".repeat(80)}.jsonl`).length, 64);
});

test("events are joined without doubles, the oldest first", () => {
  const before = [{ id: "1" }, { id: "2" }];
  assert.deepEqual(joined(before, [{ id: "4" }, { id: "3" }, { id: "2" }]).map(({ id }) => id), ["1", "2", "3", "4"]);
});

test("a step that was trained twice counts once, as it was the last time", () => {
  const metrics = (step, train_loss, valid_loss = null) => ({ type: "metrics", data: { step, train_loss, valid_loss } });
  const events = [metrics(1, 3), { type: "message", data: { step: 9, train_loss: 9 } }, metrics(2, 2.5), metrics(3, 2), metrics(2, 2.4, 2.6), metrics("x", 1), metrics(4, "NaN")];
  assert.deepEqual(stepsOf(events), [
    { step: 1, training: 3, validation: null },
    { step: 2, training: 2.4, validation: 2.6 },
    { step: 3, training: 2, validation: null },
  ]);
});

test("the result file says the same by its own columns", () => {
  const csv = "step,train_loss,train_accuracy,valid_loss\n2,1.5,0.5,1.75\n1,2,0.25,\n";
  assert.deepEqual(stepsOfCsv(csv), [
    { step: 1, training: 2, validation: null },
    { step: 2, training: 1.5, validation: 1.75 },
  ]);
  assert.deepEqual(stepsOfCsv("step,train_loss\n"), []);
});

test("many steps are smoothed: a constant stays, noise shrinks, a fall is followed", () => {
  const of = (losses) => losses.map((training, at) => ({ step: at + 1, training, validation: null }));
  assert.equal(smoothed(of([1, 2, 3])), null);
  for (const value of smoothed(of(Array(40).fill(2)))) assert.ok(Math.abs(value - 2) < 1e-9);
  const noisy = smoothed(of(Array.from({ length: 100 }, (_, at) => 1 + (at % 2))));
  assert.ok(noisy.slice(5, 95).every((value) => Math.abs(value - 1.5) < 0.1));
  const line = Array.from({ length: 100 }, (_, at) => 3 - at / 50);
  smoothed(of(line)).forEach((value, at) => assert.ok(Math.abs(value - line[at]) < 1e-9, `late at ${at}`));
  assert.equal(smoothed(of(Array(40).fill(null)))[7], null);
});

test("base and adapter are compared by what both have; a loss is better when it is less", () => {
  const base = { n: 40, loss: 2, perplexity: 7.4, token_accuracy: 0.5, exact_match: 0.25, accuracy: null };
  const found = comparisons({ base, adapter: { ...base, loss: 1, token_accuracy: 0.4 } });
  assert.deepEqual(found.map(({ measure, verdict }) => [measure, verdict]), [["loss", "better"], ["perplexity", "same"], ["token_accuracy", "worse"], ["exact_match", "same"]]);
  assert.deepEqual(comparisons(null), []);
  assert.deepEqual(comparisons({ base }), []);
});

test("the refused line is found in the file, also over the pieces of a stream", async () => {
  assert.equal(refusedLine('line 3: the key "mesages" is unknown'), 3);
  assert.equal(refusedLine("the file is empty"), null);
  assert.equal(refusedLine("line breaks are missing"), null);
  const file = new Blob(["primeira\r\nseg", "unda: não\r\nter", "ceira"]);
  assert.equal(await lineOf(file, 1), "primeira");
  assert.equal(await lineOf(file, 2), "segunda: não");
  assert.equal(await lineOf(file, 3), "terceira");
  assert.equal(await lineOf(file, 4), null);
  const long = new Blob(["a\n", ...Array(40).fill("b".repeat(100_000)), "\nc"]);
  assert.equal(await lineOf(long, 2, 5), "bbbbb…");
  assert.equal(await lineOf(long, 3), "c");
});

test("a job is looked at while it may change, and only then", () => {
  assert.equal(lookAgainMs({ status: "succeeded" }), null);
  assert.ok(lookAgainMs({ status: "running" }) < lookAgainMs({ status: "paused" }));
  assert.equal(lookAgainMs({ status: "paused", wanted: "cancel" }), lookAgainMs({ status: "running" }));
  assert.ok(lookAgainMs({ status: "a new one" }) > 0);
});

test("what can be asked of a job, and how long it has to go", () => {
  assert.deepEqual(possible({ status: "running" }), ["pause", "cancel"]);
  assert.deepEqual(possible({ status: "running", wanted: "pause" }), ["resume", "cancel"]);
  assert.deepEqual(possible({ status: "paused" }), ["resume", "cancel"]);
  assert.deepEqual(possible({ status: "running", wanted: "cancel" }), []);
  assert.deepEqual(possible({ status: "failed" }), []);
  assert.equal(secondsLeft({ status: "running", estimated_finish: 100 }, 40), 60);
  assert.equal(secondsLeft({ status: "running", estimated_finish: 100 }, 140), 0);
  assert.equal(secondsLeft({ status: "queued", estimated_finish: 100 }, 40), null);
  assert.equal(secondsLeft({ status: "running", estimated_finish: null }, 40), null);
});
