"""Kill a process that registers versions and moves aliases, at random moments, and look at what is left each time.

    python -m tests.prove.kill_registry --kills 200

The worker writes what it is about to do, does it, and writes that it is done. After `kill -9` a new process recovers
(sometimes it is killed too, and another one recovers), and what it finds must be what the worker had finished, with or
without the one step that it was in: never half of it. Files are checked by their digest, against the rows, both ways.

It runs over the real database and the real store. It shows what a killed process leaves, not what a power cut leaves.
"""

from __future__ import annotations

import argparse
import copy
import functools
import json
import os
import random
import select
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from adapters.manifest import Manifest, digest
from adapters.registry import Registry
from server.storage.blobs import LocalBlobs
from server.storage.database import Database

NAMES = ["legal", "medical", "poet", "pirate", "clerk"]
WORDS = [f"weights {number}" for number in range(9)]
WEIGHT_BYTES = 64 * 1024

State = dict[str, dict[str, Any]]  # by name: versions, traffic, previous, pinned, status
Step = dict[str, Any]


def main() -> None:
    """Kill, recover, compare; the exit status is 1 at the first difference, which is printed with its seed."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--kills", type=int, default=200)
    arguments.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    chosen = arguments.parse_args()
    with tempfile.TemporaryDirectory(prefix="kill-registry-") as folder:
        proof = Proof(Path(folder), chosen.seed)
        database = Database(proof.url)
        database.migrate()
        database.close()
        started = time.monotonic()
        try:
            for _ in range(chosen.kills):
                proof.kill_once()
        except AssertionError as difference:
            sys.exit(f"seed {chosen.seed}, kill {proof.counts['kills']}: {difference}")
        proof.counts["seconds"] = round(time.monotonic() - started)
        for what, count in proof.counts.items():
            print(f"{count:6} {what}")
        print(f"consistent after each of {proof.counts['kills']} kills (seed {chosen.seed})")


class Proof:
    """The parent's side: it knows what was finished, and believes nothing else."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.folder = folder
        self.url = f"sqlite:///{folder / 'manyhats.db'}"
        self.log = folder / "log"
        self.chance = random.Random(seed)
        self.state: State = {}
        self.ids: dict[int, str] = {}  # what each id ever meant
        self.counts: Counter[str] = Counter(kills=0)

    def kill_once(self) -> None:
        self.log.write_text("")
        seed = self.chance.randrange(10**9)
        self.run_and_kill(lambda ready: work(self.url, self.folder, self.log, self.state, seed, ready), 0.3)
        self.counts["kills"] += 1
        finished, pending = self.read_log()
        if self.chance.random() < 0.3:
            self.run_and_kill(lambda ready: recover_forever(self.url, self.folder, ready), 0.05)
            self.counts["of a recovery, on top"] += 1
        found = self.recover()
        for mess, count in found["before"].items():
            self.counts[mess] += bool(count)
        self.compare(found["state"], finished, pending)
        for lora_id, engine_name in found["ids"]:
            assert self.ids.setdefault(lora_id, engine_name) == engine_name, f"id {lora_id} was given out twice"

    def read_log(self) -> tuple[State, Step | None]:
        """The state after all finished steps, and the step that was under way."""
        state, pending = copy.deepcopy(self.state), None
        for line in self.log.read_text().splitlines(keepends=True):
            if not line.endswith("\n"):
                break  # killed while writing: then nothing was begun
            entry = json.loads(line)
            if "begin" in entry:
                pending = entry["begin"]
                continue
            assert pending is not None
            apply(state, pending)
            if entry["id"] is not None:
                known = self.ids.setdefault(entry["id"], entry["engine_name"])
                assert known == entry["engine_name"], f"id {entry['id']} was given out twice"
            self.counts["steps finished"] += 1
            pending = None
        return state, pending

    def compare(self, found: State, finished: State, pending: Step | None) -> None:
        without, with_it = recovered(finished), copy.deepcopy(finished)
        if pending is not None:
            apply(with_it, pending)
        with_it = recovered(with_it)
        difference = f"\nfound    {found}\nfinished {without}\npending  {pending}"
        assert found in (without, with_it), f"neither all nor nothing of the last step:{difference}"
        if pending is not None and without != with_it:
            happened = "had happened" if found == with_it else "had not happened"
            self.counts[f"kills inside a step that {happened}"] += 1
        self.state = found

    def recover(self) -> dict[str, Any]:
        """Recover in a process of its own and return what it found."""
        reader, writer = os.pipe()
        child = fork(lambda: report(self.url, self.folder, writer))
        os.close(writer)
        with os.fdopen(reader) as answer:
            text = answer.read()
        assert os.waitpid(child, 0)[1] == 0, f"the recovery failed: {text}"
        found: dict[str, Any] = json.loads(text)
        return found

    def run_and_kill(self, run: Callable[[int], None], longest: float) -> None:
        """Fork, wait until it has begun, and kill it at a random moment within `longest` seconds."""
        reader, writer = os.pipe()
        child = fork(lambda: run(writer))
        os.close(writer)
        assert os.read(reader, 1), "the process ended before it had begun"
        select.select([reader], [], [], self.chance.random() * longest)  # an early end closes the pipe
        os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        os.close(reader)
        assert os.WIFSIGNALED(status), "the process ended by itself"


def fork(run: Callable[[], None]) -> int:
    """A process of its own without the second that imports take; nothing is open yet that it could share."""
    child = os.fork()
    if child:
        return child
    try:
        run()
        os._exit(0)
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(1)


def work(url: str, folder: Path, log: Path, state: State, seed: int, ready: int) -> None:
    """Do random steps for ever; the log gets a line before and after each."""
    chance, registry, blobs = random.Random(seed), *opened(url, folder)
    journal = os.open(log, os.O_WRONLY | os.O_APPEND)
    os.write(ready, b"!")
    while True:
        step = random_step(state, chance)
        os.write(journal, json.dumps({"begin": step}).encode() + b"\n")
        lora_id, engine_name = carry_out(registry, blobs, step)
        os.write(journal, json.dumps({"id": lora_id, "engine_name": engine_name}).encode() + b"\n")
        apply(state, step)
        assert seen(registry) == state, f"after {step}\n{seen(registry)}\n{state}"


def recover_forever(url: str, folder: Path, ready: int) -> None:
    """Recover until killed."""
    os.write(ready, b"!")
    while True:
        opened(url, folder)[0].recover()


def report(url: str, folder: Path, answer: int) -> None:
    """Recover, check the files against the rows, and write down what there is."""
    registry, blobs = opened(url, folder)
    rows = {version.digest for adapter in registry.list() for version in adapter.versions}
    left = {
        "kills left files without rows": {key.rpartition("/")[2] for key in blobs.keys("adapters/")} - rows,
        "kills left unfinished folders": [*(folder / "blobs" / "staging").iterdir()],
        "kills left half-deleted folders": [*(folder / "blobs" / "trash").iterdir()],
        "kills left names half-registered": [one for one in registry.list() if one.status == "staging"],
    }
    before = {mess: len(found) for mess, found in left.items()}
    registry.recover()
    versions = [version for adapter in registry.list() for version in adapter.versions]
    for version in versions:
        assert version.error is None, f"{version.id}: {version.error}"
        assert digest(registry.path(version)) == version.digest, f"{version.id} has other bytes"
    assert {f"adapters/{version.digest}" for version in versions} == set(blobs.keys()), "files without rows"
    assert [*(folder / "blobs" / "staging").iterdir(), *(folder / "blobs" / "trash").iterdir()] == []
    for adapter in registry.list():
        there = {version.digest for version in adapter.versions}
        assert {version for version, _ in [*adapter.traffic, *(adapter.previous or ())]} <= there, adapter
        assert bool(adapter.traffic) == (adapter.status == "ready"), adapter
    database = Database(url)
    with database.read() as connection:
        assert connection.execute(sa.text("PRAGMA integrity_check")).scalar() == "ok"
    ids = [(version.lora_id, version.engine_name) for version in versions]
    os.write(answer, json.dumps({"state": seen(registry), "ids": ids, "before": before}).encode())


def opened(url: str, folder: Path) -> tuple[Registry, LocalBlobs]:
    """What every process opens anew, as the server does."""
    blobs = LocalBlobs(folder / "blobs")
    return Registry(Database(url), blobs, base_name="demo", base_fingerprint="f" * 64), blobs


def random_step(state: State, chance: random.Random) -> Step:
    """Something that can be done in this state."""
    name = chance.choice(NAMES)
    word = chance.choice(WORDS)
    adapter = state.get(name)
    if adapter is None or adapter["status"] == "failed":
        return {"do": chance.choice(["add", "add", "begin"]), "name": name, "word": word, "pin": chance.random() < 0.2}
    if adapter["status"] == "staging":
        return {"do": chance.choice(["finish", "fail", "remove"]), "name": name, "word": word}
    versions = adapter["versions"]
    pointed_to = {version for version, _ in adapter["traffic"]}
    steps: list[Step] = [
        {"do": "add_version", "word": word, "activate": chance.random() < 0.5},
        {"do": "add_version", "word": word, "activate": chance.random() < 0.5},
        {"do": "move", "version": chance.choice(versions)},
        {"do": "move", "version": chance.choice(versions)},
        {"do": "pin", "pinned": not adapter["pinned"]},
        {"do": "remove"},
        {"do": "collect"},
    ]
    if adapter["previous"]:
        steps.append({"do": "previous"})
    if len(versions) > 1:
        steps.append({"do": "canary", "traffic": [[version, chance.randint(1, 9)] for version in versions]})
    steps += [{"do": "remove_version", "version": version} for version in versions if version not in pointed_to][:1]
    return {**chance.choice(steps), "name": name}


def carry_out(registry: Registry, blobs: LocalBlobs, step: Step) -> tuple[int | None, str | None]:
    """The step by the registry; what it registered, as (id, engine name)."""
    name = step["name"]
    match step["do"]:
        case "add" | "finish" | "add_version" as do:
            with blobs.staging() as folder:
                manifest = write_adapter(folder, step["word"])
                if do == "add_version":
                    version, _ = registry.add_version(name, folder, manifest, source="x", activate=step["activate"])
                else:
                    pin = step.get("pin", False)
                    version, _ = registry.add(name, folder, manifest, source="x", pin=pin, begun=do == "finish")
            return version.lora_id, version.engine_name
        case "begin":
            registry.begin(name, "x", pin=step["pin"])
        case "fail":
            registry.fail(name, "no")
        case "move":
            registry.move_alias(name, step["version"])
        case "previous":
            registry.move_alias(name, "previous")
        case "canary":
            registry.move_alias(name, traffic=dict(step["traffic"]))
        case "pin":
            registry.set_pinned(name, step["pinned"])
        case "remove":
            registry.remove(name)
        case "remove_version":
            registry.remove_version(name, step["version"])
        case "collect":
            registry.collect()
    return None, None


def apply(state: State, step: Step) -> None:
    """The same step on plain dictionaries: what the registry should hold then."""
    name, adapter = step["name"], state.get(step["name"])
    match step["do"]:
        case "begin":
            state[name] = {"versions": [], "traffic": [], "previous": None, "pinned": step["pin"], "status": "staging"}
            return
        case "add" | "finish":
            pinned = adapter["pinned"] if adapter and step["do"] == "finish" else step["pin"]
            version = digest_of(step["word"])
            fresh = {"versions": [version], "traffic": [[version, 1]], "previous": None, "pinned": pinned}
            state[name] = {**fresh, "status": "ready"}
            return
        case "remove":
            del state[name]
            return
    assert adapter is not None
    match step["do"]:
        case "fail":
            adapter["status"] = "failed"
        case "add_version":
            version = digest_of(step["word"])
            if version not in adapter["versions"]:
                adapter["versions"].append(version)
            if step["activate"]:
                point(adapter, [[version, 1]])
        case "move":
            point(adapter, [[step["version"], 1]])
        case "previous":
            point(adapter, adapter["previous"])
        case "canary":
            point(adapter, step["traffic"])
        case "pin":
            adapter["pinned"] = step["pinned"]
        case "remove_version":
            adapter["versions"].remove(step["version"])
            if step["version"] in dict(adapter["previous"] or ()):
                adapter["previous"] = None


def point(adapter: dict[str, Any], traffic: list[list[Any]]) -> None:
    if traffic != adapter["traffic"]:
        adapter["traffic"], adapter["previous"] = traffic, adapter["traffic"]


def recovered(state: State) -> State:
    """What a restart makes of it: half-registered names are gone."""
    return {name: adapter for name, adapter in state.items() if adapter["status"] != "staging"}


def seen(registry: Registry) -> State:
    """What the registry holds, in the form of `State`."""
    return {
        adapter.name: {
            "versions": [version.digest for version in adapter.versions],
            "traffic": [list(share) for share in adapter.traffic],
            "previous": [list(share) for share in adapter.previous] if adapter.previous else None,
            "pinned": adapter.pinned,
            "status": adapter.status,
        }
        for adapter in registry.list()
    }


def write_adapter(folder: Path, word: str) -> Manifest:
    """Two small files, and a manifest as the preflight would give it."""
    write_files(folder, word)
    return Manifest(
        digest=digest_of(word),
        rank=8,
        alpha=16.0,
        use_rslora=False,
        target_modules=("q_proj",),
        n_parameters=WEIGHT_BYTES,
        size_bytes=WEIGHT_BYTES,
        dtype="U8",
        declared_base=None,
        effect=1.0,
        modules=1,
    )


def write_files(folder: Path, word: str) -> None:
    weights = random.Random(word).randbytes(WEIGHT_BYTES)
    header = json.dumps({"w": {"dtype": "U8", "shape": [WEIGHT_BYTES], "data_offsets": [0, WEIGHT_BYTES]}}).encode()
    (folder / "adapter_model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + weights)
    config = {"peft_type": "LORA", "r": 8, "lora_alpha": 16, "target_modules": ["q_proj"]}
    (folder / "adapter_config.json").write_text(json.dumps(config))


@functools.cache
def digest_of(word: str) -> str:
    with tempfile.TemporaryDirectory() as folder:
        write_files(Path(folder), word)
        return digest(Path(folder))


if __name__ == "__main__":
    main()
