"""The board: what every replica last told of itself. One small Serve deployment; a replica that falls silent is taken off."""

import time
from collections.abc import Callable
from typing import Any

from ray import serve
from ray.serve import Application

from cluster.state import ClusterState, ReplicaState

HEARTBEAT_S = 5.0  # a replica tells its state this often, also unchanged
SILENCE_S = 16.0  # after which it is gone


class Board:
    """Plain data by replica."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._told: dict[str, tuple[float, ReplicaState]] = {}

    async def report(self, state: ReplicaState) -> None:
        self._told[state.replica] = (self._clock(), state)

    async def cluster_state(self) -> ClusterState:
        oldest_s = self._clock() - SILENCE_S
        self._told = {replica: told for replica, told in self._told.items() if told[0] >= oldest_s}
        return ClusterState(tuple(state for _, state in self._told.values()))


def board_application() -> Application:
    """One replica, which needs no share of a core worth counting."""
    options: dict[str, Any] = {"num_replicas": 1, "max_ongoing_requests": 1000, "ray_actor_options": {"num_cpus": 0}}
    made: Application = serve.deployment(name="board")(Board).options(**options).bind()
    return made
