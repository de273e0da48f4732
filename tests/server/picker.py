"""An endpoint picker as its published contract describes it: what it reads of a server's page, and how it scores.

Source: llm-d/llm-d-router at v0.10.0, docs/plugin-metric-protocol.md and the README of its lora-affinity-scorer; these
followed kubernetes-sigs/gateway-api-inference-extension, docs/proposals/003-model-server-protocol.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from prometheus_client.parser import text_string_to_metric_families

Place = Literal["there", "room", "awaited", "full"]  # best first


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """One server, as its page tells it."""

    running: frozenset[str]
    waiting: frozenset[str]
    max_lora: int
    queued: float
    busy: float
    cache: float

    @classmethod
    def of(cls, text: str) -> Seen:
        """Raises KeyError for a series that the contract asks for and the page lacks."""
        samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
        value = {sample.name: sample.value for sample in samples}
        newest = max((s for s in samples if s.name == "vllm:lora_requests_info"), key=lambda sample: sample.value)

        def listed(label: str) -> frozenset[str]:
            return frozenset(name.strip() for name in newest.labels[label].split(",") if name.strip())

        return cls(
            running=listed("running_lora_adapters"),
            waiting=listed("waiting_lora_adapters"),
            max_lora=int(newest.labels["max_lora"]),
            queued=value["vllm:num_requests_waiting"],
            busy=value["vllm:num_requests_running"],
            cache=value["vllm:kv_cache_usage_perc"],
        )

    def place(self, model: str) -> Place:
        """How it stands for a request whose body says this `model`."""
        if model in self.running:
            return "there"
        if len(self.running) + len(self.waiting) < self.max_lora:
            return "room"
        return "awaited" if model in self.waiting else "full"
