"""An S3 server on this machine, and the environment that leads there."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import pytest

ENVIRONMENT = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_DEFAULT_REGION": "us-east-1"}


@contextmanager
def served() -> Iterator[str]:
    """Its address, while it runs in threads of this process."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        yield "http://{}:{}".format(*server.get_host_and_port())
    finally:
        server.stop()


def lead_there(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    """Have this process and its children find the server, as any server is found."""
    for name, value in {**ENVIRONMENT, "AWS_ENDPOINT_URL": address}.items():
        monkeypatch.setenv(name, value)


@cache
def session() -> Any:
    """What a client needs and takes most of its time to read: the same for every test."""
    from aiobotocore.session import AioSession

    return AioSession()
