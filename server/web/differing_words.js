// Which words of a text are not in another, by their longest common subsequence.

const MOST_CELLS = 4_000_000; // of the table: two texts of 2000 words each, about 20 ms

/**
 * `text` in pieces `[{text, differs}]`, which together are `text`; `words` and `different` count. Null where both texts
 * are too long and too different to be compared while somebody waits. White space does not count as a difference.
 */
export function differingWords(first, text, mostCells = MOST_CELLS) {
  const ours = tokens(text);
  const theirs = words(tokens(first));
  const mine = words(ours);
  const common = inCommon(theirs, mine, mostCells);
  if (!common) return null;
  const pieces = [];
  let at = 0;
  for (const token of ours) {
    const last = pieces.at(-1);
    const blank = isBlank(token);
    // White space between two words that differ belongs to the mark.
    const differs = blank ? (last?.differs ?? false) && at < mine.length && !common.has(at) : !common.has(at);
    if (!blank) at += 1;
    if (last && last.differs === differs) last.text += token;
    else pieces.push({ text: token, differs });
  }
  return { pieces, words: mine.length, different: mine.length - common.size };
}

/** Words, marks and white space, in every script. */
function tokens(text) {
  return [...new Intl.Segmenter("en", { granularity: "word" }).segment(text)].map(({ segment }) => segment);
}

const isBlank = (token) => !token.trim();
const words = (all) => all.filter((token) => !isBlank(token));

/** The places in `mine` that belong to the longest common subsequence, or null. */
function inCommon(theirs, mine, mostCells) {
  let start = 0;
  while (start < theirs.length && start < mine.length && theirs[start] === mine[start]) start += 1;
  let [n, m] = [theirs.length, mine.length];
  while (n > start && m > start && theirs[n - 1] === mine[m - 1]) [n, m] = [n - 1, m - 1];
  const common = new Set();
  for (let at = 0; at < mine.length; at += 1) if (at < start || at >= m) common.add(at);
  const [rows, columns] = [n - start, m - start];
  if (!rows || !columns) return common;
  if (rows * columns > mostCells) return null;
  const width = columns + 1;
  const length = new Uint16Array((rows + 1) * width); // of the common subsequence of what follows
  for (let row = rows - 1; row >= 0; row -= 1) {
    for (let column = columns - 1; column >= 0; column -= 1) {
      const at = row * width + column;
      length[at] =
        theirs[start + row] === mine[start + column] ? length[at + width + 1] + 1 : Math.max(length[at + width], length[at + 1]);
    }
  }
  for (let row = 0, column = 0; row < rows && column < columns; ) {
    const at = row * width + column;
    if (theirs[start + row] === mine[start + column]) {
      common.add(start + column);
      [row, column] = [row + 1, column + 1];
    } else if (length[at + width] >= length[at + 1]) row += 1;
    else column += 1;
  }
  return common;
}
