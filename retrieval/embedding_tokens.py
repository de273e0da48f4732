"""An embedder's tokenizer without torch: texts to token ids, and those to the arrays that a model is given."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from tokenizers import Encoding, Tokenizer

MAX_TOKEN_CHARS = 200  # far more than any vocabulary's longest word

Ids = NDArray[np.int64]  # shape (texts, tokens)


class Tokens:
    """One model's tokenizer, cut at its window."""

    def __init__(self, tokenizer: Tokenizer, *, window_tokens: int) -> None:
        """`tokenizer` is copied; its truncation and padding do not count."""
        self.window_tokens = window_tokens
        self.tokenizer = Tokenizer.from_str(tokenizer.to_str())
        self.tokenizer.no_truncation()
        self.tokenizer.no_padding()
        self._cutting = Tokenizer.from_str(self.tokenizer.to_str())
        self._cutting.enable_truncation(window_tokens, direction=(tokenizer.truncation or {}).get("direction", "right"))

    def encode(self, texts: Sequence[str]) -> list[Encoding]:
        """Each text's tokens with its control tokens, at most a window of them."""
        return self._cutting.encode_batch([self.seen(text) for text in texts])

    def seen(self, text: str) -> str:
        """The text, cut far beyond the window: a tokenizer would read megabytes to its end before it cuts."""
        return text[: self.window_tokens * MAX_TOKEN_CHARS]


def arrays(encodings: Sequence[Encoding], pad_token_id: int, *, multiple: int = 1) -> Mapping[str, Ids]:
    """`input_ids`, `attention_mask` and `token_type_ids`, as long as the longest text, rounded up to a multiple.

    Padded at the end, whatever the model's tokenizer does: under a causal mask, padding in front sees nothing at all,
    and what a softmax over nothing gives differs between programs.
    """
    longest = max(len(encoding.ids) for encoding in encodings)
    shape = (len(encodings), -(-longest // multiple) * multiple)
    ids = np.full(shape, pad_token_id, dtype=np.int64)
    mask = np.zeros(shape, dtype=np.int64)
    types = np.zeros(shape, dtype=np.int64)
    for row, encoding in enumerate(encodings):
        count = len(encoding.ids)
        ids[row, :count], mask[row, :count], types[row, :count] = encoding.ids, 1, encoding.type_ids
    return {"input_ids": ids, "attention_mask": mask, "token_type_ids": types}
