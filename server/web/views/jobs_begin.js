// Sending what a job needs, and finding the line that a refusal speaks of.
import { post, remove, session, upload } from "../api.js";
import { bytes, translator } from "../words.js";
import { lineOf, orderOf, refusedLine } from "./jobs_facts.js";

const t = translator({
  en: { tooLarge: "{file} has {size}; this server takes up to {most}." },
  pt: { tooLarge: "{file} tem {size}; este servidor aceita até {most}." },
});

/** The new job; `show` is told how far it is. What was uploaded for one that is refused is taken back. Throws ApiError. */
export async function begin(given, show, signal) {
  const sent = {};
  try {
    for (const name of ["training", "validation"]) {
      const file = given[name];
      if (file) sent[name] = await send(file, (share) => show(share < 1 ? { doing: "sending", file: file.name, share } : { doing: "checking" }), signal);
    }
    show({ doing: "checking" });
    return await post("/v1/fine_tuning/jobs", orderOf(given, sent), { signal });
  } catch (error) {
    await Promise.allSettled(Object.values(sent).map((id) => remove(`/v1/files/${encodeURIComponent(id)}`)));
    throw error;
  }
}

async function send(file, onProgress, signal) {
  const most = session.value.max_training_bytes;
  if (file.size > most) throw new RangeError(t("tooLarge", { file: file.name, size: bytes(file.size), most: bytes(most) }));
  const form = new FormData();
  form.append("purpose", "fine-tune");
  form.append("file", file, file.name);
  signal.throwIfAborted();
  return (await upload("/v1/files", form, { onProgress, signal })).id;
}

/** The line that a refusal speaks of, from the file that is here: `{file, n, text}`, or null. */
export async function blamed(error, given) {
  const file = { training_file: given.training, validation_file: given.validation }[error.param];
  const n = file ? refusedLine(error.message) : null;
  if (n === null) return null;
  const text = await lineOf(file, n).catch(() => null);
  return text === null ? null : { file: file.name, n, text };
}
