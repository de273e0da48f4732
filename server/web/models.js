// The names that `model` may take for a conversation, for every view that chooses one.
import { signal } from "@preact/signals";
import { get } from "./api.js";
import { html } from "./html.js";
import { translator } from "./words.js";

const t = translator({
  en: { adapter: "Adapters", assistant: "Assistants", base: "Base", version: "Versions" },
  pt: { adapter: "Adaptadores", assistant: "Assistentes", base: "Base", version: "Versões" },
});

/** Entries of GET /v1/models?versions=true without the embedder; null until they were read. */
export const models = signal(null);

export async function readModels() {
  const { data } = await get("/v1/models", { versions: true });
  models.value = data.filter((entry) => entry.type !== "embedder");
  return models.value;
}

/** A select of models by kind. */
export function ModelChoice({ value, onChange, id, label }) {
  const kinds = ["base", "adapter", "assistant", "version"];
  const entries = models.value ?? [];
  const known = entries.some((entry) => entry.id === value);
  return html`<select id=${id} aria-label=${label} value=${value} onChange=${(event) => onChange(event.target.value)}>
    ${!known && value && html`<option value=${value}>${value}</option>`}
    ${kinds.map((kind) => {
      const some = entries.filter((entry) => entry.type === kind);
      return some.length > 0 && html`<optgroup label=${t(kind)}>${some.map((entry) => html`<option value=${entry.id}>${entry.id}</option>`)}</optgroup>`;
    })}
  </select>`;
}
