"""Where the settings say that adapters and files are kept."""

from __future__ import annotations

from server.settings import Settings
from server.storage.blob_cache import BlobCache
from server.storage.blob_store import BlobStore
from server.storage.blobs import LocalBlobs
from server.storage.object_store import ObjectStore
from server.storage.shared_blobs import SharedBlobs


def open_blobs(settings: Settings) -> BlobStore:
    """A bucket, with copies in the data directory, or the data directory alone. Asks the bucket nothing yet."""
    if not settings.blob_url:
        return LocalBlobs(settings.blob_dir)
    cache = BlobCache(settings.blob_cache_dir, most_bytes=settings.blob_cache_gib * 1024**3)
    return SharedBlobs(ObjectStore(settings.blob_url), cache)
