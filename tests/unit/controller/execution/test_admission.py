"""Who is let in, who is told to come again, and when."""

import asyncio

import pytest

from cluster.errors import BadRequest, Overloaded
from cluster.messages import Done
from cluster.settings import Limits
from cluster.tasks import Task
from controller.asking.request import Request
from controller.execution.admission import Admission
from controller.planning.plan import Plan, Step
from controller.planning.plan_json import GivenPlan
from tests.fakes_chat import ScriptedChat
from tests.fakes_pipeline import a_pipeline


class Clock:
    now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


async def test_overload_loses_no_run_that_was_let_in() -> None:
    pipeline = a_pipeline(ScriptedChat(), [], Limits(max_runs_in_flight=4), takes_s=0.05)

    async def ask(number: int) -> bool:
        plan = GivenPlan(Plan((Step("s1", Task.SUMMARIZATION, (f"go {number}",)),)), {})
        try:
            run = await pipeline.answer(Request(f"r{number}", "go"), lambda _event: None, plan)
        except Overloaded:
            return False
        assert isinstance(run.results["s1"], Done) and run.answer
        return True

    assert sum(await asyncio.gather(*(ask(number) for number in range(40)))) == 4
    assert await ask(40)


async def test_those_who_are_refused_are_told_to_come_one_place_after_the_other() -> None:
    clock = Clock()
    admission = Admission(Limits(max_runs_in_flight=2), lambda: 0.0, clock)
    async with admission.admitted(None), admission.admitted(None):
        told = [admission.retry_after_s() for _ in range(4)]
        assert told == [3, 5, 8, 10]  # a run takes 5 s as far as is known, so that of two one ends every 2.5 s
        clock.now_s += 10
        assert admission.retry_after_s() == 3
        assert max(admission.retry_after_s() for _ in range(100)) == 120
    async with admission.admitted(None):
        assert admission.retry_after_s() <= 10  # nobody waits any more


async def test_runs_that_took_long_lately_make_whoever_is_refused_wait_longer() -> None:
    clock = Clock()
    admission = Admission(Limits(max_runs_in_flight=1), lambda: 0.0, clock)
    for _ in range(50):
        async with admission.admitted(None):
            clock.now_s += 60
    async with admission.admitted(None):
        assert admission.retry_after_s() == pytest.approx(60, abs=1)


async def test_little_memory_refuses_all_but_one_run_before_there_is_none() -> None:
    admission = Admission(Limits(max_memory_share=0.9), lambda: 0.93)
    async with admission.admitted(None):
        with pytest.raises(Overloaded, match=r"^93 % of this machine's memory is used; above 90 % no run is started; try again in \d+ s$"):
            async with admission.admitted(None):
                pass
    async with admission.admitted(None):
        pass


async def test_a_run_that_fails_gives_its_place_back() -> None:
    admission = Admission(Limits(max_runs_in_flight=1), lambda: 0.0)
    for _ in range(3):
        with pytest.raises(BadRequest):
            async with admission.admitted(None):
                raise BadRequest("no")
