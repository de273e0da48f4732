"""Conversion and mixing over HTTP: what is registered, what its details tell, what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import openai
import pytest
from safetensors.numpy import load_file, save_file

from adapters.base_model import BaseModel
from server.services import Services
from server.settings import Settings

Make = Callable[..., Path]
Add = Callable[..., Any]
MODULES = [f"model.layers.{layer}.self_attn.q_proj" for layer in range(2)]


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return settings.model_copy(update={"max_rank": 8})


@pytest.fixture
def base(base: BaseModel, tmp_path_factory: pytest.TempPathFactory) -> BaseModel:
    """The same with weights for two of its layers."""
    assert base.weights is not None
    folder = base.weights._folder
    if not (folder / "model.safetensors").exists():
        rng = np.random.default_rng(0)
        weights = {f"{name}.weight": rng.normal(size=shape).astype(np.float32) for name, shape in base.modules.items()}
        save_file(weights, folder / "model.safetensors")
        base.weights._files.clear()
    return base


@pytest.fixture
def ia3(tmp_path: Path) -> Path:
    folder = tmp_path / "made" / "ia3"
    folder.mkdir(parents=True)
    rng = np.random.default_rng(1)
    tensors = {f"base_model.model.{name}.ia3_l": rng.normal(1, 0.2, (16, 1)).astype(np.float32) for name in MODULES}
    save_file(tensors, folder / "adapter_model.safetensors")
    config = {"peft_type": "IA3", "task_type": "CAUSAL_LM", "target_modules": ["q_proj"], "feedforward_modules": []}
    (folder / "adapter_config.json").write_text(json.dumps(config))
    return folder


async def test_another_kind_is_refused_with_the_way_and_then_converted(http: httpx2.AsyncClient, ia3: Path) -> None:
    order = {"name": "scaled", "source": str(ia3)}
    refused = await http.post("/v1/adapters", json=order)
    assert refused.status_code == 422
    assert refused.json()["error"]["code"] == "wrong_peft_type"
    assert "register it with convert" in refused.json()["error"]["message"]
    made = await http.post("/v1/adapters", json={**order, "convert": {"rank": 4}})
    assert made.status_code == 201, made.text
    told = made.json()["version"]["details"]["conversion"]
    assert (told["kind"], told["rank"], set(told["relative_error"])) == ("IA3", 4, set(MODULES))
    assert all(0 < error < 1 for error in told["relative_error"].values())


async def test_a_wanted_error_is_met(http: httpx2.AsyncClient, ia3: Path) -> None:
    order = {"name": "near", "source": str(ia3), "convert": {"error": 0.5}}
    made = (await http.post("/v1/adapters", json=order)).json()["version"]
    assert all(error <= 0.5 for error in made["details"]["conversion"]["relative_error"].values())
    nearer = await http.post("/v1/adapters", json={**order, "name": "nearer", "convert": {"error": 0.001}})
    assert (nearer.status_code, nearer.json()["error"]["code"]) == (422, "rank_above_limit")


@pytest.mark.parametrize("wish", [{"rank": 2, "error": 0.1}, {"rank": 0}, {"error": 0}, {"error": 1.5}, {"ranks": 2}])
async def test_wishes_that_mean_nothing_are_400(http: httpx2.AsyncClient, ia3: Path, wish: dict[str, Any]) -> None:
    order = {"name": "scaled", "source": str(ia3), "convert": wish}
    assert (await http.post("/v1/adapters", json=order)).status_code == 400


async def test_a_fine_tuned_model_in_an_allowed_folder(
    http: httpx2.AsyncClient, base: BaseModel, tmp_path: Path
) -> None:
    assert base.weights is not None
    tensors = load_file(base.weights._folder / "model.safetensors")
    changed = f"{MODULES[0]}.weight"
    tensors[changed] = tensors[changed] + np.outer(np.arange(16), np.ones(16)).astype(np.float32)
    folder = tmp_path / "made" / "tuned"
    folder.mkdir(parents=True)
    save_file(tensors, folder / "model.safetensors")
    order = {"name": "tuned", "source": str(folder)}
    assert (await http.post("/v1/adapters", json=order)).json()["error"]["code"] == "config_missing"
    made = await http.post("/v1/adapters", json={**order, "convert": {}})
    assert made.status_code == 201, made.text
    assert made.json()["version"]["rank"] == 1
    assert made.json()["version"]["details"]["conversion"]["kind"] == "CHECKPOINT"
    outside = tmp_path / "elsewhere"
    folder.rename(outside)
    refused = await http.post("/v1/adapters", json={"name": "x", "source": str(outside), "convert": {}})
    assert refused.json()["error"]["code"] == "not_allowed"
    folder.mkdir()
    (folder / "model.safetensors").symlink_to(outside / "model.safetensors")
    linked = await http.post("/v1/adapters", json={"name": "x", "source": str(folder), "convert": {}})
    assert linked.json()["error"]["code"] == "links"


async def test_a_mix_is_one_more_adapter(
    http: httpx2.AsyncClient, client: openai.AsyncOpenAI, services: Services, add: Add
) -> None:
    one, other = add("one", seed=1), add("other", seed=2)
    made = await http.post("/v1/adapters", json={"name": "blend", "mix": {"adapters": {"one": 0.7, "other": 0.3}}})
    assert made.status_code == 201, made.text
    version = made.json()["version"]
    assert version["rank"] == one.rank + other.rank
    told = version["details"]["mix"]
    assert told["method"] == "linear"
    assert {one["version"]: one["weight"] for one in told["adapters"]} == {one.id: 0.7, other.id: 0.3}
    assert version["source"].startswith("mix (linear): ")
    assert one.id in version["source"]
    answer = await client.chat.completions.create(model="blend", messages=[{"role": "user", "content": "hello"}])
    assert answer.model == "blend"


async def test_the_same_mix_is_built_once(http: httpx2.AsyncClient, add: Add, monkeypatch: pytest.MonkeyPatch) -> None:
    import server.intake

    add("one", seed=1)
    add("other", seed=2)
    mix = {"adapters": {"one": 1, "other": 1}, "method": "dare_ties", "density": 0.7, "seed": 5}
    first = await http.post("/v1/adapters", json={"name": "blend", "mix": mix, "convert": {"rank": 3}})
    assert first.status_code == 201, first.text

    def never(*_: object) -> None:
        raise AssertionError("built twice")

    monkeypatch.setattr(server.intake, "mix", never)
    turned = {**mix, "adapters": {"other": 1, "one": 1}}
    again = await http.post("/v1/adapters", json={"name": "blend", "mix": turned, "convert": {"rank": 3}})
    assert again.status_code == 200, again.text
    renamed = await http.post("/v1/adapters", json={"name": "same", "mix": turned, "convert": {"rank": 3}})
    digests = {answer.json()["version"]["digest"] for answer in (first, again, renamed)}
    assert len(digests) == 1
    assert renamed.json()["version"]["details"]["mix"]["seed"] == 5
    assert renamed.json()["version"]["details"]["conversion"]["rank"] == 3


async def test_a_mix_of_too_many_ranks_is_refused_with_the_way_out(http: httpx2.AsyncClient, add: Add) -> None:
    names = [add(f"a{i}", seed=i).adapter for i in range(5)]
    order = {"name": "blend", "mix": {"adapters": dict.fromkeys(names, 1)}}
    refused = await http.post("/v1/adapters", json=order)
    assert refused.json()["error"]["code"] == "rank_above_limit"
    cut = await http.post("/v1/adapters", json={**order, "convert": {"rank": 8}})
    assert cut.status_code == 201, cut.text
    assert all(0 < lost < 1 for lost in cut.json()["version"]["details"]["conversion"]["relative_error"].values())


async def test_a_mix_is_a_version_too_and_takes_versions(http: httpx2.AsyncClient, add: Add) -> None:
    one = add("one", seed=1)
    second = add("one", seed=2, as_version=True)
    body = {"mix": {"adapters": {one.id: 0.5, second.id: 0.5}}, "activate": True}
    made = await http.post("/v1/adapters/one/versions", json=body)
    assert made.status_code == 201, made.text
    assert made.json()["traffic"] == {made.json()["version"]["id"]: 1}
    await http.post("/v1/adapters/one/alias", json={"traffic": {one.id: 1, second.id: 1}})
    several = await http.post("/v1/adapters", json={"name": "x", "mix": {"adapters": {"one": 1, one.id: 1}}})
    assert several.json()["error"]["code"] == "bad_mix"


@pytest.mark.parametrize(
    ("mix", "status"),
    [
        ({"adapters": {"one": 1}}, 422),
        ({"adapters": {"one": 1, "nobody": 1}}, 404),
        ({"adapters": {"one": 1, "other": 0}}, 422),
        ({"adapters": {"one": 1, "other": 1}, "method": "slerp"}, 400),
        ({"adapters": {"one": 1, "other": 1}, "density": 0}, 400),
        ({"adapters": {"one": 1, "other": "much"}}, 400),
    ],
)
async def test_mixes_that_cannot_be(http: httpx2.AsyncClient, add: Add, mix: dict[str, Any], status: int) -> None:
    add("one", seed=1)
    add("other", seed=2)
    answer = await http.post("/v1/adapters", json={"name": "blend", "mix": mix})
    assert answer.status_code == status, answer.text
    assert (await http.get("/v1/adapters/blend")).status_code == 404


async def test_a_mix_has_no_source(http: httpx2.AsyncClient, ia3: Path) -> None:
    body = {"name": "x", "source": str(ia3), "mix": {"adapters": {"one": 1, "other": 1}}}
    assert (await http.post("/v1/adapters", json=body)).status_code == 400
