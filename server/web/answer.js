// Asks for an answer and shows it growing in a signal, as often as the screen is drawn and no oftener.
import { newAnswer, ended, fold, tokensPerSecond } from "./answer_fold.js";
import { stream } from "./api.js";

export { newAnswer, tokensPerSecond };

/**
 * Streams `POST /v1/chat/completions` into `answer`, a signal, and returns its last value. Never throws: what goes
 * wrong is in `.error`; an abort of `signal` ends it as it is, with `finishReason: "stopped"`.
 */
export async function ask(body, answer, { signal } = {}) {
  const begun = performance.now();
  const seconds = () => (performance.now() - begun) / 1000;
  let latest = newAnswer();
  let frame = 0;
  answer.value = latest;
  const show = () => {
    frame = 0;
    answer.value = latest;
  };
  const request = { ...body, stream_options: { include_usage: true, ...body.stream_options } };
  try {
    for await (const chunk of stream("/v1/chat/completions", request, { signal })) {
      latest = fold(latest, chunk, seconds());
      frame ||= requestAnimationFrame(show);
    }
    latest = ended(latest, seconds());
  } catch (error) {
    const stopped = signal?.aborted;
    latest = ended(latest, seconds(), stopped ? { finishReason: "stopped" } : { error });
  }
  cancelAnimationFrame(frame);
  show();
  return latest;
}
