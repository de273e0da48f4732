"""What differs between a folder and a store, without either being touched."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Any

import pytest

from server.folder import Found, Known, Plan, compare, paths, problem, read
from server.folder_origin import Origin


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "folder"


def write(root: Path, *names: str, content: str = "text") -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(content)


def known(path: str, content: str = "text", *, status: str = "completed", code: str | None = None) -> Known:
    found = Found(path=path, file=Path(path), digest=f"sha of {content}")
    item: dict[str, Any] = {"id": f"file-{path}-{content}-{status}", "status": status}
    item["attributes"] = Origin(name="folder", id="0123").attributes_of(found)
    item["last_error"] = {"code": code, "message": f"{path} is damaged"} if code else None
    made = Known.of(item, "folder")
    assert made
    return made


def found(root: Path, path: str, content: str = "text") -> Found:
    return Found(path=path, file=root / path, digest=f"sha of {content}")


def test_hidden_empty_and_foreign_files_are_left_out(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(root, "b.md", "a/deep/one.txt", ".hidden", ".git/config", "a/.cache/x")
    write(root, "empty.txt", content="")
    write(tmp_path, "outside.txt", "outside/more.txt")
    (root / "inside-link.md").symlink_to("b.md")
    (root / "outside-link.txt").symlink_to(tmp_path / "outside.txt")
    (root / "outside-folder").symlink_to(tmp_path / "outside")
    (root / "loop").symlink_to(root)
    (root / "dangling").symlink_to("nowhere")
    with socket.socket(socket.AF_UNIX) as listening:
        monkeypatch.chdir(root)  # a socket's path must be short
        listening.bind("socket")
        assert list(paths(root)) == ["b.md", "inside-link.md", "a/deep/one.txt"]


def test_what_cannot_be_looked_at_is_told_and_is_not_gone(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(root, "locked/old.md", "vanished.md", "seen.md")
    (root / "self").symlink_to("self")

    def refusing(path: str) -> Any:
        if os.fspath(path) == str(root / "locked"):
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    def refusing_stat(self: Path, **options: Any) -> os.stat_result:
        if self.parent.name == "locked" or self.name == "vanished.md":
            raise PermissionError(13, "Permission denied", str(self))
        return stat(self, **options)

    scandir, stat = os.scandir, Path.stat
    monkeypatch.setattr(os, "scandir", refusing)
    monkeypatch.setattr(Path, "stat", refusing_stat)
    unlisted: list[OSError] = []
    assert list(paths(root, unlisted=unlisted.append)) == ["seen.md", "vanished.md"]
    assert [error.filename for error in unlisted] == [str(root / "locked")]
    plan = compare([], [known("locked/old.md"), known("never-there.md")], root)
    assert [one.path for one in plan.gone] == ["never-there.md"]


def test_globs(root: Path) -> None:
    write(root, "one.md", "two.txt", "drafts/three.md", "deep/er/four.md")
    assert set(paths(root, include=["*.md"])) == {"one.md", "drafts/three.md", "deep/er/four.md"}
    assert set(paths(root, include=["*.md"], exclude=["drafts/*"])) == {"one.md", "deep/er/four.md"}
    assert set(paths(root, include=["four.md", "two.*"])) == {"deep/er/four.md", "two.txt"}
    assert set(paths(root, exclude=["*"])) == set()


def test_digest(root: Path) -> None:
    write(root, "one.md", content="abc")
    assert read(root, "one.md").digest == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_names_that_cannot_be_kept() -> None:
    assert problem("notes/Ação.md") is None
    assert problem("a" * 512) is None
    assert "513 characters" in str(problem("a" * 513))
    assert "UTF-8" in str(problem(os.fsdecode(b"caf\xe9.txt")))


def test_what_is_new_changed_unchanged_and_gone(root: Path) -> None:
    write(root, "new.md", "changed.md", "same.md")
    plan = compare(
        [found(root, "new.md"), found(root, "changed.md", "newer"), found(root, "same.md")],
        [known("changed.md"), known("same.md"), known("gone.md")],
        root,
    )
    assert [one.path for one in plan.new] == ["new.md"]
    assert [one.path for one in plan.changed] == ["changed.md"]
    assert [one.path for one in plan.unchanged] == ["same.md"]
    assert [one.path for one in plan.gone] == ["gone.md"]
    assert plan.outdated == {"changed.md": (known("changed.md"),)}
    assert not plan.is_empty


def test_the_second_time_there_is_nothing_to_do(root: Path) -> None:
    write(root, "same.md")
    assert compare([found(root, "same.md")], [known("same.md")], root).is_empty
    assert Plan().is_empty


def test_what_a_glob_leaves_out_is_not_gone(root: Path) -> None:
    write(root, "one.md", "two.txt")
    assert compare([found(root, "one.md")], [known("one.md"), known("two.txt")], root).gone == ()


def test_a_file_that_became_empty_is_gone(root: Path) -> None:
    write(root, "one.md", content="")
    assert compare([], [known("one.md")], root).gone == (known("one.md"),)


@pytest.mark.parametrize(
    ("status", "code", "retry", "kind"),
    [
        ("in_progress", None, False, "waiting"),
        ("cancelled", None, False, "again"),
        ("failed", "server_error", False, "again"),
        ("failed", "invalid_file", False, "failed"),
        ("failed", "invalid_file", True, "again"),
        ("completed", None, True, "unchanged"),
    ],
)
def test_what_an_earlier_run_left(root: Path, status: str, code: str | None, retry: bool, kind: str) -> None:
    write(root, "one.md")
    left = known("one.md", status=status, code=code)
    plan = compare([found(root, "one.md")], [left], root, retry=retry)
    assert getattr(plan, kind) == (left,)
    assert plan.uploads == ()
    assert plan.is_empty == (kind in ("failed", "unchanged"))


def test_two_of_the_same_content_become_one(root: Path) -> None:
    write(root, "one.md")
    twice = [known("one.md", status="failed", code="invalid_file"), known("one.md")]
    plan = compare([found(root, "one.md")], twice, root)
    assert plan.unchanged == (twice[1],)
    assert plan.outdated == {"one.md": (twice[0],)}


def test_other_folders_and_other_files_are_none_of_ours() -> None:
    item = {"id": "file-1", "status": "completed", "attributes": {"folder": "docs", "path": "a.md", "sha256": "x"}}
    assert Known.of(item, "docs")
    assert Known.of(item, "handbook") is None
    assert Known.of({**item, "attributes": {}}, "docs") is None
    assert Known.of({**item, "attributes": None}, "docs") is None
    assert Known.of({**item, "attributes": {"folder": "docs", "path": 3}}, "docs") is None
