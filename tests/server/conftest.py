"""A whole server without a socket: real storage, registry and routes around an engine that answers from a script."""

from __future__ import annotations

import json
import shutil
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import anthropic
import httpx2
import numpy as np
import openai
import pytest
from safetensors.numpy import save_file

from adapters.base_model import BaseModel
from retrieval.embedding import Embedder
from server.app import create_app
from server.boot import assemble
from server.engine.fake import FakeEngine
from server.services import Services
from server.settings import Settings
from server.storage.database import Database

BASE = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "vocab_size": 64,
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
}


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> BaseModel:
    folder = tmp_path_factory.mktemp("base")
    (folder / "config.json").write_text(json.dumps(BASE))
    return BaseModel.read(folder)


@pytest.fixture(scope="session")
def embedder(embedder_cache: Path) -> Embedder:
    return Embedder(cache=embedder_cache)


@pytest.fixture
def make_adapter(tmp_path: Path) -> Callable[..., Path]:
    """Write a small adapter that fits the base; other seeds are other bytes."""

    def make(name: str = "adapter", *, seed: int = 0, rank: int = 2) -> Path:
        folder = tmp_path / "made" / f"{name}-{seed}"
        folder.mkdir(parents=True)
        random = np.random.default_rng(seed)
        tensors = {}
        for layer in range(2):
            module = f"base_model.model.model.layers.{layer}.self_attn.q_proj"
            tensors[f"{module}.lora_A.weight"] = random.standard_normal((rank, 16), dtype=np.float32)
            tensors[f"{module}.lora_B.weight"] = random.standard_normal((16, rank), dtype=np.float32)
        save_file(tensors, folder / "adapter_model.safetensors")
        config = {
            "peft_type": "LORA",
            "task_type": "CAUSAL_LM",
            "r": rank,
            "lora_alpha": 4,
            "target_modules": ["q_proj"],
            "base_model_name_or_path": "demo",
        }
        (folder / "adapter_config.json").write_text(json.dumps(config))
        return folder

    return make


@pytest.fixture
def engine() -> FakeEngine:
    return FakeEngine()


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(engine="fake", data_dir=tmp_path / "data", adapter_roots=(str(tmp_path / "made"),), max_adapters=4)


@pytest.fixture
async def services(
    settings: Settings, engine: FakeEngine, base: BaseModel, embedder: Embedder, migrated: Path
) -> AsyncIterator[Services]:
    settings.data_dir.mkdir(mode=0o700)
    shutil.copyfile(migrated, settings.data_dir / "manyhats.db")
    database = Database(settings.sql_url)
    services = assemble(settings, engine=engine, base=base, embedder=embedder, database=database)
    yield services
    await services.background.drain(0)
    await services.slots.close()
    services.close()


@pytest.fixture
async def http(services: Services) -> AsyncIterator[httpx2.AsyncClient]:
    """Plain HTTP to the app, without a key."""
    transport = httpx2.ASGITransport(app=create_app(services))
    async with httpx2.AsyncClient(transport=transport, base_url="http://127.0.0.1:8000") as client:
        yield client


@pytest.fixture
async def client(http: httpx2.AsyncClient) -> openai.AsyncOpenAI:
    """The official client, on the same app."""
    return openai.AsyncOpenAI(
        api_key="none-needed", base_url="http://127.0.0.1:8000/v1", http_client=http, max_retries=0
    )


@pytest.fixture
async def claude(http: httpx2.AsyncClient) -> anthropic.AsyncAnthropic:
    """Anthropic's client, on the same app."""
    return anthropic.AsyncAnthropic(
        api_key="none-needed", base_url="http://127.0.0.1:8000", http_client=http, max_retries=0
    )


@pytest.fixture
def add(services: Services, make_adapter: Callable[..., Path]) -> Callable[..., Any]:
    """Register an adapter the way HTTP does."""
    from server.intake import Order, from_source

    def register(name: str, *, seed: int = 0, **order: Any) -> Any:
        source = str(make_adapter(name, seed=seed))
        version, _ = services.intake.take(Order(name=name, source=source, stage=from_source(source), **order))
        return version

    return register
