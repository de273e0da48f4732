// Where the words of a question stand in a passage: case and accents aside, with other endings too.
const WORD = /[\p{L}\p{N}][\p{L}\p{N}\p{M}]*/gu;
const EVERYWHERE = new Set(
  "a an and are at by do does for from how in is it of on or the to was what when where which who with as ao aos com como da das de do dos e em na nas no nos o os ou para por qual quais quando que quem se um uma".split(" "),
);
const LEAST_STEM = 4;
const LONGEST_ENDING = 3;

/** A word without case and accents. */
export function folded(word) {
  return word.normalize("NFKD").replace(/\p{M}/gu, "").toLowerCase();
}

/** The text cut into `{text, marked}`, marked where a word of the question stands. */
export function marked(text, question) {
  const asked = wordsOf(question);
  const parts = [];
  let end = 0;
  for (const { 0: word, index } of text.matchAll(WORD)) {
    if (!asked.some((one) => alike(one, folded(word)))) continue;
    if (index > end) parts.push({ text: text.slice(end, index), marked: false });
    parts.push({ text: word, marked: true });
    end = index + word.length;
  }
  if (end < text.length) parts.push({ text: text.slice(end), marked: false });
  return parts;
}

/** The words to look for; those that stand in every text count only where there are no others. */
function wordsOf(question) {
  const words = [...new Set((question.match(WORD) ?? []).map(folded))];
  const telling = words.filter((word) => !EVERYWHERE.has(word));
  return telling.length ? telling : words;
}

/** The same word, or one that differs by a short ending: "warranty" and "warranties". */
function alike(one, other) {
  if (one === other) return true;
  let same = 0;
  while (same < one.length && one[same] === other[same]) same += 1;
  return same >= LEAST_STEM && Math.max(one.length, other.length) - same <= Math.min(LONGEST_ENDING, same / 2);
}
