"""The pieces of a passage that are embedded: as many as it takes for the embedder to see all of it."""

from __future__ import annotations

from collections.abc import Iterator

from tokenizers import Encoding, Tokenizer

# The embedder's window holds its special tokens, mostly two, and the prefix that some models want before a document
# ("passage: "). For all-MiniLM-L6-v2 240 of 256 are left.
RESERVED_TOKENS = 16
# Word-piece vocabularies make one unknown token of a word without end, so that tokens alone would not bound a passage.
# The longest that prose has is about 10 to a token.
MAX_CHARACTERS_PER_TOKEN = 16

Span = tuple[int, int]  # first character, one past the last


def capacity(window_tokens: int) -> int:
    """Tokens of text that fit into a window besides what is reserved; at least half of a very small one."""
    return max(window_tokens - RESERVED_TOKENS, window_tokens // 2, 1)


def windows_of(text: str, encoding: Encoding, tokenizer: Tokenizer, *, window_tokens: int) -> tuple[Span, ...]:
    """Overlapping pieces of a passage, at word borders where there are any; each fits, and together they cover it.

    One piece, the whole, where that fits. `encoding` is the passage's, without special tokens. Neighbours share a
    sixth, so that a sentence at a border is whole in one of the two.
    """
    most = capacity(window_tokens)
    return tuple(cuts(text, encoding, tokenizer, max_tokens=most, overlap_tokens=most // 6))


def cuts(text: str, encoding: Encoding, tokenizer: Tokenizer, *, max_tokens: int, overlap_tokens: int) -> list[Span]:
    """The text in pieces of at most so many tokens, each counted by itself, from its first character to its last."""
    if len(encoding) <= max_tokens:
        return [(0, len(text))]
    aimed = max_tokens
    while True:
        spans = list(_pieces(text, encoding, aimed, min(overlap_tokens, aimed // 2)))
        pieces = tokenizer.encode_batch([text[start:end] for start, end in spans], add_special_tokens=False)
        excess = max(map(len, pieces)) - max_tokens
        if excess <= 0 or aimed == 1:  # one token is as little as there is
            return spans
        # The rest of a word that was cut may be more tokens than it was within the word.
        aimed = max(1, aimed - max(excess, 1) if excess < aimed // 2 else aimed // 2)


def _pieces(text: str, encoding: Encoding, max_tokens: int, overlap_tokens: int) -> Iterator[Span]:
    starts = [start for start, _ in encoding.offsets]
    words = encoding.word_ids
    first = 0
    while True:
        begin = starts[first] if first else 0
        end = first + max_tokens
        if end >= len(starts):
            yield begin, len(text)
            return
        end = _border(words, end, lowest=first + max_tokens - max_tokens // 4)
        yield begin, starts[end]
        first = max(first + 1, _border(words, end - overlap_tokens, lowest=max(first + 1, end - 2 * overlap_tokens)))


def _border(words: list[int | None], place: int, *, lowest: int) -> int:
    """The last place up to this one at which a word begins; this one itself where none is near."""
    for candidate in range(place, max(lowest, 1) - 1, -1):
        if words[candidate] != words[candidate - 1]:
            return candidate
    return place
