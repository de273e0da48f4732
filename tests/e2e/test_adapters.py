"""Adapters over HTTP while the engine runs: from where they come, and what happens when their files go."""

from __future__ import annotations

import io
import json
import shutil
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest
import torch
from safetensors.torch import load_file, save_file

ASK: Any = [{"role": "user", "content": "Which side is it?"}]


@pytest.fixture
def make(house: Any) -> Callable[..., Path]:
    """Write an adapter of random weights beside the others; other seeds are other bytes."""

    def make(name: str, *, seed: int = 0, rank: int | None = None) -> Path:
        folder: Path = house.roots / name
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(house.roots / "coin-heads", folder)
        random = torch.Generator().manual_seed(seed)
        tensors = load_file(folder / "adapter_model.safetensors")
        config = json.loads((folder / "adapter_config.json").read_text())
        for tensor, value in tensors.items():
            shape = tuple(rank if rank and size == config["r"] else size for size in value.shape)
            tensors[tensor] = torch.randn(shape, generator=random) * 0.02
        save_file(tensors, folder / "adapter_model.safetensors")
        (folder / "adapter_config.json").write_text(json.dumps({**config, "r": rank or config["r"]}))
        return folder

    return make


@pytest.fixture
def forget(http: httpx2.Client) -> Any:
    """Names to remove when the test ends."""
    names: list[str] = []
    yield names
    for name in names:
        http.delete(f"/v1/adapters/{name}")


def _zipped(folder: Path) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in folder.iterdir():
            archive.write(file, f"checkpoint-9/{file.name}")
        archive.writestr("checkpoint-9/README.md", "not taken")
        archive.writestr("checkpoint-9/training_args.bin", b"\x80\x02not taken either")
    return buffer.getvalue()


def _tarred(folder: Path) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        archive.add(folder, arcname=".")
    return buffer.getvalue()


def _says(client: openai.OpenAI, model: str) -> str:
    answer = client.chat.completions.create(model=model, messages=ASK, max_tokens=4, temperature=0)
    assert answer.model == model
    return answer.choices[0].message.content or ""


@pytest.mark.parametrize("packed", [_zipped, _tarred], ids=["zip", "tar.gz"])
def test_an_upload_answers_at_once(
    client: openai.OpenAI, house: Any, forget: list[str], packed: Callable[[Path], bytes]
) -> None:
    forget.append("uploaded")
    body = {"name": "uploaded"}
    files = {"file": ("adapter.bin", packed(house.roots / "coin-heads"))}
    made: Any = client.post("/adapters", body=body, files=files, cast_to=object, options={"headers": _FORM})
    assert made["status"] == "ready"
    assert made["version"]["rank"] == 4
    assert _says(client, "uploaded").startswith("heads")


_FORM = {"Content-Type": "multipart/form-data"}


def test_the_same_bytes_are_one_version_wherever_they_come_from(
    http: httpx2.Client, house: Any, forget: list[str]
) -> None:
    forget.append("once")
    folder = house.roots / "coin-heads"
    made = http.post("/v1/adapters", json={"name": "once", "source": str(folder)})
    again = http.post("/v1/adapters", data={"name": "once"}, files={"file": ("a.zip", _zipped(folder))})
    third = http.post("/v1/adapters", data={"name": "once"}, files={"file": ("a.tgz", _tarred(folder))})
    assert (made.status_code, again.status_code, third.status_code) == (201, 200, 200)
    ids = {answer.json()["version"]["id"] for answer in (made, again, third)}
    assert len(ids) == 1
    other = http.post("/v1/adapters", json={"name": "once", "source": str(house.roots / "coin-tails")})
    assert other.status_code == 409
    assert "/v1/adapters/once/versions" in other.json()["error"]["message"]


def test_versions_and_alias(client: openai.OpenAI, http: httpx2.Client, coin: dict[str, Any]) -> None:
    assert _says(client, "coin").startswith("heads")
    assert _says(client, coin["tails"]["id"]).startswith("tails")
    http.post("/v1/adapters/coin/alias", json={"version": coin["tails"]["digest"][:8]})
    assert _says(client, "coin").startswith("tails")
    http.post("/v1/adapters/coin/alias", json={"version": "previous"})
    assert _says(client, "coin").startswith("heads")
    shown = http.get("/v1/adapters/coin").json()
    assert shown["traffic"] == {coin["heads"]["id"]: 1}
    assert {version["id"] for version in shown["versions"]} == {coin["heads"]["id"], coin["tails"]["id"]}
    kept = http.delete(f"/v1/adapters/coin/versions/{coin['heads']['id']}")
    assert 400 <= kept.status_code < 500  # the name points to it
    gone = http.delete(f"/v1/adapters/coin/versions/{coin['tails']['id']}")
    assert gone.status_code == 200, gone.text
    with pytest.raises(openai.NotFoundError):
        _says(client, coin["tails"]["id"])
    assert _says(client, "coin").startswith("heads")


def test_a_removed_adapter_is_gone_and_its_name_free(
    client: openai.OpenAI, http: httpx2.Client, house: Any, forget: list[str]
) -> None:
    forget.append("brief")
    http.post("/v1/adapters", json={"name": "brief", "source": str(house.roots / "coin-heads")})
    assert _says(client, "brief").startswith("heads")
    assert http.delete("/v1/adapters/brief").json()["deleted"] is True
    with pytest.raises(openai.NotFoundError):
        _says(client, "brief")
    http.post("/v1/adapters", json={"name": "brief", "source": str(house.roots / "coin-tails")})
    assert _says(client, "brief").startswith("tails")  # not what the engine had cached under the name


def test_vllm_s_own_two_calls(client: openai.OpenAI, http: httpx2.Client, house: Any, forget: list[str]) -> None:
    forget.append("runtime")
    body = {"lora_name": "runtime", "lora_path": str(house.roots / "coin-heads")}
    assert http.post("/v1/load_lora_adapter", json=body).status_code == 200
    assert _says(client, "runtime").startswith("heads")
    again = {**body, "lora_path": str(house.roots / "coin-tails"), "load_inplace": True}
    assert http.post("/v1/load_lora_adapter", json=again).status_code == 200
    assert _says(client, "runtime").startswith("tails")
    assert http.post("/v1/unload_lora_adapter", json={"lora_name": "runtime"}).status_code == 200
    with pytest.raises(openai.NotFoundError):
        _says(client, "runtime")


def test_a_rank_above_the_slots_is_cut_on_request(
    client: openai.OpenAI, http: httpx2.Client, make: Callable[..., Path], forget: list[str]
) -> None:
    forget.append("cut")
    folder = make("wide", rank=96)
    refused = http.post("/v1/adapters", json={"name": "cut", "source": str(folder)})
    assert refused.status_code == 422
    assert "convert" in refused.json()["error"]["message"]
    cut = http.post("/v1/adapters", json={"name": "cut", "source": str(folder), "convert": {"rank": 16}})
    assert cut.status_code == 201, cut.text
    assert cut.json()["version"]["rank"] == 16
    assert _says(client, "cut") is not None


def test_more_adapters_than_slots(
    client: openai.OpenAI, http: httpx2.Client, make: Callable[..., Path], forget: list[str]
) -> None:
    names = [f"many-{i}" for i in range(9)]
    for i, name in enumerate(names):
        forget.append(name)
        added = http.post("/v1/adapters", json={"name": name, "source": str(make(name, seed=i))})
        assert added.status_code == 201, added.text
    first = {name: _says(client, name) for name in names}
    assert {name: _says(client, name) for name in reversed(names)} == first


def test_the_source_folder_is_not_needed_any_more(
    client: openai.OpenAI, http: httpx2.Client, make: Callable[..., Path], forget: list[str]
) -> None:
    forget.append("moved")
    folder = make("moved", seed=41)
    http.post("/v1/adapters", json={"name": "moved", "source": str(folder)})
    shutil.rmtree(folder)
    first = _says(client, "moved")
    _evict(client, http, make, forget)
    assert _says(client, "moved") == first  # read again, from the store


def test_an_adapter_whose_stored_files_are_gone_fails_alone(
    client: openai.OpenAI, http: httpx2.Client, house: Any, make: Callable[..., Path], forget: list[str]
) -> None:
    forget.append("lost")
    made = http.post("/v1/adapters", json={"name": "lost", "source": str(make("lost", seed=42))})
    version = made.json()["version"]
    loaded = _says(client, "lost")
    (stored,) = [path for path in (house.data_dir / "blobs").rglob(version["digest"]) if path.is_dir()]
    shutil.rmtree(stored)
    assert _says(client, "lost") == loaded  # the engine still has it
    _evict(client, http, make, forget)
    with pytest.raises(openai.APIStatusError, match="lost@") as refused:
        _says(client, "lost")
    assert refused.value.status_code < 500
    assert set(refused.value.response.json()["error"]) == {"message", "type", "param", "code"}
    assert _says(client, "pirate") is not None
    assert http.get("/ready").status_code == 200
    shutil.rmtree(house.roots / "lost")


def _evict(client: openai.OpenAI, http: httpx2.Client, make: Callable[..., Path], forget: list[str]) -> None:
    """Use so many other adapters that no earlier one is left in the engine's memory."""
    for i in range(7):
        name = f"crowd-{i}"
        forget.append(name)
        http.post("/v1/adapters", json={"name": name, "source": str(make(name, seed=100 + i))})
        _says(client, name)
