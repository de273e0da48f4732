// Files on their way to the server, chosen or dropped anywhere on the page: at most three at once.
import { signal } from "@preact/signals";
import { useEffect, useRef, useState } from "preact/hooks";
import { post, session, upload } from "../api.js";
import { html } from "../html.js";
import { Failure } from "../parts.js";
import { bytes, translator } from "../words.js";
import { chosenFiles, droppedFiles } from "./knowledge_dropped.js";
import { countOf, sentShare, startable, worthShowing } from "./knowledge_progress.js";

const t = translator({
  en: {
    again: "Again",
    choose: "Choose files",
    clear: "Clear this list",
    drop: "or drop files and folders anywhere on this page, up to {size} each.",
    folder: "Choose a folder",
    further: { one: "and {n} more", other: "and {n} more" },
    letGo: "Let go to upload",
    progress: "Uploads",
    saving: "being stored",
    sending: "being sent",
    stop: "Cancel",
    stopAll: "Cancel all",
    stopped: "cancelled",
    sum: "{done} of {n} uploaded, {failed} failed",
    tooLarge: "The file has {size}; this server takes at most {most}. Split it.",
    waiting: "waiting",
  },
  pt: {
    again: "De novo",
    choose: "Escolher arquivos",
    clear: "Limpar esta lista",
    drop: "ou solte arquivos e pastas em qualquer lugar desta página, até {size} cada.",
    folder: "Escolher uma pasta",
    further: { one: "e mais {n}", other: "e mais {n}" },
    letGo: "Solte para enviar",
    progress: "Envios",
    saving: "sendo guardado",
    sending: "sendo enviado",
    stop: "Cancelar",
    stopAll: "Cancelar tudo",
    stopped: "cancelado",
    sum: "{done} de {n} enviados, {failed} com falha",
    tooLarge: "O arquivo tem {size}; este servidor aceita no máximo {most}. Divida-o.",
    waiting: "esperando",
  },
});

const AT_ONCE = 3;
const SHOWN = 30;

class Uploads {
  items = signal([]);
  #next = 1;

  /** storeId: where they are attached; null leaves them files. */
  constructor(storeId, onStored) {
    this.storeId = storeId;
    this.onStored = onStored;
  }

  add(found) {
    const most = session.value.max_file_bytes;
    const fresh = found.map(({ file, path }) => {
      const tooLarge = file.size > most;
      const error = tooLarge ? new Error(t("tooLarge", { size: bytes(file.size), most: bytes(most) })) : null;
      return { id: this.#next++, file, path, bytes: file.size, sent: 0, fileId: null, tooLarge, error, state: tooLarge ? "failed" : "waiting", stop: new AbortController() };
    });
    this.items.value = [...this.items.value, ...fresh];
    this.#begin();
  }

  again(id) {
    this.#change(id, { state: "waiting", error: null, stop: new AbortController() });
    this.#begin();
  }

  cancel(chosen = () => true) {
    for (const one of this.items.value.filter(chosen)) {
      if (one.state === "waiting") this.#change(one.id, { state: "stopped" });
      one.stop.abort();
    }
  }

  clear() {
    this.items.value = this.items.value.filter((one) => ["waiting", "sending", "saving"].includes(one.state));
  }

  #begin() {
    for (const one of startable(this.items.value, AT_ONCE)) this.#send(one);
  }

  async #send({ id, file, path, fileId, stop }) {
    this.#change(id, { state: "sending" });
    try {
      if (!fileId) {
        const form = new FormData();
        form.append("purpose", "assistants");
        form.append("file", file, file.name);
        ({ id: fileId } = await upload("/v1/files", form, { onProgress: (sent) => this.#change(id, { sent }), signal: stop.signal }));
      }
      this.#change(id, { state: "saving", sent: 1, fileId });
      const attributes = path && path.length <= 512 ? { path } : undefined;
      if (this.storeId) await post(`/v1/vector_stores/${this.storeId}/files`, { file_id: fileId, attributes });
      this.#change(id, { state: "done" });
      this.onStored();
    } catch (error) {
      this.#change(id, error.name === "AbortError" ? { state: "stopped", sent: 0 } : { state: "failed", error });
    }
    this.#begin();
  }

  #change(id, values) {
    this.items.value = this.items.value.map((one) => (one.id === id ? { ...one, ...values } : one));
  }
}

/** The button, the place to drop and the list; `onStored` is called for each file that is there. */
export function Upload({ storeId = null, onStored }) {
  const [uploads] = useState(() => new Uploads(storeId, onStored));
  const [error, setError] = useState(null);
  const isOver = useDrop((found) => uploads.add(found), setError);
  useEffect(() => () => uploads.cancel(), []);
  const take = (event) => {
    uploads.add(chosenFiles(event.target));
    event.target.value = ""; // the same file may be chosen again
  };
  return html`<div class=${`card stack uploads${isOver ? " over" : ""}`}>
    <div class="row">
      <${Chooser} label=${t("choose")} onChange=${take} />
      <${Chooser} label=${t("folder")} onChange=${take} webkitdirectory />
      <span class="faint grow">${isOver ? t("letGo") : t("drop", { size: bytes(session.value.max_file_bytes) })}</span>
    </div>
    <${Failure} error=${error} />
    ${uploads.items.value.length > 0 && html`<${List} uploads=${uploads} />`}
  </div>`;
}

/** A file input that looks like a button. */
function Chooser({ label, ...rest }) {
  return html`<label class="button chooser">${label}<input type="file" multiple class="hidden" ...${rest} /></label>`;
}

function List({ uploads }) {
  const items = uploads.items.value;
  const count = countOf(items);
  const rows = worthShowing(items, SHOWN);
  const further = items.length - count.done - rows.length;
  const going = count.waiting + count.sending + count.saving;
  return html`<section class="stack" aria-label=${t("progress")}>
    <div class="row apart">
      <span role="status">${t("sum", { done: count.done, n: items.length, failed: count.failed })}</span>
      ${going > 0
        ? html`<button type="button" class="small" onClick=${() => uploads.cancel()}>${t("stopAll")}</button>`
        : html`<button type="button" class="small" onClick=${() => uploads.clear()}>${t("clear")}</button>`}
    </div>
    ${going > 0 && html`<progress aria-label=${t("progress")} value=${sentShare(items)}></progress>`}
    <ul class="plain-list">${rows.map((one) => html`<${Row} key=${one.id} one=${one} uploads=${uploads} />`)}</ul>
    ${further > 0 && html`<p class="faint">${t("further", { n: further })}</p>`}
  </section>`;
}

function Row({ one, uploads }) {
  const name = one.path ?? one.file.name;
  const ended = one.state === "failed" || one.state === "stopped";
  const press = () => (ended ? uploads.again(one.id) : uploads.cancel((other) => other.id === one.id));
  return html`<li class="stack tight">
    <div class="row apart">
      <span class="name grow">${name} <span class="faint">${bytes(one.bytes)}${one.state !== "failed" && ` · ${t(one.state)}`}</span></span>
      ${one.state !== "saving" && !one.tooLarge && html`<button type="button" class="small" aria-label=${`${t(ended ? "again" : "stop")}: ${name}`} onClick=${press}>${t(ended ? "again" : "stop")}</button>`}
    </div>
    ${one.state === "sending" && html`<progress aria-label=${name} value=${one.sent}></progress>`}
    <${Failure} error=${one.error} />
  </li>`;
}

/** Takes what is dropped anywhere on the page; says whether something is held over it now. */
function useDrop(onFiles, onError) {
  const [isOver, setIsOver] = useState(false);
  const depth = useRef(0);
  useEffect(() => {
    const heard = new AbortController();
    const on = (name, act) =>
      window.addEventListener(
        name,
        (event) => {
          if (!event.dataTransfer?.types.includes("Files")) return;
          event.preventDefault(); // else the browser opens the file in place of the page
          act(event);
        },
        { signal: heard.signal },
      );
    const deeper = (by) => {
      depth.current = Math.max(0, depth.current + by);
      setIsOver(depth.current > 0);
    };
    on("dragover", () => {});
    on("dragenter", () => deeper(1));
    on("dragleave", () => deeper(-1));
    on("drop", (event) => {
      deeper(-Infinity);
      droppedFiles(event.dataTransfer).then(onFiles, onError);
    });
    return () => heard.abort();
  }, []);
  return isOver;
}
