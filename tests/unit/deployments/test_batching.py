"""Batches without Ray: what runs together, what waits, and what a failure does to its neighbours."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.errors import ModelError
from cluster.tasks import Task
from deployments.batching import Batches, Reply, fitting
from deployments.model import Call, Model, Output
from deployments.text import passes


@dataclass
class Room:
    free_bytes: int = 1_000
    of_model_bytes: int = 40

    def size_bytes(self, model_id: str) -> int:
        return self.of_model_bytes


@dataclass
class Expert:
    """Computes when it is let, and fails at a text that says so."""

    max_batch: int = 4
    let: asyncio.Event = field(default_factory=asyncio.Event)
    batches: list[list[str]] = field(default_factory=list)
    most_in_memory: int = 1_000

    async def run(self, calls: Sequence[Call]) -> list[Reply]:
        texts = [str(call.inputs[0]) for call in calls]
        self.batches.append(texts)
        await self.let.wait()
        if len(calls) > self.most_in_memory:
            raise MemoryError
        if "crash" in texts:
            raise IndexError("list index out of range")
        return [ModelError("told to fail") if text == "fail" else Output(f"{text}+") for text in texts]


@dataclass
class Telling(Expert):
    """An expert that knows what a call takes: as many bytes as its text says."""

    def call_bytes(self, call: Call) -> int:
        return int(str(call.inputs[0]))


def batches_of(expert: Expert, room: Room | None = None, most: int | None = None, wait_s: float = 0.0) -> Batches:
    async def run(_model_id: str, calls: Sequence[Call]) -> list[Reply]:
        return await expert.run(calls)

    return Batches(run, room or Room(), most, wait_s)


def asked(batches: Batches, model: Model, text: str) -> "asyncio.Task[Reply]":
    return asyncio.create_task(batches.run("org/x", model, Call(Task.SUMMARIZATION, (text,))))


async def all_asked(batches: Batches, expert: Expert, *texts: str) -> list[Reply | BaseException]:
    """The first computes while the others come."""
    first = asked(batches, expert, texts[0])
    while not expert.batches:  # noqa: ASYNC110 - nobody tells a test when
        await asyncio.sleep(0)
    others = [asked(batches, expert, text) for text in texts[1:]]
    await asyncio.sleep(0)
    expert.let.set()
    return await asyncio.gather(first, *others, return_exceptions=True)


def values(replies: Sequence[Reply | BaseException]) -> list[object]:
    return [reply.value if isinstance(reply, Output) else type(reply) for reply in replies]


async def test_what_came_while_the_model_computed_is_the_next_batch() -> None:
    expert = Expert()
    replies = await all_asked(batches_of(expert), expert, *"abcdef")
    assert expert.batches == [["a"], ["b", "c", "d", "e"], ["f"]]
    assert values(replies) == ["a+", "b+", "c+", "d+", "e+", "f+"]


async def test_calls_that_come_together_run_together_without_a_wait() -> None:
    expert = Expert()
    expert.let.set()
    batches = batches_of(expert)
    await asyncio.gather(*(asked(batches, expert, text) for text in "abc"))
    assert expert.batches == [["a", "b", "c"]]


async def test_an_idle_model_waits_for_company_when_it_is_told_to() -> None:
    expert = Expert()
    expert.let.set()
    batches = batches_of(expert, wait_s=0.05)
    first = asked(batches, expert, "a")
    await asyncio.sleep(0.005)
    await asyncio.gather(first, asked(batches, expert, "b"))
    assert expert.batches == [["a", "b"]]


async def test_an_operator_caps_the_models_own_size() -> None:
    expert = Expert()
    await all_asked(batches_of(expert, most=2), expert, *"abcd")
    assert expert.batches == [["a"], ["b", "c"], ["d"]]


async def test_a_cap_of_one_runs_every_call_by_itself() -> None:
    expert = Expert()
    await all_asked(batches_of(expert, most=1), expert, *"ab")
    assert expert.batches == [["a"], ["b"]]


async def test_a_batch_takes_no_more_than_the_budget_has_left() -> None:
    expert = Telling()
    await all_asked(batches_of(expert, Room(free_bytes=100)), expert, "1", "60", "40", "1", "500")
    assert expert.batches == [["1"], ["60", "40"], ["1"], ["500"]]


async def test_the_batches_of_two_models_share_what_is_left() -> None:
    one, other = Telling(), Telling()
    experts = {"org/one": one, "org/other": other}

    async def run(model_id: str, calls: Sequence[Call]) -> list[Reply]:
        return await experts[model_id].run(calls)

    batches = Batches(run, Room(free_bytes=100))
    waiting = [
        asyncio.create_task(batches.run(model_id, experts[model_id], Call(Task.SUMMARIZATION, ("40",))))
        for model_id in ("org/one", "org/one", "org/other", "org/other")
    ]
    while not other.batches:  # noqa: ASYNC110 - nobody tells a test when
        await asyncio.sleep(0)
    one.let.set()
    other.let.set()
    await asyncio.gather(*waiting)
    assert (one.batches, other.batches) == ([["40", "40"]], [["40"], ["40"]])


async def test_a_call_of_a_model_that_tells_nothing_is_taken_for_a_quarter_of_its_size() -> None:
    expert = Expert()
    await all_asked(batches_of(expert, Room(free_bytes=20, of_model_bytes=40)), expert, *"abcd")
    assert expert.batches == [["a"], ["b", "c"], ["d"]]


async def test_a_batch_that_runs_out_of_memory_tells_each_call_and_halves_the_next() -> None:
    expert = Expert(most_in_memory=2)
    batches = batches_of(expert)
    replies = await all_asked(batches, expert, *"abcde")
    assert values(replies) == ["a+", MemoryError, MemoryError, MemoryError, MemoryError]
    await asyncio.gather(*(asked(batches, expert, text) for text in "fghi"))
    assert expert.batches[2:] == [["f", "g"], ["h", "i"]]


async def test_a_crash_in_a_batch_is_the_guilty_calls_alone() -> None:
    expert = Expert()
    replies = await all_asked(batches_of(expert), expert, "a", "b", "crash", "fail")
    assert values(replies) == ["a+", "b+", IndexError, ModelError]


async def test_who_goes_away_leaves_the_batch_and_the_others_stay() -> None:
    expert = Expert()
    batches = batches_of(expert)
    first, gone, last = (asked(batches, expert, text) for text in "abc")
    await asyncio.sleep(0)
    gone.cancel()
    expert.let.set()
    replies = await asyncio.gather(first, gone, last, return_exceptions=True)
    assert values(replies) == ["a+", asyncio.CancelledError, "c+"]
    assert expert.batches == [["a", "c"]]


async def test_who_goes_away_while_it_computes_does_not_end_the_batch() -> None:
    expert = Expert()
    batches = batches_of(expert)
    gone, other = asked(batches, expert, "a"), asked(batches, expert, "b")
    while not expert.batches:  # noqa: ASYNC110 - nobody tells a test when
        await asyncio.sleep(0)
    gone.cancel()
    await asyncio.sleep(0)
    expert.let.set()
    assert values([await other]) == ["b+"]


@given(st.lists(st.integers(0, 100)), st.integers(1, 10), st.integers(-50, 300))
def test_what_fits_is_the_longest_beginning_within_count_and_room_and_never_nothing(sizes: list[int], most: int, room: int) -> None:
    count = fitting(sizes, most, room)
    assert count == 0 if not sizes else 1 <= count <= most
    assert count <= 1 or sum(sizes[:count]) <= room
    if count < min(most, len(sizes)):
        assert sum(sizes[: count + 1]) > room


@given(st.lists(st.integers(1, 600)), st.integers(1, 600))
def test_passes_hold_every_piece_once_and_a_long_one_slows_no_short_ones(sizes: list[int], most: int) -> None:
    groups = passes(sizes, most)
    assert sorted(place for group in groups for place in group) == list(range(len(sizes)))
    assert all(len(group) == 1 or len(group) * max(sizes[place] for place in group) <= most for group in groups)


@pytest.mark.parametrize(("sizes", "groups"), [([], []), ([8, 300, 8, 8], [[0, 2, 3], [1]])])
def test_pieces_of_like_length_share_a_pass(sizes: list[int], groups: list[list[int]]) -> None:
    assert passes(sizes, 512) == groups
