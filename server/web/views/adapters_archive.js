// An adapter's two files as the one archive that the server takes: a tar (POSIX ustar), packed by the browser's own gzip.

export const CONFIG = "adapter_config.json";
export const WEIGHTS = "adapter_model.safetensors";
const BLOCK = 512;

/** The one archive among these files, or the adapter's files among them: `{archive}`, `{files}` or `{problem}`. */
export function chosen(files) {
  const archives = files.filter((file) => /\.(zip|tgz|tar\.gz)$/i.test(file.name));
  if (archives.length === 1) return { archive: archives[0] };
  if (archives.length > 1) return { problem: "several" };
  // what the server says of pickled or missing weights is better than what could be said here, so those go too
  const wanted = files.filter((file) => file.name === CONFIG || /^adapter_model\./.test(file.name));
  if (new Set(wanted.map((file) => file.name)).size < wanted.length) return { problem: "several" };
  if (wanted.length > 0) return { files: wanted };
  return { problem: files.length ? "neither" : "nothing" };
}

/** A name for the adapter from what its archive is called: letters, digits and ._- as the server wants them. */
export function nameFrom(filename) {
  const bare = filename.replace(/\.(zip|tgz|tar\.gz)$/i, "");
  return bare.replace(/[^A-Za-z0-9._-]+/g, "-").replace(/^[^A-Za-z0-9]+|-+$/g, "").slice(0, 96);
}

/** A .tar.gz of the files, as a Blob; large files are read piece by piece. */
export function packed(files) {
  const tar = new Blob(tarParts(files));
  return new Response(tar.stream().pipeThrough(new CompressionStream("gzip"))).blob();
}

/** Headers, contents and padding in their order; https://pubs.opengroup.org/onlinepubs/9699919799/utilities/pax.html */
export function tarParts(files) {
  const parts = files.flatMap((file) => [header(file.name, file.size), file, new Uint8Array(-file.size & (BLOCK - 1))]);
  return [...parts, new Uint8Array(2 * BLOCK)];
}

function header(name, size) {
  const block = new Uint8Array(BLOCK);
  const put = (text, at) => block.set(new TextEncoder().encode(text), at);
  put(name, 0);
  put("0000644\0", 100);
  put("0000000\0", 108);
  put("0000000\0", 116);
  put(`${size.toString(8).padStart(11, "0")}\0`, 124);
  put(`${"0".repeat(11)}\0`, 136);
  put(" ".repeat(8), 148); // the checksum counts its own place as blanks
  put("0", 156);
  put("ustar\x0000", 257);
  const sum = block.reduce((total, byte) => total + byte, 0);
  put(`${sum.toString(8).padStart(6, "0")}\0 `, 148);
  return block;
}
