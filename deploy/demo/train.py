"""Makes the demo's base model and adapters from a folder of public text. Resumable: run it again to go on.

    python deploy/demo/train.py --data DIR

A finished base or adapter in the output folders is kept, so a new base needs another `--out`; it goes on from
the base in the repository. `--fresh` starts from nothing.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path

from recipe.folder import DataFolder, DataMissing

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]


def main() -> None:
    options = _options()
    data = DataFolder(options.data)
    try:
        data.check()
    except DataMissing as error:
        sys.exit(f"train.py: {error}")

    import torch  # after the check: what is missing is told in no time
    from recipe.everything import make

    torch.set_num_threads(options.threads)
    if options.fresh:
        trained = [options.coins / side for side in ("coin-heads", "coin-tails")]
        for folder in (options.work, options.out / "base", options.out / "adapters", *trained):
            shutil.rmtree(folder, ignore_errors=True)
    make(
        data,
        out=options.out,
        coins=options.coins,
        work=options.work,
        steps=options.steps,
        adapter_steps=options.adapter_steps,
        from_nothing=options.fresh,
    )


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of public text; README.md lists its files")
    parser.add_argument("--out", type=Path, default=HERE, help="folder that gets base/ and adapters/")
    parser.add_argument("--coins", type=Path, default=ROOT / "tests" / "e2e" / "adapters", help="for the test adapters")
    parser.add_argument("--work", type=Path, default=ROOT / "build" / "demo", help="folder for checkpoints")
    parser.add_argument("--steps", type=int, default=1100, help="training steps of the base")
    parser.add_argument("--adapter-steps", type=int, default=80, help="training steps of each manner's adapter")
    parser.add_argument("--threads", type=int, default=2, help="processor cores to use")
    parser.add_argument("--fresh", action="store_true", help="begin from nothing: forget all that is there")
    return parser.parse_args()


if __name__ == "__main__":
    main()
