"""The demo's own tokenizer: byte-level BPE with single digits and ChatML's special tokens."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from .conversations import Conversations
from .folder import DataFolder

VOCABULARY = 4096
CONTEXT_TOKENS = 2048
END_OF_TEXT, START, END = SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
TEMPLATE = Path(__file__).with_name("chat_template.jinja")
COMMITTED = Path(__file__).resolve().parents[1] / "base"
WORDS = Regex(r" ?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+")


def make(data: DataFolder) -> PreTrainedTokenizerFast:
    """Trained on conversations and on a part of the books, so that both get short encodings."""
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(WORDS, "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=list(SPECIAL),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bpe.train_from_iterator(_texts(data), trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=bpe,
        eos_token=END,
        pad_token=END_OF_TEXT,
        additional_special_tokens=[START],
        model_max_length=CONTEXT_TOKENS,
        clean_up_tokenization_spaces=False,
        chat_template=TEMPLATE.read_text(encoding="utf-8"),
    )


def committed() -> PreTrainedTokenizerFast:
    """The one that the base in the repository knows, with the template that marks the assistant's tokens."""
    made: PreTrainedTokenizerFast = AutoTokenizer.from_pretrained(COMMITTED)
    made.chat_template = TEMPLATE.read_text(encoding="utf-8")
    return made


def served_template() -> str:
    """The template without the tags that mark the assistant's tokens: not every reader of templates knows them."""
    lines = TEMPLATE.read_text(encoding="utf-8").splitlines(keepends=True)
    return "".join(line for line in lines if line.strip() not in ("{%- generation %}", "{%- endgeneration %}"))


def _texts(data: DataFolder) -> Iterator[str]:
    dice = random.Random(0)
    conversations = Conversations(data)
    for _ in range(20_000):
        drawn = conversations.draw(dice)
        for message in drawn.messages:
            yield f"{message['role']}\n{message.get('content') or ''}\n"
        for tool in drawn.tools:
            yield f"</tools> <tool_call> <tool_response> {json.dumps(tool)}\n"
    for books in data.books:
        for _ in range(300):
            book = dice.choice(books)
            start = dice.randrange(max(1, len(book) - 4000))
            yield book[start : start + 4000]
