"""What must be there before anything is downloaded: all that is missing at once, with the command that mends it."""

from __future__ import annotations

import contextlib
import importlib.util
import platform
import shutil
import socket
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

PYTHONS = ((3, 11), (3, 12), (3, 13))
DISK_GB = 10.0
MEMORY_GB = 6.0
GB = 1e9


@dataclass(frozen=True)
class Problem:
    """One missing thing, and what mends it."""

    what: str
    mend: str


def problems(root: Path, *, host: str, port: int | None, disk_gb: float = DISK_GB) -> list[Problem]:
    """Everything that stands in the way of a set-up in `root`; `port` None when no server is to be started."""
    found = [
        check_platform(platform.system(), platform.machine()),
        check_python(sys.version_info[:2]),
        check_venv(sys.version_info[:2]),
        check_make(),
        check_disk(root, disk_gb),
        check_memory(Path("/")),
        check_port(host, port) if port else None,
    ]
    return [problem for problem in found if problem]


def check_platform(system: str, machine: str) -> Problem | None:
    """vLLM's wheels are for Linux x86-64."""
    if (system, machine) == ("Linux", "x86_64"):
        return None
    return Problem(f"this is {system} {machine}, and the server runs on Linux x86-64", "use a Linux x86-64 machine")


def check_python(version: tuple[int, ...]) -> Problem | None:
    """One of PYTHONS."""
    if tuple(version) in PYTHONS:
        return None
    return Problem(
        f"Python {version[0]}.{version[1]} is not among 3.11, 3.12 and 3.13",
        "sudo apt install python3.11 python3.11-venv   (or name one: PYTHON=/path/to/python3.11)",
    )


def check_venv(version: tuple[int, ...]) -> Problem | None:
    """Some distributions leave `venv` and `ensurepip` out of Python."""
    missing = [name for name in ("venv", "ensurepip") if importlib.util.find_spec(name) is None]
    if not missing:
        return None
    return Problem(
        f"Python {version[0]}.{version[1]} has no module {' and no '.join(missing)}",
        f"sudo apt install python{version[0]}.{version[1]}-venv",
    )


def check_make() -> Problem | None:
    """The commands are make's."""
    return None if shutil.which("make") else Problem("`make` is not installed", "sudo apt install make")


def check_disk(root: Path, needed_gb: float) -> Problem | None:
    """Free space where .venv will lie."""
    free_gb = shutil.disk_usage(root).free / GB
    if free_gb >= needed_gb:
        return None
    return Problem(
        f"{free_gb:.1f} GB of disk are free under {root}, and {needed_gb:g} GB are needed",
        f"make room, or move the project to a larger disk; what fills this one: du -xh {root} | sort -h | tail",
    )


def check_memory(proc_root: Path) -> Problem | None:
    """Memory that can be had without swapping, also under a container's limit."""
    available_gb = available_bytes(proc_root) / GB
    if available_gb >= MEMORY_GB:
        return None
    return Problem(
        f"{available_gb:.1f} GB of memory are available, and {MEMORY_GB:g} GB are needed",
        "stop other programs, or give the container more; what uses it: ps -eo pid,rss,args --sort=-rss | head",
    )


def available_bytes(proc_root: Path) -> float:
    """The kernel's `MemAvailable`, or what the control group's limit leaves, whichever is less."""
    lines = (proc_root / "proc" / "meminfo").read_text().splitlines()
    available = next(float(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
    group = proc_root / "sys" / "fs" / "cgroup"
    try:
        limit = float((group / "memory.max").read_text())  # "max" is no number: no limit
        stat = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
        used = float((group / "memory.current").read_text()) - float(stat["inactive_file"])  # cache can be given back
    except (OSError, ValueError, KeyError):
        return available
    return min(available, limit - used)


def check_port(host: str, port: int) -> Problem | None:
    """Whether the server could listen."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the server binds: TIME_WAIT is no problem
        try:
            probe.bind((host, port))
        except OSError as error:
            what = f"{host}:{port} cannot be listened on: {error.strerror}"
        else:
            return None
    pid, command = port_user(port, Path("/proc"))
    other = f"take another port: MANYHATS_PORT={port + 1 if port < 65535 else port - 1}"
    if pid is None:
        return Problem(what, other)
    return Problem(f"{what}; process {pid} ({command}) has it", f"kill {pid}   (or {other})")


def port_user(port: int, proc: Path) -> tuple[int | None, str]:
    """The process that listens on a port, and its command line; (None, "") when it cannot be seen."""
    sockets = {f"socket:[{inode}]" for inode in _listening_inodes(port, proc)}
    for folder in sorted(proc.glob("[0-9]*")):
        if sockets & set(_open_files(folder)):
            with contextlib.suppress(OSError):  # it has just ended
                command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
                return int(folder.name), command[:100]
    return None, ""


def _open_files(process: Path) -> Iterator[str]:
    try:
        links = list((process / "fd").iterdir())
    except OSError:  # another user's process, or one that has just ended
        return
    for link in links:
        with contextlib.suppress(OSError):  # closed since it was listed
            yield str(link.readlink())


def _listening_inodes(port: int, proc: Path) -> set[str]:
    inodes = set()
    for table in ("tcp", "tcp6"):
        try:
            rows = (proc / "net" / table).read_text().splitlines()[1:]
        except OSError:
            continue
        for row in rows:
            fields = row.split()
            if fields[3] == "0A" and int(fields[1].rpartition(":")[2], 16) == port:  # 0A: listening
                inodes.add(fields[9])
    return inodes


def as_text(found: list[Problem]) -> str:
    """All problems, for people."""
    lines = ["Not everything that the set-up needs is there:", ""]
    for problem in found:
        lines += [f"  - {problem.what}", f"      {problem.mend}"]
    return "\n".join(lines)
