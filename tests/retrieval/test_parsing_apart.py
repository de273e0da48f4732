"""Whatever a file does to the process that reads it, the caller gets an answer, and the next file is read."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from retrieval.errors import ParseFailed
from retrieval.parsing_apart import COMMAND, ParsingProcess, parse_apart
from retrieval.passage import Document
from tests.retrieval import made_files as make

HOSTILE = (*COMMAND[:-2], str(Path(__file__).with_name("hostile_parsing_process.py")))
MEMORY = 2_000_000_000
LONG = 60  # seconds: never reached

Write = Callable[[str | bytes], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write(content: str | bytes) -> Path:
        path = tmp_path / "content"
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return write


@pytest.fixture(scope="module")
def process() -> Iterator[ParsingProcess]:
    process = ParsingProcess(HOSTILE)
    yield process
    process.close()


def read(process: ParsingProcess, path: Path, *, seconds: float = LONG, memory_bytes: int = MEMORY) -> Document:
    return process.parse(path, "a.txt", seconds=seconds, memory_bytes=memory_bytes)


def pid(process: ParsingProcess, write: Write) -> int:
    return int(read(process, write("!pid")).text)


def ended(process_id: int) -> bool:
    """Waits for the end of a process that may be anybody's child."""
    try:
        descriptor = os.pidfd_open(process_id)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([descriptor], [], [], 30)[0])
    finally:
        os.close(descriptor)


def test_a_document_comes_whole(write: Write) -> None:
    path = write(make.docx((1, "Straße"), "ação", (2, "日本")))
    document = parse_apart(path, "a.docx", seconds=LONG, memory_bytes=MEMORY)
    assert document == Document(
        text="# Straße\n\nação\n\n## 日本",
        kind="docx",
        headings=((0, ("Straße",)), (16, ("Straße", "日本"))),
    )
    pages = parse_apart(write(make.pdf("one", "two")), "a.pdf", seconds=LONG, memory_bytes=MEMORY)
    assert pages.pages == ((0, 1), (5, 2))


def test_every_kind_is_read_within_the_limits(write: Write) -> None:
    """Fresh, so that each library is loaded there."""
    process = ParsingProcess()
    texts: dict[str, str | bytes] = {
        "latin.txt": "Ele disse: não é possível. A citação teve o mérito.".encode("latin-1"),  # by its language
        "unknown": "It was the best of times, it was the worst of times. " * 20,  # by magika
        "a.html": "<html><p>text",
        "a.docx": make.docx("text"),
        "a.pptx": make.pptx(("title", "text")),
        "a.xlsx": make.xlsx({"sheet": [["text"]]}),
        "a.epub": make.epub("title", "<p>text</p>"),
        "a.pdf": make.encrypted_pdf("text", password=""),
    }
    for name, content in texts.items():
        document = process.parse(write(content), name, seconds=LONG, memory_bytes=1_000_000_000)
        assert "text" in document.text or "times" in document.text or "não é possível" in document.text
    process.close()


def test_a_refusal_comes_as_it_is(write: Write) -> None:
    path = write(rb"{\rtf1 hello}")
    with pytest.raises(ParseFailed, match="RTF") as failed:
        parse_apart(path, "a.txt", seconds=LONG, memory_bytes=MEMORY)
    assert failed.value.code == "unsupported_file"


def test_a_file_that_cannot_be_opened_is_the_server_s_fault(process: ParsingProcess, tmp_path: Path) -> None:
    with pytest.raises(ParseFailed, match="No such file") as failed:
        read(process, tmp_path / "gone")
    assert failed.value.code == "server_error"


def test_one_process_reads_many_files(write: Write) -> None:
    process = ParsingProcess(HOSTILE, max_files=3)
    pids = [pid(process, write) for _ in range(7)]
    assert len(set(pids)) == 3
    assert pids == sorted(pids, key=pids.index)
    assert pids[:3] == [pids[0]] * 3
    process.close()
    assert ended(pids[-1])


@pytest.mark.parametrize("order", ["!sleep", "!spin", "!fork"])
def test_what_takes_too_long_ends(process: ParsingProcess, write: Write, order: str) -> None:
    before = pid(process, write)
    began = time.monotonic()
    with pytest.raises(ParseFailed, match=r"took longer than 0\.3 s") as failed:
        read(process, write(order), seconds=0.3)
    assert failed.value.code == "invalid_file"
    assert time.monotonic() - began < 10
    assert ended(before)
    assert read(process, write("next")).text == "next"


def test_what_it_started_goes_with_it(process: ParsingProcess, write: Write) -> None:
    group = pid(process, write)
    with pytest.raises(ParseFailed):
        read(process, write("!fork"), seconds=0.3)
    assert all(ended(member) for member in _group(group))


@pytest.mark.parametrize("order", ["!allocate", "!allocate_natively"])
def test_what_takes_too_much_memory_ends(write: Write, order: str) -> None:
    process = ParsingProcess(HOSTILE)
    with pytest.raises(ParseFailed, match=r"more memory than allowed \(2 GB\)|broke the program.*SIGABRT") as failed:
        read(process, write(f"{order} 8000000000"))
    assert failed.value.code == "invalid_file"
    assert read(process, write("next")).text == "next"
    process.close()


def test_what_earlier_files_left_behind_is_not_blamed_on_the_next(write: Write) -> None:
    process = ParsingProcess(HOSTILE)
    order = write("!keep 180000000")  # two of them fit
    pids = [int(read(process, order, memory_bytes=500_000_000).text) for _ in range(3)]
    assert pids[0] == pids[1] != pids[2]
    process.close()


@pytest.mark.parametrize(
    ("order", "sentence"),
    [
        ("!crash", "broke the program that reads it.*SIGSEGV"),
        ("!exit", "broke the program that reads it.*exit status 0"),
        ("!raise", "broke the program that reads it.*exit status 1"),
        ("!killed", "more memory than allowed"),
    ],
)
def test_what_breaks_the_process_ends(process: ParsingProcess, write: Write, order: str, sentence: str) -> None:
    with pytest.raises(ParseFailed, match=sentence) as failed:
        read(process, write(order))
    assert failed.value.code == "invalid_file"
    assert read(process, write("next")).text == "next"


def test_what_libraries_print_is_no_answer(process: ParsingProcess, write: Write) -> None:
    assert read(process, write("!print")).text.isdigit()


def test_nothing_large_is_written_and_no_secret_seen(
    process: ParsingProcess, write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ParseFailed, match="File too large"):
        read(process, write(f"!write {tmp_path / 'written'}"))
    assert (tmp_path / "written").stat().st_size == 0
    process.close()
    monkeypatch.setenv("MANYHATS_SECRET", "x")
    assert "MANYHATS_SECRET" not in read(process, write("!environment")).text.split()


def test_the_limits_hold(process: ParsingProcess, write: Write) -> None:
    limits = read(process, write("!limits")).text
    rows = {line[:26].strip(): line[26:].split()[:2] for line in limits.splitlines()}
    assert rows["Max address space"] == [str(MEMORY)] * 2
    assert rows["Max core file size"] == ["0", "0"]
    assert rows["Max file size"] == ["100000000"] * 2
    assert int(rows["Max open files"][0]) <= 256
    assert int(rows["Max cpu time"][0]) < 100_000


def test_a_process_killed_while_idle_is_replaced(process: ParsingProcess, write: Write) -> None:
    before = pid(process, write)
    os.kill(before, signal.SIGKILL)
    assert pid(process, write) != before


def test_each_thread_has_a_process_that_ends_with_it(write: Write) -> None:
    path = write("text")
    seen: list[int] = []

    def work() -> None:
        parse_apart(path, "a.txt", seconds=LONG, memory_bytes=MEMORY)
        seen.extend(_children(os.getpid()))

    parse_apart(path, "a.txt", seconds=LONG, memory_bytes=MEMORY)
    before = set(_children(os.getpid()))
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    started = set(seen) - before
    assert len(started) == 1
    assert ended(started.pop())
    assert parse_apart(path, "a.txt", seconds=LONG, memory_bytes=MEMORY).text == "text"


def test_kill_9_of_the_caller_leaves_nothing(write: Write, tmp_path: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from retrieval.parsing_apart import ParsingProcess\n"
        "process = ParsingProcess(sys.argv[3:])\n"
        "def read(path): return process.parse(Path(path), 'a.txt', seconds=60, memory_bytes=2_000_000_000).text\n"
        "print(read(sys.argv[1]), flush=True); read(sys.argv[2])"
    )
    asked = write("!pid")
    slow = tmp_path / "slow"
    slow.write_text("!sleep")
    caller = subprocess.Popen(
        [sys.executable, "-c", script, str(asked), str(slow), *HOSTILE], stdout=subprocess.PIPE, text=True
    )
    assert caller.stdout is not None
    reader = int(caller.stdout.readline())
    caller.kill()
    caller.wait()
    caller.stdout.close()
    assert ended(reader)


def test_a_process_that_was_stopped_is_replaced(process: ParsingProcess, write: Write) -> None:
    os.kill(pid(process, write), signal.SIGSTOP)
    with pytest.raises(ParseFailed, match="took longer"):
        read(process, write("text"), seconds=0.3)
    assert read(process, write("text")).text == "text"


def _group(leader: int) -> list[int]:
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                if int((entry / "stat").read_text().rpartition(")")[2].split()[2]) == leader:
                    found.append(int(entry.name))
            except OSError:
                continue
    return found


def _children(parent: int) -> list[int]:
    found = []
    for task in Path(f"/proc/{parent}/task").iterdir():
        found += [int(child) for child in (task / "children").read_text().split()]
    return found
