from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from retrieval.index.scratch import Scratch

DIES = """
import os, sys
from pathlib import Path
from retrieval.index.scratch import Scratch
scratch = Scratch(Path(sys.argv[1]))
(scratch.folder / "something").write_text("left behind")
os.kill(os.getpid(), 9)
"""


def test_folders_of_the_living_stay_and_those_of_the_dead_go(tmp_path: Path) -> None:
    first = Scratch(tmp_path)
    (first.folder / "mine").write_text("in use")
    subprocess.run([sys.executable, "-c", DIES, str(tmp_path)], check=False)
    folders = [path for path in tmp_path.iterdir() if path.is_dir()]
    assert len(folders) == 2
    second = Scratch(tmp_path)
    assert {path for path in tmp_path.iterdir() if path.is_dir()} == {first.folder, second.folder}
    assert (first.folder / "mine").exists()
    first.close()
    second.close()
    assert not [path for path in tmp_path.iterdir() if path.is_dir()]
