// Where an adapter's files are dropped or chosen: an archive, the two files, or the folder that they lie in.
import { useState } from "preact/hooks";
import { html } from "../html.js";
import { bytes, translator } from "../words.js";
import { chosen } from "./adapters_archive.js";

const t = translator({
  en: {
    drop: "Choose or drop a .zip, a .tar.gz, or adapter_config.json and adapter_model.safetensors together",
    neither: "Neither an archive nor adapter_config.json and adapter_model.safetensors.",
    several: "More than one adapter; choose one.",
  },
  pt: {
    drop: "Escolha ou solte um .zip, um .tar.gz, ou adapter_config.json e adapter_model.safetensors juntos",
    neither: "Nem um arquivo compactado nem adapter_config.json e adapter_model.safetensors.",
    several: "Mais de um adaptador; escolha um.",
  },
});

const ACCEPTED = ".zip,.tgz,.gz,.json,.safetensors,.bin";

export function Picker({ files, onFiles }) {
  const [over, setOver] = useState(false);
  const { archive, files: parts = archive ? [archive] : [], problem } = chosen(files);
  const drop = async (event) => {
    event.preventDefault();
    setOver(false);
    onFiles(await dropped(event.dataTransfer));
  };
  const hover = (event) => {
    event.preventDefault(); // else the browser opens the file
    setOver(true);
  };
  return html`<label class=${over ? "drop over" : "drop"} onDragOver=${hover} onDragLeave=${() => setOver(false)} onDrop=${drop}>
      <span>${t("drop")}</span>
      <input type="file" multiple accept=${ACCEPTED} onChange=${(event) => onFiles([...event.target.files])} />
    </label>
    <ul class="picked" role="status">${parts.map((file) => html`<li><code>${file.name}</code> ${bytes(file.size)}</li>`)}</ul>
    ${problem && problem !== "nothing" && html`<p class="wrong" role="alert">${t(problem)}</p>`}`;
}

/** What was dropped, and of a folder the files in it. */
async function dropped(transfer) {
  const entries = [...transfer.items].map((item) => item.webkitGetAsEntry?.()).filter(Boolean);
  const given = [...transfer.files];
  const inside = await Promise.all(entries.filter((entry) => entry.isDirectory).map(filesIn));
  const folders = new Set(entries.filter((entry) => entry.isDirectory).map((entry) => entry.name));
  return [...given.filter((file) => !folders.has(file.name)), ...inside.flat()];
}

async function filesIn(folder) {
  const entries = await new Promise((resolve, reject) => folder.createReader().readEntries(resolve, reject));
  const files = entries.filter((entry) => entry.isFile);
  return Promise.all(files.map((entry) => new Promise((resolve, reject) => entry.file(resolve, reject))));
}
