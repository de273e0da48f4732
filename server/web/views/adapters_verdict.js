// What became of registering: the version with its facts, or the refusal with its way out.
import { html } from "../html.js";
import { Failure } from "../parts.js";
import { translator } from "../words.js";
import { conversionFor, wayOut } from "./adapters_refusals.js";
import { VersionFacts } from "./adapters_version.js";
import { way } from "./adapters_ways.js";

const t = translator({
  en: {
    accepted: "{id} is registered",
    again: "The same bytes were registered before: {id}",
    convertNow: "Convert and try again",
    convertRank: "Convert to rank {n} and try again",
    refused: "Not registered",
    see: "To {name}",
    tryIt: "Try it in a chat",
    wayOut: "The way out",
  },
  pt: {
    accepted: "{id} foi registrado",
    again: "Os mesmos bytes já estavam registrados: {id}",
    convertNow: "Converter e tentar de novo",
    convertRank: "Converter para rank {n} e tentar de novo",
    refused: "Não registrado",
    see: "Ver {name}",
    tryIt: "Testar em uma conversa",
    wayOut: "A saída",
  },
});

/** `onConvert` gets the conversion that would make it fit, where there is one. */
export function Refused({ error, onConvert }) {
  if (!error) return null;
  const out = error.code ? wayOut(error.code) : null;
  const convert = conversionFor(error);
  return html`<section class="stack" aria-label=${t("refused")}>
    <h2>${t("refused")}</h2>
    <${Failure} error=${error} />
    ${out && html`<p><strong>${t("wayOut")}:</strong> ${way(out)}</p>`}
    ${convert && html`<div><button type="button" onClick=${() => onConvert(convert)}>${convert.rank ? t("convertRank", { n: convert.rank }) : t("convertNow")}</button></div>`}
  </section>`;
}

/** `taken`: the adapter as the API answered, with the `version` that was made. */
export function Accepted({ taken, isNew = true }) {
  const { name, version } = taken;
  return html`<section class="card stack narrow" aria-labelledby="accepted">
    <div role="status"><h2 id="accepted">${t(isNew ? "accepted" : "again", { id: version.id })}</h2></div>
    <${VersionFacts} version=${version} />
    <div class="row">
      <a class="button" href=${`#/adapters/${encodeURIComponent(name)}`}>${t("see", { name })}</a>
      <a class="button" href=${`#/chat/${encodeURIComponent(version.id)}`}>${t("tryIt")}</a>
    </div>
  </section>`;
}
