"""From a folder to a vector store over the API: uploads, batches, waiting, and taking out what is gone."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from server.cli_files import check_name
from server.cli_output import CommandFailed
from server.client import Api, Refused
from server.folder import Found, Known, Plan, compare, paths, problem, read
from server.folder_origin import Origin

GROUP = 100  # files that are uploaded and then put into the store together
POLL_SECONDS = 0.5

Advance = Callable[[int], None]  # so many more are done


@dataclass(slots=True)
class Report:
    """What was done, by path; with --dry-run what would be."""

    added: list[str] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)
    unchanged: int = 0
    failed: dict[str, str] = field(default_factory=dict)  # path → why

    def as_object(self) -> dict[str, Any]:
        """For programs."""
        failed = [{"path": path, "reason": why} for path, why in self.failed.items()]
        done = {"added": self.added, "changed": self.changed, "removed": self.removed}
        return {**done, "unchanged": self.unchanged, "failed": failed}

    def in_words(self, *, planned: bool) -> str:
        """For people."""
        words = ("to add", "to change", "to remove") if planned else ("added", "changed", "removed")
        counts = zip((self.added, self.changed, self.removed), words, strict=True)
        parts = [f"{len(paths)} {word}" for paths, word in counts if paths]
        parts += [f"{self.unchanged} unchanged"] if self.unchanged else []
        parts += [f"{len(self.failed)} failed"] if self.failed else []
        return ", ".join(parts) or "the folder is empty"


class Ingesting:
    """One folder and one store."""

    def __init__(self, api: Api, folder: Path, store: str, *, known_as: str = "", jobs: int = 4) -> None:
        self._api = api
        self._root = folder
        self._store = store
        self._origin = Origin.of(folder, known_as)
        self._is_named = bool(known_as)  # by a person, who takes over what the store has under that name
        self._jobs = jobs
        self._path = f"/v1/vector_stores/{check_name(store)}"

    def run(
        self, *, include: Sequence[str] = (), exclude: Sequence[str] = (), retry: bool = False, dry_run: bool = False
    ) -> Report:
        """Make the store equal to the folder.

        Raises CommandFailed when the server refuses or cannot be reached, and when the store's files of this name may
        be another folder's.
        """
        report = Report()
        found = self._found(include, exclude, report)
        known = self._known(create=not dry_run)
        doubt = None if self._is_named else self._origin.doubt(known, self._root)
        if doubt is not None:
            raise CommandFailed(doubt)
        plan = compare(found, known, self._root, retry=retry)
        report.unchanged = len(plan.unchanged)
        report.failed |= {one.path: one.error or one.status for one in plan.failed}
        if dry_run:
            report.added = [one.path for one in plan.new]
            report.changed = [one.path for one in plan.changed]
            report.removed = [one.path for one in plan.gone]
            return report
        gone = {one.file_id for one in plan.gone}
        self._claim([one for one in known if one.file_id not in gone])
        if not plan.is_empty:
            self._carry_out(plan, report)
        return report

    def _found(self, include: Sequence[str], exclude: Sequence[str], report: Report) -> list[Found]:
        def unlisted(error: OSError) -> None:
            report.failed[_readable(os.path.relpath(error.filename, self._root))] = (
                f"the folder cannot be read: {error.strerror}; what the store has of it stays"
            )

        found = []
        for path in paths(self._root, include=include, exclude=exclude, unlisted=unlisted):
            why = problem(path)
            if why is None:
                try:
                    found.append(read(self._root, path))
                except OSError as error:
                    why = f"it cannot be read: {error.strerror}"
            if why is not None:
                report.failed[_readable(path)] = why
        return found

    def _known(self, *, create: bool) -> list[Known]:
        try:
            self._path = f"/v1/vector_stores/{self._api.call('GET', self._path)['id']}"
        except Refused as error:
            if error.status != 404 or self._store.startswith("vs_"):
                raise
            if create:
                made = self._api.call("POST", "/v1/vector_stores", json={"name": self._store})
                self._path = f"/v1/vector_stores/{made['id']}"
            return []
        items = self._api.pages(f"{self._path}/files")
        return [known for item in items if (known := Known.of(item, self._origin.name)) is not None]

    def _claim(self, known: Sequence[Known]) -> None:
        """Note files as this folder's, so that no other folder of its name touches them."""
        for one, attributes in self._origin.claims(known):
            try:
                self._api.call("POST", f"{self._path}/files/{one.file_id}", json={"attributes": attributes})
            except Refused as error:
                if error.status != 404:  # somebody else has taken it out
                    raise

    def _carry_out(self, plan: Plan, report: Report) -> None:
        newer = plan.outdated.keys()
        done = {one.path for one in plan.unchanged}
        with _progress(len(plan.uploads), len(plan.uploads) + len(plan.again) + len(plan.waiting)) as (sent, embedded):
            batches = [self._batch([(one.file_id, self._attributes(one)) for one in plan.again])] if plan.again else []
            for start in range(0, len(plan.uploads), GROUP):
                batches += self._send(plan.uploads[start : start + GROUP], report, sent, embedded)
            self._wait(batches, embedded)
            ended = [item for batch in batches for item in self._api.pages(f"{self._path}/file_batches/{batch}/files")]
            ended += [self._wait_for(one, embedded) for one in plan.waiting]
        for item in ended:
            path = item["attributes"]["path"]
            if item["status"] == "completed":
                done.add(path)
                (report.changed if path in newer else report.added).append(path)
            else:
                report.failed[path] = (item["last_error"] or {}).get("message") or str(item["status"])
        for path, outdated in plan.outdated.items():
            if path in done:  # until the newer one can be searched, the older one is
                self._remove(outdated)
        self._remove(plan.gone)
        report.removed = [one.path for one in plan.gone]
        for paths_of_kind in (report.added, report.changed):
            paths_of_kind.sort()

    def _attributes(self, known: Known) -> dict[str, str]:
        found = Found(path=known.path, file=self._root / known.path, digest=known.digest)
        return self._origin.attributes_of(found)

    def _send(self, group: Sequence[Found], report: Report, sent: Advance, embedded: Advance) -> list[str]:
        """Upload some files and put them into the store together; the batch's id, none when all uploads failed."""
        answers = self._api.upload_all(
            [one.file for one in group], purpose="assistants", jobs=self._jobs, uploaded=lambda: sent(1)
        )
        entries = []
        for one, answer in zip(group, answers, strict=True):
            if isinstance(answer, CommandFailed):
                report.failed[one.path] = str(answer)
                embedded(1)
            else:
                entries.append((answer["id"], self._origin.attributes_of(one)))
        if not entries:
            return []
        try:
            return [self._batch(entries)]
        except BaseException:
            for file_id, _ in entries:  # in no store, nobody would find them again
                with suppress(CommandFailed):
                    self._api.call("DELETE", f"/v1/files/{file_id}")
            raise

    def _batch(self, entries: Sequence[tuple[str, dict[str, str]]]) -> str:
        files = [{"file_id": file_id, "attributes": attributes} for file_id, attributes in entries]
        return str(self._api.call("POST", f"{self._path}/file_batches", json={"files": files})["id"])

    def _wait(self, batches: Sequence[str], embedded: Advance) -> None:
        for batch in batches:
            seen = 0
            while True:
                counts = self._api.call("GET", f"{self._path}/file_batches/{batch}")["file_counts"]
                ended = counts["total"] - counts["in_progress"]
                embedded(ended - seen)
                seen = ended
                if not counts["in_progress"]:
                    break
                self._api.read_files(POLL_SECONDS)

    def _wait_for(self, known: Known, embedded: Advance) -> dict[str, Any]:
        while True:
            item = self._api.call("GET", f"{self._path}/files/{known.file_id}")
            if item["status"] != "in_progress":
                embedded(1)
                return item
            self._api.read_files(POLL_SECONDS)

    def _remove(self, known: Sequence[Known]) -> None:
        for one in known:
            try:
                self._api.call("DELETE", f"/v1/files/{one.file_id}")
            except Refused as error:
                if error.status != 404:  # somebody else has deleted it
                    raise


def _readable(path: str) -> str:
    """A path as text that any output takes, also where it is not UTF-8."""
    return path.encode(errors="backslashreplace").decode()


@contextmanager
def _progress(n_uploads: int, n_files: int) -> Iterator[tuple[Advance, Advance]]:
    """Two bars on a terminal, nothing elsewhere."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), disable=not sys.stderr.isatty(), transient=True) as progress:
        sent = progress.add_task("uploaded", total=n_uploads, visible=n_uploads > 0)
        embedded = progress.add_task("can be searched", total=n_files)
        yield (lambda n: progress.advance(sent, n)), (lambda n: progress.advance(embedded, n))
