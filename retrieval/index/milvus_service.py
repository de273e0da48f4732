"""A Milvus cluster, or a Milvus Lite file: its calls with our errors, and a pause after one that failed."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import grpc
import numpy as np
import pymilvus
from numpy.typing import NDArray
from pymilvus import DataType, MilvusClient, MilvusException

from retrieval.errors import VectorsUnavailable
from retrieval.index.base import Ids, Names, Vector, Vectors
from retrieval.index.damage import VectorsDamaged
from retrieval.index.milvus_address import parse_address

logger = logging.getLogger(__name__)
logging.getLogger(pymilvus.__name__).setLevel(logging.CRITICAL)  # every error is told by ours, with what it meant

TIMEOUT_SECONDS = 5.0  # of a search
WRITE_SECONDS = 60.0  # of a call that changes something
PAUSE_SECONDS = 5.0  # after a call that failed, in which none is tried: searches need not wait for each
NOT_FOUND, NOT_LOADED = 100, 101  # Milvus's codes for a collection that is not there, or is not ready to be searched
CHANNEL = {  # found again within a second; gRPC's own waits grow to two minutes
    "grpc.use_local_subchannel_pool": 1,  # a new connection does not inherit the waits of one that failed
    "grpc.initial_reconnect_backoff_ms": 100,
    "grpc.min_reconnect_backoff_ms": 100,
    "grpc.max_reconnect_backoff_ms": 1_000,
}
LITE_CHANNEL = {"grpc.keepalive_time_ms": 600_000}  # its server hangs up on who asks often whether it is there
INDEX_PARAMETERS = {"HNSW": {"M": 32, "efConstruction": 100}}
MARK = -1  # the key of the entity that says how far its collection is; its group is the generation
MARKED_KEY = -2  # … and this one's the key within that generation


class Milvus:
    """One address. Any thread may call it; it connects with the first call, so that nobody waits for it at start."""

    def __init__(
        self,
        url: str,
        token: str = "",
        *,
        seconds: float = TIMEOUT_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Raises ValueError for an address that is none.

        token: `user:password`, or an API key. seconds: the longest that a call may take which changes nothing.
        """
        self.seconds = seconds
        self.address = parse_address(url)
        self.clock = clock
        self._token = token
        self._client: MilvusClient | None = None
        self._turn = threading.Lock()  # of those who connect
        self._paused_until = -np.inf

    def call(self, method: str, *args: Any, seconds: float | None = None, **kwargs: Any) -> Any:
        """A method of pymilvus's client.

        Raises VectorsDamaged where the collection is not there, and VectorsUnavailable for all else that went wrong.
        """
        self._check_pause()
        seconds = self.seconds if seconds is None else seconds
        try:
            client = self._connected()
            try:
                return getattr(client, method)(*args, timeout=seconds, **kwargs)
            except MilvusException as error:
                if error.code != NOT_LOADED:
                    raise
                client.load_collection(args[0], timeout=seconds)  # as after a start of Milvus Lite
                return getattr(client, method)(*args, timeout=seconds, **kwargs)
        except MilvusException as error:
            if error.code == NOT_FOUND:
                raise VectorsDamaged(f"Milvus: {error.message}") from error
            raise self._failed(error) from error
        except (grpc.RpcError, grpc.FutureTimeoutError, OSError) as error:
            raise self._failed(error) from error

    def close(self) -> None:
        """Let go the connection; the next call makes another."""
        with self._turn:
            client, self._client = self._client, None
        if client is not None:
            client.close()

    # Collections

    def collections(self, prefix: str) -> list[str]:
        """Those whose names begin like that, ascending."""
        return sorted(name for name in self.call("list_collections") if name.startswith(prefix))

    def create(self, collection: str, dimensions: int) -> None:
        """An empty collection, ready to be searched."""
        schema = MilvusClient.create_schema(auto_id=False, enable_dynamic_field=False)
        schema.add_field("window", DataType.INT64, is_primary=True)
        schema.add_field("attachment", DataType.INT64)
        schema.add_field("vector", DataType.FLOAT_VECTOR, dim=dimensions)
        indexes = MilvusClient.prepare_index_params()
        kind = self.address.index
        indexes.add_index("vector", index_type=kind, metric_type="IP", params=INDEX_PARAMETERS.get(kind, {}))
        indexes.add_index("attachment", index_type="INVERTED")
        # One shard, so that all see a mark after what it is about.
        self.call(
            "create_collection",
            collection,
            schema=schema,
            index_params=indexes,
            num_shards=1,
            consistency_level="Bounded",
            seconds=WRITE_SECONDS,
        )

    def load(self, collection: str, *, seconds: float = WRITE_SECONDS) -> None:
        """Have it ready to be searched; nothing happens where it is."""
        self.call("load_collection", collection, seconds=seconds)

    def drop(self, collection: str) -> None:
        """Remove it; nothing happens where there is none."""
        try:
            self.call("drop_collection", collection, seconds=WRITE_SECONDS)
        except VectorsDamaged:
            return

    # Entities

    def put(self, collection: str, names: Names, vectors: Vectors) -> None:
        """Add entities, or write the same once more."""
        rows = zip(names.keys.tolist(), names.groups.tolist(), vectors, strict=True)
        data = [{"window": key, "attachment": group, "vector": vector} for key, group, vector in rows]
        self.call("upsert", collection, data, seconds=WRITE_SECONDS)

    def remove_groups(self, collection: str, groups: Ids) -> None:
        """Remove all entities of these groups; marks stay."""
        condition = f"window >= 0 and attachment in {groups.tolist()}"
        self.call("delete", collection, filter=condition, seconds=WRITE_SECONDS)

    def nearest(
        self, collection: str, query: Vector, k: int, *, width: int, condition: str = "", strong: bool = False
    ) -> tuple[Ids, NDArray[np.float32]]:
        """The k nearest entities as (keys, cosines), best first; width: how many a graph looks at on its way."""
        index = self.address.index
        parameters = {"HNSW": {"ef": width}, "DISKANN": {"search_list": width}}.get(index, {})
        (hits,) = self.call(
            "search",
            collection,
            data=[query],
            anns_field="vector",
            limit=k,
            filter=condition,
            search_params={"metric_type": "IP", "params": parameters},
            consistency_level=_consistency(strong),
        )
        keys = np.fromiter((hit["window"] for hit in hits), dtype=np.int64, count=len(hits))
        return keys, np.fromiter((hit["distance"] for hit in hits), dtype=np.float32, count=len(hits))

    def vectors(self, collection: str, keys: Sequence[int], *, strong: bool = False) -> dict[int, Vector]:
        """The vectors of those that are there."""
        rows = self._rows(collection, keys, ["window", "vector"], strong=strong)
        return {int(row["window"]): np.asarray(row["vector"], dtype=np.float32) for row in rows}

    def groups(self, collection: str, keys: Sequence[int]) -> dict[int, int]:
        """The groups of those that are there, as of now."""
        rows = self._rows(collection, keys, ["window", "attachment"], strong=True)
        return {int(row["window"]): int(row["attachment"]) for row in rows}

    def count(self, collection: str) -> int:
        """How many entities there are now, but for marks."""
        (row,) = self.call(
            "query", collection, filter="window >= 0", output_fields=["count(*)"], consistency_level=_consistency(True)
        )
        return int(row["count(*)"])

    def _rows(self, collection: str, keys: Sequence[int], fields: list[str], *, strong: bool) -> list[dict[str, Any]]:
        if not keys:
            return []
        found: list[dict[str, Any]] = self.call(
            "query",
            collection,
            filter=f"window in {list(keys)}",
            output_fields=fields,
            consistency_level=_consistency(strong),
        )
        return found

    def _connected(self) -> MilvusClient:
        with self._turn:
            if self._client is not None:
                return self._client
            self._check_pause()  # of those who waited here one has tried
            try:
                self._client = MilvusClient(
                    self.address.uri,
                    token=self._token,
                    db_name=self.address.database,
                    timeout=TIMEOUT_SECONDS,
                    grpc_options=CHANNEL if "://" in self.address.uri else CHANNEL | LITE_CHANNEL,
                )
            except Exception:
                self._pause()
                raise
            return self._client

    def _check_pause(self) -> None:
        if self.clock() < self._paused_until:
            raise VectorsUnavailable("Milvus has not answered just now; try again in a few seconds")

    def _pause(self) -> None:
        self._paused_until = self.clock() + PAUSE_SECONDS

    def _failed(self, error: Exception) -> VectorsUnavailable:
        self._pause()
        message = error.message if isinstance(error, MilvusException) else f"{type(error).__name__}: {error}"
        logger.warning("Milvus at %s does not answer: %s", self.address.uri, message)
        return VectorsUnavailable("Milvus does not answer; the server's log says why")


def _consistency(strong: bool) -> str:
    """Strong sees everything that was acknowledged; Bounded may lack the last seconds, and waits for nothing."""
    return "Strong" if strong else "Bounded"
