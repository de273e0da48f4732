"""QLoRA beside LoRA: `python -m bench.training`; the same data in turns, each run in a process of its own.

    python -m bench.training                          # the demo base
    python -m bench.training --model ~/Qwen3-0.6B --steps 20
    python -m bench.training --random 1024x16 --steps 4   # a Llama of that width and depth, with random weights

Prints peak memory (resident, of the whole process), seconds (of the steps alone) and the loss on held-out examples.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from contextlib import suppress
from pathlib import Path
from statistics import median
from typing import Any

from adapters.training.history import Asked, Step
from adapters.training.method import Method
from adapters.training.train import Interrupted, Order, train

DEMO = Path(__file__).parents[1] / "deploy" / "demo" / "base"
KINDS: dict[str, dict[str, Any]] = {"LoRA": {}, "QLoRA (nf4)": {"quantization": "nf4"}}
PLACES = ("a recepção", "a farmácia", "o laboratório", "a pediatria", "o estacionamento", "a ouvidoria", "o arquivo")
FLOORS = ("no térreo", "no primeiro andar", "no segundo andar", "no terceiro andar", "no subsolo")
WAYS = ("Onde fica {}?", "Em que andar fica {}?", "Preciso achar {}. Onde é?", "{}, por favor: onde?")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=DEMO, help="The base, a folder.")
    parser.add_argument("--random", metavar="WIDTHxDEPTH", help="Make the base: a Llama with random weights.")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--one", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        print(json.dumps(run(given.model, given.one, given.steps, given.threads)))
        return
    with tempfile.TemporaryDirectory() as folder:
        model = _random(Path(folder), given.random) if given.random else given.model
        found: dict[str, list[dict[str, float]]] = {kind: [] for kind in KINDS}
        for _ in range(given.rounds):
            for kind, runs in found.items():
                runs.append(_apart(model, kind, given))
    name = f"random weights, {given.random}" if given.random else model.name
    print(
        f"{given.steps} steps of 4 examples; base: {name}, {found['LoRA'][0]['n_parameters'] / 1e6:.1f} M parameters\n"
    )
    print("| | peak memory, MiB | seconds | validation loss |\n|---|---|---|---|")
    for kind, runs in found.items():
        peak, seconds, loss = (median(run[field] for run in runs) for field in ("peak", "seconds", "loss"))
        print(f"| {kind} | {peak / 2**20:,.0f} | {seconds:.1f} | {loss:.3f} |")


def run(model: Path, kind: str, steps: int, threads: int) -> dict[str, float]:
    """One run, in this process."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        examples = _examples()
        (folder / "training.jsonl").write_text(
            "".join(examples[::5] + examples[1::5] + examples[2::5] + examples[3::5])
        )
        (folder / "validation.jsonl").write_text("".join(examples[4::5]))
        asked = {"batch_size": 4, "n_epochs": max(1, steps // 28)} | KINDS[kind]
        last: list[Step] = []

        def tell(step: Step) -> Asked:
            last[:] = [step] if step.valid_loss is not None or not last else last
            return "cancel" if step.number == steps else "go"

        order = Order(
            base=model,
            context_tokens=512,
            method=Method.model_validate({"supervised": {"hyperparameters": asked}}),
            training=folder / "training.jsonl",
            validation=folder / "validation.jsonl",
            threads=threads,
        )
        with suppress(Interrupted):
            train(order, folder / "work", tell)
        spent = json.loads((folder / "work" / "steps.jsonl").read_text().splitlines()[-1])
        return {
            "peak": spent["peak_memory_bytes"],
            "seconds": spent["seconds"],
            "loss": last[0].valid_loss if last and last[0].valid_loss is not None else float("nan"),
            "n_parameters": _n_parameters(model),
        }


def _apart(model: Path, kind: str, given: argparse.Namespace) -> dict[str, float]:
    command = [sys.executable, "-m", "bench.training", "--model", str(model), "--one", kind]
    command += ["--steps", str(given.steps), "--threads", str(given.threads)]
    told = subprocess.run(command, check=True, capture_output=True, text=True)
    return dict(json.loads(told.stdout.splitlines()[-1]))


def _examples() -> list[str]:
    """140 questions of which floor a place is on; the floors follow from the places, so held-out ones can be known."""
    made = []
    for number in range(140):
        place, way = PLACES[number % 7], WAYS[number // 7 % 4]
        greeting = ("", "Bom dia! ", "Olá, ", "Por gentileza, ", "Com licença: ")[number // 28]
        turns = [
            {"role": "user", "content": greeting + way.format(place)},
            {"role": "assistant", "content": f"Fica {FLOORS[number % 7 % 5]}."},
        ]
        made.append(json.dumps({"messages": turns}, ensure_ascii=False) + "\n")
    return made


def _random(folder: Path, size: str) -> Path:
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    width, depth = (int(part) for part in size.split("x"))
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        shutil.copy(DEMO / name, folder / name)
    config = LlamaConfig(
        vocab_size=4096,
        hidden_size=width,
        intermediate_size=3 * width,
        num_hidden_layers=depth,
        num_attention_heads=width // 64,
        num_key_value_heads=width // 128,
        max_position_embeddings=2048,
        tie_word_embeddings=True,
        bos_token_id=0,
        eos_token_id=2,
        pad_token_id=0,
    )
    torch.manual_seed(0)
    LlamaForCausalLM(config).to(torch.bfloat16).save_pretrained(folder)
    return folder


def _n_parameters(model: Path) -> int:
    from adapters.safetensors_file import SafetensorsFile

    files = [SafetensorsFile.open(path) for path in model.glob("*.safetensors")]
    return sum(_product(tensor.shape) for file in files for tensor in file.tensors.values())


def _product(shape: tuple[int, ...]) -> int:
    product = 1
    for length in shape:
        product *= length
    return product


if __name__ == "__main__":
    main()
