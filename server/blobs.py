"""Where the settings say that adapters and files are kept."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from server.settings import Settings
from server.storage.blob_cache import BlobCache, LastCopy
from server.storage.blob_store import BlobStore
from server.storage.blobs import LocalBlobs
from server.storage.object_store import ObjectStore
from server.storage.shared_blobs import SharedBlobs


def open_blobs(settings: Settings) -> BlobStore:
    """A bucket, with copies in the data directory, or the data directory alone. Asks the bucket nothing yet."""
    if not settings.blob_url:
        return LocalBlobs(settings.blob_dir)
    return SharedBlobs(ObjectStore(settings.blob_url), _cache(settings))


@contextmanager
def each_once(settings: Settings) -> Iterator[BlobStore]:
    """The same for one that goes through all blobs: of a bucket's only the last has a copy here, till the block ends.

    The server's own copies, all of which it keeps for an hour, are left alone: they would fill the disk.
    """
    if not settings.blob_url:
        yield open_blobs(settings)
        return
    with _cache(settings).staging() as folder:  # after a kill the server's next start removes it
        yield SharedBlobs(ObjectStore(settings.blob_url), LastCopy(folder))


def _cache(settings: Settings) -> BlobCache:
    return BlobCache(settings.blob_cache_dir, most_bytes=settings.blob_cache_gib * 1024**3)
