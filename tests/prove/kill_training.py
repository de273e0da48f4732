"""Kill the process of a fine-tuning job, or its worker, at random steps; then look at what came of the job.

    python -m tests.prove.kill_training --kills 5

Two jobs with the same data and seed train on the demo base: one that nobody disturbs, and one whose process or whose
worker gets `kill -9` at a random step, again and again. Nobody helps: the worker, started anew where it was killed,
has to bring the job to its end. Then its adapter is one version that fits the base, its weights are those of the
undisturbed one within a tolerance, and no step is missing or told twice in its result file.
"""

from __future__ import annotations

import argparse
import os
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import closing
from pathlib import Path

import numpy as np
import psutil
from safetensors.numpy import load_file

from adapters import preflight
from adapters.training.job import Job
from server.storage.database import Database
from tests.server.job_desk import JobDesk

ROOT = Path(__file__).parents[2]
EPOCHS = 12
JOB_SECONDS = 900
TOLERANCE = 1e-4  # of the largest weight: sums in another order are not the same float

METHOD = {"type": "supervised", "supervised": {"hyperparameters": {"n_epochs": EPOCHS, "batch_size": 4}}}


class Proof:
    """One data directory, with a worker that is started again whenever it is gone."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.folder = folder
        self.dice = random.Random(seed)
        data = folder / "data"
        data.mkdir()
        self.database = Database(f"sqlite:///{data / 'manyhats.db'}")
        self.database.migrate()
        self.desk = JobDesk(data, self.database)
        self.log = folder / "worker.log"
        self.worker: subprocess.Popen[bytes] | None = None
        self.kills: Counter[str] = Counter()
        self.steps_lost = 0

    def keep_working(self) -> None:
        """Start the worker where none runs, as the server's supervisor would."""
        if self.worker is not None and self.worker.poll() is None:
            return
        told = {"MANYHATS_DATA_DIR": str(self.desk.settings.data_dir), "MANYHATS_TRAINING_THREADS": "1"}
        command = [sys.executable, "-m", "tests.prove.eager_training", str(os.getpid())]
        with self.log.open("ab") as log:
            self.worker = subprocess.Popen(command, cwd=ROOT, env={**os.environ, **told}, stdout=log, stderr=log)

    def undisturbed(self) -> Job:
        """A job that trains in peace."""
        job = self.desk.make(method=METHOD, suffix="undisturbed")
        return self.finished(job)

    def killed(self, n_kills: int) -> Job:
        """The same job, killed so many times at random steps."""
        job = self.desk.make(method=METHOD, suffix="killed")
        for number in range(n_kills):
            target = self.step_to_kill_at(job, n_kills - number)
            self.wait(job, lambda now, target=target: now.step >= target)
            self.kill(job)
        return self.finished(job)

    def step_to_kill_at(self, job: Job, left: int) -> int:
        """A random step such that there is room for the kills that are left."""
        now = self.desk.job(job)
        last = now.n_steps or 20 * EPOCHS
        return now.step + self.dice.randint(1, max(1, (last - now.step) // (left + 1)))

    def kill(self, job: Job) -> None:
        """`kill -9` of the job's process or of the worker; whichever it is, its whole family is gone after that."""
        assert self.worker is not None
        worker = psutil.Process(self.worker.pid)
        children = worker.children(recursive=True)
        at = self.desk.job(job).step
        if self.dice.random() < 0.5 and children:
            self.kills["of the job's process"] += 1
            children[0].kill()
        else:
            self.kills["of the worker"] += 1
            worker.kill()
            self.worker.wait()
        _, alive = psutil.wait_procs(children, timeout=20)
        assert not alive, f"{alive} outlived the kill"
        self.wait(job, lambda now: self.events(job) and now.status == "running" and now.lease_holder is not None)
        print(f"killed after step {at}", flush=True)

    def events(self, job: Job) -> int:
        return len(self.desk.messages(job))

    def finished(self, job: Job) -> Job:
        """Until it is over."""
        self.wait(job, lambda now: now.is_over)
        return self.desk.job(job)

    def wait(self, job: Job, is_so) -> None:  # a lambda over the job
        """Another process's work tells nobody when it is done."""
        ends_at = time.monotonic() + JOB_SECONDS
        while not is_so(now := self.desk.job(job)):
            self.keep_working()
            assert not now.is_over, f"the job has ended as {now.status!r}: {now.error}"
            assert time.monotonic() < ends_at, f"step {now.step} of {now.n_steps} after {JOB_SECONDS} s"
            time.sleep(0.05)

    def check(self, job: Job, twin: Job) -> None:
        """Everything that the module's docstring promises."""
        assert (job.status, twin.status) == ("succeeded", "succeeded"), f"{job.error} {twin.error}"
        assert job.step == twin.step == job.n_steps
        registry = self.desk.registry()
        adapter = registry.get("killed")
        steps = {checkpoint.step for checkpoint in self.desk.jobs.checkpoints(job.id, None).items}
        assert len(adapter.versions) == len(steps), "a version was registered twice, or is missing"
        assert [version.id for version in adapter.active] == [job.version]
        version, other = registry.resolve("killed"), registry.resolve("undisturbed")
        settings = self.desk.settings
        preflight.check(
            registry.path(version), self.desk.base, max_rank=settings.max_rank, max_bytes=settings.max_adapter_bytes
        )
        mine, theirs = (load_file(registry.path(one) / "adapter_model.safetensors") for one in (version, other))
        assert mine.keys() == theirs.keys()
        largest = max(float(np.abs(weights).max()) for weights in theirs.values())
        differs = max(float(np.abs(mine[name] - theirs[name]).max()) for name in mine)
        print(f"weights differ by at most {differs:.3g}, the largest is {largest:.3g}")
        assert differs <= TOLERANCE * largest, "the adapter is another than that of an undisturbed run"
        results = [file for file in self.desk.files.list(job.owner).items if file.filename.startswith(job.id)]
        assert [file.id for file in results] == [job.result_file], "a result file is missing, or there twice"
        lines = self.desk.files.path(results[0]).read_text().splitlines()[1:]
        assert [int(line.partition(",")[0]) for line in lines] == list(range(1, job.step + 1))
        succeeded = [message for message in self.desk.messages(job) if "successfully completed" in message]
        assert len(succeeded) == 1

    def close(self) -> None:
        """End the worker."""
        if self.worker is not None and self.worker.poll() is None:
            self.worker.terminate()
            self.worker.wait(60)


def main() -> None:
    """Train, kill, check; an AssertionError says what is wrong, with the seed."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--kills", type=int, default=5)
    arguments.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    arguments.add_argument("--folder", type=Path, help="an empty folder that stays; a temporary one if left out")
    chosen = arguments.parse_args()
    with tempfile.TemporaryDirectory(prefix="kill-training-") as temporary:
        print(f"seed {chosen.seed}", flush=True)
        proof = Proof(chosen.folder or Path(temporary), chosen.seed)
        with closing(proof.database):
            try:
                started = time.monotonic()
                twin = proof.undisturbed()
                middle = time.monotonic()
                print(f"undisturbed: {twin.step} steps in {middle - started:.0f} s", flush=True)
                job = proof.killed(chosen.kills)
                took = time.monotonic() - middle
                proof.check(job, twin)
            except BaseException:
                print(proof.log.read_text()[-6000:], file=sys.stderr)
                raise
            finally:
                proof.close()
        print(f"the job ended by itself in {took:.0f} s after {chosen.kills} kills: {dict(proof.kills)}")


if __name__ == "__main__":
    main()
