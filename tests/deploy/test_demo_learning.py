"""How the demo's base is taught to read: what each answer is said to be made of, and where heads are shown to look."""

from __future__ import annotations

import itertools
import random
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
DEMO = ROOT / "deploy" / "demo"
DATA = ROOT.parent / "shared" / "data"
sys.path.append(str(DEMO))  # as `python deploy/demo/train.py` has it

torch = pytest.importorskip("torch")
from recipe.documents import DocumentReadings, holding  # noqa: E402
from recipe.folder import DataFolder  # noqa: E402
from recipe.lessons import LEVELS, Lessons  # noqa: E402
from recipe.packing import NOWHERE, Taken, Text, batch  # noqa: E402
from recipe.reading import NOT_SAID  # noqa: E402
from recipe.tokenizer import committed  # noqa: E402

needs_data = pytest.mark.skipif(not DATA.is_dir(), reason="the public text that the base is trained on is not here")


@pytest.fixture(scope="module")
def lessons() -> Lessons:
    return Lessons(DataFolder(DATA), committed())


def part(n: int, weight: float) -> tuple[list[int], list[float]]:
    return torch.randint(3, 4096, (n,)).tolist(), [weight] * n


@needs_data
def test_an_answer_is_copied_from_where_its_sentence_stands(lessons: Lessons) -> None:
    words = committed()
    texts = [text for text in itertools.islice(lessons.of_step(5, len(LEVELS) - 1, 0.0), 30) if text.branches]
    for text in texts:
        trunk = text.trunk[0]
        for (tokens, weights), taken in zip(text.branches, text.taken, strict=True):
            said = words.decode([token for token, weight in zip(tokens, weights, strict=True) if weight])
            if taken.span == (0, 1):
                assert "[" not in said
                assert not any(taken.shared)
                continue
            sentence = said.rpartition(" [")[0]
            assert words.decode(trunk[slice(*taken.span)]).strip() == sentence
            places = [place for place in taken.places if place != NOWHERE]
            assert places[0] == taken.span[0] == text.starts[taken.span[0]]
            assert places == sorted(places)
            assert taken.span[0] <= places[-1] < taken.span[1]
            asked = {
                words.decode(token).strip().lower() for token, is_it in zip(tokens, taken.shared, strict=True) if is_it
            }
            assert asked <= {words.decode(token).strip().lower() for token in trunk[slice(*taken.span)]}
    assert sum(len(text.branches) for text in texts) > 100


def test_what_a_branch_is_made_of_moves_with_its_row() -> None:
    first = Text(trunk=part(20, 0.0))
    taken = Taken(places=[NOWHERE, NOWHERE, 4, 5, NOWHERE], span=(4, 6), shared=[True, False, False, False, False])
    tokens, _ = part(5, 0.0)
    second = Text(
        trunk=part(10, 0.0),
        branches=[(tokens, [0.0, 0.0, 1.0, 1.0, 1.0])],
        taken=[taken],
        starts=[0, 0, 0, 0, 4, 4, 4, 7, 7, 7],
    )
    packed = batch([first, second], rows=1, length=40)
    branch = (packed.branches[0] == 1).nonzero()[:, 0].tolist()
    assert branch == [30, 31, 32, 33, 34]
    assert packed.copied[0, branch].tolist() == [NOWHERE, 24, 25, NOWHERE, NOWHERE]  # of the token that follows
    assert packed.spans[0, branch].tolist() == [[24, 26]] * 5
    assert packed.shared[0].nonzero()[:, 0].tolist() == [30]
    assert packed.starts[0, 20:30].tolist() == [20, 20, 20, 20, 24, 24, 24, 27, 27, 27]
    assert set(packed.starts[0, :20].tolist()) == {NOWHERE}


def test_a_full_row_takes_nothing_more() -> None:
    packed = batch([Text(trunk=part(16, 1.0)), Text(trunk=part(16, 1.0))], rows=2, length=16)
    assert packed.tokens.shape == packed.copied.shape == packed.starts.shape == (2, 16)


def test_the_shares_of_a_head_are_those_of_the_model() -> None:
    from recipe.pointing import HEADS, Pointing, reader
    from transformers import LlamaForCausalLM

    torch.manual_seed(0)
    model = LlamaForCausalLM.from_pretrained(DEMO / "base", dtype=torch.float32, attn_implementation="eager").eval()
    texts = [Text(trunk=part(20, 0.0), branches=[part(7, 1.0), part(9, 1.0)]), Text(trunk=part(30, 0.5))]
    packed = batch(texts, rows=2, length=40)
    chosen = packed.answers > 0
    with torch.inference_mode():
        told = model.model(
            input_ids=packed.tokens,
            attention_mask=packed.mask,
            position_ids=packed.places,
            output_attentions=True,
        )
        read = reader(model, compiled=False)(packed)
        torch.testing.assert_close(read.out, told.last_hidden_state, atol=1e-5, rtol=1e-5)
        for head in HEADS:
            its = told.attentions[head.layer][:, head.query][chosen]
            mine = Pointing(model).shares(read, packed, head, chosen).exp()
            torch.testing.assert_close(mine, its, atol=1e-5, rtol=1e-4)


def test_looking_at_the_right_place_is_what_a_look_costs_least_for() -> None:
    from recipe.pointing import Pointing, reader
    from transformers import LlamaForCausalLM

    torch.manual_seed(0)
    model = LlamaForCausalLM.from_pretrained(DEMO / "base", dtype=torch.float32)
    taken = Taken(places=[NOWHERE, NOWHERE, 4, 5, NOWHERE], span=(4, 6), shared=[True, False, False, False, False])
    text = Text(
        trunk=part(10, 0.0),
        branches=[(part(5, 0.0)[0], [0.0, 0.0, 1.0, 1.0, 1.0])],
        taken=[taken],
        starts=[0, 0, 0, 0, 4, 4, 4, 7, 7, 7],
    )
    packed = batch([text], rows=1, length=16)
    pointing, read = Pointing(model), reader(model, compiled=False)
    step = torch.optim.AdamW([*model.parameters(), *pointing.parameters()], lr=1e-3)

    def cost() -> dict[str, float]:
        torch.manual_seed(1)  # which words of a source are asked about
        looks = pointing.losses(read(packed), packed)
        sum(look.nats for look in looks.values()).backward()
        step.step()
        step.zero_grad()
        return {name: look.nats.item() / look.weight for name, look in looks.items() if look.weight}

    before = cost()
    for _ in range(30):
        after = cost()
    assert set(before) >= {"2.2", "3.2", "4.2", "5.0", "asked", "said"}
    assert [name for name in before if after.get(name, 0.0) > max(before[name] / 2, 0.05)] == []


def test_more_questions_about_the_sources_of_one_are_answered_by_them() -> None:
    documents = DocumentReadings()
    trained = {question for asked in documents.asked for question in asked.questions[:-1]}
    for seed in range(100):
        dice = random.Random(seed)
        sources = documents.draw(dice).sources
        about = documents.about(sources, dice, 8)
        assert about
        for reading in about:
            sentence, _, number = reading.answer.removesuffix("]").rpartition(" [")
            assert int(number) in holding(sentence, sources)
            assert reading.question in trained
        missing = documents.missing(sources, dice)
        assert missing.answer == NOT_SAID.plain(missing.language)
        assert missing.question in trained


@needs_data
def test_another_process_draws_what_this_one_would(lessons: Lessons) -> None:
    from recipe import ahead

    texts = lessons.of_step(3, 4, 0.2)
    mine = [batch(texts, rows=ahead.ROWS, length=ahead.ROW_TOKENS) for _ in range(ahead.PASSES)]
    with ahead.drawing(DataFolder(DATA), committed()) as drawn:
        for _ in range(2):  # the second is not what it had begun with
            its = drawn.of_step(3, 4, 0.2)
            assert all(torch.equal(one.tokens, other.tokens) for one, other in zip(mine, its, strict=True))
            assert all(torch.equal(one.copied, other.copied) for one, other in zip(mine, its, strict=True))
