"""Makes the pins: `make lock` keeps the versions that are pinned already, `make lock UPGRADE=1` takes the newest.

One lock serves Python 3.11 to 3.13 on Linux x86-64; tests/deploy/test_locks.py checks that nothing is missing on any of
them. Pins carry no hashes: pip wants them for all packages or none, and torch's CPU wheel differs between indexes.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

from deploy.setup.stamp import ROOT

SETUP = ROOT / "deploy" / "setup"
UV = "uv==0.13.8"  # resolves from metadata alone, where pip would download the packages
HEADER = "# Made by `make lock` from {sources}; do not edit.\n"


def main() -> int:
    """Write cpu.txt, cuda.txt and dev.txt."""
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
            pins = tools / "keep.txt"
            pins.write_text("".join(f"{pin}\n" for pin in keep))
            command = [f"{tools}/bin/uv", "pip", "compile", "--quiet", "--no-header", "--no-annotate"]
            command += ["--python", sys.executable, "--python-version", "3.11", "--constraint", str(pins), *more]
            command += [str(SETUP / source) for source in sources]
            return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()

        def kept(name: str) -> list[str]:
            return [] if wanted.upgrade else read(SETUP / name)

        drop = ["--override", str(SETUP / "dropped.txt")]
        torch_from = index if wanted.torch_index else []
        cpu = resolve(["cpu.in", "common.in"], kept("cpu.txt"), [*drop, *torch_from])
        write("cpu.txt", "cpu.in, common.in and dropped.txt", cpu)
        dev = resolve(["cpu.in", "common.in", "dev.in"], [*cpu, *kept("dev.txt")], [*drop, *torch_from])
        write("dev.txt", "dev.in, over cpu.txt", [pin for pin in dev if pin not in cpu])
        # the GPU build decides on its own about what it needs; the rest is kept equal to the CPU's
        shared = [pin for pin in cpu if pin.partition("==")[0] in read(SETUP / "common.in")]
        write("cuda.txt", "cuda.in and common.in", resolve(["cuda.in", "common.in"], [*shared, *kept("cuda.txt")], []))
    return 0


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
