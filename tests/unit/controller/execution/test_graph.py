"""Running the graph, with families that are plain asyncio: what overlaps, what is skipped, what is tried again, what is cancelled."""

import asyncio

import pytest
from ray.exceptions import ActorDiedError, RayTaskError
from ray.serve.exceptions import BackPressureError

from cluster.messages import Done, Failed, Skipped, TaskRequest, TaskResult
from cluster.tasks import Task
from controller.execution.events import Event, StepEnded, StepStarted
from controller.execution.graph import GRACE_S, TRIES, GraphRun, run_graph
from controller.planning.plan import Plan
from tests.fakes_family import FakeFamily, Work, a_card, a_plan, dispatches, done, hangs


async def ran(family: FakeFamily, plan: Plan, timeout_s: float = 5) -> tuple[dict[str, TaskResult], list[Event]]:
    told: list[Event] = []
    return await run_graph(plan, dispatches(family, plan, timeout_s), told.append), told


def dies(times: int) -> Work:
    """A replica that dies under the step so many times."""
    left = [times]

    async def work(request: TaskRequest, _given: list[TaskResult]) -> TaskResult:
        if left[0]:
            left[0] -= 1
            raise ActorDiedError
        return done(request)

    return work


async def fails(request: TaskRequest, _given: list[TaskResult]) -> TaskResult:
    return Failed(request.step_id, request.task, "no")


async def test_every_step_gives_its_result_and_is_told_from_start_to_end() -> None:
    results, told = await ran(FakeFamily(), a_plan(s1="", s2="s1"))
    assert [type(result) for result in results.values()] == [Done, Done]
    assert [
        (type(e), e.step if isinstance(e, StepStarted) else e.result.step_id) for e in told if isinstance(e, StepStarted | StepEnded)
    ] == [
        (StepStarted, "s1"),
        (StepEnded, "s1"),
        (StepStarted, "s2"),
        (StepEnded, "s2"),
    ]


async def test_independent_steps_run_at_the_same_time() -> None:
    meeting = asyncio.Barrier(3)  # nobody passes until three are there

    async def meets(request: TaskRequest, _given: list[TaskResult]) -> TaskResult:
        async with asyncio.timeout(2):
            await meeting.wait()
        return done(request)

    results, _ = await ran(FakeFamily({"s1": meets, "s2": meets, "s3": meets}), a_plan(s1="", s2="", s3=""))
    assert all(isinstance(result, Done) for result in results.values())


async def test_a_step_does_not_wait_for_a_slow_one_that_it_does_not_need() -> None:
    goes_on = asyncio.Event()

    async def waits(request: TaskRequest, _given: list[TaskResult]) -> TaskResult:
        async with asyncio.timeout(2):
            await goes_on.wait()
        return done(request)

    async def frees(request: TaskRequest, _given: list[TaskResult]) -> TaskResult:
        goes_on.set()
        return done(request)

    results, _ = await ran(FakeFamily({"s1": waits, "s3": frees}), a_plan(s1="", s2="", s3="s2"))
    assert isinstance(results["s1"], Done)


async def test_a_step_gets_the_results_it_needs_in_order() -> None:
    async def joins(request: TaskRequest, given: list[TaskResult]) -> TaskResult:
        return done(request, "+".join(result.step_id for result in given))

    results, _ = await ran(FakeFamily({"s3": joins}), a_plan(s1="", s2="", s3="s2 s1"))
    assert isinstance(results["s3"], Done) and results["s3"].value == "s2+s1"


async def test_a_failed_step_skips_its_dependents_and_nothing_else() -> None:
    family = FakeFamily({"s1": fails})
    results, told = await ran(family, a_plan(s1="", s2="s1", s3="s2", s4="", s5="s4"))
    assert isinstance(results["s1"], Failed)
    assert results["s2"] == Skipped("s2", Task.TEXT_GENERATION, "s1")
    assert results["s3"] == Skipped("s3", Task.TEXT_GENERATION, "s2")
    assert isinstance(results["s4"], Done) and isinstance(results["s5"], Done)
    assert {e.step for e in told if isinstance(e, StepStarted)} == {"s1", "s4", "s5"}


async def test_a_step_past_its_time_fails_and_is_cancelled() -> None:
    family = FakeFamily({"s1": hangs})
    results, _ = await ran(family, a_plan(s1="", s2="s1", s3=""), timeout_s=0.1 - GRACE_S)  # so that the wait is 0.1 s
    assert isinstance(results["s1"], Failed) and results["s1"].kind == "timeout"
    assert isinstance(results["s2"], Skipped)
    assert isinstance(results["s3"], Done)
    await asyncio.sleep(0)
    assert {"s1"} <= family.cancelled


async def test_a_step_whose_replica_died_is_submitted_again_with_its_dependents() -> None:
    family = FakeFamily({"s1": dies(1)})
    results, _ = await ran(family, a_plan(s1="", s2="s1", s3=""))
    assert [type(result) for result in results.values()] == [Done, Done, Done]
    assert sorted(family.submitted) == ["s1", "s1", "s2", "s2", "s3"]


async def test_a_death_that_arrives_wrapped_by_the_next_replica_counts_as_one() -> None:
    async def wrapped_once(request: TaskRequest, _given: list[TaskResult]) -> TaskResult:
        if family.submitted.count("s1") == 1:
            raise RayTaskError("run", "…", ActorDiedError())
        return done(request)

    family = FakeFamily({"s1": wrapped_once})
    results, _ = await ran(family, a_plan(s1=""))
    assert isinstance(results["s1"], Done)


@pytest.mark.parametrize("wrapped", [False, True])
async def test_a_replica_that_dies_every_time_is_given_up_after_the_last_try(wrapped: bool) -> None:
    async def dead(_request: TaskRequest, _given: list[TaskResult]) -> TaskResult:
        raise RayTaskError("run", "…", ActorDiedError()) if wrapped else ActorDiedError()

    family = FakeFamily({"s1": dead})
    results, _ = await ran(family, a_plan(s1="", s2=""))
    assert isinstance(results["s1"], Failed) and results["s1"].kind == "replica_died"
    assert family.submitted.count("s1") == TRIES
    assert isinstance(results["s2"], Done)


@pytest.mark.parametrize("ends", ["skipped", "cancelled"])
async def test_a_shared_step_that_ended_with_the_run_that_had_started_it_is_submitted_again(ends: str) -> None:
    async def once_for_another(request: TaskRequest, _given: list[TaskResult]) -> TaskResult:
        if family.submitted.count("s2") > 1:
            return done(request)
        if ends == "cancelled":
            raise asyncio.CancelledError
        return Skipped(request.step_id, request.task, "a step of the other run")

    family = FakeFamily({"s2": once_for_another})
    results, _ = await ran(family, a_plan(s1="", s2="s1"))
    assert isinstance(results["s2"], Done)
    assert family.submitted == ["s1", "s2", "s2"]


async def test_an_error_of_the_replicas_own_is_not_tried_again() -> None:
    async def breaks(_request: TaskRequest, _given: list[TaskResult]) -> TaskResult:
        raise RayTaskError("run", "…", ZeroDivisionError("by zero"))

    family = FakeFamily({"s1": breaks})
    results, _ = await ran(family, a_plan(s1=""))
    assert isinstance(results["s1"], Failed) and "by zero" in results["s1"].reason
    assert family.submitted == ["s1"]


def refuses(times: int) -> Work:
    """A family whose queue is full so many times."""
    left = [times]

    async def work(request: TaskRequest, _given: list[TaskResult]) -> TaskResult:
        if left[0]:
            left[0] -= 1
            raise BackPressureError(num_queued_requests=9, max_queued_requests=8)
        return done(request)

    return work


async def test_a_family_with_too_many_waiting_is_asked_again_more_often_than_one_that_dies() -> None:
    results, _ = await ran(FakeFamily({"s1": refuses(TRIES + 1)}), a_plan(s1="", s2="s1"))
    assert isinstance(results["s2"], Done)


async def test_a_family_with_too_many_waiting_for_the_whole_time_is_said() -> None:
    results, _ = await ran(FakeFamily({"s1": refuses(1000)}), a_plan(s1=""), timeout_s=0.2)
    assert isinstance(results["s1"], Failed) and results["s1"].kind == "overloaded"


async def test_a_cancelled_run_cancels_the_steps_still_going_and_those_behind_them() -> None:
    has_begun = asyncio.Event()

    async def begins(request: TaskRequest, given: list[TaskResult]) -> TaskResult:
        has_begun.set()
        return await hangs(request, given)

    family = FakeFamily({"s1": begins})
    plan = a_plan(s1="", s2="s1")
    running = asyncio.create_task(run_graph(plan, dispatches(family, plan), lambda _event: None))
    await has_begun.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    await asyncio.sleep(0.01)
    assert family.cancelled == {"s1", "s2"}


async def test_a_plan_without_steps_has_no_results() -> None:
    assert await ran(FakeFamily(), Plan()) == ({}, [])


async def test_the_models_that_only_later_steps_want_are_told_of_at_the_start_and_each_once() -> None:
    family = FakeFamily()
    plan = a_plan(s1="", s2="s1", s3="s2", s4="s1")
    chosen = dispatches(family, plan, s2="org/second", s3="org/third", s4="org/third")
    told_before_any_step: list[str] = []

    async def begins(request: TaskRequest, _given: list[TaskResult]) -> TaskResult:
        await asyncio.sleep(0.01)
        told_before_any_step.extend(model for _, model, _ in family.warmed)
        return done(request)

    family.work["s1"] = begins
    await run_graph(plan, chosen, lambda _event: None)
    assert family.warmed == [(model, model, a_card(model)) for model in ("org/second", "org/third")]
    assert told_before_any_step == ["org/second", "org/third"]


async def test_a_model_that_a_first_step_wants_needs_no_telling() -> None:
    family = FakeFamily()
    await ran(family, a_plan(s1="", s2="s1", s3="s2"))
    assert family.warmed == []


async def test_a_model_that_only_a_withdrawn_step_would_have_loaded_is_told_of_for_a_later_one() -> None:
    family = FakeFamily({"s1": hangs})
    withdrawn, mended = a_plan(s1=""), a_plan(s2="", s3="s2")
    async with GraphRun(lambda _event: None) as graph:
        graph.add(withdrawn.steps, dispatches(family, withdrawn, s1="org/other"))
        await asyncio.sleep(0)
        graph.withdraw()
        graph.add(mended.steps, dispatches(family, mended, s3="org/other"))
    assert family.cancelled == {"s1"}
    assert [model for _, model, _ in family.warmed] == ["org/other"]
    assert all(isinstance(result, Done) for result in graph.results(mended).values())


async def test_a_warm_up_that_fails_or_hangs_changes_nothing() -> None:
    async def dies_at_once() -> None:
        raise ActorDiedError

    async def never() -> None:
        await asyncio.sleep(60)

    for warming in (dies_at_once, never):
        family = FakeFamily(warming=warming)
        plan = a_plan(s1="", s2="s1")
        async with asyncio.timeout(5):
            results = await run_graph(plan, dispatches(family, plan, s2="org/other"), lambda _event: None)
        assert [type(result) for result in results.values()] == [Done, Done]
        assert len(family.warmed) == 1
