"""The command line's way to the API: over HTTP to a running server, or to the same routes over the data directory.

with connect(url="") as api:
    api.call("GET", "/v1/adapters")  # the JSON of the answer
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import httpx2

from server.cli_output import CommandFailed
from server.settings import load_settings
from server.storage.data_lock import read_address

if TYPE_CHECKING:
    from server.offline import Offline

TIMEOUT = httpx2.Timeout(600.0, connect=10.0)  # seconds; registering reads and checks all weights
LOOPBACK = {"127.0.0.1", "localhost", "::1"}


class Refused(CommandFailed):
    """The server's answer was an error."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


class Api:
    """Calls one after the other; between them, what the application does in the background goes on only in `wait`."""

    def __init__(self, runner: asyncio.Runner, client: httpx2.AsyncClient, offline: Offline | None = None) -> None:
        self._runner = runner
        self._client = client
        self._offline = offline

    @property
    def is_local(self) -> bool:
        """Whether no server runs: nothing is loaded anywhere."""
        return self._offline is not None

    def call(
        self,
        method: str,
        path: str,
        *,
        json: Mapping[str, Any] | None = None,
        params: Mapping[str, str] | None = None,
        form: Mapping[str, str] | None = None,
        file: Path | None = None,
    ) -> dict[str, Any]:
        """The answer's JSON object; `file` is sent as a form's field of that name. Raises CommandFailed."""
        return self._runner.run(self._call(method, path, json, params, form, file))

    def content(self, path: str) -> bytes:
        """The bytes of a file. Raises CommandFailed."""
        return self._runner.run(self._answer("GET", path)).content

    def pages(
        self, path: str, *, limit: int = 100, params: Mapping[str, str] | None = None
    ) -> Iterator[dict[str, Any]]:
        """Every item of a list, page by page; the newest first. Raises CommandFailed."""
        asked = {**(params or {}), "limit": str(limit)}
        while True:
            page = self.call("GET", path, params=asked)
            yield from page["data"]
            if not page["has_more"]:
                return
            asked["after"] = page["data"][-1]["id"]  # lists of jobs have no `last_id`

    def wait(self, seconds: float) -> None:
        """Let time pass before asking again."""
        self._runner.run(asyncio.sleep(seconds))

    def upload_all(
        self, files: Sequence[Path], *, purpose: str, jobs: int, uploaded: Callable[[], None]
    ) -> list[dict[str, Any] | CommandFailed]:
        """POST /v1/files for each, `jobs` at a time: the file objects, or why there is none, in the same order.

        `uploaded` is called after each.
        """
        return self._runner.run(self._upload_all(files, purpose, jobs, uploaded))

    def read_files(self, seconds: float) -> None:
        """Let files that wait be read and embedded: by the server, which is asked again later, or here and now."""
        if self._offline is None or not self._runner.run(self._offline.read_files()):
            self.wait(seconds)

    def read_all_files(self) -> None:
        """Read and embed here and now, until nothing is due. Only where no server runs."""
        assert self._offline is not None
        while self._runner.run(self._offline.read_files()):
            pass

    def train(self, seconds: float) -> None:
        """Let jobs that wait be trained: by the server, or by a process of this command's; ask again after that."""
        if self._offline is not None:
            self._offline.start_training()
        self.wait(seconds)

    async def _upload_all(
        self, files: Sequence[Path], purpose: str, jobs: int, uploaded: Callable[[], None]
    ) -> list[dict[str, Any] | CommandFailed]:
        places = asyncio.Semaphore(jobs)
        made: list[str] = []

        async def upload(file: Path) -> dict[str, Any] | CommandFailed:
            async with places:
                try:
                    answer = await self._call("POST", "/v1/files", None, None, {"purpose": purpose}, file)
                    made.append(answer["id"])
                    return answer
                except CommandFailed as error:
                    return error
                except OSError as error:
                    return CommandFailed(f"it cannot be read: {error.strerror}")
                finally:
                    uploaded()

        try:
            return await asyncio.gather(*map(upload, files))
        except asyncio.CancelledError:  # Ctrl-C: nobody has the ids, so nobody would find these files again
            for file_id in made:
                with suppress(CommandFailed):
                    await self._call("DELETE", f"/v1/files/{file_id}", None, None, None, None)
            raise

    async def _call(
        self,
        method: str,
        path: str,
        json: Mapping[str, Any] | None,
        params: Mapping[str, str] | None,
        form: Mapping[str, str] | None,
        file: Path | None,
    ) -> dict[str, Any]:
        if file is None:
            return dict((await self._answer(method, path, json=json, params=params)).json())
        with file.open("rb") as stream:
            files = {"file": (file.name, stream, "application/octet-stream")}
            return dict((await self._answer(method, path, data=form, files=files)).json())

    async def _answer(self, method: str, path: str, **request: Any) -> httpx2.Response:
        try:
            answer = await self._client.request(method, path, **request)
        except httpx2.TransportError as error:
            raise CommandFailed(_no_answer(str(self._client.base_url), error)) from error
        if answer.is_success:
            return answer
        raise Refused(_refusal(answer), answer.status_code)


@contextmanager
def connect(url: str = "") -> Iterator[Api]:
    """The server at `url`, else MANYHATS_URL, else the one that holds the data directory, else the data directory."""
    url = url or os.environ.get("MANYHATS_URL", "")
    settings = load_settings()
    address = url or read_address(settings.data_dir)
    with asyncio.Runner() as runner:
        if address:
            client = httpx2.AsyncClient(
                base_url=address.rstrip("/").removesuffix("/v1"),
                headers=_key_header(),
                timeout=TIMEOUT,
                trust_env=urlsplit(address).hostname not in LOOPBACK,  # no proxy leads to this machine
            )
            try:
                yield Api(runner, client)
            finally:
                runner.run(client.aclose())
            return
        from server.offline import Offline  # seconds of imports, which a client of a running server does not need

        try:
            offline = Offline(settings)
        except ValueError as error:  # the base model cannot be read, and without it nothing can be checked
            raise CommandFailed(str(error)) from error
        with offline as application:
            transport = httpx2.ASGITransport(app=application.app)
            yield Api(
                runner,
                httpx2.AsyncClient(transport=transport, base_url="http://127.0.0.1", timeout=TIMEOUT),
                application,
            )
            runner.run(application.settle())


def _key_header() -> dict[str, str]:
    key = os.environ.get("MANYHATS_API_KEY", "")
    return {"Authorization": f"Bearer {key}"} if key else {}


def _no_answer(address: str, error: Exception) -> str:
    return (
        f"no server answers at {address} ({type(error).__name__}); start one with `manyhats serve`, "
        "or leave --url and MANYHATS_URL out to work on the data directory"
    )


def _refusal(answer: httpx2.Response) -> str:
    try:
        message = str(answer.json()["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return f"the server answered {answer.status_code}, and not as Manyhats does: {answer.text[:200]!r}"
    if answer.status_code == 401:
        return f"{message}; the key is read from MANYHATS_API_KEY"
    return message
