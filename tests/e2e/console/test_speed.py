"""How soon the page is there, how much it weighs, and how evenly an answer is drawn. `-s` shows the figures."""

from __future__ import annotations

from collections.abc import Callable

from tests.e2e.console.opened import Console

FIRST_PAINT_MS = 1000
MAX_BYTES = 300_000
FRAME_MS = 50  # for machines that do other work too; docs/benchmarks.md has what a quiet one does
VIEWS = ("chat", "compare", "adapters", "assistants", "knowledge", "load")

PAINTED = "performance.getEntriesByName('first-contentful-paint')[0].startTime"
TRANSFERRED = """
[...performance.getEntriesByType('navigation'), ...performance.getEntriesByType('resource')]
  .filter((entry) => entry.name === location.origin + '/' || entry.name.includes('/console/'))
  .reduce((sum, entry) => sum + entry.transferSize, 0)
"""
# an answer of 600 words of Markdown, 100 of them in a second, in place of the server's
STREAMED = """
const real = window.fetch;
window.fetch = (path, options) => {
  if (!String(path).endsWith('/chat/completions')) return real(path, options);
  const words = Array.from({length: 600}, (_, at) =>
    at % 60 === 0 ? `\\n\\n## Part ${at / 60}\\n\\n` : at % 15 === 0 ? '\\n- **item** with `code` ' : `word${at} `);
  let at = 0;
  const frame = (delta, finish_reason = null) => new TextEncoder().encode(
    `data: ${JSON.stringify({model: 'demo', choices: [{index: 0, delta, finish_reason}]})}\\n\\n`);
  const body = new ReadableStream({start(stream) {
    const timer = setInterval(() => {
      if (at < words.length) return stream.enqueue(frame({content: words[at++]}));
      clearInterval(timer);
      stream.enqueue(frame({}, 'stop'));
      stream.enqueue(new TextEncoder().encode('data: [DONE]\\n\\n'));
      stream.close();
    }, 10);
  }});
  return Promise.resolve(new Response(body, {headers: {'content-type': 'text/event-stream'}}));
};
"""
COUNTED = """
window.intervals = [];
let before = performance.now();
requestAnimationFrame(function next(now) {
  window.intervals.push(now - before);
  before = now;
  requestAnimationFrame(next);
});
"""


def test_it_is_painted_within_a_second(new_console: Callable[..., Console], server: str) -> None:
    new_console(server).page.locator("main h1").first.wait_for()  # the first browser reads from a cold disk
    console = new_console(server)
    console.page.locator("main h1").first.wait_for()
    painted = console.page.evaluate(PAINTED)
    print(f"first contentful paint after {painted:.0f} ms")
    assert painted < FIRST_PAINT_MS


def test_it_weighs_little(console: Console) -> None:
    first = console.page.evaluate(TRANSFERRED)
    for view in VIEWS:
        console.go(view)
    everything = console.page.evaluate(TRANSFERRED)
    print(f"transferred: {first / 1000:.0f} kB for the first view, {everything / 1000:.0f} kB for all")
    assert 10_000 < first < MAX_BYTES
    assert everything < MAX_BYTES


def test_an_answer_is_drawn_evenly(new_console: Callable[..., Console], server: str) -> None:
    console = new_console(server)
    console.page.add_init_script(STREAMED)
    console.page.reload()
    page = console.go("chat")
    page.get_by_label("Message").fill("Tell me a lot.")
    page.evaluate(COUNTED)
    page.get_by_role("button", name="Send").click()
    page.get_by_role("button", name="Stop").wait_for()
    page.get_by_role("button", name="Send").wait_for()
    intervals = sorted(page.evaluate("window.intervals"))
    half, most, longest = intervals[len(intervals) // 2], intervals[int(len(intervals) * 0.95)], intervals[-1]
    print(
        f"{len(intervals)} frames: half within {half:.1f} ms, 95 % within {most:.1f} ms, the longest {longest:.1f} ms"
    )
    assert "word599" in page.get_by_role("log").inner_text()
    assert len(intervals) > 100
    assert most <= FRAME_MS
