"""Adapters from elsewhere: fsspec URLs (s3://, gs://, https://, ...), and hf:// for model hubs.

Where a URL may lead is decided in `sources`; here it is followed. Backends keep their credentials in their own
environment variables (AWS_*, HF_TOKEN, HF_ENDPOINT, ...), so that none stands in a URL.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, cast

from adapters.archive import Budget, copy, too_large, unpack
from adapters.errors import AdapterError, AdapterRefused, SourceNotFound, SourceRefused, SourceUnavailable
from adapters.peft_config import CONFIG_FILE
from adapters.preflight import check_pickle
from adapters.safetensors_file import WEIGHTS_FILE

ARCHIVES = (".zip", ".tar.gz", ".tgz")
CONNECT_SECONDS = 10
READ_SECONDS = 60

Spend = Callable[[int], None]


def fetch(url: str, into: Path, max_bytes: int) -> None:
    """Copy the adapter at an fsspec URL: a folder with the two files, or one archive.

    Raises SourceNotFound, SourceUnavailable, SourceTooLarge, SourceRefused, AdapterRefused.
    """
    with _translated(url):
        filesystem, path = _filesystem(url)
        if path.lower().endswith(ARCHIVES):
            archive = into / "archive"
            _copy_file(filesystem, path, archive, max_bytes, Budget(max_bytes, packed_bytes=max_bytes).spend)
            unpack(archive, into, max_bytes)
            archive.unlink()
            return
        names = _names(filesystem, path)
        budget = Budget(max_bytes, packed_bytes=max_bytes)
        for name in _both(url, names):
            _copy_file(filesystem, f"{path.rstrip('/')}/{name}", into / name, max_bytes, budget.spend)


def fetch_from_hub(url: str, into: Path, max_bytes: int) -> None:
    """Copy the adapter at `hf://org/repo[/folder][@revision]`, both files from one commit.

    The hub is HF_ENDPOINT's, or the public one. Raises as `fetch` does.
    """
    from huggingface_hub import HfApi, hf_hub_url
    from huggingface_hub.utils import (  # type: ignore[attr-defined]  # documented, but not in its __all__
        build_hf_headers,
        get_session,
        hf_raise_for_status,
    )

    endpoint = os.environ.get("HF_ENDPOINT")
    repo, folder, revision = _hub_parts(url)
    with _translated(url):
        info = HfApi(endpoint=endpoint).model_info(repo, revision=revision, timeout=CONNECT_SECONDS)
        prefix = f"{folder}/" if folder else ""
        paths = [sibling.rfilename for sibling in info.siblings or ()]
        names = [path.removeprefix(prefix) for path in paths if path.startswith(prefix)]
        budget = Budget(max_bytes, packed_bytes=max_bytes)
        for name in _both(url, names):
            address = hf_hub_url(repo, name, subfolder=folder, revision=info.sha, endpoint=endpoint)
            with get_session().stream(
                "GET", address, headers=build_hf_headers(), follow_redirects=True, timeout=READ_SECONDS
            ) as response:
                hf_raise_for_status(response)
                if int(response.headers.get("content-length") or 0) > max_bytes:
                    raise too_large(max_bytes)
                copy(cast("IO[bytes]", _Blocks(response.iter_bytes(1 << 20))), into / name, budget.spend)


def missing(place: str, name: str) -> AdapterRefused:
    """The refusal of a place that lacks one of the two files."""
    return AdapterRefused(
        "config_missing" if name == CONFIG_FILE else "weights_missing",
        f"{place!r} holds no {name}; give the folder that PEFT's save_pretrained wrote",
    )


class _Blocks:
    """An iterator of blocks, read as a file is."""

    def __init__(self, blocks: Iterator[bytes]) -> None:
        self._blocks = blocks

    def read(self, _size: int = -1) -> bytes:
        return next(filter(None, self._blocks), b"")


def _hub_parts(url: str) -> tuple[str, str | None, str | None]:
    """(repository, folder in it, revision)."""
    place, _, revision = url.removeprefix("hf://").partition("@")
    parts = [part for part in place.split("/") if part]
    if len(parts) < 2:
        raise SourceRefused("bad_url", f"{url!r} names no repository; write hf://org/repo or hf://org/repo@revision")
    return "/".join(parts[:2]), "/".join(parts[2:]) or None, revision or None


def _filesystem(url: str) -> tuple[Any, str]:
    import fsspec

    scheme = url.partition("://")[0]
    options: dict[str, Any] = {"skip_instance_cache": True}  # a cached listing would hide what was written since
    if scheme in ("s3", "s3a"):
        options["config_kwargs"] = {"connect_timeout": CONNECT_SECONDS, "read_timeout": READ_SECONDS}
    elif scheme in ("http", "https"):
        import aiohttp

        timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS, sock_read=READ_SECONDS)
        options["client_kwargs"] = {"timeout": timeout}
    try:
        filesystem, path = fsspec.core.url_to_fs(url, **options)
    except (ImportError, ValueError) as error:
        raise SourceRefused("unknown_protocol", f"{scheme}:// cannot be read here: {error}") from error
    return filesystem, str(path)


def _names(filesystem: Any, path: str) -> list[str]:
    """The names of the files at the path; of the two wanted ones only, where the place cannot be listed."""
    root = path.rstrip("/")
    wanted = [name for name in (CONFIG_FILE, WEIGHTS_FILE) if filesystem.isfile(f"{root}/{name}")]
    if len(wanted) == 2:
        return wanted
    listed = [str(entry["name"]).rpartition("/")[2] for entry in filesystem.ls(root, detail=True)]
    return sorted({*wanted, *listed})


def _both(url: str, names: list[str]) -> tuple[str, str]:
    if CONFIG_FILE in names and WEIGHTS_FILE in names:
        return CONFIG_FILE, WEIGHTS_FILE
    if WEIGHTS_FILE not in names:
        check_pickle(names)
    if not names:
        raise SourceNotFound(f"nothing lies at {url!r}; check the address, and that the server may read it")
    raise missing(url, CONFIG_FILE if CONFIG_FILE not in names else WEIGHTS_FILE)


def _copy_file(filesystem: Any, path: str, into: Path, max_bytes: int, spend: Spend) -> None:
    size = filesystem.info(path).get("size")
    if size is not None and size > max_bytes:
        raise too_large(max_bytes)
    with filesystem.open(path, "rb") as source:
        copy(source, into, spend)


@contextmanager
def _translated(url: str) -> Iterator[None]:
    try:
        yield
    except AdapterError:
        raise
    except FileNotFoundError as error:
        raise SourceNotFound(f"nothing lies at {url!r}; check the address and the revision") from error
    except Exception as error:  # every fsspec backend has its own exceptions
        kind = type(error).__name__
        if kind in ("RepositoryNotFoundError", "RevisionNotFoundError", "RemoteEntryNotFoundError"):
            raise SourceNotFound(
                f"the hub has nothing at {url!r}, or shows it to others only; check the name and revision, "
                "and HF_TOKEN for a private one"
            ) from error
        reason = (str(error).splitlines() or [""])[0][:200]
        raise SourceUnavailable(
            f"{url!r} could not be read ({kind}: {reason}); try again, or upload the files"
        ) from error
