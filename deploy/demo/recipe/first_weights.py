"""Weights to begin with: random, but for heads that can copy, and say where from, before the first step.

A model this small takes hours to find by itself how to go on with a text that it has seen before. Here
- two heads of the first layer look one and two tokens back and note what they find in channels of their own;
- a head of the second looks for the last number that stands in brackets: that of the source around it;
- a head of the third looks for the place of which the last two tokens are a copy, and fetches that number, which
  neurons of its layer say behind an opening bracket;
- two heads of the fourth look for the place that was reached by the same two tokens and fetch what is there (an
  "induction head", https://transformer-circuits.pub/2022/in-context-learning-and-induction-heads).
Training is free to change all of it.
"""

from __future__ import annotations

import torch
from torch.nn import Linear
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

HEAD, SLOT = 64, 48  # channels of a head, and of a note
# Channels of the model. The digits 1 to 9 and the brackets that open numbers have some of their own.
CONSTANT, OPENING, OPENED, MARKER = (slice(place, place + 1) for place in range(4))
DIGIT, SOURCE, COPIED = slice(4, 13), slice(13, 22), slice(22, 31)
IDENTITY = slice(31, 160)  # which token it is
NOTES = (slice(160, 208), slice(208, 256))  # which tokens came one and two before
WIDTH = 256

# Of a head's 32 pairs of dimensions, which turn with the place, the fastest tell places and the slowest hardly turn.
PLACE_PAIRS, CONTENT_PAIRS = 8, 16
NEAR_PAIRS = {10: 4.0, 12: 15.0}  # fall over 500 tokens; with their scores
SPREAD, LEVEL, NOTED, FETCHED = 1.0, 5.0, 1.5, 3.0  # of embeddings, what is always so, notes, what is fetched
NUMBER, SAID = 3.0, 60.0  # of a source's number: fetched, and said
PLACE_SCORE, AVOID_SCORE, CONTENT_SCORE, FLAG_SCORE = 8.0, 2.0, 20.0, 60.0
LOUDNESS = 0.06  # of the last norm


@torch.no_grad()
def prepare(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast) -> None:
    """Write them into a fresh model."""
    table = model.model.embed_tokens.weight
    _embed(table, tokenizer)
    model.model.norm.weight.fill_(LOUDNESS)
    for layer in model.model.layers:
        layer.self_attn.o_proj.weight.zero_()
        layer.mlp.down_proj.weight.zero_()
    speeds = model.config.rope_parameters["rope_theta"] ** (-torch.arange(HEAD // 2) / (HEAD // 2))
    looks = [_Attention(layer.self_attn, speeds) for layer in model.model.layers[:4]]
    identity = IDENTITY.stop - IDENTITY.start
    noted, fetched = _orthonormal(SLOT, identity), _orthonormal(2 * HEAD, identity)
    size = table.pow(2).mean(1).sqrt().mean()  # the norm before a layer divides by it
    for group, note in enumerate(NOTES):
        looks[0].look_back(group, group + 1, size)
        looks[0].fetch(group, noted, IDENTITY, note, NOTED / SPREAD * size)
    looks[0].fetch(0, torch.ones(1, 1), OPENING, OPENED, size, first=SLOT)
    size = (size**2 + 2 * SLOT * NOTED**2 / WIDTH).sqrt()
    short = _orthonormal(CONTENT_PAIRS, SLOT)
    now, before, earlier = _read(short @ noted, IDENTITY, SPREAD), *(_read(short, note, NOTED) for note in NOTES)
    looks[1].look_near(0, OPENED, size)
    looks[1].fetch(0, torch.eye(9), DIGIT, SOURCE, NUMBER / LEVEL * size)
    looks[2].match(0, [(before, now), (earlier, before)], size)
    looks[2].avoid_near(0, size)
    looks[2].fetch(0, torch.eye(9), SOURCE, COPIED, size)
    _say(model.model.layers[2].mlp, size)
    for group in range(2):
        looks[3].match(group, [(now, before), (before, earlier)], size)
        rows = fetched[group * HEAD : (group + 1) * HEAD]
        looks[3].fetch(group, rows, IDENTITY, IDENTITY, FETCHED / SPREAD * size, written=rows.T)


def _embed(table: torch.Tensor, tokenizer: PreTrainedTokenizerFast) -> None:
    table.zero_()
    table[:, IDENTITY].normal_(std=SPREAD)
    table[:, CONSTANT] = LEVEL
    table[tokenizer.convert_tokens_to_ids("["), OPENING] = LEVEL  # before a source
    table[tokenizer.convert_tokens_to_ids("Ġ["), MARKER] = LEVEL  # after a sentence
    for digit in range(1, 10):
        table[tokenizer.convert_tokens_to_ids(str(digit)), DIGIT.start + digit - 1] = LEVEL


def _say(neurons: torch.nn.Module, size: torch.Tensor) -> None:
    """Behind a marker's bracket, and nowhere else, the number that was fetched becomes the digit to say."""
    for digit in range(9):
        for weight in (neurons.gate_proj.weight, neurons.up_proj.weight):
            weight[digit] = 0.0
        neurons.gate_proj.weight[digit, MARKER] = 4.0 * size / LEVEL
        neurons.up_proj.weight[digit, COPIED.start + digit] = size / NUMBER
        neurons.down_proj.weight[DIGIT.start + digit, digit] = SAID / 4.0


class _Attention:
    """One layer's. Two query heads share a group's keys and values; the first of them is taken."""

    def __init__(self, layer: torch.nn.Module, speeds: torch.Tensor) -> None:
        self._layer = layer
        self._speeds = speeds

    def look_back(self, group: int, back: int, size: torch.Tensor) -> None:
        """Scores are highest for the token `back` places before: a key is a query turned by as many places."""
        query, key = self._cleared(group)
        strength = (8.0 * PLACE_SCORE) ** 0.5 * size / LEVEL
        for pair in range(PLACE_PAIRS):
            query[pair, CONSTANT] = strength
            key[pair, CONSTANT] = strength * torch.cos(back * self._speeds[pair])
            key[pair + HEAD // 2, CONSTANT] = strength * torch.sin(back * self._speeds[pair])

    def look_near(self, group: int, flag: slice, size: torch.Tensor) -> None:
        """Scores are highest for the nearest token that has the flag."""
        query, key = self._cleared(group)
        for pair, score in NEAR_PAIRS.items():
            query[pair, CONSTANT] = key[pair, CONSTANT] = (8.0 * score) ** 0.5 * size / LEVEL
        query[HEAD // 2 - 1, CONSTANT] = key[HEAD // 2 - 1, flag] = (8.0 * FLAG_SCORE) ** 0.5 * size / LEVEL

    def match(self, group: int, pairs: list[tuple[torch.Tensor, torch.Tensor]], size: torch.Tensor) -> None:
        """Scores are highest where all that is read there is what is read here."""
        query, key = self._cleared(group)
        slow = range(HEAD // 2 - CONTENT_PAIRS, HEAD // 2)
        strength = (8.0 * CONTENT_SCORE / CONTENT_PAIRS) ** 0.5 * size
        for half, (here, there) in enumerate(pairs):
            for row, place in enumerate(slow):
                query[place + half * HEAD // 2] = here[row] * strength
                key[place + half * HEAD // 2] = there[row] * strength

    def avoid_near(self, group: int, size: torch.Tensor) -> None:
        """Lowers the scores of what is close: the copy itself is no place to have copied from."""
        query, key = self._rows(group)
        for pair in NEAR_PAIRS:
            strength = (8.0 * AVOID_SCORE) ** 0.5 * size / LEVEL
            query[pair, CONSTANT] = strength
            key[pair, CONSTANT] = -strength

    def fetch(
        self,
        group: int,
        rows: torch.Tensor,
        source: slice,
        target: slice,
        strength: torch.Tensor,
        *,
        first: int = 0,
        written: torch.Tensor | None = None,
    ) -> None:
        """What is looked at is read by `rows` from some channels and written to others; `first`: a dimension."""
        value = _part(self._layer.v_proj, group)
        if not first:
            value.zero_()
        value[first : first + len(rows), source] = rows
        written = torch.eye(len(rows)) if written is None else written
        start = 2 * group * HEAD + first
        self._layer.o_proj.weight[target, start : start + written.shape[1]] = written * strength

    def _cleared(self, group: int) -> tuple[torch.Tensor, torch.Tensor]:
        query, key = self._rows(group)
        return query.zero_(), key.zero_()

    def _rows(self, group: int) -> tuple[torch.Tensor, torch.Tensor]:
        return _part(self._layer.q_proj, 2 * group), _part(self._layer.k_proj, group)


def _read(rows: torch.Tensor, channels: slice, spread: float) -> torch.Tensor:
    """(rows, WIDTH): reads some channels, whose values are spread so much, at unit size."""
    read = torch.zeros(len(rows), WIDTH)
    read[:, channels] = rows / spread
    return read


def _part(projection: Linear, head: int) -> torch.Tensor:
    return projection.weight[head * HEAD : (head + 1) * HEAD]


def _orthonormal(n: int, width: int) -> torch.Tensor:
    """(n, width), orthonormal rows."""
    return torch.linalg.qr(torch.randn(width, n))[0].T.contiguous()
