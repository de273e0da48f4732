// Puts text into the clipboard, also where the page came over plain http from another machine and has no clipboard API.

export async function copy(text) {
  if (navigator.clipboard) return navigator.clipboard.writeText(text);
  const area = document.createElement("textarea");
  area.value = text;
  const before = document.activeElement;
  (document.querySelector("dialog[open]") ?? document.body).append(area); // outside of a modal dialog nothing can be selected
  area.select();
  document.execCommand("copy");
  area.remove();
  before?.focus();
  return undefined;
}
