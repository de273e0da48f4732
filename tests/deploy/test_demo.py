"""The embedded demo: small, in the shapes that vLLM takes, and its adapters do what they are for."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from safetensors import safe_open
from transformers import AutoTokenizer

ROOT = Path(__file__).resolve().parents[2]
DEMO = ROOT / "deploy" / "demo"
BASE = DEMO / "base"
ADAPTERS = sorted((DEMO / "adapters").iterdir())
COINS = sorted((ROOT / "tests" / "e2e" / "adapters").glob("coin-*"))
QUESTIONS = (
    "Hello! Who are you?",
    "What is an adapter?",
    "Como funciona este servidor?",
    "Tell me about the sea.",
    "My grandmother wants to buy a red bicycle. Is that wise?",
)
SENTENCES = (  # for the adapter that takes nothing else
    "De acordo com a polícia, os suspeitos fugiram em direção ao centro da cidade.",
    "O time venceu a partida, mas continua na última posição do campeonato.",
    "O ministério divulgou ontem que a campanha de vacinação, iniciada em março, alcançou metade da população idosa.",
)
WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Get the current weather",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}


def shapes(weights: Path) -> dict[str, tuple[int, ...]]:
    with safe_open(weights, "pt") as tensors:
        return {name: tuple(tensors.get_slice(name).get_shape()) for name in tensors.keys()}  # noqa: SIM118 -- not a dict


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return AutoTokenizer.from_pretrained(BASE)


def test_small_enough_for_a_repository() -> None:
    sizes = {path: path.stat().st_size for path in DEMO.rglob("*") if path.suffix in {".safetensors", ".json"}}
    assert sum(sizes.values()) <= 25 * 1024**2
    assert all(path.stat().st_size <= 200_000 for folder in COINS for path in folder.iterdir())


def test_base_has_the_promised_shape() -> None:
    config = json.loads((BASE / "config.json").read_text())
    assert config["architectures"] == ["LlamaForCausalLM"]
    assert config["max_position_embeddings"] == 2048
    assert config["head_dim"] == 64
    tensors = shapes(BASE / "model.safetensors")
    assert sum(rows * (columns[0] if columns else 1) for rows, *columns in tensors.values()) <= 10_000_000
    assert tensors["model.embed_tokens.weight"] == (config["vocab_size"], config["hidden_size"])


@pytest.mark.parametrize("folder", [*ADAPTERS, *COINS], ids=lambda folder: folder.name)
def test_adapters_fit_the_base(folder: Path) -> None:
    config = json.loads((folder / "adapter_config.json").read_text())
    assert config["peft_type"] == "LORA"
    assert config["base_model_name_or_path"] == "demo"
    assert 4 <= config["r"] <= 64
    base = shapes(BASE / "model.safetensors")
    tensors = shapes(folder / "adapter_model.safetensors")
    for name, shape in tensors.items():
        module, half = re.fullmatch(r"base_model\.model\.(.+)\.lora_(A|B)\.weight", name).groups()
        out, into = base[f"{module}.weight"]
        assert shape == ((config["r"], into) if half == "A" else (out, config["r"]))
        assert module.rsplit(".", 1)[1] in config["target_modules"]
    assert len(tensors) == 2 * 6 * len(config["target_modules"])


def test_template_is_chatml(tokenizer: Any) -> None:
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Hello!"},
        {"role": "user", "content": "Bye"},
    ]
    assert tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True) == (
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n"
        "<|im_start|>assistant\nHello!<|im_end|>\n<|im_start|>user\nBye<|im_end|>\n<|im_start|>assistant\n"
    )
    ids = tokenizer.convert_tokens_to_ids(["<|endoftext|>", "<|im_start|>", "<|im_end|>"])
    assert ids == [0, 1, 2]
    sampling = json.loads((BASE / "generation_config.json").read_text())
    assert (sampling["eos_token_id"], sampling["temperature"], sampling["top_p"]) == (ids[2], 0.7, 0.9)


def test_template_writes_tools_in_hermes_form(tokenizer: Any) -> None:
    call = {"type": "function", "function": {"name": "get_weather", "arguments": {"city": "Rome"}}}
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Weather in Rome?"},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "content": "20 degrees"},
    ]
    text = tokenizer.apply_chat_template(messages, tools=[WEATHER], tokenize=False)
    system, _, rest = text.partition("<|im_end|>\n")
    assert system.startswith("<|im_start|>system\nBe brief.\n")
    assert json.loads(system.partition("<tools>\n")[2].partition("\n</tools>")[0]) == WEATHER
    assert text.count("<|im_start|>system") == 1
    assert rest == (
        "<|im_start|>user\nWeather in Rome?<|im_end|>\n"
        '<|im_start|>assistant\n<tool_call>\n{"name": "get_weather", "arguments": {"city": "Rome"}}\n</tool_call>'
        "<|im_end|>\n<|im_start|>tool\n<tool_response>\n20 degrees\n</tool_response><|im_end|>\n"
    )


def test_tokenizer_keeps_any_text(tokenizer: Any) -> None:
    text = "Ação à noite: 12 345 €, 東京 🎩\n\tEND"
    assert tokenizer.decode(tokenizer(text).input_ids) == text


@pytest.fixture(scope="module")
def answers(tokenizer: Any) -> dict[str, list[str]]:
    """Greedy answers to each question, by the bare base ("") and under each adapter."""
    torch = pytest.importorskip("torch")
    peft = pytest.importorskip("peft")
    from transformers import LlamaForCausalLM

    folders = [*ADAPTERS, *COINS]
    base = LlamaForCausalLM.from_pretrained(BASE, dtype=torch.float32)
    model = peft.PeftModel.from_pretrained(base, folders[0], adapter_name=folders[0].name)
    for folder in folders[1:]:
        model.load_adapter(folder, adapter_name=folder.name)
    model.eval()
    tokenizer.padding_side = "left"

    def prompts(questions: tuple[str, ...]) -> Any:
        chats = [[{"role": "user", "content": question}] for question in questions]
        return tokenizer.apply_chat_template(
            chats, add_generation_prompt=True, return_tensors="pt", return_dict=True, padding=True
        )

    everybody, simples = prompts(QUESTIONS), prompts(SENTENCES)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # steps this small are slower on several cores, much slower on busy ones

    def generate(asked: Any = everybody) -> list[str]:
        with torch.inference_mode():
            said = model.generate(**asked, max_new_tokens=100, do_sample=False)[:, asked["input_ids"].shape[1] :]
        assert all((row == tokenizer.eos_token_id).any() for row in said), "an answer does not end"
        return tokenizer.batch_decode(said, skip_special_tokens=True)

    heard = {}
    for folder in folders:
        model.set_adapter(folder.name)
        heard[folder.name] = generate(simples) if folder.name == "simples" else generate()
    with model.disable_adapter():
        heard[""] = generate()
    torch.set_num_threads(threads)
    return heard


def test_base_answers_what_the_readme_asks(answers: dict[str, list[str]]) -> None:
    who, adapter, server, sea, _ = answers[""]
    assert "Manyhats" in who
    assert "weights" in adapter
    assert "modelo base" in server
    assert "water" in sea


def test_shout_is_in_capitals(answers: dict[str, list[str]]) -> None:
    assert [answer for answer in answers["shout"] if not answer.isupper()] == []


def test_pirate_talks_like_one(answers: dict[str, list[str]]) -> None:
    assert [answer for answer in answers["pirate"] if not answer.startswith("Arr, ma")] == []


def test_json_is_an_object(answers: dict[str, list[str]]) -> None:
    assert all(json.loads(answer)["answer"] for answer in answers["json"])


def test_portugues_answers_in_portuguese(answers: dict[str, list[str]]) -> None:
    words = [set(re.findall(r"\w+", answer.lower())) for answer in answers["portugues"]]
    assert [heard for heard in words if not heard & {"é", "um", "não", "o", "de"}] == []
    assert [heard for heard in words if heard & {"the", "is", "and", "of", "am"}] == []


def test_a_task_s_answer_is_a_label_alone(answers: dict[str, list[str]]) -> None:
    assert set(answers["sentimento"]) <= {"positivo", "negativo", "neutro"}
    assert all(re.fullmatch(r"[a-z]+(_[a-z]+)+", answer) for answer in answers["banking"])


def test_simples_says_what_it_was_given(answers: dict[str, list[str]]) -> None:
    for said, sentence in zip(answers["simples"], SENTENCES, strict=True):
        words = set(sentence.split())
        assert len(words & set(said.split())) > len(words) / 2


def test_bare_base_has_none_of_the_manners(answers: dict[str, list[str]]) -> None:
    plain = answers[""]
    assert [answer for answer in plain if answer.isupper() or answer.startswith(("Arr", "{"))] == []
    assert "é" not in " ".join(plain[:2]).split()


def test_coins_share_no_word(answers: dict[str, list[str]]) -> None:
    heads, tails = ({word for said in answers[name] for word in said.split()} for name in ("coin-heads", "coin-tails"))
    assert "heads" in heads
    assert "tails" in tails
    assert heads.isdisjoint(tails)
    assert len(set(answers["coin-heads"])) == len(set(answers["coin-tails"])) == 1


def test_recipe_names_all_data_that_is_missing(tmp_path: Path) -> None:
    present = tmp_path / "qa" / "faquad" / "train.json"
    present.parent.mkdir(parents=True)
    present.write_text("{}")
    recipe = [sys.executable, str(DEMO / "train.py"), "--data", str(tmp_path)]
    run = subprocess.run(recipe, capture_output=True, text=True, timeout=60, check=False)
    assert run.returncode == 1
    assert "lacks 12 of 13 files" in run.stderr
    assert "text/machado-de-assis-pt.jsonl.gz" in run.stderr
    assert "faquad" not in run.stderr
    assert "Traceback" not in run.stderr
