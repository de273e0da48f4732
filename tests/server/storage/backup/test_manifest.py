from __future__ import annotations

import io
import json
from typing import Any

import pytest

from server.storage.backup.archive import Part
from server.storage.backup.manifest import FORMAT, Manifest, part_line, read_manifest, read_parts
from server.storage.backup.rows import Counted
from server.storage.errors import BackupInvalid

MANIFEST = Manifest(
    format=FORMAT,
    version="1.2",
    revision="0003",
    moment=12.5,
    tables={"files": Counted(rows=2, digest="0" * 64)},
    sequences={"versions": 7},
    parts=Part(name="parts.jsonl", bytes=3, sha256="1" * 64),
    n_parts=1,
    n_bytes=5,
    missing=("blobs/files/a",),
    damaged=(),
)


def test_a_manifest_says_the_same_when_it_is_read() -> None:
    assert read_manifest(MANIFEST.as_json()) == MANIFEST


def test_what_a_later_version_adds_is_passed_over() -> None:
    assert read_manifest(json.dumps(json.loads(MANIFEST.as_json()) | {"further": 1}).encode()) == MANIFEST


def test_another_format_is_told_with_the_version_that_reads_it() -> None:
    newer = json.loads(MANIFEST.as_json()) | {"format": FORMAT + 1, "version": "9.0"}
    with pytest.raises(BackupInvalid, match=r"made by manyhats '9\.0'"):
        read_manifest(json.dumps(newer).encode())


@pytest.mark.parametrize("data", [b"", b"[]", b"{}", MANIFEST.as_json()[:-40], b'"manifest"'])
def test_what_is_no_manifest_is_told(data: bytes) -> None:
    with pytest.raises(BackupInvalid):
        read_manifest(data)


def test_parts() -> None:
    part = Part(name="blobs/files/0a/content", bytes=3, sha256="a" * 64)
    assert list(read_parts(io.BytesIO(part_line(part) + b"\n"))) == [part]


@pytest.mark.parametrize(
    "change",
    [
        {"name": "../../etc/passwd"},
        {"name": "blobs/../x"},
        {"name": "/blobs/x"},
        {"name": "blobs/.hidden"},
        {"name": "blobs//x"},
        {"name": "elsewhere/x"},
        {"name": "blobs/x\ny"},
        {"name": 3},
        {"bytes": -1},
        {"sha256": "A" * 64},
        {"further": 1},
    ],
)
def test_a_name_that_leads_out_of_a_backup_is_refused(change: dict[str, Any]) -> None:
    line = json.dumps({"name": "blobs/a/b", "bytes": 1, "sha256": "a" * 64} | change).encode()
    with pytest.raises(BackupInvalid):
        list(read_parts(io.BytesIO(line)))
