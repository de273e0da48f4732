"""The demo's adapters that have a task: what they learn from is kept apart from what they are measured on."""

from __future__ import annotations

import contextlib
import json
import random
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
DEMO = ROOT / "deploy" / "demo"
sys.path.append(str(DEMO))  # as `python deploy/demo/train.py` has it

pytest.importorskip("torch")
pytest.importorskip("peft")

from recipe import banking, held, lora, objects, sari, sentiment, simpler  # noqa: E402
from recipe.folder import BANKING, BANKING_TEST, SIMPLER, TWEETS, TWEETS_TEST, DataFolder  # noqa: E402
from recipe.held import Held  # noqa: E402
from recipe.labelled import Example, Labelling, accuracy, apart, macro_f1  # noqa: E402
from recipe.memory import Memory  # noqa: E402
from recipe.sari import Simplified  # noqa: E402
from recipe.tasks import MEASURED, TAUGHT  # noqa: E402

FILES = {
    TWEETS[0]: 'ID\ttweet\tlabel\n1\tBom  dia!\tpositive\n2\tDisse "não\tnegative\n3\tSão nove horas.\tneutral\n',
    TWEETS[1]: "ID\ttweet\tlabel\n4\tSão dez horas.\tneutral\n",
    TWEETS_TEST: "ID\ttweet\tlabel\n5\tBOM DIA! \tpositive\n6\tHoje chove.\tneutral\n",
    BANKING: 'text,category\n"My card, please?",card_arrival\nNew PIN?,change_pin\nFee?,card_payment_fee_charged\n',
    BANKING_TEST: "text,category\nWhere is my card?,card_arrival\nWhat fee?,card_payment_fee_charged\n",
    SIMPLER: (
        "production_id\tlevel\tchanged\tsplit\tsentence_text_from\tsentence_text_to\n"
        '1\tORI->NAT\tS\tN\tO "edifício" ruiu.\tO prédio caiu.\n'
        "1\tORI->NAT\tN\tN\tChove.\tChove.\n"
        f"2\tORI->NAT\tS\tN\t{'muito ' * 40}\tmuito\n"
        "8\tORI->NAT\tS\tN\tA residência ardeu.\tA casa queimou.\n"
    ),
}


@pytest.fixture
def data(tmp_path: Path) -> DataFolder:
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text, encoding="utf-8")
    return DataFolder(tmp_path)


def drawn(plan: lora.Plan, n: int = 60) -> list[tuple[str, str]]:
    """What the user says and what the assistant answers, of many conversations."""
    pairs = []
    for seed in range(n):
        messages = [one for one in plan.draw(random.Random(seed)).messages if one["role"] != "system"]
        assert [one["role"] for one in messages] == ["user", "assistant"] * (len(messages) // 2)
        pairs += [(a["content"], b["content"]) for a, b in zip(messages[::2], messages[1::2], strict=True)]
    return pairs


def test_sentimento_learns_tweets_as_they_are_but_none_that_it_is_measured_on(data: DataFolder) -> None:
    assert set(drawn(sentiment.plan(data))) == {
        ('Disse "não', "negativo"),
        ("São nove horas.", "neutro"),
        ("São dez horas.", "neutro"),
    }
    assert list(sentiment.held(data).asked) == ["BOM DIA!", "Hoje chove."]


def test_banking_learns_the_intents_whose_names_are_short(data: DataFolder) -> None:
    assert set(drawn(banking.plan(data))) == {("My card, please?", "card_arrival"), ("New PIN?", "change_pin")}
    kept = banking.held(data)
    assert list(kept.asked) == ["Where is my card?"]
    assert kept.score(["card_arrival"]) == {"accuracy": 1.0}
    assert kept.score(["card_arrival."]) == {"accuracy": 0.0}


def test_simples_is_measured_on_articles_that_it_has_not_learnt_from(data: DataFolder) -> None:
    assert set(drawn(simpler.plan(data))) == {('O "edifício" ruiu.', "O prédio caiu.")}
    kept = simpler.held(data)
    assert list(kept.asked) == ["A residência ardeu."]
    assert kept.score(["A casa queimou."]) == {"SARI": 100.0, "shared words": 1.0}
    assert kept.no_model == kept.score(["A residência ardeu."])


def test_rare_labels_are_drawn_more_often_than_they_come() -> None:
    taught = [Example(text=str(n), label="rare" if n % 16 == 0 else "common") for n in range(160)]
    draw = Labelling(taught, "Label it.").draw
    said = [label for _, label in drawn(lora.Plan(name="x", draw=draw), 2000)]
    assert 0.15 < said.count("rare") / len(said) < 0.27  # roots 3.2 and 12.2; one in sixteen as they come


def test_some_conversations_open_with_the_instruction() -> None:
    draw = Labelling([Example(text="a", label="b")], "Label it.").draw
    opened = [draw(random.Random(seed)).messages[0] for seed in range(300)]
    assert {"role": "system", "content": "Label it."} in opened
    assert 0.1 < sum(one["role"] == "system" for one in opened) / 300 < 0.3


def test_a_kept_text_is_recognized_in_any_case_and_spacing() -> None:
    taught = [Example(text=text, label="x") for text in ("Olá  Mundo", "olá", "OLÁ MUNDO ")]
    assert [one.text for one in apart(taught, [Example(text="olá mundo", label="y")])] == ["olá"]


def test_macro_f1_counts_an_answer_that_is_no_label_as_a_miss() -> None:
    kept = [Example(text=str(n), label=label) for n, label in enumerate("aaab")]
    assert macro_f1(kept, list("aaab")) == 1.0
    assert macro_f1(kept, list("aaaa")) == pytest.approx((6 / 7) / 2, abs=5e-4)
    assert macro_f1(kept, ["I do not know."] * 4) == 0.0
    assert macro_f1(kept, ["a", "a", "?", "b"]) == pytest.approx((4 / 5 + 1) / 2, abs=5e-4)
    assert accuracy(kept, ["a", "a", "?", "b"]) == 0.75


def simplified(said: str, source: str = "a b c d e f", reference: str = "a b x d") -> list[Simplified]:
    return [Simplified(source=source, said=said, reference=reference)]


def test_sari_is_100_for_what_the_editor_wrote_and_less_for_anything_else() -> None:
    assert sari.sari(simplified("A b x d")) == pytest.approx(100)
    unchanged, empty = sari.sari(simplified("a b c d e f")), sari.sari(simplified(""))
    assert 0 < unchanged < 100
    assert 0 < empty < 100
    assert sari.sari(simplified("a b x")) > unchanged


def test_sari_of_words_by_hand() -> None:
    """Words only: adds x (right) and y; keeps a, b; ought to keep d; deletes d (wrong), c, e, f."""
    assert sari._of_length(simplified("a b x y"), 1) == pytest.approx((2 / 3 + 4 / 5 + 3 / 4) / 3)


def test_shared_words_are_counted_as_often_as_they_come() -> None:
    assert sari.shared_words(simplified("a a z", reference="a b")) == pytest.approx(2 * 1 / 5)
    assert sari.shared_words(simplified("", reference="")) == 0


@pytest.mark.parametrize(
    ("said", "right"),
    [
        ('{"answer": "Hi.", "language": "en"}', True),
        ('{"language": "en", "answer": "Hi."}', True),
        ('{"answer": "Hi."}', False),
        ('{"answer": "Hi.", "language": "en", "more": "x"}', False),
        ('{"answer": "Hi.", "answer": "Ho.", "language": "en"}', False),
        ('{"answer": "", "language": "en"}', False),
        ('{"answer": {"answer": "a"}, "language": "en"}', False),
        ('{"answer": "Hi.", "language": "en"} Bye.', False),
        ('[{"answer": "Hi.", "language": "en"}]', False),
        ("[]", False),
        ("3", False),
        ("Hi.", False),
    ],
)
def test_an_object_has_exactly_its_keys(said: str, right: bool) -> None:
    assert objects.has_exactly_its_keys(said) is right


def test_the_questions_for_objects_are_in_no_training_row(data: DataFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(objects, "EVERY", 1)
    with (data.root / BANKING_TEST).open("a", encoding="utf-8") as rows:
        rows.write("new  pin?,change_pin\n")
    asked = objects.held(data).asked
    assert asked[-2:] == ["Where is my card?", "What fee?"]
    assert len(asked) > 10  # those of held_out.yaml before them


class Wearer:
    """Stands for peft's model."""

    adapter_on = True

    @contextlib.contextmanager
    def disable_adapter(self) -> Iterator[None]:
        self.adapter_on = False
        yield
        self.adapter_on = True


def memory(folder: Path) -> Memory:
    (folder / "weights").write_bytes(b"some")
    return Memory(folder / "answers", [folder / "weights"])


def test_an_adapter_is_compared_with_the_base_as_it_is_and_as_it_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def said(model: Wearer, words: Any, asked: Sequence[Any], *, most_tokens: int) -> list[str]:
        assert [one[-1]["content"] for one in asked] == ["q1", "q2"]
        assert most_tokens == 7
        told = {one[0]["content"] for one in asked if one[0]["role"] == "system"}
        return ["adapter" if model.adapter_on else "told" if told == {"Do it."} else "bare"] * 2

    monkeypatch.setattr(held, "answers", said)
    worth = {"adapter": 0.9, "told": 0.5, "bare": 0.1}
    part = Held(
        asked=["q1", "q2"],
        instruction="Do it.",
        score=lambda said: {"score": worth[said[0]]},
        most_tokens=7,
        no_model={"score": 0.3},
    )
    assert held.compare(Wearer(), None, part, memory(tmp_path)) == {
        "score": 0.9,
        "score, base": 0.1,
        "score, base told to": 0.5,
        "score, no model": 0.3,
    }


def test_answers_are_computed_once_for_the_same_weights_and_questions(tmp_path: Path) -> None:
    asked = [[{"role": "user", "content": "Olá?"}]]
    first = memory(tmp_path)
    assert first.recall(asked, 5, "base", lambda: ["ação"]) == ["ação"]
    assert memory(tmp_path).recall(asked, 5, "base", lambda: ["other"]) == ["ação"]
    assert first.recall(asked, 6, "base", lambda: ["longer"]) == ["longer"]
    assert first.recall(asked, 5, "adapter", lambda: ["worn"]) == ["worn"]
    assert first.recall([*asked, *asked], 5, "base", lambda: ["a", "b"]) == ["a", "b"]
    (tmp_path / "weights").write_bytes(b"others")
    assert Memory(tmp_path / "answers", [tmp_path / "weights"]).recall(asked, 5, "base", lambda: ["new"]) == ["new"]


def test_every_task_has_a_row_on_the_card() -> None:
    from recipe.card import TASKS

    assert {task.NAME for task in MEASURED} == {name for name, _, _ in TASKS}
    assert {task.NAME for task in TAUGHT} == {"sentimento", "banking", "simples"}


@pytest.fixture
def small(tmp_path: Path) -> Any:
    """A base of one layer: `train` writes an adapter for it, from what `draw` draws."""
    from recipe.tokenizer import committed
    from transformers import LlamaConfig, LlamaForCausalLM

    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    words = committed()
    shape = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    LlamaForCausalLM(LlamaConfig(vocab_size=len(words), **shape)).save_pretrained(tmp_path / "base")
    labelling = Labelling([Example(text="Bom dia!", label="positivo"), Example(text="Não.", label="negativo")], "")

    def train(out: str, *, draw: Any = labelling.draw, work: Path | None = None) -> Path:
        plan = lora.Plan(name="small", draw=draw, rank=2, steps=6, conversations=2, rate=0.1)
        lora.train(plan, tmp_path / "base", words, tmp_path / out, work=work)
        return tmp_path / out / "adapter_model.safetensors"

    return SimpleNamespace(train=train, draw=labelling.draw)


def test_an_adapter_is_there_as_a_whole_or_not_at_all(
    small: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "adapter"
    out.mkdir()
    (out / "adapter_config.json").write_text("half of")  # as a kill between the two files leaves it
    weights = small.train("adapter")
    assert json.loads((out / "adapter_config.json").read_text())["r"] == 2
    assert sorted(path.name for path in out.iterdir()) == ["adapter_config.json", "adapter_model.safetensors"]
    before = weights.read_bytes()
    capsys.readouterr()
    small.train("adapter")
    assert capsys.readouterr().out == "small: kept\n"
    assert weights.read_bytes() == before


def test_a_training_that_was_stopped_ends_as_one_that_was_not(
    small: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lora, "CHECKPOINT_STEPS", 2)
    work, drawn_in = tmp_path / "work", []

    def stopping(dice: random.Random) -> Any:
        drawn_in.append(dice)
        if len(drawn_in) == 2 * 5:  # in the fifth step
            raise KeyboardInterrupt
        return small.draw(dice)

    with pytest.raises(KeyboardInterrupt):
        small.train("stopped", draw=stopping, work=work)
    assert len(list(work.iterdir())) == 1
    steps: list[random.Random] = []

    def counting(dice: random.Random) -> Any:
        steps.append(dice)
        return small.draw(dice)

    stopped = small.train("stopped", draw=counting, work=work)
    assert len(steps) == 2 * 2  # four steps were kept, two were left
    assert stopped.read_bytes() == small.train("undisturbed").read_bytes()
    assert list(work.iterdir()) == []
