"""Each file of the console with its type, its mark and its packed form; and what the policy lets run."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import re
from pathlib import Path

import pytest

from server.console_files import FOLDER, INLINE, PAGE, console_files, digest, policy


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "views").mkdir()
    (tmp_path / PAGE).write_text('<script type="importmap">{"imports": {}}</script>')
    (tmp_path / "views" / "chat.js").write_text("export default 1;")
    (tmp_path / "LICENSES.txt").write_text("not for browsers")
    (tmp_path / ".hidden").write_text("neither")
    return tmp_path


def test_what_a_browser_may_ask_for_is_named_by_its_path(folder: Path) -> None:
    files = console_files(folder)
    assert set(files) == {PAGE, "views/chat.js"}
    module = files["views/chat.js"]
    assert module.media_type == "text/javascript"
    assert module.body == b"export default 1;" == gzip.decompress(module.gzipped)


def test_the_mark_is_the_content_s(folder: Path) -> None:
    before = console_files(folder)["views/chat.js"].etag
    assert console_files(folder)["views/chat.js"].etag == before
    (folder / "views" / "chat.js").write_text("export default 2;")
    assert console_files(folder)["views/chat.js"].etag != before


def test_reading_twice_gives_the_same_bytes(folder: Path) -> None:
    assert console_files(folder) == console_files(folder)


def test_the_policy_allows_the_import_map_and_no_other_inline_script() -> None:
    page = b'<script type="importmap">{"a": 1}</script><script>alert(1)</script>'
    allowed = policy(page).split("; ")[1]
    hashed = base64.b64encode(hashlib.sha256(b'{"a": 1}').digest()).decode()
    assert allowed == f"script-src 'self' 'sha256-{hashed}'"
    assert digest(b"alert(1)") not in policy(page)


def test_the_policy_has_no_way_out() -> None:
    told = policy(b"")
    assert told.startswith("default-src 'none'; script-src 'self'; ")
    assert "unsafe" not in told
    assert "*" not in told
    assert "http" not in told
    assert "require-trusted-types-for 'script'" in told


def test_the_page_has_one_inline_script_its_import_map() -> None:
    page = (FOLDER / PAGE).read_bytes()
    (inline,) = INLINE.findall(page)
    assert set(json.loads(inline)) == {"imports"}
    assert len(re.findall(rb"<script(?![^>]*\bsrc=)", page)) == 1
    assert b" style=" not in page
    assert not re.search(rb"\son\w+=", page)
