// The columns of a comparison as an address says them: #/compare/demo/pirate, #/compare/demo?off/demo?vs_1.
// After a model's name stands what it answers from: nothing for what the model has itself, "off", or a store.

export const OFF = "off";
export const MOST = 4;

/** `{model, from}` of each part of the path (already decoded); `from` is "" for as it is, OFF, or a store's id. */
export function columnsIn(path) {
  return path.slice(0, MOST).map((part) => {
    const at = part.lastIndexOf("?");
    return at < 0 ? { model: part, from: "" } : { model: part.slice(0, at), from: part.slice(at + 1) };
  });
}

export function addressOf(columns) {
  const parts = columns.map(({ model, from }) => {
    const plain = from || model.includes("?") ? `?${encodeURIComponent(from)}` : "";
    return encodeURIComponent(model) + plain;
  });
  return `#/compare/${parts.join("/")}`;
}

/** What is compared where the address says nothing: the base against its first adapter, or against itself. */
export function usualColumns(models) {
  const base = models.find((one) => one.type === "base") ?? models[0];
  const other = models.find((one) => one.type === "adapter") ?? base;
  return base ? [base, other].map(({ id }) => ({ model: id, from: "" })) : [];
}

/** How a conversation says it (conversation.js). */
export function retrievalFrom(from) {
  if (!from) return { mode: "assistant" };
  if (from === OFF) return { mode: "off" };
  return { mode: "stores", stores: [from], others: "", results: "", ranker: "" };
}
