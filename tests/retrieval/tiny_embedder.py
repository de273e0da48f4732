"""Embedding models of a few kilobytes with random weights: of any architecture and pooling, made in a moment."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Dense, Normalize, Pooling, Transformer
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from tokenizers.processors import TemplateProcessing
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast, Qwen3Config, Qwen3Model

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
LETTERS = "abcdefghijklmnopqrstuvwxyz"
WORDS = [first + second for first in LETTERS for second in LETTERS]


def make_embedder(
    folder: Path,
    *,
    pooling: str = "mean",
    decoder: bool = False,
    dense: bool = False,
    prompts: dict[str, str] | None = None,
    seed: int = 0,
) -> Path:
    """A folder that SentenceTransformer loads; its words are those of WORDS, its window is 32 tokens."""
    torch.manual_seed(seed)
    transformer = folder.parent / f"{folder.name}-transformer"
    sizes: dict[str, Any] = {"vocab_size": len(SPECIAL) + len(WORDS), "hidden_size": 32, "num_attention_heads": 4}
    sizes |= {"num_hidden_layers": 2, "intermediate_size": 64, "max_position_embeddings": 32}
    if decoder:
        model = Qwen3Model(Qwen3Config(**sizes, num_key_value_heads=2, head_dim=8, pad_token_id=0))
    else:
        model = BertModel(BertConfig(**sizes, initializer_range=0.3))
    model.save_pretrained(transformer)
    _tokenizer(left=decoder).save_pretrained(transformer)
    modules = [Transformer(str(transformer), max_seq_length=32), Pooling(32, pooling_mode=pooling)]
    if dense:
        modules.append(Dense(in_features=32, out_features=16))
    modules.append(Normalize())
    SentenceTransformer(modules=modules, device="cpu", prompts=prompts).save(str(folder), create_model_card=False)
    return folder


def rename(folder: Path, trained_from: str) -> Path:
    """The same model, which says that it began as another one."""
    config = json.loads((folder / "config.json").read_bytes())
    (folder / "config.json").write_text(json.dumps(config | {"_name_or_path": trained_from}))
    return folder


def _tokenizer(*, left: bool) -> PreTrainedTokenizerFast:
    vocabulary = {word: place for place, word in enumerate([*SPECIAL, *WORDS])}
    tokenizer = Tokenizer(WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = Whitespace()
    tokenizer.post_processor = TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        padding_side="left" if left else "right",
        model_input_names=["input_ids", "attention_mask"] + ([] if left else ["token_type_ids"]),
    )
