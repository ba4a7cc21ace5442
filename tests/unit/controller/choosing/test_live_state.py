"""The cluster's state for the choice of models: fresh enough, asked for once, and never in a request's way."""

import asyncio
from collections.abc import Awaitable

import pytest
from ray.exceptions import ActorDiedError
from ray.serve.exceptions import RayServeException

from cluster.state import ClusterState, ReplicaState
from controller.choosing.live_state import FRESH_S, STALE_S, TIMEOUT_S, LiveState

STATE = ClusterState((ReplicaState("r1", "text", "node", 10, 0),))


class Clock:
    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


class FakeBoard:
    """A handle of the board."""

    def __init__(self) -> None:
        self.asked = 0
        self.fails_with: Exception | None = None
        self.takes_s = 0.0

    @property
    def cluster_state(self) -> "FakeBoard":
        return self

    def remote(self) -> Awaitable[ClusterState]:
        self.asked += 1
        return self._reply()

    async def _reply(self) -> ClusterState:
        await asyncio.sleep(self.takes_s)
        if self.fails_with is not None:
            raise self.fails_with
        return STATE


async def test_requests_that_come_together_ask_the_board_once() -> None:
    board, clock = FakeBoard(), Clock()
    board.takes_s = 0.01
    live = LiveState(board, clock)
    assert await asyncio.gather(*(live.cluster_state() for _ in range(5))) == [STATE] * 5
    assert board.asked == 1
    clock.now_s += FRESH_S
    await live.cluster_state()
    assert board.asked == 2


async def test_without_a_board_the_state_is_empty() -> None:
    assert await LiveState(None).cluster_state() == ClusterState()


@pytest.mark.parametrize("failure", [ActorDiedError(), RayServeException("no replica")])
async def test_a_board_that_is_gone_leaves_the_last_state_for_a_while_and_then_none(failure: Exception) -> None:
    board, clock = FakeBoard(), Clock()
    live = LiveState(board, clock)
    await live.cluster_state()
    board.fails_with = failure
    clock.now_s += FRESH_S
    assert await live.cluster_state() == STATE
    clock.now_s += STALE_S
    assert await live.cluster_state() == ClusterState()


async def test_a_board_that_hangs_holds_a_request_up_no_longer_than_its_limit() -> None:
    board = FakeBoard()
    board.takes_s = 60
    async with asyncio.timeout(TIMEOUT_S + 2):
        assert await LiveState(board, Clock()).cluster_state() == ClusterState()
