"""How much of each kind of adapter a LoRA of some rank holds: `python -m bench.conversion --out docs/conversion.png`.

Each kind is trained for a moment on the demo's documents, over the demo's base; what it adds to each weight is
decomposed, and the share that a rank does not hold is printed as a table and drawn.
"""

from __future__ import annotations

import argparse
import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from adapters.base_model import BaseModel
from adapters.differences import differences

DEMO = Path(__file__).parents[1] / "deploy" / "demo"
RANKS = (1, 2, 4, 8, 16, 32, 64, 128)
TARGETS = ["q_proj", "v_proj", "up_proj", "down_proj"]
STEPS = 30
BATCH, LENGTH = 2, 64

KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "DoRA": ("LORA", {"r": 8, "use_dora": True}),
    "LoHa": ("LOHA", {"r": 8}),
    "LoKr": ("LOKR", {"r": 8}),
    "IA3": ("IA3", {"feedforward_modules": ["down_proj"]}),
    "OFT": ("OFT", {"oft_block_size": 16}),
    "BOFT": ("BOFT", {"boft_block_size": 4}),
    "VeRA": ("VERA", {"r": 64}),
    "FourierFT": ("FOURIERFT", {"n_frequency": 500}),
    "HRA": ("HRA", {"r": 8}),
    "whole model": ("", {}),
    "AdaLoRA": ("ADALORA", {"init_r": 12, "target_r": 8, "total_step": STEPS + 20, "tinit": 5, "tfinal": 25}),
    "C3A": ("C3A", {"block_size": 64}),
    "DEFT": ("DEFT", {}),
    "DeLoRA": ("DELORA", {"r": 8}),
    "GraLoRA": ("GRALORA", {"r": 8, "gralora_k": 2}),
    "HiRA": ("HIRA", {"r": 8}),
    "MiSS": ("MISS", {"r": 8}),
    "PVeRA": ("PVERA", {"r": 64}),
    "RandLoRA": ("RANDLORA", {"r": 8}),
    "RoAd": ("ROAD", {}),
    "SHiRA": ("SHIRA", {"r": 8}),
    "VB-LoRA": ("VBLORA", {"num_vectors": 64, "vector_length": 64, "r": 4, "topk": 2}),
    "WaveFT": ("WAVEFT", {"n_frequency": 500}),
}
DRAWN = list(KINDS)[:10]
COLOURS = ("#1f5fb4", "#c8501e", "#2d8a3e", "#8d3fb0", "#b3261e", "#6b5b3e", "#c2489a", "#4f4f4f", "#8a8a00", "#0d8f9b")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="The picture, a PNG.")
    parser.add_argument("--kinds", nargs="*", default=list(KINDS), choices=list(KINDS), metavar="KIND")
    given = parser.parse_args()
    warnings.simplefilter("ignore")  # PEFT's, of several kinds
    lost: dict[str, list[float]] = {}
    print("| kind | " + " | ".join(f"{rank}" for rank in RANKS) + " |")
    print("|---|" + "---|" * len(RANKS))
    for kind, errors in measured(given.kinds):
        lost[kind] = errors
        print(f"| {kind} | " + " | ".join(_shown(error) for error in errors) + " |", flush=True)
    draw({kind: errors for kind, errors in lost.items() if kind in DRAWN}, given.out)


def measured(kinds: Sequence[str]) -> Iterator[tuple[str, list[float]]]:
    """(kind, ‖ΔW − B·A‖ / ‖ΔW‖ at each of RANKS, over all modules together)."""
    base = BaseModel.read(DEMO / "base")
    for kind in kinds:
        with tempfile.TemporaryDirectory() as name:
            train(kind, Path(name))
            found = differences(Path(name), base)
            values = [np.linalg.svd(found.of(module), compute_uv=False) for module in found.modules]
        whole = sum(float(np.sum(own**2)) for own in values)
        yield kind, [float(np.sqrt(sum(np.sum(own[rank:] ** 2) for own in values) / whole)) for rank in RANKS]


def train(kind: str, into: Path) -> None:
    """An adapter of that kind, or a whole model, after a moment's training."""
    import torch
    from peft import get_peft_model
    from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING
    from transformers import AutoModelForCausalLM, AutoTokenizer

    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_pretrained(DEMO / "base", dtype=torch.float32)
    text = "\n\n".join(path.read_text() for path in sorted((DEMO / "documents").glob("*.md")))
    tokens = torch.tensor(AutoTokenizer.from_pretrained(DEMO / "base")(text, verbose=False)["input_ids"])
    peft_type, options = KINDS[kind]
    if peft_type:
        config = PEFT_TYPE_TO_CONFIG_MAPPING[peft_type](task_type="CAUSAL_LM", target_modules=TARGETS, **options)
        model = get_peft_model(model, config)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.Adam(trained, lr=2e-3 if peft_type else 1e-4)
    model.train()
    for _ in range(STEPS):
        starts = torch.randint(0, len(tokens) - LENGTH, (BATCH,))
        batch = torch.stack([tokens[start : start + LENGTH] for start in starts])
        model(batch, labels=batch).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    model.save_pretrained(into)


def draw(lost: Mapping[str, Sequence[float]], path: Path) -> None:
    """Error against rank, one line per kind, at twice the size that it is shown in."""
    width, height, left, top, right, bottom = 1600, 960, 130, 60, 260, 110
    image = Image.new("RGB", (width, height), "white")
    pen = ImageDraw.Draw(image)
    font, small = ImageFont.load_default(size=30), ImageFont.load_default(size=26)
    steps = len(RANKS) - 1

    def place(step: float, error: float) -> tuple[float, float]:
        return left + (width - left - right) * step / steps, top + (height - top - bottom) * (1 - error)

    for tenth in range(0, 11, 2):
        pen.line([place(0, tenth / 10), place(steps, tenth / 10)], fill="#dddddd", width=2)
        pen.text((left - 15, place(0, tenth / 10)[1]), f"{tenth / 10:.1f}", fill="#333333", font=small, anchor="rm")
    for step, rank in enumerate(RANKS):
        pen.text((place(step, 0)[0], height - bottom + 18), str(rank), fill="#333333", font=small, anchor="ma")
    middle = left + (width - left - right) / 2
    pen.text((middle, height - 12), "rank of the LoRA", fill="black", font=font, anchor="mb")
    pen.text((left - 100, 12), "relative error (Frobenius)", fill="black", font=font)
    for errors, colour in zip(lost.values(), COLOURS, strict=False):
        points = [place(step, error) for step, error in enumerate(errors)]
        pen.line(points, fill=colour, width=5, joint="curve")
        for x, y in points:
            pen.ellipse([x - 7, y - 7, x + 7, y + 7], fill=colour)
    for row, ((kind, _), colour) in enumerate(
        sorted(zip(lost.items(), COLOURS, strict=False), key=lambda one: -sum(one[0][1]))
    ):
        y = top + 40 + 46 * row
        pen.line([(width - right + 30, y), (width - right + 70, y)], fill=colour, width=6)
        pen.text((width - right + 82, y), kind, fill="black", font=small, anchor="lm")
    image.quantize(64).save(path, optimize=True)


def _shown(error: float) -> str:
    return "0" if error < 5e-6 else f"{error:.3f}" if error >= 0.001 else "<0.001"


if __name__ == "__main__":
    main()
