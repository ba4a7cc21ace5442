"""The board: what every replica last told of itself. One small Serve deployment; a replica that ends or falls silent is taken off."""

import asyncio
import time
from collections.abc import Callable, Set
from typing import Any

import ray
from ray import serve
from ray.serve import Application

from cluster.state import ClusterState, ReplicaState

HEARTBEAT_S = 5.0  # a replica tells its state this often, also unchanged
SILENCE_S = 16.0  # after which it is gone
PATIENCE_S = 0.2  # with Ray, when it is asked who lives


class Board:
    """Plain data by replica. `living`: the ids of the replicas whose process lives, or None where that is not known now; may block."""

    def __init__(self, living: Callable[[], Set[str] | None], clock: Callable[[], float] = time.monotonic) -> None:
        self._living = living
        self._clock = clock
        self._told: dict[str, tuple[float, ReplicaState]] = {}
        self._question: asyncio.Task[Set[str]] | None = None

    async def report(self, state: ReplicaState) -> None:
        self._told[state.replica] = (self._clock(), state)

    async def cluster_state(self) -> ClusterState:
        ended = await self._ended()
        oldest_s = self._clock() - SILENCE_S
        self._told = {replica: told for replica, told in self._told.items() if told[0] >= oldest_s and replica not in ended}
        return ClusterState(tuple(state for _, state in self._told.values()))

    async def _ended(self) -> Set[str]:
        """Those who have told and live no more. One question is under way at most; none where Ray takes its time, or does not say."""
        if self._question is None or self._question.done():
            self._question = asyncio.create_task(self._asked(set(self._told)))
        done, _ = await asyncio.wait({self._question}, timeout=PATIENCE_S)
        return self._question.result() if done else frozenset()

    async def _asked(self, replicas: Set[str]) -> Set[str]:
        """Those of them that have ended. One that first tells while Ray is asked is not among them."""
        living = await asyncio.to_thread(self._living)
        return frozenset() if living is None else replicas - living


def living_replicas() -> Set[str] | None:
    """Of every deployment of this Ray. Serve names a replica's actor SERVE_REPLICA::application#deployment#id."""
    try:
        actors = ray.util.list_named_actors(all_namespaces=True)
    except Exception:  # noqa: BLE001 - Ray's control store is another process, and the board does not hang on it: silence tells, too
        return None
    return {actor["name"].rpartition("#")[2] for actor in actors}


def board_application() -> Application:
    """One replica, which needs no share of a core worth counting."""
    options: dict[str, Any] = {"num_replicas": 1, "max_ongoing_requests": 1000, "ray_actor_options": {"num_cpus": 0}}
    made: Application = serve.deployment(name="board")(Board).options(**options).bind(living_replicas)
    return made
