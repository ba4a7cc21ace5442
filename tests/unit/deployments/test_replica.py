"""A family replica without Ray: which candidate runs, how failures are told, what counts against a model, how time is shared out."""

import asyncio
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cluster.catalogue import ModelCard
from cluster.errors import ModelError
from cluster.messages import OUT_OF_TIME, Done, Failed, TaskRequest
from cluster.settings import AppSettings, FamilySettings
from cluster.tasks import Task
from deployments.model import Call, Computation, Model, Output
from deployments.replica import SHARE, FamilyReplica
from tests.tiny.cards import fake_card


class Expert(Computation):
    """Does what its name says: see `Shelf`."""

    def __init__(self, told: Callable[[], Output | ModelError]) -> None:
        super().__init__()
        self._told = told

    def compute(self, calls: Sequence[Call]) -> list[Output]:
        told = [self._told() for _ in calls]
        for one in told:
            if isinstance(one, ModelError):
                raise one
        return [one for one in told if isinstance(one, Output)]


class Shelf:
    """A Source. Models do as `acts` says, by the first word of their name; what is not there works."""

    def __init__(self) -> None:
        self.loads: list[str] = []
        self.hangs = threading.Event()
        self.memory_errors = 0  # still to come

    def size_bytes(self, card: ModelCard) -> int:
        return card.memory_bytes

    def fetch(self, card: ModelCard) -> Path | None:
        if "unreachable" in card.id:
            raise ModelError("no source can deliver it")
        if "hanging-download" in card.id:
            self.hangs.wait(10)
        return None

    def load(self, card: ModelCard, folder: Path | None) -> Model:
        self.loads.append(card.id)
        if "broken" in card.id:
            raise OSError("the file\nends early")
        return Expert(lambda: self._act(card.id))

    def _act(self, model_id: str) -> Output | ModelError:
        if "picky" in model_id:
            return ModelError("the text is empty")
        if "crashing" in model_id:
            raise IndexError("list index out of range")
        if "hanging-run" in model_id:
            self.hangs.wait(10)
        if "hungry" in model_id and self.memory_errors:
            self.memory_errors -= 1
            if "wrapped" not in model_id:
                raise MemoryError
            try:
                raise MemoryError
            except MemoryError as exc:
                raise ModelError("the picture could not be drawn") from exc
        return Output(f"by {model_id}")


class Clock:
    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def shelf() -> Iterator[Shelf]:
    shelf = Shelf()
    yield shelf
    shelf.hangs.set()


@pytest.fixture
def replica(shelf: Shelf, tmp_path: Path) -> FamilyReplica:
    return a_replica(shelf, tmp_path)


def a_replica(shelf: Shelf, folder: Path, clock: Clock | None = None, **family: Any) -> FamilyReplica:
    settings = AppSettings(
        artifacts=f"file://{folder}", models=folder, families={"text": FamilySettings(**({"memory_bytes": 10} | family))}
    )
    return FamilyReplica("text", settings, source=shelf, clock=clock or Clock())


def a_request(*names: str, timeout_s: float = 5, size_bytes: int = 1) -> TaskRequest:
    cards = {card.id: card for card in (fake_card(name, size_bytes) for name in names)}
    return TaskRequest("r", "s1", Task.SUMMARIZATION, tuple(cards), ("x",), {}, timeout_s, cards)


async def done(replica: FamilyReplica, *names: str, timeout_s: float = 5) -> Done:
    result = await replica.run(a_request(*names, timeout_s=timeout_s))
    assert isinstance(result, Done), result
    return result


async def failed(replica: FamilyReplica, *names: str, timeout_s: float = 5) -> Failed:
    result = await replica.run(a_request(*names, timeout_s=timeout_s))
    assert isinstance(result, Failed), result
    return result


async def test_a_model_of_the_hub_runs_by_the_card_that_comes_with_the_step(replica: FamilyReplica) -> None:
    result = await done(replica, "good")
    assert (result.model, result.value, result.fallbacks) == ("org/good", "by org/good", ())


async def test_a_model_without_any_card_is_a_fallback_with_its_reason(replica: FamilyReplica) -> None:
    request = a_request("good")
    result = await replica.run(replace(request, models=("org/unknown", "org/good")))
    assert isinstance(result, Done) and result.model == "org/good"
    assert "no model card has id org/unknown" in result.fallbacks[0]


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("unreachable", "org/unreachable (download): no source can deliver it"),
        ("broken", "org/broken (load): OSError: the file ends early"),
        ("picky", "org/picky (run): the text is empty"),
        ("crashing", "org/crashing (run): IndexError: list index out of range"),
    ],
)
async def test_a_candidates_failure_is_told_in_one_sentence_with_its_stage_and_the_next_one_runs(
    replica: FamilyReplica, name: str, sentence: str
) -> None:
    assert (await done(replica, name, "good")).fallbacks == (sentence,)
    alone = await failed(replica, name)
    assert (alone.reason, alone.fallbacks) == (sentence, (sentence,))


async def test_a_model_larger_than_the_replicas_memory_is_refused_and_the_next_one_runs(replica: FamilyReplica) -> None:
    huge = fake_card("huge", 11_000_000_000)
    request = a_request("good")
    result = await replica.run(replace(request, models=(huge.id, *request.models), cards={**request.cards, huge.id: huge}))
    assert isinstance(result, Done) and "org/huge takes 11 GB of memory" in result.fallbacks[0]


async def test_a_model_that_keeps_failing_is_passed_over_without_a_try(shelf: Shelf, tmp_path: Path) -> None:
    clock = Clock()
    replica = a_replica(shelf, tmp_path, clock, failures_in_a_row=2, rest_s=60)
    for _ in range(2):
        await done(replica, "broken", "good")
    result = await done(replica, "broken", "good")
    assert result.fallbacks == ("org/broken: set aside after 2 failures in a row, for 60 s more",)
    assert shelf.loads.count("org/broken") == 2
    clock.now_s += 60
    await done(replica, "broken", "good")
    assert shelf.loads.count("org/broken") == 3


@pytest.mark.parametrize(("name", "counts"), [("unreachable", True), ("broken", True), ("crashing", True), ("picky", False)])
async def test_what_a_model_says_of_its_input_does_not_count_against_it(shelf: Shelf, tmp_path: Path, name: str, counts: bool) -> None:
    replica = a_replica(shelf, tmp_path, failures_in_a_row=1)
    await done(replica, name, "good")
    assert any(model.model == f"org/{name}" and model.is_set_aside for model in replica.state().models) == counts


async def test_when_every_candidate_is_set_aside_one_is_tried_all_the_same(shelf: Shelf, tmp_path: Path) -> None:
    replica = a_replica(shelf, tmp_path, failures_in_a_row=1)
    for _ in range(2):
        result = await failed(replica, "broken")
    assert result.reason == "org/broken (load): OSError: the file ends early"
    assert shelf.loads == ["org/broken", "org/broken"]


@pytest.mark.parametrize(("name", "undone"), [("hanging-download", "(download): not downloaded"), ("hanging-run", "(run): not done")])
async def test_a_candidate_that_hangs_leaves_a_third_of_the_time_to_those_behind_it(replica: FamilyReplica, name: str, undone: str) -> None:
    started = asyncio.get_running_loop().time()
    result = await done(replica, name, "good", timeout_s=0.6)
    took_s = asyncio.get_running_loop().time() - started
    assert 0.6 * SHARE <= took_s < 0.6
    assert f"{undone} within 0.4" in result.fallbacks[0]


async def test_the_last_candidate_has_all_the_time_that_is_left_and_not_more(replica: FamilyReplica) -> None:
    started = asyncio.get_running_loop().time()
    result = await failed(replica, "hanging-run", timeout_s=0.3)
    assert asyncio.get_running_loop().time() - started >= 0.3
    assert result.kind == "timeout"
    assert "not done within 0.3" in result.reason


async def test_what_was_never_as_fast_as_it_would_have_to_be_is_not_started_and_a_faster_one_is(
    shelf: Shelf, replica: FamilyReplica
) -> None:
    replica._figures.ran("org/slow", 30.0)
    replica._figures.loaded("org/heavy", 30.0)
    hurried = replace(a_request("slow", "heavy", "good"), until_s=time.time() + 10)
    result = await replica.run(hurried)
    assert isinstance(result, Done) and result.model == "org/good"
    assert [reason.partition(" and ")[0] for reason in result.fallbacks] == [
        "org/slow: not started, since it takes 30 s at least",
        "org/heavy: not started, since it takes 30 s at least",
    ]
    assert shelf.loads == ["org/good"]
    alone = await replica.run(replace(a_request("slow"), until_s=time.time() + 10))
    assert isinstance(alone, Failed) and alone.kind == OUT_OF_TIME
    assert isinstance(await replica.run(a_request("slow")), Done)


async def test_a_step_that_comes_after_its_runs_time_is_not_started(shelf: Shelf, replica: FamilyReplica) -> None:
    result = await replica.run(replace(a_request("good"), until_s=time.time() - 1))
    assert isinstance(result, Failed) and result.kind == OUT_OF_TIME
    assert shelf.loads == []


async def test_running_out_of_a_hurried_runs_time_does_not_count_against_the_model(shelf: Shelf, tmp_path: Path) -> None:
    replica = a_replica(shelf, tmp_path, failures_in_a_row=1)
    result = await replica.run(replace(a_request("hanging-run"), until_s=time.time() + 0.2))
    assert isinstance(result, Failed) and result.kind == OUT_OF_TIME
    assert not any(model.is_set_aside for model in replica.state().models)


@pytest.mark.parametrize("name", ["hungry", "hungry-wrapped"])
async def test_a_call_that_runs_out_of_memory_is_tried_again_with_everything_unused_evicted(
    shelf: Shelf, replica: FamilyReplica, name: str
) -> None:
    await done(replica, "good")
    shelf.memory_errors = 1
    result = await done(replica, name)
    assert (result.value, result.fallbacks) == (f"by org/{name}", ())
    assert "org/good" not in {model.model for model in replica.state().models if model.is_loaded}


async def test_a_model_that_runs_out_of_memory_twice_gives_way(shelf: Shelf, replica: FamilyReplica) -> None:
    shelf.memory_errors = 2
    result = await done(replica, "hungry", "good")
    assert result.fallbacks == ("org/hungry (run): out of memory, also with every unused model gone",)


async def test_a_warm_up_returns_at_once_and_the_step_finds_its_model_loaded(shelf: Shelf, replica: FamilyReplica) -> None:
    card = fake_card("good")
    await replica.warm(card.id, card)
    async with asyncio.timeout(5):
        while not any(model.is_loaded for model in replica.state().models):  # noqa: ASYNC110 - nobody tells a test when
            await asyncio.sleep(0.002)
    assert (await done(replica, "good")).span.load_s == 0
    assert shelf.loads == ["org/good"]


async def test_a_warm_up_of_a_model_that_nobody_knows_is_nothing(replica: FamilyReplica) -> None:
    await replica.warm("org/unknown")
    assert replica.state().models == ()


async def test_the_state_tells_memory_load_and_speed(shelf: Shelf, replica: FamilyReplica) -> None:
    before = replica.state()
    assert (before.family, before.budget_bytes, before.used_bytes, before.models) == ("text", 10, 0, ())
    running = asyncio.create_task(replica.run(a_request("hanging-run", size_bytes=4)))
    async with asyncio.timeout(5):
        while not any(model.is_loaded for model in replica.state().models):  # noqa: ASYNC110 - nobody tells a test when
            await asyncio.sleep(0.002)
    during = replica.state()
    assert (during.used_bytes, during.models[0].in_flight, during.models[0].run_s) == (4, 1, None)
    shelf.hangs.set()
    await running
    (after,) = replica.state().models
    assert (after.model, after.is_loaded, after.in_flight) == ("org/hanging-run", True, 0)
    assert after.run_s is not None and after.run_s > 0
    assert after.load_s is not None


async def test_an_evicted_models_speed_is_remembered(shelf: Shelf, replica: FamilyReplica) -> None:
    for name in ("a", "b"):
        await replica.run(a_request(name, size_bytes=10))
    states = {model.model: model for model in replica.state().models}
    assert (states["org/a"].is_loaded, states["org/b"].is_loaded) == (False, True)
    assert states["org/a"].run_s is not None
