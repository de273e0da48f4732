// Prints the words of each module named on the command line: [{file, words: {en: {key: text}, pt: {…}}, asked: [keys]}].
// The modules themselves need a browser; the object given to `translator` is read out of their text.
import { readFileSync } from "node:fs";
import { runInNewContext } from "node:vm";

const told = [];
for (const file of process.argv.slice(2)) {
  const source = readFileSync(file, "utf8");
  for (const { index, 0: call } of source.matchAll(/(?<!function )\btranslator\(/g)) {
    const words = runInNewContext(`(${argument(source, index + call.length)})`);
    told.push({ file, words, asked: [...source.matchAll(/\bt\("([^"]+)"/g)].map((match) => match[1]) });
  }
}
console.log(JSON.stringify(told));

/** The text from `start` to the parenthesis that closes it, quotes and comments skipped. */
function argument(source, start) {
  const token = /\/\/[^\n]*|\/\*[^]*?\*\/|"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*'|`(?:\\.|[^`\\])*`|[()]/g;
  token.lastIndex = start;
  for (let depth = 0; ; ) {
    const found = token.exec(source);
    if (found === null) throw new Error("a parenthesis stays open");
    if (found[0] === "(") depth += 1;
    if (found[0] === ")" && depth-- === 0) return source.slice(start, found.index);
  }
}
