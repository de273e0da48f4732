"""Requests as the ingress hands them on."""

from __future__ import annotations

import json

from deploy.ray.messages import Request


def request(
    path: str = "/v1/chat/completions", *, method: str = "POST", body: object = None, **headers: str
) -> Request:
    """One with a JSON body (bytes as they are) and these headers."""
    return Request(
        method=method,
        path=path,
        raw_path=path.encode(),
        query=b"q=1",
        headers=((b"host", b"localhost"), *((name.encode(), value.encode()) for name, value in headers.items())),
        scheme="http",
        client=("127.0.0.1", 1),
        server=("127.0.0.1", 80),
        body=body if isinstance(body, bytes) else json.dumps(body).encode(),
    )
