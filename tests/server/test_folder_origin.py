"""Whose the files of a folder's name are: this folder's, another's, or nobody can say."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from retrieval.fields import read_attributes
from server.folder import Known, read
from server.folder_origin import Origin


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "docs"
    root.mkdir()
    (root / "one.md").write_text("the first")
    return root


def known(root: Path, path: str, *, folder_id: str | None, digest: str | None = None, **more: Any) -> Known:
    """A file in the store; `folder_id` None is one of an earlier release."""
    digest = read(root, path).digest if digest is None else digest
    placed = {} if folder_id is None else {"folder_id": folder_id}
    attributes = {"folder": "docs", **placed, "path": path, "sha256": digest, **more}
    made = Known.of({"id": f"file-{path}", "status": "completed", "attributes": attributes}, "docs")
    assert made
    return made


def test_two_folders_of_one_name_are_told_apart(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = tmp_path / "other" / "docs"
    other.mkdir(parents=True)
    origin = Origin.of(root)
    assert (origin.name, Origin.of(other).name) == ("docs", "docs")
    assert origin.id != Origin.of(other).id
    assert len(origin.id) == 16
    (tmp_path / "link").symlink_to(root)
    monkeypatch.chdir(root)
    for same in (Path(), tmp_path / "link", tmp_path / "other" / ".." / "docs"):
        assert Origin.of(same) == origin  # however it was written
    assert Origin.of(root, "manual") == Origin(name="manual", id=origin.id)
    Origin.of(tmp_path / os.fsdecode(b"caf\xe9"))  # a name that is not UTF-8


def test_its_own_files_are_in_no_doubt(root: Path) -> None:
    origin = Origin.of(root)
    assert origin.doubt([], root) is None
    changed = known(root, "one.md", folder_id=origin.id, digest="of an older text")
    gone = known(root, "gone.md", folder_id=origin.id, digest="of a text")
    assert origin.doubt([changed, gone], root) is None


def test_another_folder_s_files_are(root: Path) -> None:
    origin = Origin.of(root)
    mine, other = (known(root, "one.md", folder_id=place) for place in (origin.id, "another"))
    for files in ([other], [mine, other]):  # also the same text under the same path
        why = str(origin.doubt(files, root))
        assert "another folder that is called 'docs'" in why
        assert "--as NAME" in why
        assert "--as docs:" in why


def test_an_earlier_release_s_file_must_lie_there_unchanged(root: Path) -> None:
    origin = Origin.of(root)
    gone = known(root, "gone.md", folder_id=None, digest="of a text")
    changed = known(root, "one.md", folder_id=None, digest="of another text")
    nul = known(root, "a\0b", folder_id=None, digest="of a text")
    assert origin.doubt([gone, known(root, "one.md", folder_id=None)], root) is None
    assert "--as docs:" in str(origin.doubt([gone, changed, nul], root))
    mine = known(root, "one.md", folder_id=origin.id)
    assert origin.doubt([gone, changed, mine], root) is None  # of a run that was killed while it noted them


def test_the_name_in_the_sentence_can_be_pasted_and_does_nothing_to_a_terminal(root: Path) -> None:
    why = str(Origin(name="my docs\x1b[2J", id="1").doubt([known(root, "one.md", folder_id="2")], root))
    assert "--as 'my docs\\x1b[2J':" in why
    assert why.isprintable()


def test_claimed_files_keep_what_people_gave_them(root: Path) -> None:
    origin = Origin.of(root)
    mine = known(root, "one.md", folder_id=origin.id)
    old, other = (known(root, "one.md", folder_id=place, url="https://a.example") for place in (None, "another"))
    told = {**mine.attributes, "url": "https://a.example"}
    assert origin.claims([mine, old, other]) == [(old, told), (other, told)]


def test_a_file_that_has_no_room_for_an_attribute_stays_as_it_is(root: Path) -> None:
    origin = Origin.of(root)
    most = {f"key-{number}": "" for number in range(13)}
    full = known(root, "one.md", folder_id=None, **most)
    (fits,) = origin.claims([known(root, "one.md", folder_id=None, **dict(list(most.items())[1:]))])
    assert len(read_attributes(fits[1])) == 16
    assert origin.claims([full]) == []
