// Assistants: the list, and the page on which one is made or changed, with a chat beside it.
import { all } from "../api.js";
import { html } from "../html.js";
import { Badge, Failure, Nothing, Working, useLoaded } from "../parts.js";
import { moment, translator } from "../words.js";
import { AssistantPage, unsaved } from "./assistants_one.js";

const t = translator({
  en: {
    add: "New assistant",
    changed: "unsaved changes",
    created: "Made",
    empty: "No assistant yet. One is a name for a model with instructions, examples and the stores that it answers from.",
    file: "from the operator's file",
    model: "Model",
    name: "Assistant",
    purpose: "Description",
    stores: "Stores",
    title: "Assistants",
  },
  pt: {
    add: "Novo assistente",
    changed: "alterações não salvas",
    created: "Criado",
    empty: "Nenhum assistente ainda. Um assistente é um nome para um modelo com instruções, exemplos e as bases de documentos de que responde.",
    file: "do arquivo do operador",
    model: "Modelo",
    name: "Assistente",
    purpose: "Descrição",
    stores: "Bases",
    title: "Assistentes",
  },
});

export default function Assistants({ path: [name] }) {
  return name ? html`<${AssistantPage} key=${name} name=${name === "+new" ? null : name} />` : html`<${List} />`;
}

function List() {
  const { data, error } = useLoaded((signal) => all("/v1/assistants", {}, { signal }));
  return html`<div class="stack">
    <div class="row apart">
      <h1>${t("title")}</h1>
      <a class="button" href="#/assistants/+new">${t("add")}</a>
    </div>
    <${Failure} error=${error} />
    ${!data && !error && html`<${Working} />`}
    ${data && (data.length ? html`<${Table} assistants=${data} />` : html`<${Nothing}>${t("empty")}<//>`)}
  </div>`;
}

function Table({ assistants }) {
  return html`<div class="scroll card">
    <table class="assistants">
      <thead><tr>
        <th scope="col">${t("name")}</th><th scope="col">${t("model")}</th><th scope="col" class="spare">${t("purpose")}</th>
        <th scope="col" class="number">${t("stores")}</th><th scope="col" class="spare">${t("created")}</th>
      </tr></thead>
      <tbody>${assistants.map((one) => html`<tr key=${one.id}>
        <th scope="row">
          <a href=${`#/assistants/${encodeURIComponent(one.name)}`}>${one.name}</a>
          ${one.managed !== "api" && html` <${Badge}>${t("file")}<//>`}
          ${unsaved(one.id) && html` <${Badge} kind="warn">${t("changed")}<//>`}
        </th>
        <td><code>${one.model}</code></td>
        <td class="spare">${one.description}</td>
        <td class="number">${one.tool_resources?.file_search?.vector_store_ids?.length ?? 0}</td>
        <td class="spare">${moment(one.created_at)}</td>
      </tr>`)}</tbody>
    </table>
  </div>`;
}
