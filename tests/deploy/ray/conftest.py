"""The small base model, its adapters and the embedder of the server's own tests."""

from __future__ import annotations

from tests.server.conftest import base, embedder, make_adapter

__all__ = ["base", "embedder", "make_adapter"]
