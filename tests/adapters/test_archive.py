from __future__ import annotations

import gzip
import io
import os
import stat
import tarfile
import zipfile
from pathlib import Path

import pytest

from adapters.archive import MAX_MEMBERS, unpack
from adapters.errors import AdapterRefused, SourceRefused, SourceTooLarge

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
GOOD = {CONFIG: b"{}", WEIGHTS: os.urandom(5000)}
LIMIT = 100_000


def zipped(path: Path, members: dict[str, bytes] | list[tuple[str, bytes]]) -> Path:
    pairs = members.items() if isinstance(members, dict) else members
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in pairs:
            archive.writestr(name, data)
    return path


def tarred(path: Path, members: dict[str, bytes] | list[tuple[str, bytes]], *extra: tarfile.TarInfo) -> Path:
    pairs = members.items() if isinstance(members, dict) else members
    with tarfile.open(path, "w:gz") as archive:
        for name, data in pairs:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
        for info in extra:
            archive.addfile(info)
    return path


PACKERS = pytest.mark.parametrize("pack", [zipped, tarred])


def refusal(archive: Path, into: Path, limit: int = LIMIT) -> SourceRefused | AdapterRefused:
    with pytest.raises((SourceRefused, AdapterRefused)) as refused:
        unpack(archive, into, limit)
    return refused.value


@pytest.fixture
def into(tmp_path: Path) -> Path:
    folder = tmp_path / "into"
    folder.mkdir()
    return folder


@PACKERS
@pytest.mark.parametrize("top", ["", "legal/", "./", "./legal/"])
def test_the_two_files_are_taken_from_the_root_or_one_top_folder(tmp_path, into, pack, top):
    others = {"README.md": b"#", "optimizer.pt": b"x" * 3000, "training_args.bin": b"pickle", "sub/deep/x": b"?"}
    unpack(pack(tmp_path / "a", {f"{top}{name}": data for name, data in {**others, **GOOD}.items()}), into, LIMIT)
    assert {path.name: path.read_bytes() for path in into.iterdir()} == GOOD


@PACKERS
def test_checkpoints_beside_the_final_adapter_are_left_alone(tmp_path, into, pack):
    old = {f"checkpoint-10/{name}": b"old" for name in GOOD}
    unpack(pack(tmp_path / "a", {**old, **GOOD}), into, LIMIT)
    assert (into / WEIGHTS).read_bytes() == GOOD[WEIGHTS]


@PACKERS
@pytest.mark.parametrize(
    ("members", "kind"),
    [
        ({**GOOD, "../evil": b"x"}, "path_escape"),
        ({**GOOD, "a/../../evil": b"x"}, "path_escape"),
        ({**GOOD, "/etc/evil": b"x"}, "path_escape"),
        ({**GOOD, "C:/evil": b"x"}, "path_escape"),
        ({**GOOD, "..\\evil": b"x"}, "path_escape"),
        ({f"../{WEIGHTS}": b"x", CONFIG: b"{}"}, "path_escape"),
        ({f"{top}/{name}": data for top in "ab" for name, data in GOOD.items()}, "several_adapters"),
        ({f"a/{CONFIG}": b"{}", f"b/{WEIGHTS}": b"x"}, "several_adapters"),
        ([*GOOD.items(), (f"./{WEIGHTS}", b"x")], "duplicate_files"),
        ({CONFIG: b"{}"}, "weights_missing"),
        ({WEIGHTS: b"x"}, "config_missing"),
        ({}, "config_missing"),
        ({f"a/b/{name}": data for name, data in GOOD.items()}, "config_missing"),
        ({CONFIG: b"{}", "adapter_model.bin": b"x"}, "pickle_weights"),
        ({CONFIG: b" " * 2_000_000, WEIGHTS: b"x"}, "zip_bomb"),
    ],
)
def test_an_archive_that_is_not_one_adapter_is_refused(tmp_path, into, pack, members, kind):
    assert refusal(pack(tmp_path / "a", members), into).kind == kind
    assert not (tmp_path / "evil").exists()


def test_two_zip_members_of_one_name(tmp_path, into):
    with pytest.warns(UserWarning, match="Duplicate name"):
        archive = zipped(tmp_path / "a", [*GOOD.items(), (WEIGHTS, b"x")])
    assert refusal(archive, into).kind == "duplicate_files"


@PACKERS
def test_what_is_unpacked_is_counted(tmp_path, into, pack):
    bomb = pack(tmp_path / "a", {CONFIG: b"{}", WEIGHTS: b"\0" * 50_000_000})
    assert bomb.stat().st_size < LIMIT
    assert refusal(bomb, into).kind == "zip_bomb"
    assert sum(path.stat().st_size for path in into.iterdir()) <= LIMIT


@PACKERS
def test_an_honest_adapter_above_the_limit_is_too_large(tmp_path, into, pack):
    with pytest.raises(SourceTooLarge, match="MANYHATS_MAX_ADAPTER_BYTES"):
        unpack(pack(tmp_path / "a", {CONFIG: b"{}", WEIGHTS: os.urandom(LIMIT)}), into, LIMIT)


def test_a_zip_that_lies_about_its_sizes_is_still_counted(tmp_path, into):
    archive = zipped(tmp_path / "a", {CONFIG: b"{}", WEIGHTS: b"\0" * 50_000_000})
    data = archive.read_bytes().replace((50_000_000).to_bytes(4, "little"), (10).to_bytes(4, "little"))
    archive.write_bytes(data)
    assert refusal(archive, into).kind in ("zip_bomb", "damaged_archive")
    assert sum(path.stat().st_size for path in into.iterdir()) <= LIMIT


def test_what_a_tar_skips_is_counted_too(tmp_path, into):
    with pytest.raises(SourceTooLarge):
        unpack(tarred(tmp_path / "a", {"pad": b"\0" * 50_000_000, **GOOD}), into, LIMIT)


@PACKERS
def test_a_comment_at_the_end_is_no_harm(tmp_path, into, pack):
    archive = pack(tmp_path / "a", GOOD)
    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive, "a") as opened:
            opened.comment = b"packed by somebody" * 100
    unpack(archive, into, LIMIT)
    assert (into / CONFIG).exists()


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE])
@pytest.mark.parametrize("name", [WEIGHTS, "README.md"])
def test_links_and_devices_in_a_tar_are_refused(tmp_path, into, kind, name):
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, "/etc/passwd"
    members = {key: data for key, data in GOOD.items() if key != name}
    assert refusal(tarred(tmp_path / "a", members, info), into).kind == "links"


def test_links_in_a_zip_are_refused(tmp_path, into):
    with zipfile.ZipFile(tmp_path / "a", "w") as archive:
        info = zipfile.ZipInfo(WEIGHTS)
        info.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(info, "/etc/passwd")
        archive.writestr(CONFIG, "{}")
    assert refusal(tmp_path / "a", into).kind == "links"


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (b"", "not_an_archive"),
        (b"hello", "not_an_archive"),
        (b"PK\x03\x04 and nothing more", "damaged_archive"),
        (b"\x1f\x8b and nothing more", "damaged_archive"),
        (gzip.compress(b"no tar in here" * 100), "damaged_archive"),
    ],
)
def test_files_that_are_no_archive(tmp_path, into, data, kind):
    (tmp_path / "a").write_bytes(data)
    assert refusal(tmp_path / "a", into).kind == kind


@PACKERS
@pytest.mark.parametrize("keep", [0.3, 0.6, 0.98])
def test_an_archive_cut_short_is_damaged(tmp_path, into, pack, keep):
    archive = pack(tmp_path / "a", GOOD)
    archive.write_bytes(archive.read_bytes()[: int(archive.stat().st_size * keep)])
    assert refusal(archive, into).kind == "damaged_archive"


def test_a_wrong_checksum_is_damage(tmp_path, into):
    archive = tmp_path / "a"
    with zipfile.ZipFile(archive, "w") as stored:
        for name, data in GOOD.items():
            stored.writestr(name, data)
    data = archive.read_bytes()
    place = data.index(GOOD[WEIGHTS]) + 100
    archive.write_bytes(data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :])
    assert refusal(archive, into).kind == "damaged_archive"


def test_an_encrypted_zip_is_told(tmp_path, into):
    archive = zipped(tmp_path / "a", GOOD)
    data = bytearray(archive.read_bytes())
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        start = 0
        while (start := data.find(signature, start)) >= 0:
            data[start + offset] |= 1
            start += 4
    archive.write_bytes(data)
    assert refusal(archive, into).kind == "encrypted_archive"


@PACKERS
def test_too_many_members(tmp_path, into, pack):
    members = {f"{number}": b"" for number in range(MAX_MEMBERS + 1)}
    assert refusal(pack(tmp_path / "a", members), into, 1 << 30).kind == "too_many_files"


def test_a_table_of_contents_that_claims_to_be_huge_is_not_read(tmp_path, into):
    end = b"PK\x05\x06" + b"\0" * 4 + b"\xff\xff\xff\x7f"[:4] + (3_000_000).to_bytes(4, "little") + b"\0" * 6
    (tmp_path / "a").write_bytes(b"PK" + b"\0" * 3_000_000 + end)
    assert refusal(tmp_path / "a", into).kind == "too_many_files"


def test_a_tar_header_that_claims_to_be_huge_is_not_read(tmp_path, into):
    info = tarfile.TarInfo("x")
    info.type, info.size = tarfile.XHDTYPE, 1 << 33
    with gzip.open(tmp_path / "a", "wb") as file:
        file.write(info.tobuf(tarfile.USTAR_FORMAT if info.size < 8**11 else tarfile.GNU_FORMAT))
    assert refusal(tmp_path / "a", into).kind == "damaged_archive"
