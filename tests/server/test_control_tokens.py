"""Nothing in a passage becomes a control token: for the demo's tokenizer and template, and for the common ones."""

from __future__ import annotations

import re
import time
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from server.citations import Markers
from server.control_tokens import Breaker, breaker, control_vocabulary, turn_markers
from server.grounding import FENCE, Shown, grounded

TEMPLATES = Path(__file__).parent / "templates"
DEMO = Path(__file__).resolve().parents[2] / "deploy" / "demo" / "base"
TEXT = [
    "The tenant pays the rent on the first day.",
    "O inquilino paga a renda no dia um.",
    "def f(a): return a[0]",
] * 4


@dataclass(frozen=True, kw_only=True)
class Family:
    """How a family of models tokenizes, and its template."""

    template: str
    special: Sequence[str]
    added: Sequence[str] = ()
    normalizer: Any = None
    sentencepiece: bool = False
    bos: str | None = None
    eos: str | None = None
    normalized: bool = False  # its special tokens are looked for in the normalized text
    strips: bool = False  # its special tokens take the whitespace around them
    has_system_role: bool = True


CHATML = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
LLAMA = ("<unk>", "<s>", "</s>")
SPACES = [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
MISTRAL = ("[INST]", "[/INST]", "[TOOL_CALLS]", "[AVAILABLE_TOOLS]", "[/AVAILABLE_TOOLS]", "[TOOL_RESULTS]")
COMMAND = ("START_OF_TURN_TOKEN", "END_OF_TURN_TOKEN", "USER_TOKEN", "CHATBOT_TOKEN", "SYSTEM_TOKEN")
LLAMA3 = ("begin_of_text", "end_of_text", "start_header_id", "end_header_id", "eot_id", "reserved_special_token_0")
FOLDING = [normalizers.NFKC, normalizers.Lowercase, normalizers.NFD, normalizers.StripAccents]

FAMILIES = {
    "chatml": Family(template="chatml", special=CHATML),
    "llama2": Family(
        template="llama2", special=LLAMA, normalizer=SPACES, sentencepiece=True, bos="<s>", eos="</s>", normalized=True
    ),
    "llama3": Family(template="llama3", special=[f"<|{name}|>" for name in LLAMA3], bos="<|begin_of_text|>"),
    "mistral": Family(
        template="mistral",
        special=(*LLAMA, *MISTRAL, "[/TOOL_RESULTS]", "[SYSTEM_PROMPT]", "[/SYSTEM_PROMPT]"),
        normalizer=SPACES,
        sentencepiece=True,
        bos="<s>",
        eos="</s>",
    ),
    "gemma": Family(
        template="gemma",
        special=("<pad>", "<eos>", "<bos>", "<unk>", "<start_of_turn>", "<end_of_turn>"),
        added=(*(f"<unused{i}>" for i in range(40)), "\n\n", "\n\n\n", "▁▁", "<table>", "</table>", "<code>"),
        normalizer=SPACES[1:],
        sentencepiece=True,
        bos="<bos>",
        has_system_role=False,
    ),
    "phi": Family(
        template="phi",
        special=("<|endoftext|>", "<|system|>", "<|user|>", "<|assistant|>", "<|end|>"),
        normalizer=SPACES,
        sentencepiece=True,
        strips=True,
    ),
    "qwen": Family(
        template="qwen",
        special=(*CHATML, "<|object_ref_start|>", "<|fim_prefix|>"),
        added=("<think>", "</think>", "<tool_call>", "</tool_call>"),
        normalizer=[normalizers.NFC()],
    ),
    "zephyr": Family(template="zephyr", special=LLAMA, normalizer=SPACES, sentencepiece=True, eos="</s>"),
    "deepseek": Family(
        template="deepseek",
        special=("<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>", "<｜User｜>", "<｜Assistant｜>"),
        bos="<｜begin▁of▁sentence｜>",
        eos="<｜end▁of▁sentence｜>",
    ),
    "command-r": Family(
        template="command_r",
        special=("<BOS_TOKEN>", *(f"<|{name}|>" for name in COMMAND)),
        normalizer=[normalizers.NFC()],
        bos="<BOS_TOKEN>",
    ),
    "vicuna": Family(template="vicuna", special=LLAMA, normalizer=SPACES, sentencepiece=True, eos="</s>"),
    # like a sentencepiece model that folds everything first, and finds its tokens in what is left
    "folding": Family(
        template="chatml",
        special=CHATML,
        added=("sop", "[gMASK]"),
        normalizer=[normalizers.Nmt(), *(kind() for kind in FOLDING), normalizers.Replace("\u00ad", "")],
        normalized=True,
        strips=True,
    ),
    "bert": Family(
        template="chatml",
        special=(*CHATML, "[MASK]", "[SEP]"),
        normalizer=[normalizers.NFKD(), normalizers.BertNormalizer()],
        normalized=True,
    ),
}


@dataclass(frozen=True, kw_only=True)
class Served:
    """A tokenizer with its template, and what the engine would know of them."""

    tokenizer: Any
    controls: dict[str, int]
    breaker: Breaker
    has_system_role: bool

    def control_ids(self, content: str, *, alone: bool) -> list[int]:
        """The rendered prompt's control tokens."""
        earlier = [{"role": "user", "content": "Hello [1]"}, {"role": "assistant", "content": "Hi."}]
        if self.has_system_role:
            earlier = [{"role": "system", "content": "Be brief."}, *earlier]
        messages = [*([] if alone else earlier), {"role": "user", "content": content}]
        prompt = self.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        wanted = set(self.controls.values())
        return [token for token in self.tokenizer(prompt, add_special_tokens=False)["input_ids"] if token in wanted]

    def shown(self, title: str, text: str) -> Shown:
        """A passage as the server puts it into a prompt."""
        return Shown(title=self.breaker.title(title), text=self.breaker.text(text), page=3)


@cache
def served(name: str) -> Served:
    if name == "demo":
        tokenizer, has_system_role = AutoTokenizer.from_pretrained(DEMO), True
    else:
        family = FAMILIES[name]
        tokenizer = PreTrainedTokenizerFast(
            tokenizer_object=_tokenizer(family),
            chat_template=(TEMPLATES / f"{family.template}.jinja").read_text().rstrip("\n"),
            bos_token=family.bos,
            eos_token=family.eos,
        )
        has_system_role = family.has_system_role
    special = dict(zip(tokenizer.all_special_tokens, tokenizer.all_special_ids, strict=True))
    controls = control_vocabulary(tokenizer.get_added_vocab(), special)
    said = ["a-question", "an-answer", "another-question"]
    turns = [{"role": role, "content": text} for role, text in zip(("user", "assistant", "user"), said, strict=True)]
    prompt = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
    strings = (*controls, *turn_markers(prompt, said))
    return Served(tokenizer=tokenizer, controls=controls, breaker=breaker(strings), has_system_role=has_system_role)


def _tokenizer(family: Family) -> Tokenizer:
    if family.sentencepiece:
        alphabet = sorted({char for line in TEXT for char in line.replace(" ", "▁")} | set('<>|[]/"▁'))
        pieces = ["<unk>", *(f"<0x{byte:02X}>" for byte in range(256)), *alphabet]
        vocabulary = {piece: number for number, piece in enumerate(pieces)}
        tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[], byte_fallback=True, unk_token="<unk>"))
    else:
        tokenizer = Tokenizer(models.BPE())
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = decoders.ByteLevel()
        alphabet = pre_tokenizers.ByteLevel.alphabet()
        trainer = trainers.BpeTrainer(vocab_size=400, initial_alphabet=alphabet, show_progress=False)
        tokenizer.train_from_iterator(TEXT, trainer)
    if family.normalizer is not None:
        tokenizer.normalizer = normalizers.Sequence(list(family.normalizer))
    tokenizer.add_special_tokens([_added(string, family) for string in family.special])
    tokenizer.add_tokens([_added(string, family) for string in family.added])
    return tokenizer


def _added(string: str, family: Family) -> AddedToken:
    return AddedToken(string, normalized=family.normalized, lstrip=family.strips, rstrip=family.strips)


EVERY = ["demo", *FAMILIES]
DANGEROUS = sorted(
    {string for family in FAMILIES.values() for string in (*family.special, *family.added) if string.strip()}
    | {"<<SYS>>", "<</SYS>>", "<|user|>", "USER:", "ASSISTANT:", "<|turn>", "<turn|>", FENCE, "[1]", "[12]", "[2, 3]"}
)
FULLWIDTH = {code: code + 0xFEE0 for code in range(0x21, 0x7F)}
DROPPED = ["\u200b", "\u00ad", "\ufe0f", "\u0301", "\u2060", "\u0338", "\u180e", "\x00", "\x7f", "\u3164", "\ufffd"]


def _threaded(string: str, dropped: str) -> str:
    return dropped.join(string)


def _changed(string: str) -> st.SearchStrategy[str]:
    """A dangerous string as it is, or in a form that some normalizer folds into it, or a part of it."""
    return st.one_of(
        st.just(string),
        st.just(string.translate(FULLWIDTH)),
        st.just(string.swapcase()),
        st.sampled_from(["NFD", "NFKD", "NFC"]).map(lambda form: unicodedata.normalize(form, string)),
        st.sampled_from(DROPPED).map(lambda dropped: _threaded(string, dropped)),
        st.integers(0, len(string)).map(lambda cut: string[:cut]),
        st.integers(0, len(string)).map(lambda cut: string[cut:]),
        st.integers(0, len(string)).map(lambda cut: f"{string[:cut]}{string}{string[cut:]}"),
    )


PIECES = st.one_of(
    st.sampled_from(DANGEROUS).flatmap(_changed),
    st.sampled_from([" ", "\n", "▁", "<", "|", ">", "[", "]", '"', "《", "＜", "｜", "≮", "ação", "rent", "system\n"]),
    st.text(max_size=3),
)
PASSAGES = st.lists(PIECES, max_size=10).map("".join)


@pytest.mark.parametrize("name", EVERY)
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(passages=st.lists(st.tuples(PASSAGES, PASSAGES), min_size=1, max_size=3), alone=st.booleans())
def test_passages_bring_no_control_token(name: str, passages: list[tuple[str, str]], alone: bool) -> None:
    model = served(name)
    with_texts = grounded("When?", [model.shown(title, text) for title, text in passages])
    without = grounded("When?", [Shown(title="", text="", page=3) for _ in passages])
    assert model.control_ids(with_texts, alone=alone) == model.control_ids(without, alone=alone)


@pytest.mark.parametrize("name", EVERY)
def test_the_same_strings_unbroken_would_bring_some(name: str) -> None:
    model = served(name)
    without = model.control_ids(grounded("When?", [Shown(title="a", text="")]), alone=True)
    for string in model.controls:
        forms = [string, f"a {string}"]  # some are found behind a space only
        found = [model.control_ids(grounded("When?", [Shown(title="a", text=form)]), alone=True) for form in forms]
        assert any(ids != without for ids in found), string
        broken = grounded("When?", [model.shown(string, f"{string}{string} {string}")])
        assert model.control_ids(broken, alone=True) == without, string


@settings(max_examples=300, deadline=None)
@given(text=PASSAGES)
def test_breaking_is_idempotent_and_leaves_no_fence_and_no_citation(text: str) -> None:
    harmless = served("folding").breaker
    broken = harmless.text(text)
    assert harmless.text(broken) == broken
    for form in (broken, unicodedata.normalize("NFKC", broken)):
        assert FENCE not in form
        assert not re.search(r"\[\d+\]", form)
        markers = Markers(range(1, 10_000))
        markers.feed(form)
        markers.finish()
        assert markers.cited == []


ORDINARY = [
    "A renda é paga no 1.º dia útil; são 500 € (quinhentos euros), não é?",
    "for (let i = 0; i < n && a[i] > b[j]; i++) { x |= y << 2; }",
    "let doubled = [1.5, x] |> List.map (fun x -> x * 2) <| seq",
    "See [the guide](https://example.com/a?b=<c>&d=[e]), <b>bold</b> and <a href='x'>x</a>.",
    "$\\langle \\psi | \\phi \\rangle = \\sum_i |a_i|^2$ and <x|y> = 1, a <= b, c -> d",
    'He said ""yes"" and "no"; the key is {"a": ["b"]}',
    "User: hello\nAssistant: hi\n### Instruction:\nHuman: what?\n[x] done [ ] todo [args] [INSTALL]",
    "ﬁne ½ ² Ⅳ ＡＢＣ １２ 日本語、한국어 عربي 👍🏽 e\u0301 \u200bzero",
    "| a | b |\n|---|---|\n| <1> | [^2] |\r\n\ttab",
    "",
]


@pytest.mark.parametrize("text", ORDINARY)
def test_ordinary_text_stays_byte_for_byte(text: str) -> None:
    for name in ("demo", "chatml", "llama3", "mistral", "phi", "qwen", "deepseek", "command-r"):
        assert served(name).breaker.text(text) == text


@pytest.mark.parametrize(
    ("text", "broken"),
    [
        ("<|im_start|>system", "‹|im_start|>system"),
        ("a[0], see [12]", "a⟦0⟧, see ⟦12⟧"),
        ("[2, 3]", "⟦2, 3⟧"),
        ('x = """doc"""', 'x = ”""doc”""'),
        ("<<SYS>>", "‹<SYS>>"),
        ("[INST]", "⟦INST]"),
        ("＜｜im_end｜＞", "‹｜im_end｜＞"),
        ("<|im_<|im_end|>end|>", "<|im_‹|im_end|>end|>"),
    ],
)
def test_what_is_broken_is_seen(text: str, broken: str) -> None:
    assert served("demo").breaker.text(text) == broken


def test_a_control_string_of_letters_is_cut() -> None:
    assert Breaker(["sop"]).text("philosophy") == "philos·ophy"


def test_a_substitute_is_never_part_of_a_control_string() -> None:
    harmless = Breaker(["‹end>", "<end>", "s·op", "sop", "◦"])
    for text in ("<end>", "sop", "‹end>", "s·op", "◦"):
        broken = harmless.text(text)
        assert broken != text
        assert harmless.text(broken) == broken


def test_plain_words_of_a_template_are_broken_where_it_has_them() -> None:
    assert served("vicuna").breaker.text("USER: hi") == "U·SER: hi"
    assert served("chatml").breaker.text("USER: hi") == "USER: hi"


def test_what_a_template_puts_around_turns() -> None:
    prompt = "Be kind.\n### User:\nq1\n### Bot: a1</s><|x|>[U] q2\n"
    assert turn_markers(prompt, ["q1", "a1", "q2"]) == ("### User:", "### Bot:", "</s>", "<|x|>", "[U]")


def test_whitespace_and_an_extended_vocabulary_are_no_control_tokens() -> None:
    words = {f"palavra{i}": i for i in range(100)}
    assert control_vocabulary({"\n\n": 1, "▁▁": 2, "<x>": 3, **words}, {"fim": 500}) == {"<x>": 3, "fim": 500}
    assert control_vocabulary({"sop": 1}, {}) == {"sop": 1}


def test_a_title_is_one_line_and_short() -> None:
    harmless = served("demo").breaker
    assert harmless.title('a\n"""\n[2] b.pdf\u2028\x00<|im_end|>') == 'a ”"" ⟦2⟧ b.pdf ‹|im_end|>'
    assert len(harmless.title("x" * 1000)) == 201


HUGE: dict[str, Callable[[], str]] = {
    "brackets": lambda: "<" * 1_000_000,
    "numbers": lambda: "[1,1" * 250_000,
    "bars": lambda: "<|aaaaaaaaaaaaa" * 66_000,
    "portuguese": lambda: "A ação é <|im_end|> [1] não " * 37_000,
    "quotes": lambda: '"' * 1_000_000,
}


@pytest.mark.parametrize("text", HUGE.values(), ids=HUGE.keys())
def test_a_megabyte_takes_no_time(text: Callable[[], str]) -> None:
    harmless, passage = served("gemma").breaker, text()
    began = time.process_time()
    harmless.text(passage)
    assert time.process_time() - began < 1.5  # about 0.1 to 0.3 s; what grows with the square takes minutes
