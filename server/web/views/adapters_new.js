// Registering an adapter or a further version: from files of this computer or from a source, with the server's verdict.
import { signal } from "@preact/signals";
import { useEffect, useRef, useState } from "preact/hooks";
import { get, post, session, upload } from "../api.js";
import { html } from "../html.js";
import { readModels } from "../models.js";
import { Field, useLoaded } from "../parts.js";
import { bytes, number, translator } from "../words.js";
import { chosen, nameFrom, packed } from "./adapters_archive.js";
import { Picker } from "./adapters_picker.js";
import { Accepted, Refused } from "./adapters_verdict.js";

const t = translator({
  en: {
    activate: "Point the name to it at once",
    activateHint: "Else it waits until you point the name to it.",
    checking: "The server checks it…",
    convert: "Convert it first",
    convertHint: "Makes a plain LoRA of other kinds, and cuts larger ranks.",
    fetching: "{name} is being fetched from {source}…",
    files: "Files of this computer",
    name: "Name",
    nameIsNew: "A new name.",
    nameIsThere: "The name is there: this becomes a further version of it.",
    packing: "Packing the files…",
    pin: "Pin it in a slot of its own",
    rank: "Rank at most",
    rankHint: "Empty keeps it.",
    register: "Register",
    see: "To {name}",
    sending: "Sending, {share}",
    source: "Address",
    sourceHint: "hf://org/repo, s3://bucket/folder or a folder of the server, where the operator allows it.",
    stop: "Stop",
    title: "Register an adapter",
    titleVersion: "A further version of {name}",
    tooLarge: "The files have {size}; this server takes up to {most}.",
    url: "A source that the server reads",
    where: "Origin",
    all: "All adapters",
  },
  pt: {
    activate: "Apontar o nome para ela imediatamente",
    activateHint: "Senão, ela espera até você apontar o nome para ela.",
    checking: "O servidor está verificando…",
    convert: "Converter antes",
    convertHint: "Transforma outros tipos em um LoRA comum e reduz ranks maiores.",
    fetching: "{name} está sendo buscado em {source}…",
    files: "Arquivos deste computador",
    name: "Nome",
    nameIsNew: "Um nome novo.",
    nameIsThere: "O nome já existe: esta será mais uma versão dele.",
    packing: "Compactando os arquivos…",
    pin: "Fixar em um slot próprio",
    rank: "Rank máximo",
    rankHint: "Vazio mantém o atual.",
    register: "Registrar",
    see: "Ver {name}",
    sending: "Enviando, {share}",
    source: "Endereço",
    sourceHint: "hf://org/repo, s3://bucket/pasta ou uma pasta do servidor, onde o operador permite.",
    stop: "Parar",
    title: "Registrar um adaptador",
    titleVersion: "Mais uma versão de {name}",
    tooLarge: "Os arquivos têm {size}; este servidor aceita até {most}.",
    url: "Uma origem que o servidor lê",
    where: "Origem",
    all: "Todos os adaptadores",
  },
});

const LOOK_AGAIN_MS = 1000;
const EMPTY = { name: "", from: "files", files: [], source: "", activate: false, pin: false, convert: false, rank: "" };

/** What was typed and chosen, also while other views are shown. */
const draft = signal(EMPTY);

/** `of`: the name that gets a further version, if that is decided already. */
export function NewAdapter({ of }) {
  const [stage, setStage] = useState({}); // one of {doing, share}, {error}, {taken, isNew}, {staging}
  const [round, setRound] = useState(0); // a new one has a new chooser, which shows no file
  const flight = useRef(null);
  const { data: known, reload } = useLoaded(versionsByName);
  useEffect(() => {
    if (of) change({ name: of });
    return () => flight.current?.abort();
  }, []);
  const given = draft.value;
  const isThere = known?.has(given.name.trim()) ?? false;

  const register = async (convert) => {
    setStage({ doing: "checking" });
    flight.current = new AbortController();
    const { signal } = flight.current;
    const order = { name: given.name.trim(), activate: isThere && given.activate, pin: !isThere && given.pin, convert };
    const path = isThere ? `/v1/adapters/${encodeURIComponent(order.name)}/versions` : "/v1/adapters";
    try {
      const taken = given.from === "files" ? await send(path, order, given.files, setStage, signal) : await post(path, { ...order, source: given.source.trim() }, { signal });
      if (taken.status === "staging") {
        setStage({ staging: taken });
        const end = verdict(await fetched(taken.name, signal));
        setStage(end);
        if (end.error) return;
      } else {
        setStage({ ...verdict(taken), isNew: !known?.get(taken.name)?.includes(taken.version.id) });
      }
      draft.value = EMPTY;
      setRound((number) => number + 1);
      reload();
      await readModels();
    } catch (error) {
      setStage(error.name === "AbortError" ? {} : { error });
    }
  };
  const submit = (event) => {
    event.preventDefault();
    register(given.convert ? conversion(given.rank) : null);
  };
  const convertAnd = (convert) => {
    change({ convert: true, rank: convert.rank ? String(convert.rank) : "" });
    register(convert);
  };
  const busy = Boolean(stage.doing || stage.staging);
  const ready = given.name.trim() && (given.from === "files" ? isWhole(given.files) : given.source.trim());
  return html`<div class="stack">
    <p><a href="#/adapters">${t("all")}</a></p>
    <h1>${of ? t("titleVersion", { name: of }) : t("title")}</h1>
    ${stage.taken && html`<${Accepted} ...${stage} />`}
    <form class="card stack narrow" onSubmit=${submit}>
      <fieldset class="bare stack" disabled=${busy}>
        <legend>${t("where")}</legend>
        <div class="row" role="radiogroup" aria-label=${t("where")}>${["files", "url"].map((from) => html`<label class="row"><input type="radio" name="origin" checked=${given.from === from} onChange=${() => change({ from })} /> ${t(from)}</label>`)}</div>
        ${given.from === "files"
          ? html`<${Picker} key=${`files ${round}`} files=${given.files} onFiles=${take} />`
          : html`<${Field} key="source" label=${t("source")} hint=${t("sourceHint")}><input value=${given.source} spellcheck=${false} onInput=${(event) => change({ source: event.target.value })} /><//>`}
        <${Field} key="name" label=${t("name")} hint=${given.name && known ? t(isThere ? "nameIsThere" : "nameIsNew") : ""}>
          <input list="adapter-names" required maxlength="96" pattern="[A-Za-z0-9][A-Za-z0-9._:\\-]*" autocomplete="off" spellcheck=${false} value=${given.name} onInput=${(event) => change({ name: event.target.value })} />
        <//>
        <datalist id="adapter-names">${[...(known?.keys() ?? [])].map((name) => html`<option value=${name} />`)}</datalist>
        ${isThere ? html`<${Tick} name="activate" hint=${t("activateHint")} />` : html`<${Tick} name="pin" />`}
        <${Tick} name="convert" hint=${t("convertHint")} />
        ${given.convert && html`<${Field} label=${t("rank")} hint=${t("rankHint")}><input type="number" min="1" step="1" value=${given.rank} onInput=${(event) => change({ rank: event.target.value })} /><//>`}
      </fieldset>
      <${Progress} stage=${stage} />
      <${Refused} error=${stage.error} onConvert=${convertAnd} />
      <div class="row">
        ${stage.staging && html`<a class="button" href=${`#/adapters/${encodeURIComponent(given.name.trim())}`}>${t("see", { name: given.name.trim() })}</a>`}
        ${stage.doing && html`<button type="button" onClick=${() => flight.current.abort()}>${t("stop")}</button>`}
        ${!busy && html`<button class="main" disabled=${!ready}>${t("register")}</button>`}
      </div>
    </form>
  </div>`;
}

/** Ids of versions by name; a name without any is not there yet. */
async function versionsByName(signal) {
  const { data } = await get("/v1/adapters", {}, { signal });
  return new Map(data.filter((one) => one.versions.length).map((one) => [one.name, one.versions.map(({ id }) => id)]));
}

function change(part) {
  draft.value = { ...draft.value, ...part };
}

function take(files) {
  const { archive } = chosen(files);
  change({ files, name: draft.value.name || (archive ? nameFrom(archive.name) : "") });
}

const isWhole = (files) => !chosen(files).problem;

const conversion = (rank) => (rank ? { rank: Number(rank) } : {});

/** Upload the archive, made of the single files where it is none yet; `show` is told how far it is. */
async function send(path, { name, activate, pin, convert }, files, show, signal) {
  const { archive, files: parts } = chosen(files);
  if (parts) show({ doing: "packing" });
  const file = archive ?? (await packed(parts));
  const most = session.value.max_adapter_bytes;
  if (file.size > most) throw new RangeError(t("tooLarge", { size: bytes(file.size), most: bytes(most) }));
  const form = new FormData();
  form.set("name", name);
  form.set("activate", activate);
  form.set("pin", pin);
  if (convert) form.set("convert", JSON.stringify(convert));
  form.set("file", file, archive?.name ?? "adapter.tar.gz");
  signal.throwIfAborted();
  return upload(path, form, { signal, onProgress: (share) => show(share < 1 ? { doing: "sending", share } : { doing: "checking" }) });
}

/** The adapter once its source was read; asked for until then. */
async function fetched(name, signal) {
  for (;;) {
    const adapter = await get(`/v1/adapters/${encodeURIComponent(name)}`, {}, { signal });
    if (adapter.status !== "staging") return adapter;
    await new Promise((resolve) => setTimeout(resolve, LOOK_AGAIN_MS));
  }
}

/** What became of it: registering names the `version`; a source that was fetched meanwhile has the newest one. */
function verdict(adapter) {
  if (adapter.status === "failed") return { error: new RangeError(adapter.error) };
  const version = adapter.version ?? adapter.versions.at(-1);
  return { taken: { ...adapter, version } };
}

function Progress({ stage: { doing, share, staging } }) {
  const said = staging ? t("fetching", { name: staging.name, source: staging.source }) : doing ? t(doing, { share: number(share ?? 0, { style: "percent" }) }) : "";
  return html`<div aria-live="off">${(doing || staging) && html`<progress max="1" value=${share} aria-label=${t(staging ? "checking" : doing, { share: "" })} />`}</div>
    <p class=${said ? "" : "hidden"} role="status">${doing === "sending" ? t("sending", { share: number(Math.floor((share ?? 0) * 10) / 10, { style: "percent" }) }) : said}</p>`;
}

/** A tick box of the draft. */
function Tick({ name, hint }) {
  return html`<${Field} label=${t(name)} hint=${hint} class="tick">
    <input type="checkbox" checked=${draft.value[name]} onChange=${(event) => change({ [name]: event.target.checked })} />
  <//>`;
}
