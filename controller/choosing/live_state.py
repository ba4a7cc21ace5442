"""LiveState: the cluster's state as the replicas last told it, asked for at most once a second. No news is an empty state, no error."""

import asyncio
import time
from collections.abc import Callable
from typing import Any

from ray.exceptions import RayError
from ray.serve.exceptions import RayServeException

from cluster.state import ClusterState

FRESH_S = 1.0
TIMEOUT_S = 0.5  # the state makes a choice better; no request waits longer for it
STALE_S = 15.0  # after which the last state is worth nothing


class LiveState:
    """`board` is a handle of the board's deployment, or None where there is none."""

    def __init__(self, board: Any | None, clock: Callable[[], float] = time.monotonic) -> None:
        self._board = board
        self._clock = clock
        self._asking = asyncio.Lock()
        self._asked_s: float | None = None
        self._told_s = 0.0
        self._state = ClusterState()
        self.is_told = False  # whether the board answered when it was last asked

    async def cluster_state(self) -> ClusterState:
        if self._board is None or self._is_fresh():
            return self._state
        async with self._asking:
            if not self._is_fresh():  # another request may have asked while this one waited
                await self._ask(self._board)
        return self._state

    def _is_fresh(self) -> bool:
        return self._asked_s is not None and self._clock() - self._asked_s < FRESH_S

    async def _ask(self, board: Any) -> None:
        """A board that does not answer is asked again in a second; meanwhile the last state stands for a while."""
        try:
            async with asyncio.timeout(TIMEOUT_S):
                self._state = await board.cluster_state.remote()
            self._told_s = self._clock()
            self.is_told = True
        except (TimeoutError, RayError, RayServeException):
            self.is_told = False
            if self._clock() - self._told_s > STALE_S:
                self._state = ClusterState()
        self._asked_s = self._clock()
