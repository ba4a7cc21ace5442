"""What replicas tell reaches the board soon, seldom and again; the board forgets those that end or fall silent."""

import asyncio
import threading

from cluster.state import ModelState, ReplicaState
from deployments.board import HEARTBEAT_S, PATIENCE_S, SILENCE_S, Board
from deployments.bulletin import Bulletin
from deployments.figures import KEPT, Figures


class Clock:
    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def unknown() -> None:
    """Which replicas live, where Ray does not say."""


def a_state(replica: str, *models: str) -> ReplicaState:
    return ReplicaState(replica, "text", "node", 10, len(models), tuple(ModelState(model, is_loaded=True) for model in models))


async def test_the_board_holds_what_each_replica_told_last() -> None:
    board = Board(unknown, Clock())
    await board.report(a_state("r1"))
    await board.report(a_state("r2", "org/a"))
    await board.report(a_state("r1", "org/a"))
    state = await board.cluster_state()
    assert state.replicas == (a_state("r1", "org/a"), a_state("r2", "org/a"))
    assert state.view("org/a").loaded_on == 2


async def test_a_replica_that_falls_silent_is_taken_off_and_one_heartbeat_late_is_not() -> None:
    clock = Clock()
    board = Board(unknown, clock)
    await board.report(a_state("silent"))
    clock.now_s += SILENCE_S - HEARTBEAT_S
    await board.report(a_state("speaks"))
    clock.now_s += 2 * HEARTBEAT_S
    assert [state.replica for state in (await board.cluster_state()).replicas] == ["speaks"]


async def test_a_replica_whose_process_has_ended_is_taken_off_at_once() -> None:
    living = {"r1", "r2"}
    board = Board(lambda: living)
    await board.report(a_state("r1"))
    await board.report(a_state("r2"))
    assert len((await board.cluster_state()).replicas) == 2
    living.remove("r1")
    assert (await board.cluster_state()).replicas == (a_state("r2"),)


async def test_a_replica_that_first_tells_while_ray_is_asked_stays() -> None:
    asked, may_answer = threading.Event(), threading.Event()

    def living() -> set[str]:
        asked.set()
        assert may_answer.wait(5)
        return set()

    board = Board(living)
    asking = asyncio.create_task(board.cluster_state())
    await asyncio.to_thread(asked.wait, 5)
    await board.report(a_state("new"))
    may_answer.set()
    assert (await asking).replicas == (a_state("new"),)


async def test_the_board_answers_while_ray_does_not() -> None:
    may_answer = threading.Event()
    asked = []

    def living() -> set[str]:
        asked.append(True)
        assert may_answer.wait(5)
        return {"r1"}

    board = Board(living)
    await board.report(a_state("r1"))
    await board.report(a_state("r2"))
    for _ in range(3):
        async with asyncio.timeout(2 * PATIENCE_S):
            assert len((await board.cluster_state()).replicas) == 2
    assert len(asked) == 1
    may_answer.set()
    assert (await board.cluster_state()).replicas == (a_state("r1"),)


class Listener:
    def __init__(self) -> None:
        self.heard_s: list[float] = []
        self.fails = False

    async def hear(self) -> None:
        self.heard_s.append(asyncio.get_running_loop().time())
        if self.fails:
            raise ConnectionError("gone")


async def test_many_changes_are_told_at_once_and_then_not_before_the_gap_is_over() -> None:
    listener = Listener()
    bulletin = Bulletin("a test", listener.hear, least_gap_s=0.1, most_gap_s=10)
    bulletin.start()
    for _ in range(25):
        bulletin.changed()
        await asyncio.sleep(0.01)
    await asyncio.sleep(0.11)
    assert 2 <= len(listener.heard_s) <= 4
    assert all(later - earlier >= 0.09 for earlier, later in zip(listener.heard_s, listener.heard_s[1:], strict=False))


async def test_without_a_change_it_is_told_again_all_the_same() -> None:
    listener = Listener()
    Bulletin("a test", listener.hear, least_gap_s=0.01, most_gap_s=0.05).start()
    await asyncio.sleep(0.3)
    assert len(listener.heard_s) >= 3


async def test_a_listener_that_fails_is_told_the_next_time() -> None:
    listener = Listener()
    listener.fails = True
    bulletin = Bulletin("a test", listener.hear, least_gap_s=0.01, most_gap_s=10)
    bulletin.start()
    await asyncio.sleep(0.05)
    listener.fails = False
    bulletin.changed()
    await asyncio.sleep(0.1)
    assert len(listener.heard_s) == 2


def test_in_the_means_the_newest_figures_weigh_most() -> None:
    figures = Figures()
    assert (figures.of("org/a").run_s, figures.of("org/a").load_s) == (None, None)
    for seconds in (1, 1, 1, 9, 9, 9):
        figures.ran("org/a", seconds)
    mean_s = figures.of("org/a").run_s
    assert mean_s is not None and 5 < mean_s < 9


def test_the_model_heard_of_longest_ago_is_forgotten_first() -> None:
    figures = Figures()
    figures.loaded("org/first", 1)
    for number in range(KEPT - 1):
        figures.loaded(f"org/m{number}", 1)
    figures.ran("org/first", 1)
    figures.loaded("org/last", 1)
    assert len(figures.models) == KEPT
    assert "org/m0" not in figures.models
    assert "org/first" in figures.models
