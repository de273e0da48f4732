// What somebody dropped or chose, folders opened: [{file, path}], where path is that inside a chosen folder, or null.
export async function droppedFiles(transfer) {
  const items = [...transfer.items].filter((item) => item.kind === "file");
  const given = items.map((item) => item.webkitGetAsEntry?.() ?? { isFile: true, file: ((file) => (yes) => yes(file))(item.getAsFile()) });
  return (await Promise.all(given.map((entry) => inside(entry, "")))).flat(); // all asked for first: the items end with the event
}

export function chosenFiles(input) {
  const given = [...input.files].map((file) => ({ file, path: file.webkitRelativePath || null }));
  return given.filter(({ path }) => !path?.split("/").some(isHidden));
}

async function inside(entry, folder) {
  if (folder && isHidden(entry.name)) return [];
  if (entry.isFile) {
    const file = await new Promise((yes, no) => entry.file(yes, no));
    return [{ file, path: folder ? folder + file.name : null }];
  }
  const reader = entry.createReader();
  const found = [];
  for (;;) {
    const some = await new Promise((yes, no) => reader.readEntries(yes, no)); // a hundred at a time
    if (!some.length) return found;
    for (const one of some) found.push(...(await inside(one, `${folder}${entry.name}/`)));
  }
}

/** Files such as .DS_Store lie in folders without anybody's wish. */
function isHidden(name) {
  return name.startsWith(".");
}
