"""The training worker as it is, whose jobs' processes are not idle: a busy machine would let a proof wait for hours.

python -m tests.prove.eager_training PARENT
"""

from __future__ import annotations

import os
import subprocess
import sys

from adapters.training.job import Job
from server import training_process
from server.process_tree import die_with_parent
from server.settings import Settings

JOB = (
    "import sys; from server import idle_thread, training_job; from server.process_tree import die_with_parent;"
    "die_with_parent(int(sys.argv[3])); idle_thread.become_idle = lambda: None;"
    "training_job.main(sys.argv[1], sys.argv[2])"
)


def main() -> int:
    """Run until killed."""
    die_with_parent(int(sys.argv[1]))

    def start(settings: Settings, lock: int, alone: bool, job: Job, holder: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, "-c", JOB, job.id, holder, str(os.getpid())],
            env={**os.environ, **training_process.threads_told(settings)},
            stdin=subprocess.DEVNULL,
            pass_fds=(lock,),
        )

    training_process.start_child = start
    return training_process.main()


if __name__ == "__main__":
    sys.exit(main())
