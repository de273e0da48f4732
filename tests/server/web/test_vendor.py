"""What the console has of other projects is what its list says: each file, its bytes, its licence."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

VENDOR = Path(__file__).resolve().parents[3] / "server" / "web" / "vendor"
ABOUT = {"README.md", "LICENSES.txt"}
ROW = re.compile(
    r"^\| `(?P<file>[^`]+)` \| `(?P<package>[^`]+)` \| (?P<version>\S+) \|.*\| `(?P<sha256>[0-9a-f]{64})` \|$"
)


def rows() -> list[re.Match[str]]:
    return [row for line in (VENDOR / "README.md").read_text().splitlines() if (row := ROW.match(line))]


def test_every_file_is_listed_with_its_digest() -> None:
    there = {path.name: path for path in VENDOR.iterdir() if path.name not in ABOUT}
    listed = {row["file"]: row["sha256"] for row in rows()}
    assert listed == {name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in there.items()}


def test_every_package_s_licence_is_there_in_full() -> None:
    texts = (VENDOR / "LICENSES.txt").read_text()
    for row in rows():
        assert f"{row['package']} {row['version']}" in texts
    assert texts.count("Permission is hereby granted, free of charge") == 4
    assert texts.count("END OF TERMS AND CONDITIONS") == 2
    assert "Redistribution and use in source and binary forms" in texts


def test_no_file_points_to_a_source_map() -> None:
    """A browser would ask for it, and it is not there."""
    pointing = [path.name for path in VENDOR.iterdir() if b"sourceMappingURL" in path.read_bytes()]
    assert pointing == []
