"""A Milvus Lite for tests, as a server at an address, which can be stopped and started again."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import pytest

REASON = "pymilvus and milvus-lite are not installed"


class MilvusLite:
    """A server of this process over a folder. What it has acknowledged it has again after a start."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self._running: tuple[Any, Any] | None = None
        self.start()

    @property
    def url(self) -> str:
        return f"milvus://127.0.0.1:{self.port}?index=FLAT"

    def start(self) -> None:
        from milvus_lite.adapter.grpc.server import start_server_in_thread

        server, database, port = start_server_in_thread(str(self._folder), host="127.0.0.1", port=self.port)
        assert port == self.port
        self._running = (server, database)

    def stop(self) -> None:
        if self._running is not None:
            server, database = self._running
            self._running = None
            server.stop(grace=0).wait()
            database.close()


def skip_without_milvus() -> None:
    pytest.importorskip("pymilvus", reason=REASON)
    pytest.importorskip("milvus_lite", reason=REASON)
