from __future__ import annotations

from pathlib import Path

from adapters.training.memory import peak_memory_bytes, peak_resident_bytes


def test_what_was_held_once_counts() -> None:
    before = peak_memory_bytes("cpu")
    held = bytearray(b"x" * (256 << 20))
    assert peak_memory_bytes("cpu") > len(held)
    del held
    # the kernel's counters lag by some pages
    assert peak_memory_bytes("cpu") > max(before, 250 << 20)


def test_where_the_system_does_not_tell(tmp_path: Path) -> None:
    assert peak_resident_bytes(tmp_path / "absent") > 1 << 20


def test_kibibytes(tmp_path: Path) -> None:
    (tmp_path / "status").write_text("VmPeak:  9 kB\nVmHWM:\t   2048 kB\n")
    assert peak_resident_bytes(tmp_path / "status") == 2 << 20
