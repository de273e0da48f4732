"""What the demo's base learns to read: the server's own form, facts that are said once, documents that have answers."""

from __future__ import annotations

import random
import re
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
DEMO = ROOT / "deploy" / "demo"
sys.path.append(str(DEMO))  # as `python deploy/demo/train.py` has it

from recipe.documents import DocumentReadings  # noqa: E402
from recipe.facts import Facts  # noqa: E402
from recipe.names import Names  # noqa: E402
from recipe.reading import NOT_SAID, FactReadings, Reading  # noqa: E402

from server.grounding import HEADER, Shown, grounded  # noqa: E402

MARKED = re.compile(r"(.+) \[(\d)\]", re.DOTALL)
DICE = range(300)


def holding(reading: Reading) -> tuple[str, list[int]]:
    """The answer's sentence, and the sources that have it."""
    match = MARKED.fullmatch(reading.answer)
    assert match, reading.answer
    sentence = match[1]
    return sentence, [number for number, source in enumerate(reading.sources, 1) if sentence in source.text]


@pytest.fixture(scope="module")
def documents() -> DocumentReadings:
    return DocumentReadings()


def test_a_reading_is_asked_as_the_server_asks() -> None:
    reading = Reading(
        question="Who?", sources=(Shown(title="a.md", text="Ana."),), answer="Ana. [1]", language="en", value="Ana"
    )
    assert reading.prompt == grounded("Who?", [Shown(title="a.md", text="Ana.")])
    assert reading.prompt.startswith(HEADER)


@pytest.mark.parametrize("held_out", [False, True])
def test_the_answer_to_a_fact_is_in_the_source_that_it_marks_and_in_no_other(held_out: bool) -> None:
    facts = FactReadings(held_out=held_out)
    for seed in DICE:
        reading = facts.draw(random.Random(seed))
        sentence, numbers = holding(reading)
        assert reading.answer == f"{sentence} [{numbers[0]}]"
        assert len(numbers) == 1
        assert reading.value in sentence


def test_what_is_not_said_is_in_no_source() -> None:
    facts = FactReadings()
    for seed in DICE:
        lesson = facts.lesson(random.Random(seed), 3, 4, n_asked=8, unanswered_share=0.5)
        texts = [source.text for source in lesson.sources]
        for asked in lesson.asked:
            holding_it = [number for number, text in enumerate(texts, 1) if asked.fact.sentence in text]
            assert holding_it == ([] if asked.number is None else [asked.number])
            assert (asked.answer == NOT_SAID.plain(lesson.language)) == (asked.number is None)


def test_questions_of_a_lesson_share_its_sources_and_differ() -> None:
    lesson = FactReadings().lesson(random.Random(1), 3, 4, n_asked=8, unanswered_share=0.2)
    assert len(lesson.sources) == 3
    assert len({asked.fact.about for asked in lesson.asked}) == len(lesson.asked) > 2


def test_a_branch_reads_as_if_it_stood_alone_behind_its_trunk() -> None:
    torch = pytest.importorskip("torch")
    from recipe.packing import Text, batch
    from transformers import LlamaForCausalLM

    torch.manual_seed(0)
    model = LlamaForCausalLM.from_pretrained(DEMO / "base", dtype=torch.float32).eval()

    def part(n: int, weight: float) -> tuple[list[int], list[float]]:
        return torch.randint(3, 4096, (n,)).tolist(), [weight] * n

    texts = [
        Text(trunk=part(20, 0.0), branches=[part(7, 1.0), part(9, 1.0)], level=0),
        Text(trunk=part(15, 0.5)),
        Text(trunk=part(12, 0.0), branches=[part(6, 1.0)], level=2),
    ]
    packed = batch(texts, rows=2, length=64)
    assert packed.levels == [0, 0, 2]
    with torch.inference_mode():
        together = model(input_ids=packed.tokens, attention_mask=packed.mask, position_ids=packed.places).logits
        for number, (text, branch) in enumerate([(texts[0], 0), (texts[0], 1), (texts[2], 0)], 1):
            tokens = [*text.trunk[0], *text.branches[branch][0]]
            alone = model(input_ids=torch.tensor([tokens])).logits[0, len(text.trunk[0]) : -1]
            mine = packed.answers == number
            torch.testing.assert_close(together[mine], alone, atol=1e-4, rtol=1e-4)
            assert packed.targets[mine].tolist() == tokens[len(text.trunk[0]) + 1 :]


def test_a_step_of_muon_turns_every_matrix_by_the_same_amount() -> None:
    torch = pytest.importorskip("torch")
    from recipe.muon import Muon, orthogonal

    torch.manual_seed(0)
    matrices = torch.randn(3, 48, 80) * torch.tensor([0.01, 1.0, 100.0])[:, None, None]
    values = torch.linalg.svdvals(orthogonal(matrices))
    assert 0.6 < float(values.min()) <= float(values.max()) < 1.3
    weight = torch.nn.Parameter(torch.zeros(48, 80))
    weight.grad = matrices[2]
    Muon([weight], lr=0.5).step()
    assert 0.3 < float(torch.linalg.svdvals(weight.detach()).mean()) < 0.6


def test_names_for_measuring_are_never_trained_on() -> None:
    trained, kept = (
        {names.stem(random.Random(seed)) for seed in range(2000)}
        for names in (Names(held_out=False), Names(held_out=True))
    )
    assert len(kept) > 500
    assert trained.isdisjoint(kept)


@pytest.mark.parametrize("language", ["en", "pt"])
def test_every_wording_of_every_relation_says_its_subject_and_its_value(language: str) -> None:
    facts, dice = Facts(), random.Random(0)
    for relation in facts.relations:
        subject, value = (facts.names.draw(kind, dice) for kind in (relation.subject, relation.value))
        for noun in relation.nouns:
            for _ in range(8):
                fact = relation.state(subject, noun, value, language, dice)
                said = fact.sentence.lower()
                assert subject.said(language).lower() in said
                assert fact.value.lower() in said
                assert subject.said(language).lower() in fact.question.lower()
                assert fact.sentence.endswith(".")
                assert not re.search(r"[{}|]|  ", fact.sentence + fact.question)


def test_every_sentence_of_the_documents_is_asked_for(documents: DocumentReadings) -> None:
    written = {(section.filename, sentence) for section in documents.sections for sentence in section.sentences}
    assert {(asked.section.filename, asked.sentence) for asked in documents.asked} == written
    assert len(documents.asked) >= 100
    assert all(len(asked.questions) >= 3 for asked in documents.asked)


def test_no_question_about_the_documents_has_two_answers(documents: DocumentReadings) -> None:
    questions = [question for asked in documents.asked for question in asked.questions]
    assert sorted({q for q in questions if questions.count(q) > 1}) == []


def test_the_last_wording_of_a_question_is_kept_from_training(documents: DocumentReadings) -> None:
    kept = {asked.questions[-1] for asked in documents.asked}
    assert kept.isdisjoint({documents.draw(random.Random(seed)).question for seed in range(2000)})


def test_the_answer_about_a_document_is_in_the_source_that_it_marks(documents: DocumentReadings) -> None:
    for seed in DICE:
        reading = documents.draw(random.Random(seed))
        sentence, numbers = holding(reading)
        assert any(reading.answer == f"{sentence} [{number}]" for number in numbers)
        untold = documents.draw(random.Random(seed), answered=False)
        assert untold.answer == NOT_SAID.plain(untold.language)


def test_the_guide_s_own_instructions_are_trained_on() -> None:
    from recipe.conversations import GUIDE

    guide = yaml.safe_load((DEMO / "guide.json").read_text())
    assert guide["instructions"] == GUIDE


def test_a_base_copies_before_its_first_step() -> None:
    torch = pytest.importorskip("torch")
    from recipe.first_weights import prepare
    from recipe.pretrain import shape
    from transformers import AutoTokenizer, LlamaForCausalLM

    torch.manual_seed(0)
    tokenizer = AutoTokenizer.from_pretrained(DEMO / "base")
    model = LlamaForCausalLM(shape(tokenizer)).eval()
    text = torch.randint(3, 4096, (2, 60))

    def copied() -> float:
        with torch.inference_mode():
            said = model(input_ids=torch.cat((text, text), 1)).logits.argmax(-1)
        return float((said[:, 60:-1] == text[:, 1:]).float().mean())

    assert copied() < 0.05
    prepare(model, tokenizer)
    assert copied() > 0.85


def test_a_training_goes_on_from_the_base_in_the_repository() -> None:
    torch = pytest.importorskip("torch")
    from recipe.pretrain import _go_on, shape
    from recipe.tokenizer import COMMITTED, committed
    from transformers import LlamaForCausalLM

    torch.manual_seed(0)
    model = LlamaForCausalLM(shape(committed()))
    _go_on(model)
    tokens = torch.randint(3, 4096, (1, 40))
    served = LlamaForCausalLM.from_pretrained(COMMITTED, dtype=torch.float32)
    with torch.inference_mode():
        torch.testing.assert_close(model(input_ids=tokens).logits, served(input_ids=tokens).logits)
