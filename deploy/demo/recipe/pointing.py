"""Attention that is shown where to look: some heads are trained on the places that an answer is made from.

Left to itself a model this small needs many millions of tokens before a head finds the sentence that a question is
about. Where an answer comes from is known, so the share of a head's attention that goes there is trained like a
prediction: its loss is minus the logarithm of that share (as in https://aclanthology.org/D19-1453 for alignments).
The way has four steps, since the first word of a sentence cannot tell what comes behind it: a source's words look at
the beginning of their sentence; a question's words find the sentence that has them, and with it its beginning; an
answer's words gather that from the question's; then they look at the sentence, and at the very word to say.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import torch
from torch.nn.functional import cross_entropy, rms_norm
from transformers import LlamaForCausalLM

from .packing import NOWHERE, Batch


class Head(NamedTuple):
    """Counted from 0."""

    layer: int
    query: int


STARTING = (Head(1, 2),)  # from a source's words to the first of their sentence
ASKING = (Head(2, 2), Head(2, 3))  # from a question's words to the sentence that has them
GATHERING = (Head(3, 2), Head(3, 3))  # from an answer's words to those
ANSWERING = (Head(4, 2), Head(4, 3))  # from an answer's words to the sentence
COPYING = (Head(3, 0), Head(4, 0), Head(4, 1), Head(5, 0), Head(5, 1))  # and to the very word
HEADS = (*STARTING, *ASKING, *GATHERING, *ANSWERING, *COPYING)
AFTER_ASKING, AFTER_GATHERING = 3, 4  # layers
WEIGHT = 0.15  # of a look, to the words' 1
ASKING_WEIGHT, STARTING_WEIGHT, BEGINNING_WEIGHT = 0.5, 0.1, 3.0  # of a token
STARTING_SHARE = 0.2  # of the sources' words
LOUDNESS = 0.06


class Look(NamedTuple):
    """The weighted sum over tokens, and the sum of the weights."""

    nats: torch.Tensor
    weight: float


class Read(NamedTuple):
    """What a pass over the layers gives: what goes into each, and what comes out of the last, (rows, length, width)."""

    into: Sequence[torch.Tensor]
    out: torch.Tensor


def reader(model: LlamaForCausalLM, *, compiled: bool = True) -> Callable[[Batch], Read]:
    """A pass that keeps what goes into each layer."""

    def read(tokens: torch.Tensor, mask: torch.Tensor, places: torch.Tensor) -> Read:
        hidden = model.model.embed_tokens(tokens)
        turned = model.model.rotary_emb(hidden, places)
        into = []
        for layer in model.model.layers:
            into.append(hidden)
            hidden = layer(hidden, attention_mask=mask, position_embeddings=turned)
        return Read(into, model.model.norm(hidden))

    pass_over = torch.compile(read) if compiled else read
    return lambda batch: pass_over(batch.tokens, batch.mask, batch.places)


class Pointing(torch.nn.Module):
    """The losses of the looks. Of its own it has two layers that only training uses.

    They say from the middle of the model which word the sentence begins with, so that it is known there early: behind
    `AFTER_ASKING` layers the question's words do, behind `AFTER_GATHERING` the place before the answer.
    """

    def __init__(self, model: LlamaForCausalLM) -> None:
        super().__init__()
        self._model = [model]  # in a list: its weights are not ours
        width, words = model.config.hidden_size, model.config.vocab_size
        self.asked, self.said = (torch.nn.Linear(width, words, bias=False) for _ in range(2))
        for layer in (self.asked, self.said):
            layer.weight.data.copy_(model.lm_head.weight.data * LOUDNESS)

    def losses(self, read: Read, batch: Batch) -> dict[str, Look]:
        """By a name for people: `4.2` is the third head of the fifth layer."""
        looks = {f"{head.layer}.{head.query}": look for head, look in self._heads(read, batch)}
        begins = (batch.answers > 0) & (batch.answers.roll(1, 1) != batch.answers) & (batch.copied != NOWHERE)
        for layer, depth, chosen, weight, name in (
            (self.asked, AFTER_ASKING, batch.shared, ASKING_WEIGHT, "asked"),
            (self.said, AFTER_GATHERING, begins, BEGINNING_WEIGHT, "said"),
        ):
            row, place = chosen.nonzero(as_tuple=True)
            hidden = rms_norm(read.into[depth][chosen], read.into[depth].shape[-1:])
            words = batch.tokens[row, batch.spans[row, place, 0]]
            nats = cross_entropy(layer(hidden), words, reduction="sum") * weight
            looks[name] = Look(nats, weight * len(row))
        return looks

    def _heads(self, read: Read, batch: Batch) -> Iterator[tuple[Head, Look]]:
        known = (batch.starts != NOWHERE) & (torch.rand(batch.starts.shape) < STARTING_SHARE)
        for head in STARTING:
            shares = self.shares(read, batch, head, known).gather(1, batch.starts[known][:, None])[:, 0]
            yield head, _look(-shares, torch.full_like(shares, STARTING_WEIGHT))
        known = batch.copied != NOWHERE
        for head in COPYING:
            shares = self.shares(read, batch, head, known).gather(1, batch.copied[known][:, None])[:, 0]
            yield head, _look(-shares, batch.weights[known])
        for head in ASKING:
            nats = _missed(self.shares(read, batch, head, batch.shared), batch.spans[batch.shared])
            yield head, _look(nats, torch.full_like(nats, ASKING_WEIGHT))
        said = (batch.answers > 0) & (batch.spans[..., 0] != NOWHERE)
        for head in ANSWERING:
            yield head, _look(_missed(self.shares(read, batch, head, said), batch.spans[said]), batch.weights[said])
        row, place = said.nonzero(as_tuple=True)
        own = batch.shared[row] & (batch.branches[row] == batch.branches[row, place][:, None])
        row, place, own = (part[own.any(1)] for part in (row, place, own))
        said = torch.zeros_like(said).index_put_((row, place), torch.tensor(True))
        for head in GATHERING:
            yield head, _look(_outside(self.shares(read, batch, head, said), own), batch.weights[said])

    def shares(self, read: Read, batch: Batch, head: Head, chosen: torch.Tensor) -> torch.Tensor:
        """(n, length): logarithms of a head's shares, for the chosen tokens alone."""
        (model,) = self._model
        block, config = model.model.layers[head.layer], model.config
        size = config.head_dim
        hidden = block.input_layernorm(read.into[head.layer])
        group = head.query // (config.num_attention_heads // config.num_key_value_heads)
        cos, sin = model.model.rotary_emb(hidden, batch.places)
        query = hidden[chosen] @ _part(block.self_attn.q_proj.weight, head.query, size).T
        query = _turned(query, cos[chosen], sin[chosen])
        key = _turned(hidden @ _part(block.self_attn.k_proj.weight, group, size).T, cos, sin)
        by_row = query.split(chosen.sum(1).tolist())
        scores = torch.cat([queries @ keys.T for queries, keys in zip(by_row, key, strict=True)])
        return (scores / size**0.5 + batch.mask[:, 0][chosen]).log_softmax(-1)


def _look(nats: torch.Tensor, weights: torch.Tensor) -> Look:
    return Look((nats * weights).sum(), float(weights.sum()))


def _missed(shares: torch.Tensor, spans: torch.Tensor) -> torch.Tensor:
    """Minus the logarithm of what goes anywhere between two places."""
    places = torch.arange(shares.shape[-1])
    return _outside(shares, (places >= spans[:, :1]) & (places < spans[:, 1:]))


def _outside(shares: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
    """The same for any places; as logarithms, so that a head that looks elsewhere is still told where to."""
    return -shares.masked_fill(~wanted, -torch.inf).logsumexp(-1)


def _turned(vectors: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """By their places, as the layer itself does it."""
    half = vectors.shape[-1] // 2
    return vectors * cos + torch.cat([-vectors[..., half:], vectors[..., :half]], -1) * sin


def _part(weight: torch.Tensor, head: int, size: int) -> torch.Tensor:
    return weight[head * size : (head + 1) * size]
