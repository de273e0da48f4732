"""`python -m deploy.ray` with an engine that is a script and speaks as slowly as it is told.

The environment says how: PACED_WORDS and PACED_SECONDS between two of them; PACED_ROUTER is another router of Ray's.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from functools import partial

import server.boot
from deploy.ray.__main__ import main
from deploy.ray.replica import Replica
from server.engine.fake import FakeEngine


class PacedReplica(Replica):
    """A replica whose fake engine takes its time."""

    async def __init__(
        self, environ: Mapping[str, str], bind_cores: Sequence[str], cpus: float, vllm_args: Sequence[str]
    ) -> None:
        words = " ".join(f"word{i}" for i in range(int(os.environ["PACED_WORDS"])))
        pace = float(os.environ["PACED_SECONDS"])
        server.boot.FakeEngine = partial(FakeEngine, words, pause_seconds=pace)  # type: ignore[assignment, misc]
        await super().__init__(environ, bind_cores, cpus, vllm_args)


if __name__ == "__main__":
    router = os.environ.get("PACED_ROUTER")
    parts = {"replica": PacedReplica, **({"router": router} if router else {})}
    sys.exit(main(sys.argv[1:], **parts))
