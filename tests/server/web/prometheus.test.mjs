// Prometheus' text as looks, and what changed between two of them.
import assert from "node:assert/strict";
import { test } from "node:test";
import { NOTHING, increase, labelled, look, observed, perSecond, quantile, total } from "../../../server/web/prometheus.js";

const TEXT = `# HELP requests_total Requests, "all" of them.
# TYPE requests_total counter
requests_total{adapter="pirate",status="200"} 3.0
requests_total{adapter="pirate",status="404"} 1.0
requests_total{status="200",adapter="say \\"hi\\", {you}\\n\\\\"} 1.5e+01
vllm:running{engine="0"} 2 1700000000000
queue_depth 0.0

not a sample
`;

const of = (adapter) => (labels) => labels.adapter === adapter;

/** A histogram of two bounds with so many observations below 0.1 s, below 1 s, and at all. */
function histogram(low, middle, all, at, sum = all) {
  const text = `seconds_bucket{adapter="a",le="0.1"} ${low}
seconds_bucket{adapter="a",le="1.0"} ${middle}
seconds_bucket{adapter="a",le="+Inf"} ${all}
seconds_count{adapter="a"} ${all}
seconds_sum{adapter="a"} ${sum}`;
  return look(text, at);
}

test("samples are read with their labels, whatever these hold", () => {
  const seen = look(TEXT, 7);
  assert.equal(seen.at, 7);
  assert.equal(total(seen, "requests_total"), 19);
  assert.equal(total(seen, "requests_total", of("pirate")), 4);
  assert.deepEqual(labelled(seen, "requests_total", "adapter"), ["pirate", 'say "hi", {you}\n\\']);
  assert.equal(total(seen, "vllm:running"), 2);
  assert.equal(total(seen, "queue_depth"), 0);
});

test("what is not there has no total, and grew by nothing", () => {
  const seen = look(TEXT, 7);
  assert.equal(total(seen, "other"), null);
  assert.equal(increase(seen, seen, "other"), 0);
  assert.equal(look("", 0).names.size, 0);
});

test("values may be infinite or none", () => {
  const seen = look("a +Inf\nb -Inf\nc NaN", 0);
  assert.deepEqual([total(seen, "a"), total(seen, "b"), total(seen, "c")], [Infinity, -Infinity, NaN]);
});

test("the first look has no rates", () => {
  assert.equal(increase(null, look(TEXT, 7), "requests_total"), null);
  assert.equal(perSecond(null, look(TEXT, 7), "requests_total"), null);
  assert.equal(observed(null, histogram(1, 2, 3, 0), "seconds"), null);
});

test("a rate is the growth over the time between; a series that is new began at 0", () => {
  const before = look('requests_total{adapter="a"} 3', 10);
  const now = look('requests_total{adapter="a"} 7\nrequests_total{adapter="b"} 6', 14);
  assert.equal(increase(before, now, "requests_total"), 10);
  assert.equal(perSecond(before, now, "requests_total"), 2.5);
  assert.equal(perSecond(before, now, "requests_total", of("b")), 1.5);
  assert.equal(perSecond(now, now, "requests_total"), null);
});

test("the order of labels does not make another series", () => {
  const before = look('n_total{a="1",b="2"} 3', 0);
  assert.equal(increase(before, look('n_total{b="2",a="1"} 5', 1), "n_total"), 2);
});

test("a counter that fell began anew with the server", () => {
  const before = look('n_total{a="1"} 100\nn_total{a="2"} 50', 0);
  assert.equal(increase(before, look('n_total{a="1"} 4', 2), "n_total"), 4);
});

test("since the start everything is counted, and nothing has a rate", () => {
  const now = look(TEXT, 7);
  assert.equal(increase(NOTHING, now, "requests_total"), 19);
  assert.equal(perSecond(NOTHING, now, "requests_total"), null);
});

test("of a histogram only what was added counts", () => {
  const took = observed(histogram(10, 20, 20, 0, 5), histogram(10, 24, 24, 2, 7), "seconds");
  assert.deepEqual(took, { count: 4, sum: 2, buckets: [[0.1, 0], [1, 4], [Infinity, 4]] });
});

test("a histogram that began anew counts whole, also where one bucket is higher than before", () => {
  const took = observed(histogram(1, 2, 30, 0), histogram(5, 6, 6, 2), "seconds");
  assert.equal(took.count, 6);
  assert.deepEqual(took.buckets, [[0.1, 5], [1, 6], [Infinity, 6]]);
});

test("a quantile lies inside its bucket", () => {
  const took = observed(NOTHING, histogram(10, 20, 20, 0), "seconds");
  assert.equal(quantile(took, 0.25), 0.05);
  assert.equal(quantile(took, 0.5), 0.1);
  assert.equal(quantile(took, 0.75), 0.55);
  assert.equal(quantile(took, 1), 1);
});

test("beyond the last bound a quantile is that bound; without observations there is none", () => {
  assert.equal(quantile(observed(NOTHING, histogram(0, 1, 10, 0), "seconds"), 0.95), 1);
  assert.equal(quantile(observed(NOTHING, histogram(0, 0, 0, 0), "seconds"), 0.5), null);
  assert.equal(quantile(observed(NOTHING, look("", 0), "seconds"), 0.5), null);
  assert.equal(quantile(null, 0.5), null);
});

test("histograms of several series are one", () => {
  const two = look(
    'seconds_bucket{a="1",le="1.0"} 1\nseconds_bucket{a="1",le="+Inf"} 1\nseconds_bucket{a="2",le="1.0"} 0\nseconds_bucket{a="2",le="+Inf"} 3',
    0,
  );
  assert.deepEqual(observed(NOTHING, two, "seconds").buckets, [[1, 1], [Infinity, 4]]);
});
