"""The load: streaming clients in a process of their own, light enough not to be what is measured.

    python -m bench.clients        # one JSON job per line in, one JSON result per line out

A client is one keep-alive connection that asks again as soon as its answer has ended. Frames are counted, not parsed:
only the first token and the usage at the end are looked for.
"""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from types import TracebackType
from typing import Any, cast

import uvloop

FIRST_TOKEN = re.compile(rb'"content": ?"[^"]')
COMPLETION_TOKENS = re.compile(rb'"completion_tokens": ?(\d+)')
END = b"\r\n0\r\n\r\n"  # of a chunked body; JSON holds no bare carriage return
SPIN_SECONDS = 1.2  # vLLM's processes look for work without a pause for a second after their last
SAID = 2000  # bytes of an unexpected answer that an error shows


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """Who asks what of whom: `prompts[i]` are the questions of client i, one after the other."""

    port: int
    model: str
    prompts: Sequence[Sequence[str]]
    max_tokens: int
    cold: Sequence[str] = ()  # names that one further client asks for one token each, while the others stream
    cold_every: float = 0.5  # seconds
    load_from: str = ""  # folder of the cold names' files; then each is loaded by /v1/load_lora_adapter first
    fields: Mapping[str, Any] = field(default_factory=dict)  # further ones of each question's body


@dataclass(slots=True, kw_only=True)
class Result:
    """What the clients saw; times in seconds."""

    wall: float = 0.0  # from the first question to the last answer's end
    tokens: int = 0
    requests: int = 0
    first_tokens: list[float] = field(default_factory=list)
    gaps: list[float] = field(default_factory=list)  # between two arrivals in one stream, once all streams had begun
    cold_seconds: list[float] = field(default_factory=list)  # of the further client's requests


class Generator:
    """The load process, held by whoever measures; a context manager."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "bench.clients"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    @property
    def pid(self) -> int:
        """The load process."""
        return self._process.pid

    def run(self, job: Job) -> Result:
        """Do one job; raises RuntimeError with what a server answered when it was not what was asked for."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        time.sleep(SPIN_SECONDS)
        self._process.stdin.write(json.dumps(asdict(job)) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError("the load process ended; its error is above")
        return Result(**json.loads(line))

    def __enter__(self) -> Generator:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._process.kill()
        self._process.wait()


class _Client(asyncio.Protocol):
    """One connection; `ask` sends a request and waits for the end of its answer."""

    def __init__(self) -> None:
        self.first_token = 0.0
        self.gaps: list[tuple[float, float]] = []  # (when it began, how long it was)
        self.began = 0.0  # the first token of the first answer
        self.tokens = 0
        self._seen = b""
        self._head = b""
        self._sent = 0.0
        self._last = 0.0
        self._done: asyncio.Future[None] | None = None
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is one by its methods only

    def connection_lost(self, error: Exception | None) -> None:
        if self._done is not None and not self._done.done():
            self._done.set_exception(RuntimeError(f"the server closed the connection: {error}; {self._head[:SAID]!r}"))

    async def ask(self, request: bytes) -> None:
        self.first_token, self._last, self.tokens = 0.0, 0.0, 0
        self._seen, self._head = b"", b""
        self._done = asyncio.get_running_loop().create_future()
        self._sent = time.perf_counter()
        assert self._transport is not None
        self._transport.write(request)
        await self._done

    def data_received(self, data: bytes) -> None:
        now = time.perf_counter()
        if self._last:
            self.gaps.append((self._last, now - self._last))
            self._last = now
        else:
            self._head += data
            if not self._head.startswith(b"HTTP/1.1 200 "[: len(self._head)]):
                self._fail_when_whole()
                return
            if FIRST_TOKEN.search(self._head):
                self.first_token = now - self._sent
                self._last = now
                self.began = self.began or now
        self._seen = self._seen[-4000:] + data
        if self._seen.endswith(END):
            self._end()

    def _end(self) -> None:
        assert self._done is not None
        found = COMPLETION_TOKENS.findall(self._seen)
        if self.gaps:
            self.gaps.pop()  # the usage and the end come after the last token
        if not found or not self.first_token:
            self._done.set_exception(RuntimeError(f"no token or no usage in the answer: {self._seen[-SAID:]!r}"))
            return
        self.tokens = int(found[-1])
        self._done.set_result(None)

    def _fail_when_whole(self) -> None:
        assert self._done is not None
        if not self._done.done() and b"\r\n\r\n" in self._head:
            self._done.set_exception(RuntimeError(f"not 200: {self._head[:SAID]!r}"))


def request_bytes(path: str, body: object) -> bytes:
    """One HTTP/1.1 request as it goes over the wire."""
    content = json.dumps(body).encode()
    head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
    return f"{head}Content-Length: {len(content)}\r\n\r\n".encode() + content


def chat_request(model: str, prompt: str, max_tokens: int, **fields: Any) -> bytes:
    """A streamed greedy answer of exactly `max_tokens` tokens. fields: further ones of the body."""
    body = {
        "model": model,
        "messages": [{"role": "user", "content": prompt}],
        "max_tokens": max_tokens,
        "temperature": 0,
        "ignore_eos": True,
        "stream": True,
        "stream_options": {"include_usage": True},
        **fields,
    }
    return request_bytes("/v1/chat/completions", body)


async def do(job: Job) -> Result:
    """All clients of a job at once."""
    result = Result()
    loop = asyncio.get_running_loop()

    async def connect() -> _Client:
        _, client = await loop.create_connection(_Client, "127.0.0.1", job.port)
        return client

    clients = [await connect() for _ in job.prompts]
    further = await connect() if job.cold else None
    streaming = asyncio.Event()
    streaming.set()

    async def stream(client: _Client, prompts: Sequence[str]) -> None:
        for prompt in prompts:
            await client.ask(chat_request(job.model, prompt, job.max_tokens, **job.fields))
            result.first_tokens.append(client.first_token)
            result.tokens += client.tokens
            result.requests += 1

    async def load(client: _Client) -> None:
        # each name once and at its time, as long as the others stream
        started = time.perf_counter()
        for number, name in enumerate(job.cold, start=1):
            await asyncio.sleep(max(0.0, started + number * job.cold_every - time.perf_counter()))
            if not streaming.is_set():
                return
            begun = time.perf_counter()
            if job.load_from:
                await _post(job.port, "/v1/load_lora_adapter", {"lora_name": name, "lora_path": job.load_from + name})
            await client.ask(chat_request(name, f"Word number {number}, please.", 1))
            result.cold_seconds.append(time.perf_counter() - begun)

    loading = asyncio.create_task(load(further)) if further else None
    started = time.perf_counter()
    await asyncio.gather(*(stream(client, prompts) for client, prompts in zip(clients, job.prompts, strict=True)))
    result.wall = time.perf_counter() - started
    all_began = max(client.began for client in clients)
    result.gaps = [gap for client in clients for begun, gap in client.gaps if begun >= all_began]
    streaming.clear()
    if loading is not None:
        await loading
    for client in [*clients, *([further] if further else [])]:
        assert client._transport is not None
        client._transport.close()
    return result


async def _post(port: int, path: str, body: object) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request_bytes(path, body))
    head = await reader.readuntil(b"\r\n\r\n")
    if not head.startswith(b"HTTP/1.1 200 "):
        raise RuntimeError(f"{path} answered {head!r} {await reader.read(SAID)!r}")
    writer.close()


def main() -> None:
    """Jobs from stdin, results to stdout, until stdin ends."""
    for line in sys.stdin:
        result = uvloop.run(do(Job(**json.loads(line))))
        print(json.dumps(asdict(result)), flush=True)


if __name__ == "__main__":
    main()
