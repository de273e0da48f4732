// The text of a file as its store keeps it: passages in their order, which may overlap.

const LEAST = 8; // characters that an overlap has; fewer are the same by chance

/** Where a passage stands among them, -1 where it does not: whole, else as the longest that is a part of it. */
export function placeOf(passage, texts) {
  const whole = texts.indexOf(passage);
  if (whole >= 0) return whole;
  return texts.findIndex((text) => text.includes(passage));
}

/** The text around one of them: `{before, passage, after}`, each without what the next says already. */
export function around(texts, at, reach) {
  const first = Math.max(0, at - reach);
  const last = Math.min(texts.length, at + reach + 1);
  return {
    before: joined([...texts.slice(first, at), texts[at]]).slice(0, -texts[at].length || undefined),
    passage: texts[at],
    after: joined(texts.slice(at, last)).slice(texts[at].length),
    cutBefore: first > 0,
    cutAfter: last < texts.length,
  };
}

/** One text of passages that overlap; those that do not are paragraphs of their own. */
export function joined(texts) {
  return texts.reduce((whole, text) => {
    const shared = overlap(whole, text);
    return shared ? whole + text.slice(shared) : `${whole}\n\n${text}`;
  });
}

/** How many characters the end of one text has in common with the beginning of the next. */
export function overlap(one, next) {
  for (let at = Math.max(0, one.length - next.length); at <= one.length - LEAST; at += 1) {
    if (one[at] === next[0] && next.startsWith(one.slice(at))) return one.length - at;
  }
  return 0;
}
