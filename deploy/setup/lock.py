"""Makes the pins: `make lock` keeps the versions that are pinned already, `make lock UPGRADE=1` takes the newest.

One lock serves Python 3.11 to 3.13 on Linux x86-64; tests/deploy/test_locks.py checks that nothing is missing on any of
them. Pins carry no hashes: pip wants them for all packages or none, and torch's CPU wheel differs between indexes.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

from packaging.requirements import Requirement

from deploy.setup.stamp import ROOT

SETUP = ROOT / "deploy" / "setup"
UV = "uv==0.13.8"  # resolves from metadata alone, where pip would download the packages
HEADER = "# Made by `make lock` from {sources}; do not edit.\n"


def main() -> int:
    """Write cpu.txt, cuda.txt, dev.txt and ray.txt."""
    parser = argparse.ArgumentParser(prog="python -m deploy.setup.lock", description=__doc__)
    parser.add_argument("--torch-index", default="", help="index for torch's CPU wheel")
    parser.add_argument("--upgrade", action="store_true", help="take the newest versions")
    wanted = parser.parse_args()
    index = ["--extra-index-url", wanted.torch_index, "--index-strategy", "unsafe-best-match"]
    with tempfile.TemporaryDirectory() as folder:
        tools = Path(folder)
        venv.create(tools, with_pip=True)
        subprocess.run([tools / "bin" / "pip", "install", "--quiet", UV], check=True)

        def resolve(sources: list[str], keep: list[str], more: list[str]) -> list[str]:
            answer = tools / "answer.txt"  # uv prefers the versions that it finds here, where they can stay
            answer.write_text("".join(f"{pin}\n" for pin in keep if not wanted.upgrade))
            command = [f"{tools}/bin/uv", "pip", "compile", "--quiet", "--no-header", "--no-annotate"]
            command += ["--python", sys.executable, "--python-version", "3.11", "--output-file", str(answer), *more]
            subprocess.run([*command, *(str(SETUP / source) for source in sources)], check=True, env=environ(sources))
            return read(answer)

        def fixed(pins: list[str]) -> list[str]:
            path = tools / "fixed.txt"
            path.write_text("".join(f"{pin}\n" for pin in pins))
            return ["--constraint", str(path)]

        unwanted = ["--override", str(SETUP / "unwanted.txt")]
        drop = [*unwanted, "--override", str(SETUP / "dropped.txt")]
        torch_from = index if wanted.torch_index else []
        cpu = resolve(["cpu.in", "common.in"], read(SETUP / "cpu.txt"), [*drop, *torch_from])
        write("cpu.txt", "cpu.in and common.in, without dropped.txt and unwanted.txt", cpu)
        dev = resolve(["cpu.in", "common.in", "dev.in"], read(SETUP / "dev.txt"), [*fixed(cpu), *drop, *torch_from])
        write("dev.txt", "dev.in, over cpu.txt", [pin for pin in dev if pin not in cpu])
        ray = resolve(["cpu.in", "common.in", "ray.in"], read(SETUP / "ray.txt"), [*fixed(cpu), *drop, *torch_from])
        write("ray.txt", "ray.in, over cpu.txt", [pin for pin in ray if pin not in cpu])
        # the GPU build decides on its own about what it needs; what we ask for ourselves is kept equal to the CPU's
        ours = {Requirement(line).name for line in read(SETUP / "common.in")}
        shared = [pin for pin in cpu if Requirement(pin).name in ours]
        cuda = resolve(["cuda.in", "common.in"], read(SETUP / "cuda.txt"), [*fixed(shared), *unwanted])
        local = [pin for pin in cuda if "+" in pin]
        assert not local, f"not from PyPI, so nobody else could install them: {', '.join(local)}"
        write("cuda.txt", "cuda.in and common.in, without unwanted.txt", cuda)
    return 0


def environ(sources: list[str]) -> dict[str, str]:
    """uv's environment. A folder or index of CPU wheels that is set up for uv must not decide the GPU build: torch for
    CUDA is the one on PyPI.
    """
    places = ("UV_FIND_LINKS", "UV_INDEX", "UV_EXTRA_INDEX_URL") if "cuda.in" in sources else ()
    return {name: value for name, value in os.environ.items() if name not in places}


def read(path: Path) -> list[str]:
    """The lines of a requirements file that are not comments; none when there is no file."""
    lines = path.read_text().splitlines() if path.exists() else []
    return [line for line in lines if line and not line.startswith("#")]


def write(name: str, sources: str, pins: list[str]) -> None:
    """Write one lock file."""
    text = HEADER.format(sources=sources) + "".join(f"{pin}\n" for pin in sorted(pins, key=str.lower))
    (SETUP / name).write_text(text)


if __name__ == "__main__":
    sys.exit(main())
