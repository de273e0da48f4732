"""Differences of weights written as a plain LoRA: ΔW ≈ U_r Σ_r V_rᵀ = B·A, which no product of that rank betters.

One module's matrices are in memory at a time; its factors wait on the disk until all ranks are known.
"""

from __future__ import annotations

import json
import tempfile
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from adapters import peft_config, safetensors_file
from adapters.errors import AdapterRefused
from adapters.lora_weights import PREFIX
from adapters.peft_config import CONFIG_FILE
from adapters.safetensors_file import WEIGHTS_FILE

Matrix = NDArray[np.float64]

EXACT = 1e-6  # an error that float32 files cannot hold smaller
LARGEST_RANK = 2048  # where no server's limit is known
# A whole decomposition takes time with the cube of the width: minutes at 4,096. Where few of many values can be kept,
# only they are looked for.
SKETCHED_FROM, SKETCHED_BELOW, POWER_ITERATIONS = 1024, 8, 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Spectrum:
    """The singular values of a matrix, the largest first; of a large one only those that can be kept."""

    values: NDArray[np.float64]
    rest: float = 0.0  # the others: the root of the sum of their squares

    @property
    def known(self) -> int:
        return len(self.values)

    def least_rank(self, error: float) -> int:
        """The smallest rank, at least 1, at which no more than `error` is lost; one above `known` if none does."""
        lost = self._lost()
        return max(1, int(np.count_nonzero(lost > error * lost[0])))

    def tail(self, rank: int) -> float:
        """The relative error of the best approximation with that rank."""
        lost = self._lost()
        return float(lost[rank] / lost[0]) if lost[0] else 0.0

    def _lost(self) -> NDArray[np.float64]:
        """At rank 0, 1, 2, ... `known`."""
        squares = np.append(self.values, self.rest) ** 2
        lost: NDArray[np.float64] = np.sqrt(np.cumsum(squares[::-1])[::-1])
        return lost


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """How near the LoRA shall come: at one rank, or at the least rank whose error is at most `error`."""

    rank: int | None = None
    error: float | None = None  # ‖ΔW − B·A‖ / ‖ΔW‖ of each module, Frobenius
    limit: int = LARGEST_RANK  # no module gets a larger rank

    def __post_init__(self) -> None:
        if self.rank is not None and self.rank < 1:
            raise AdapterRefused("rank_zero", f"rank {self.rank} leaves no weights; convert to a rank of 1 or more")

    @property
    def most(self) -> int:
        """The largest rank that a module can get."""
        return self.limit if self.rank is None else self.rank

    def rank_for(self, module: str, spectrum: Spectrum) -> int:
        """Of a module with these singular values; raises AdapterRefused where the error takes more than the limit."""
        if self.rank is not None:
            return min(self.rank, spectrum.least_rank(0.0))
        least = spectrum.least_rank(EXACT if self.error is None else self.error)
        if self.error is not None and least > self.limit:
            takes = f"rank {least}" if least <= spectrum.known else f"a rank above {spectrum.known}"
            raise AdapterRefused(
                "rank_above_limit",
                f"an error of at most {self.error:g} takes {takes} in {module!r}, and this server takes up to "
                f"{self.limit}; allow a larger error, give a rank instead (its error is shown), or raise "
                "MANYHATS_MAX_RANK",
            )
        return min(least, self.limit)


@dataclass(frozen=True, slots=True, kw_only=True)
class Converted:
    """What a conversion did."""

    kind: str  # "LORA" where only ranks were cut, "PISSA", "DORA", "IA3", "CHECKPOINT", ...
    errors: Mapping[str, float]  # the relative error of every module
    left_out: Mapping[str, float] = field(default_factory=dict)  # tensors that change and are not in it

    @property
    def facts(self) -> dict[str, object]:
        """For a version's details; without the rank, which preflight reads from the files."""
        told: dict[str, object] = {"kind": self.kind, "relative_error": dict(self.errors)}
        return told | ({"left_out": dict(self.left_out)} if self.left_out else {})


def write(into: Path, differences: Iterable[tuple[str, Matrix]], target: Target) -> dict[str, float]:
    """Write (module, ΔW), one after the other, as a LoRA of scale 1; returns the relative error of every module.

    A module without any change gets no tensors. Raises AdapterRefused.
    """
    errors: dict[str, float] = {}
    with tempfile.TemporaryDirectory(dir=into.parent) as name:
        waiting = Path(name)
        for module, difference in differences:
            made = factors(module, difference, target)
            if made is not None:
                b, a, errors[module] = made
                put_aside(waiting, len(errors) - 1, b, a)
            del difference
        assemble(into, waiting, list(errors))
    return errors


def factors(module: str, difference: Matrix, target: Target) -> tuple[Matrix, Matrix, float] | None:
    """(B, A, relative error), both of a size that bfloat16 holds well; None for a difference of nothing."""
    u, spectrum, vt = _leading(difference, target.most)
    if spectrum.values[0] == 0:
        return None
    rank = target.rank_for(module, spectrum)
    root = np.sqrt(spectrum.values[:rank])
    return u[:, :rank] * root, root[:, None] * vt[:rank], spectrum.tail(rank)


def _leading(difference: Matrix, most: int) -> tuple[Matrix, Spectrum, Matrix]:
    """U, the singular values and Vᵀ: all of them, or of a large matrix the `most` largest.

    These come from a random sketch with power iterations (Halko, Martinsson and Tropp, arXiv 0909.4061), with a fixed
    seed. What it leaves out is not estimated: the sketch is orthonormal, so ‖ΔW‖² − Σσ² is exactly what is lost.
    """
    if min(difference.shape) < SKETCHED_FROM or SKETCHED_BELOW * most > min(difference.shape):
        u, values, vt = np.linalg.svd(difference, full_matrices=False)
        return u, Spectrum(values=values), vt
    from sklearn.utils.extmath import randomized_svd

    u, values, vt = randomized_svd(
        difference,
        most,
        n_oversamples=max(16, most // 2),
        n_iter=POWER_ITERATIONS,
        power_iteration_normalizer="QR",
        random_state=0,
    )
    rest = max(0.0, float(np.linalg.norm(difference)) ** 2 - float(np.sum(values**2)))
    return u, Spectrum(values=values, rest=rest**0.5), vt


def decomposed(b: Matrix, a: Matrix) -> tuple[Matrix, Spectrum, Matrix]:
    """The singular value decomposition of B·A, (U, values, Vᵀ), without forming the product."""
    q_b, r_b = np.linalg.qr(b)
    q_a, r_a = np.linalg.qr(a.T)
    u, values, vt = np.linalg.svd(r_b @ r_a.T, full_matrices=False)
    return q_b @ u, Spectrum(values=values), vt @ q_a.T


def put_aside(folder: Path, number: int, b: Matrix, a: Matrix) -> None:
    """Keep one module's factors on the disk until `assemble`."""
    np.save(folder / f"{number}.b.npy", b.astype(np.float32))
    np.save(folder / f"{number}.a.npy", a.astype(np.float32))


def assemble(into: Path, folder: Path, modules: list[str]) -> None:
    """The two files of a LoRA of scale 1, of the factors that were put aside; raises AdapterRefused for none."""
    if not modules:
        raise AdapterRefused("no_effect", "nothing differs from the base; train the adapter, or save it after training")
    shapes: dict[str, tuple[int, ...]] = {}
    halves: dict[str, Path] = {}
    ranks: dict[str, int] = {}
    for number, module in enumerate(modules):
        for half in "AB":
            name = f"{PREFIX}{module}.lora_{half}.weight"
            halves[name] = folder / f"{number}.{half.lower()}.npy"
            shapes[name] = np.load(halves[name], mmap_mode="r").shape
        ranks[module] = shapes[f"{PREFIX}{module}.lora_A.weight"][0]
    with safetensors_file.create(into / WEIGHTS_FILE, shapes) as tensors:
        for name, path in halves.items():
            tensors[name][:] = np.load(path, mmap_mode="r")
    r = Counter(ranks.values()).most_common(1)[0][0]
    patterns = {peft_config.exactly(module): rank for module, rank in ranks.items() if rank != r}
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "r": r,
        "lora_alpha": r,
        "rank_pattern": patterns,
        "alpha_pattern": patterns,
        "target_modules": sorted({module.rpartition(".")[2] for module in modules}),
        "bias": "none",
    }
    (into / CONFIG_FILE).write_bytes(peft_config.staged(json.dumps(config).encode()))
