"""Blocks of a document, run as a reader would paste them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.docs.fences import ROOT, Block

ADDRESS = "http://127.0.0.1:8000"
BLOCK_SECONDS = 600  # training runs when nothing else wants the processor


def make_desk(folder: Path) -> Path:
    """Make of the folder what looks like a clone and may be written to."""
    for path in ROOT.iterdir():
        (folder / path.name).symlink_to(path)
    (folder / ".curlrc").write_text("fail-with-body\nshow-error\n")  # an error status fails the block
    return folder


def run(block: Block, *, address: str, data_dir: Path, roots: Path, desk: Path) -> str:
    """What a shell block prints."""
    text = block.text.replace(ADDRESS, address).replace("/srv/adapters", str(roots))
    outside = {key: value for key, value in os.environ.items() if not key.startswith("MANYHATS_")}
    ours = {
        "MANYHATS_DATA_DIR": str(data_dir),
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "CURL_HOME": str(desk),
        "no_proxy": "127.0.0.1",
    }
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", text],
        cwd=desk,
        env={**outside, **ours},
        capture_output=True,
        text=True,
        timeout=BLOCK_SECONDS,
        check=False,
    )
    assert done.returncode == 0, f"line {block.line}\n{done.stdout}\n{done.stderr}"
    return done.stdout
