"""Text from cl100k token ids, which some OpenAI clients send to /v1/embeddings instead of text.

The vocabulary is shipped as a data file, because tiktoken would download it. Decoding needs the table alone.
Source: https://github.com/openai/tiktoken, `tiktoken_ext/openai_public.py` (names the file's SHA-256).
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from functools import cache
from pathlib import Path

VOCABULARY = Path(__file__).parent / "data" / "cl100k_base.tiktoken"
SHA256 = "223921b76ee99bde995b7ff738513eef100fb51d18c93597a113bcffe865b2a7"


class UnknownToken(ValueError):
    """A token id that cl100k_base does not have, or one of its control tokens."""


def decode(token_ids: Sequence[int]) -> str:
    """The text of these ids; bytes that are no UTF-8 on their own become U+FFFD. Raises UnknownToken."""
    table = _table()
    try:
        text = b"".join(table[token_id] for token_id in token_ids)
    except KeyError as error:
        raise UnknownToken(
            f"{error.args[0]} is no cl100k_base token of text; send text, or ids below {len(table)}"
        ) from None
    return text.decode("utf-8", errors="replace")


@cache
def _table() -> dict[int, bytes]:
    content = VOCABULARY.read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    if digest != SHA256:
        raise RuntimeError(f"{VOCABULARY} is damaged: SHA-256 {digest}, expected {SHA256}; install again")
    table = {}
    for line in content.splitlines():
        token, rank = line.split()
        table[int(rank)] = base64.b64decode(token)
    return table
