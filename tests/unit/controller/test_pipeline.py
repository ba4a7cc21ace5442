"""The whole way of a request on families that are plain asyncio: planning again stops in time, and where it is switched off."""

import asyncio
from collections.abc import Sequence
from time import perf_counter
from typing import Any

import pytest

from cluster.chat import Message, Reply
from cluster.errors import Overloaded, RunTimeout
from cluster.messages import Done, Failed
from cluster.settings import Limits
from controller.asking.request import Request
from controller.execution.events import Event, PlanMade, StepEnded
from controller.execution.run import Run
from tests.fakes_chat import ScriptedChat
from tests.fakes_pipeline import FAILS, HANGS, WORKS, a_pipeline

REQUEST = Request("r", "go")


async def answered(*plans: str, run_timeout_s: float = 60, max_replans: int = 2) -> tuple[Run, list[str], list[Event]]:
    """The run, the ids of the steps that ran, and what was told."""
    told, ran = list[Event](), list[str]()
    pipeline = a_pipeline(ScriptedChat(*plans, "It is done."), ran, Limits(run_timeout_s=run_timeout_s), max_replans)
    return await pipeline.answer(REQUEST, told.append), ran, told


def a_plan(*steps: str) -> str:
    return "{" + ",".join(f'"s{n}":{step}' for n, step in enumerate(steps, 1)) + "}"


def step(task: str) -> str:
    return f'["{task}",{{"text":"go"}}]'


async def test_planning_again_adds_steps_and_tells_them() -> None:
    run, ran, told = await answered(a_plan(step(FAILS)), a_plan(step(WORKS)))
    assert ran == ["s1", "s2"]
    assert [(event.replan, [s.id for s in event.plan.steps]) for event in told if isinstance(event, PlanMade)] == [(0, ["s1"]), (1, ["s2"])]
    assert isinstance(run.results["s2"], Done) and run.choices.keys() == {"s1", "s2"}


async def test_planning_again_is_stopped_while_there_is_time_for_an_answer() -> None:
    started = perf_counter()
    run, _, told = await answered(a_plan(step(FAILS)), a_plan(step(WORKS), step(HANGS)), run_timeout_s=1)
    assert perf_counter() - started < 1
    assert [type(run.results[step_id]) for step_id in ("s1", "s2", "s3")] == [Failed, Done, Failed]
    stopped = run.results["s3"]
    assert isinstance(stopped, Failed) and stopped.reason == "it was stopped, so that there was time for an answer"
    assert [event.result.step_id for event in told if isinstance(event, StepEnded)] == ["s1", "s2", "s3"]
    assert run.answer


async def test_no_replans_means_that_the_planner_is_asked_once() -> None:
    run, ran, _ = await answered(a_plan(step(FAILS)), max_replans=0)
    assert ran == ["s1"] and run.replans == []


async def test_when_every_step_was_done_the_planner_is_asked_once() -> None:
    run, ran, _ = await answered(a_plan(step(WORKS)))
    assert ran == ["s1"] and run.replans == [] and run.answer == "done"


class Slow(ScriptedChat):
    """A language model that is busy."""

    async def reply(self, messages: Sequence[Message], **limits: Any) -> Reply:
        await asyncio.sleep(0.2)
        return await super().reply(messages, **limits)


async def test_planning_alone_takes_a_place_among_the_runs_in_flight_and_gives_it_back() -> None:
    ran: list[str] = []
    pipeline = a_pipeline(Slow(a_plan(step(WORKS)), a_plan(step(WORKS))), ran, Limits(max_runs_in_flight=1))
    planning = asyncio.create_task(pipeline.planned(REQUEST))
    await asyncio.sleep(0)
    with pytest.raises(Overloaded, match="1 runs are in flight"):
        await pipeline.planned(REQUEST)
    assert [s.id for s in (await planning).plan.steps] == ["s1"] and ran == []
    assert (await pipeline.planned(REQUEST)).plan.steps


async def test_planning_alone_ends_when_a_run_would() -> None:
    with pytest.raises(RunTimeout):
        await a_pipeline(Slow(a_plan(step(WORKS))), [], Limits(run_timeout_s=0.05)).planned(REQUEST)
