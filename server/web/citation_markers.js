// Markers such as `[1]`, `[1, 2]` and `[1-3]` in an answer, read as the server reads them.

const NUMBER = "[1-9][0-9]{0,3}";
const SPAN = `${NUMBER}(?: ?[-\u2013] ?${NUMBER})?`;
const MARKER = new RegExp(`\\[ ?(${SPAN}(?: ?[,;] ?${SPAN})*) ?\\]`, "g");
const MOST = 100; // of one marker; whoever writes [1-9999] means no source

/** The text in pieces: strings, and for each marker whose numbers are all in `numbers` an array of them. */
export function pieces(text, numbers) {
  const found = [];
  let end = 0;
  for (const marker of text.matchAll(MARKER)) {
    const named = numbersOf(marker[1], numbers);
    if (!named.length) continue;
    if (marker.index > end) found.push(text.slice(end, marker.index));
    found.push(named);
    end = marker.index + marker[0].length;
  }
  if (end < text.length) found.push(text.slice(end));
  return found;
}

function numbersOf(marker, numbers) {
  const all = [];
  for (const span of marker.split(/[,;]/)) {
    const [first, last = first] = span.split(/[-\u2013]/).map(Number);
    if (last < first || last - first > MOST) return [];
    for (let number = first; number <= last; number += 1) all.push(number);
  }
  return all.every((number) => numbers.includes(number)) ? [...new Set(all)] : [];
}
