"""Blobs (`blob_store.py`) in an object store, for servers on several machines, with copies on this one.

    data/<key>/-<upload>/<file>   the files; every upload has a place of its own
    blobs/<key>.json              the manifest: written last, it makes the blob exist, and deleted first

So whoever is killed, and whoever else writes or deletes the same key, leaves a whole blob or none. Two writers at once:
the store takes one manifest (`If-None-Match`), and the other upload is deleted. A store that does not know that
condition takes both, the later one stays, and the earlier one's files are `tidy`'s; under keys that are digests both
hold the same bytes.

What exists is the store's to say: `path` asks it each time, or once a second for one key, and then gives the copy.
While it does not answer, a copy is given without asking: which blobs are in use the database says, not this.
"""

from __future__ import annotations

import itertools
import logging
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from server.storage.blob_cache import BlobCache
from server.storage.blob_manifest import Manifest, ManifestUnreadable
from server.storage.blob_store import check_key
from server.storage.errors import BlobsUnavailable
from server.storage.object_store import Listed, ObjectStore

logger = logging.getLogger(__name__)

BELIEVED_SECONDS = 1.0  # what the store has said of a key
UNASKED_SECONDS = 5.0  # after a failure, for a key of which there is a copy
MOST_BELIEVED = 10_000  # keys
UPLOAD_SECONDS = 86_400.0  # no upload takes that long
TIDY_SECONDS = 86_400.0  # a listing of the whole store costs requests
ROUNDS = 3  # of a commit whose key others write and delete meanwhile

_BLOBS = "blobs/"
_DATA = "data/"
_UPLOAD = "/-"  # no part of a key begins like that, so that the key ends there
_END = ".json"


class SharedBlobs:
    """Blobs in an object store. Safe for any number of threads, processes and machines."""

    def __init__(
        self,
        objects: ObjectStore,
        cache: BlobCache,
        *,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """Asks the store nothing yet. now: compared with the store's clock, to the day."""
        self._objects = objects
        self._cache = cache
        self._clock = clock
        self._now = now
        self._believed: dict[str, tuple[Manifest, float]] = {}  # by key, until when
        self._prepared: dict[Path, Manifest] = {}  # uploaded or there already, not committed; by folder
        self._tidied_at = float("-inf")

    @contextmanager
    def staging(self) -> Iterator[Path]:
        """A fresh private folder to fill and then `commit`; what was not committed is removed at the end."""
        with self._cache.staging() as folder:
            try:
                yield folder
            finally:
                for prepared in list(self._prepared):
                    if prepared.is_relative_to(folder):
                        self._delete_files(self._prepared.pop(prepared))

    def prepare(self, folder: Path, key: str) -> None:
        """Upload the files now, so that `commit` has only the manifest to write."""
        check_key(key)
        manifest = Manifest.of(folder, key)
        if self._standing(key) is None:
            self._upload(folder, manifest)
            self._prepared[folder] = manifest

    def commit(self, folder: Path, key: str) -> Path:
        """Make a staged folder the blob of that key, for all machines and for good; returns where it lies on this one.

        When the key exists already with all of its files, that blob stays and is returned. Raises ValueError for a key
        that is none and for a folder without a file, and BlobsUnavailable: then the blob may be there or not.
        """
        check_key(key)
        uploaded = self._prepared.pop(folder, None)
        mine = uploaded or Manifest.of(folder, key)
        for number in range(ROUNDS):
            # what was prepared was not there then; whether it is by now, the write's condition says
            there = None if number == 0 and uploaded is not None else self._standing(key)
            if there is None:
                if uploaded is None:
                    self._upload(folder, mine)
                    uploaded = mine
                created = self._objects.create(_manifest_name(key), mine.content)
                # an answer that was lost on its way was asked for again, and then it was ourselves who were first
                there = mine if created else self._standing(key)
                if there is None:
                    continue
            if uploaded is not None and there.upload != mine.upload:
                self._delete_files(uploaded)
            if there.files != mine.files:
                return self.path(key)
            self._believe(there)
            return self._cache.find(there) or self._cache.adopt(folder, there)
        raise BlobsUnavailable(f"the blob {key!r} is being written and deleted by others all the time")

    def path(self, key: str) -> Path:
        """Where a blob's files lie on this machine; those that are not here yet are fetched and checked.

        Raises FileNotFoundError for a blob that is not there, lacks a file or is damaged; the log tells them apart.
        """
        check_key(key)
        for _ in range(2):  # another machine may have put new bytes in place of those that are being fetched
            manifest = self._current(key)
            if manifest is None:
                self._forget(key)
                raise FileNotFoundError(f"no blob {key!r} in {self._objects.url}")
            found = self._cache.find(manifest) or self._fetch(manifest)
            if found is not None:
                return found
            self._believed.pop(key, None)
        raise FileNotFoundError(f"the blob {key!r} in {self._objects.url} is damaged")

    def files(self, keys: Iterable[str]) -> dict[str, frozenset[str]]:
        """The names of the files of those blobs that there are, by their manifests."""
        names = {_manifest_name(key): key for key in keys}
        found = {}
        for name, content in self._objects.read_many(names).items():
            manifest = _parsed(name, content)
            if manifest is not None:
                found[names[name]] = frozenset(manifest.files)
        return found

    def keys(self, prefix: str = "") -> list[str]:
        """Every key that begins with the prefix, sorted; asks for a thousand at a time."""
        listed = (one.name for one in self._objects.listed(_BLOBS + prefix))
        return sorted(name.removeprefix(_BLOBS).removesuffix(_END) for name in listed if name.endswith(_END))

    def remove(self, key: str) -> None:
        """Delete a blob: its manifest, and then its files; what is left of those by a failure is `tidy`'s.

        Not to be called while another commits the same key: which of the two is last would be left to chance.
        """
        check_key(key)
        content = self._objects.read(_manifest_name(key))
        if content is None:
            self._forget(key)
            return
        self._objects.delete(_manifest_name(key))
        self._forget(key)
        manifest = _parsed(_manifest_name(key), content)
        if manifest is not None:
            self._cache.drop(manifest)
            self._delete_files(manifest)

    def sweep(self) -> None:
        """Remove what killed processes have left on this machine, and copies above the limit."""
        self._cache.sweep()

    def tidy(self) -> None:
        """Once a day: delete uploads without a manifest that are a day old, and copies of blobs that are gone."""
        if self._clock() - self._tidied_at < TIDY_SECONDS:
            return
        copies = self._cache.all()
        current = self._objects.read_many({_manifest_name(copy.key) for copy in copies})
        for copy in copies:
            content = current.get(_manifest_name(copy.key))
            if content is None or getattr(_parsed(copy.key, content), "upload", copy.upload) != copy.upload:
                self._forget(copy.key)
                self._cache.drop(copy)
        n_deleted = sum(self._delete_leftovers(key, uploads) for key, uploads in self._suspects())
        if n_deleted:
            logger.info("deleted %d objects of unfinished uploads from %s", n_deleted, self._objects.url)
        self._tidied_at = self._clock()  # not before, so that what failed is done at the next call

    def _upload(self, folder: Path, manifest: Manifest) -> None:
        for name in manifest.files:
            self._objects.upload(folder / name, _data_name(manifest, name))

    def _standing(self, key: str) -> Manifest | None:
        """The manifest of a blob that has all of its files. One that lacks some gives way to what is written now."""
        manifest = self._read(key)
        if manifest is None:
            return None
        place = _data_name(manifest, "")
        sizes = {one.name.removeprefix(place): one.n_bytes for one in self._objects.listed(place)}
        if all(sizes.get(name) == file.n_bytes for name, file in manifest.files.items()):
            return manifest
        logger.warning("the blob %r in %s lacks files; it is written anew", key, self._objects.url)
        self._objects.delete(_manifest_name(key))
        self._forget(key)
        return None

    def _read(self, key: str) -> Manifest | None:
        """The manifest as it is now. One that cannot be read is left as it is: a newer version may have written it."""
        content = self._objects.read(_manifest_name(key))
        if content is None:
            return None
        try:
            return Manifest.read(content)
        except ManifestUnreadable as error:
            raise BlobsUnavailable(f"the manifest of {key!r} in {self._objects.url} cannot be used: {error}") from error

    def _current(self, key: str) -> Manifest | None:
        """The manifest as it was at most a second ago; while the store does not answer, the one of our copy."""
        believed = self._believed.get(key)
        if believed is not None and self._clock() < believed[1]:
            return believed[0]
        try:
            content = self._objects.read(_manifest_name(key))
        except BlobsUnavailable as error:
            copy = self._cache.last_known(key)
            if copy is None:
                raise
            logger.warning("the copy of %r is used unasked: %s", key, error)
            self._believe(copy, UNASKED_SECONDS)
            return copy
        manifest = None if content is None else _parsed(key, content)
        if manifest is not None:
            self._believe(manifest)
        return manifest

    def _believe(self, manifest: Manifest, seconds: float = BELIEVED_SECONDS) -> None:
        if len(self._believed) >= MOST_BELIEVED:
            self._believed.clear()
        self._believed[manifest.key] = (manifest, self._clock() + seconds)

    def _forget(self, key: str) -> None:
        self._believed.pop(key, None)

    def _fetch(self, manifest: Manifest) -> Path | None:
        """Make a copy; None when what lies in the store is not what was put there."""
        with self._cache.making(manifest):
            found = self._cache.find(manifest)  # another has just made it
            if found is not None:
                return found
            with self._cache.staging() as folder:
                try:
                    for name in manifest.files:
                        (folder / name).parent.mkdir(parents=True, exist_ok=True)
                        self._objects.download(_data_name(manifest, name), folder / name)
                except FileNotFoundError as error:
                    logger.warning("a file of the blob %r is not in the store: %s", manifest.key, error)
                    return None
                if not manifest.is_at(folder):
                    logger.error("the blob %r in %s has other bytes than were put", manifest.key, self._objects.url)
                    return None
                return self._cache.adopt(folder, manifest)

    def _delete_files(self, manifest: Manifest) -> None:
        """Of an upload that no manifest names, or not any more."""
        try:
            for name in manifest.files:
                self._objects.delete(_data_name(manifest, name))
        except BlobsUnavailable as error:
            logger.warning("files of %r are left in the store for a day: %s", manifest.key, error)

    def _suspects(self) -> Iterator[tuple[str, dict[str, list[Listed]]]]:
        """(key, its uploads and their objects) where a manifest is missing, or does not name all of the uploads."""
        known = set(self.keys())
        for key, objects in itertools.groupby(self._objects.listed(_DATA), key=lambda one: _key_and_upload(one)[0]):
            uploads: dict[str, list[Listed]] = {}
            for one in objects:
                uploads.setdefault(_key_and_upload(one)[1], []).append(one)
            if key not in known or len(uploads) > 1:
                yield key, uploads

    def _delete_leftovers(self, key: str, uploads: dict[str, list[Listed]]) -> int:
        now = self._now()
        old = {
            upload: objects
            for upload, objects in uploads.items()
            if all((now - one.modified).total_seconds() > UPLOAD_SECONDS for one in objects)
        }
        if not old:
            return 0
        content = self._objects.read(_manifest_name(key))  # as it is now
        manifest = None if content is None else _parsed(key, content)
        if content is not None and manifest is None:
            return 0
        if manifest is not None:
            old.pop(manifest.upload, None)
        left = [one for objects in old.values() for one in objects]
        for one in left:
            self._objects.delete(one.name)
        return len(left)


def _manifest_name(key: str) -> str:
    return f"{_BLOBS}{key}{_END}"


def _data_name(manifest: Manifest, name: str) -> str:
    return f"{_DATA}{manifest.key}{_UPLOAD}{manifest.upload}/{name}"


def _key_and_upload(one: Listed) -> tuple[str, str]:
    key, _, rest = one.name.removeprefix(_DATA).partition(_UPLOAD)
    return key, rest.partition("/")[0]


def _parsed(name: str, content: bytes) -> Manifest | None:
    try:
        return Manifest.read(content)
    except ManifestUnreadable as error:
        logger.error("%s cannot be used: %s", name, error)
        return None
