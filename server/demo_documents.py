"""The demo's documents: files in a vector store of their own, which the demo's guide answers from."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from retrieval.attachments import Attachments, Entry
from retrieval.contents import CONTENT
from retrieval.errors import StoreNotFound
from retrieval.files import Files
from retrieval.stores import Stores
from retrieval.vector_store import Chunking, VectorStore
from server.auth import LOCAL

STORE = "demo-documents"
DESCRIPTION = "How to use Manyhats, and the papers of a company that does not exist"
# The demo model has learnt to read passages of this length; three of them and a question are a fifth of its context.
CHUNKING = Chunking(type="static", max_tokens=100, overlap_tokens=0)


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoDocuments:
    """Where they go. The ingestion process reads what is attached."""

    files: Files
    stores: Stores
    attachments: Attachments

    def install(self, folder: Path, done: Collection[str]) -> set[str]:
        """Attach each document whose name, with `documents/` before it, is not `done`; returns the names of all.

        Attaches nothing when the store was there once and its owner has deleted it. Again after a kill, it finds what
        it has uploaded already by its name and bytes.
        """
        paths = {f"documents/{path.name}": path for path in sorted(folder.glob("*.md"))}
        missing = [path for name, path in paths.items() if name not in done]
        if not missing:
            return set(paths)
        store = self._store()
        if store is None and len(missing) < len(paths):
            return set(paths)
        if store is None:
            store = self.stores.create(LOCAL.owner, name=STORE, description=DESCRIPTION, chunking=CHUNKING)
        uploaded = {(file.filename, file.digest): file.id for file in self.files.list(LOCAL.owner).items}
        entries = [Entry(file_id=self._uploaded(path, uploaded)) for path in missing]
        self.attachments.attach_batch(store.id, entries)
        return set(paths)

    def are_read(self) -> bool:
        """Whether the ingestion process has done all of the store's files. Raises StoreNotFound."""
        store = self._store()
        if store is None:
            raise StoreNotFound(f"no vector store is called {STORE!r}")
        return store.status != "in_progress"

    def _store(self) -> VectorStore | None:
        return next((store for store in self.stores.find(STORE) if store.owner == LOCAL.owner), None)

    def _uploaded(self, path: Path, known: dict[tuple[str, str], str]) -> str:
        content = path.read_bytes()
        found = known.get((path.name, hashlib.sha256(content).hexdigest()))
        if found is not None:
            return found
        with self.files.staging() as folder:
            shutil.copyfile(path, folder / CONTENT)
            return self.files.add(folder, filename=path.name, purpose="assistants", owner=LOCAL.owner).id
