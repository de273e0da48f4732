// The form of a vector store, new or changed, and the question before one is deleted.
import { useState } from "preact/hooks";
import { ApiError, all, post, remove } from "../api.js";
import { html } from "../html.js";
import { Dialog, Failure, Field, Question } from "../parts.js";
import { translator } from "../words.js";

const t = translator({
  en: {
    alsoFiles: { one: "Delete its {n} file too, from here and from every other store", other: "Delete its {n} files too, from here and from every other store" },
    auto: "To fit the embedder",
    change: "Settings of the store",
    chunking: "Chunks",
    create: "Create",
    days: "Expires after days without use",
    daysHint: "Empty: never. Its files stay.",
    delete: "Delete",
    deleteTitle: "Delete the vector store “{name}”?",
    deleteText: "Nothing can be found in it any more, and assistants that name it answer with an error until it is taken out of them. This cannot be undone.",
    deleted: "{n} of {all} files deleted",
    description: "Description",
    name: "Name",
    new: "New vector store",
    overlap: "Overlap in tokens",
    overlapHint: "At most half of it",
    save: "Save",
    size: "Tokens in a chunk",
    static: "Sizes of my own",
  },
  pt: {
    alsoFiles: { one: "Apagar também o seu {n} arquivo, daqui e de todas as outras bases", other: "Apagar também os seus {n} arquivos, daqui e de todas as outras bases" },
    auto: "Do tamanho que o modelo de embeddings lê",
    change: "Configurações da base",
    chunking: "Trechos",
    create: "Criar",
    days: "Expira após dias sem uso",
    daysHint: "Vazio: nunca. Os arquivos ficam.",
    delete: "Apagar",
    deleteTitle: "Apagar a base “{name}”?",
    deleteText: "Nada mais será encontrado nela, e os assistentes que a citam responderão com um erro até que ela seja tirada deles. Não há como desfazer.",
    deleted: "{n} de {all} arquivos apagados",
    description: "Descrição",
    name: "Nome",
    new: "Nova base de conhecimento",
    overlap: "Sobreposição em tokens",
    overlapHint: "No máximo a metade",
    save: "Salvar",
    size: "Tokens por trecho",
    static: "Tamanhos meus",
  },
});

/** `store`: the one to change; without it another is made. `onDone` gets what the server answers. */
export function StoreSettings({ store = null, onClose, onDone }) {
  const [given, setGiven] = useState({
    name: store?.name ?? "",
    description: store?.description ?? "",
    days: String(store?.expires_after?.days ?? ""),
    chunking: "auto",
    size: "800",
    overlap: "400",
  });
  const [error, setError] = useState(null);
  const [busy, setBusy] = useState(false);
  const bind = (key) => ({ value: given[key], onInput: (event) => setGiven({ ...given, [key]: event.target.value }) });
  const submit = async (event) => {
    event.preventDefault();
    setBusy(true);
    try {
      const done = await post(store ? `/v1/vector_stores/${store.id}` : "/v1/vector_stores", bodyOf(given, !store));
      onClose();
      onDone(done);
    } catch (failure) {
      setError(failure);
      setBusy(false);
    }
  };
  return html`<${Dialog} title=${store ? t("change") : t("new")} onClose=${onClose}>
    <form class="stack" onSubmit=${submit}>
      <${Field} label=${t("name")}><input required maxlength="256" ...${bind("name")} /><//>
      <${Field} label=${t("description")}><textarea rows="2" maxlength="1000" ...${bind("description")} /><//>
      <${Field} label=${t("days")} hint=${t("daysHint")}><input type="number" min="1" max="365" step="1" ...${bind("days")} /><//>
      ${!store && html`<${Field} label=${t("chunking")}>
        <select ...${bind("chunking")}><option value="auto">${t("auto")}</option><option value="static">${t("static")}</option></select>
      <//>`}
      ${given.chunking === "static" && html`<div class="row">
        <${Field} class="grow" label=${t("size")} hint="100–4096"><input type="number" required min="100" max="4096" step="1" ...${bind("size")} /><//>
        <${Field} class="grow" label=${t("overlap")} hint=${t("overlapHint")}><input type="number" required min="0" max=${Math.floor(given.size / 2)} step="1" ...${bind("overlap")} /><//>
      </div>`}
      <${Failure} error=${error} />
      <footer><button type="submit" class="main" disabled=${busy} aria-busy=${busy}>${store ? t("save") : t("create")}</button></footer>
    </form>
  <//>`;
}

function bodyOf({ name, description, days, chunking, size, overlap }, isNew) {
  const sizes = { max_chunk_size_tokens: Number(size), chunk_overlap_tokens: Number(overlap) };
  return {
    name: name.trim(),
    description: description.trim() || null,
    expires_after: days ? { anchor: "last_active_at", days: Number(days) } : null,
    ...(isNew && { chunking_strategy: chunking === "static" ? { type: "static", static: sizes } : { type: "auto" } }),
  };
}

/** Asks, then deletes the store and, where that is wished, its files first: what fails then can be asked again. */
export function DeleteStore({ store, onClose, onDone }) {
  const [alsoFiles, setAlsoFiles] = useState(false);
  const [deleted, setDeleted] = useState(null);
  const count = store.file_counts.total;
  const carryOut = async () => {
    const path = `/v1/vector_stores/${store.id}`;
    const files = alsoFiles ? await all(`${path}/files`, {}, { limit: Infinity }) : [];
    for (const [place, file] of files.entries()) {
      await gone(`/v1/files/${file.id}`);
      setDeleted({ n: place + 1, all: files.length });
    }
    await gone(path);
    onDone();
  };
  return html`<${Question} title=${t("deleteTitle", { name: store.name || store.id })} yes=${t("delete")} onYes=${carryOut} onClose=${onClose}>
    <p>${t("deleteText")}</p>
    ${count > 0 && html`<${Field} class="beside" label=${t("alsoFiles", { n: count })}>
      <input type="checkbox" checked=${alsoFiles} onChange=${(event) => setAlsoFiles(event.target.checked)} />
    <//>`}
    ${deleted && html`<p role="status">${t("deleted", deleted)}</p>`}
  <//>`;
}

/** Deletes; what is not there is deleted already. */
export async function gone(path) {
  try {
    await remove(path);
  } catch (error) {
    if (!(error instanceof ApiError) || error.status !== 404) throw error;
  }
}
