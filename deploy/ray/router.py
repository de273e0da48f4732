"""Ray Serve's choice of a replica: its request router, told our order of preference.

Ray holds the queues, asks replicas how busy they are, and takes the least busy one of the best group that has room; of
several that are equally busy the first, so the order within a group is drawn anew for each request.
What is resident where comes from `Replica.record_routing_stats`, which Ray asks every `residency_seconds`.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

from ray.serve.request_router import PendingRequest, ReplicaID, RequestRouter, RunningReplica

from deploy.ray.ranking import Ranking, Standing

RESIDENT = "resident"  # the key of the versions in a replica's routing statistics


class ResidencyRouter(RequestRouter):
    """Prefers replicas where the request's version (`multiplexed_model_id`) is resident."""

    def initialize_state(self, spill_at: int) -> None:
        """What `request_router_kwargs` says."""
        self._ranking: Ranking[ReplicaID] = Ranking(spill_at=spill_at)

    async def choose_replicas(
        self, candidate_replicas: list[RunningReplica], pending_request: PendingRequest | None = None
    ) -> list[list[RunningReplica]]:
        """The groups of `Ranking.ranks`."""
        version = pending_request.metadata.multiplexed_model_id if pending_request is not None else ""
        if not candidate_replicas or not version:
            return [_shuffled(candidate_replicas)]
        by_id = {replica.replica_id: replica for replica in candidate_replicas}
        standings = {
            replica_id: Standing(
                resident=frozenset(replica.routing_stats.get(RESIDENT, ())),
                busy=self.replica_queue_len_cache.get(replica_id) or 0,
            )
            for replica_id, replica in by_id.items()
        }
        ranks = self._ranking.ranks(version, standings)
        return [_shuffled([by_id[replica_id] for replica_id in group]) for group in ranks]

    def on_request_routed(self, pending_request: PendingRequest, replica_id: ReplicaID, result: Any) -> None:
        """Remember where a version goes that nobody has yet."""
        self._ranking.routed(pending_request.metadata.multiplexed_model_id, replica_id)


def _shuffled(group: Sequence[RunningReplica]) -> list[RunningReplica]:
    return random.sample(group, len(group))
