"""What one run computes or is computing, another does not compute again; and where it must."""

import asyncio
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace

import pytest

from cluster.chat import Reply
from cluster.messages import Done, Failed
from cluster.settings import Limits
from cluster.tasks import Task
from controller.asking.request import Request
from controller.asking.terms import Terms
from controller.execution.events import Event, StepStarted
from controller.execution.run import Run
from controller.pipeline import Pipeline
from controller.planning.plan import OutputOf, Plan, Step
from controller.planning.plan_json import GivenPlan
from tests.fakes_chat import ScriptedChat
from tests.fakes_pipeline import a_pipeline

CHAIN = GivenPlan(Plan((Step("s1", Task.SUMMARIZATION, ("go",)), Step("s2", Task.SUMMARIZATION, (OutputOf("s1"),)))), {})
REQUEST = Request("r", "go")
PRIVATE = replace(REQUEST, terms=Terms(user="somebody"))
NO_STORE = replace(REQUEST, terms=Terms(reads_cache=False, keeps_results=False))
NO_CACHE = replace(REQUEST, terms=Terms(reads_cache=False))


class TalksOn(ScriptedChat):
    """A language model that always has the same answer."""

    def _next(self, messages: Sequence[object]) -> str | Reply:
        return "It is done."


class Service:
    """A pipeline on families that take a little, and what ran on them."""

    def __init__(self, **settings: object) -> None:
        self.ran: list[str] = []
        self.begun: defaultdict[str, asyncio.Event] = defaultdict(asyncio.Event)
        self.pipeline: Pipeline = a_pipeline(TalksOn(), self.ran, Limits(max_runs_in_flight=100), takes_s=0.02, **settings)

    async def run(self, request: Request = REQUEST, plan: GivenPlan = CHAIN) -> Run:
        return await self.pipeline.answer(request, self._tell, plan)

    async def started(self, step: str) -> None:
        """Returns when a run says that its step of that id has started."""
        await self.begun[step].wait()

    def _tell(self, event: Event) -> None:
        if isinstance(event, StepStarted):
            self.begun[event.step].set()


@pytest.fixture
def service() -> Service:
    return Service()


async def test_of_fifty_equal_requests_at_once_each_step_runs_exactly_once(service: Service) -> None:
    runs = await asyncio.gather(*(service.run() for _ in range(50)))
    assert service.ran == ["s1", "s2"]
    assert all([type(result) for result in run.results.values()] == [Done, Done] for run in runs)
    assert sorted(len(run.reused) for run in runs) == [0, *[2] * 49]


async def test_equal_steps_of_different_plans_run_once_whatever_their_ids(service: Service) -> None:
    other = GivenPlan(Plan((Step("first", Task.SUMMARIZATION, ("go",)), Step("s1", Task.TEXT_GENERATION, ("more",)))), {})
    one, another = await asyncio.gather(service.run(), service.run(plan=other))
    assert service.ran.count("s1") + service.ran.count("first") == 2  # the shared one, and the generation
    assert one.results["s1"].step_id == "s1" and another.results["first"].step_id == "first"


async def test_what_has_ended_is_not_run_again_also_when_it_comes_one_step_after_the_other(service: Service) -> None:
    await service.run()
    late = [asyncio.create_task(service.run()) for _ in range(3)]
    runs = await asyncio.gather(*late)
    assert service.ran == ["s1", "s2"]
    assert all(run.reused == {"s1", "s2"} for run in runs)


async def test_who_comes_between_two_steps_takes_the_first_as_done_and_shares_the_second(service: Service) -> None:
    first = asyncio.create_task(service.run())
    await service.started("s2")
    assert (await service.run()).reused == {"s1", "s2"}
    await first
    assert service.ran == ["s1", "s2"]


async def test_what_another_user_gave_in_is_not_shared_unless_the_service_says_so(service: Service) -> None:
    await asyncio.gather(service.run(), service.run(PRIVATE))
    await service.run(PRIVATE)
    assert sorted(service.ran) == ["s1", "s1", "s2", "s2"]
    sharing = Service(shares_results=True)
    await asyncio.gather(sharing.run(), sharing.run(PRIVATE))
    assert sharing.ran == ["s1", "s2"]


async def test_no_store_neither_takes_nor_leaves_anything(service: Service) -> None:
    await asyncio.gather(service.run(NO_STORE), service.run(NO_STORE))
    assert len(service.ran) == 4
    await service.run()
    assert len(service.ran) == 6


async def test_no_cache_computes_anew_and_leaves_the_result(service: Service) -> None:
    await service.run()
    await service.run(NO_CACHE)
    assert len(service.ran) == 4
    await service.run()
    assert len(service.ran) == 4


async def test_who_goes_away_does_not_take_the_step_from_the_others(service: Service) -> None:
    leaving, staying = asyncio.create_task(service.run()), asyncio.create_task(service.run())
    await service.started("s1")
    await asyncio.sleep(0)
    leaving.cancel()
    run = await staying
    assert service.ran == ["s1", "s2"] and all(isinstance(result, Done) for result in run.results.values())
    assert leaving.cancelled()


async def test_when_all_go_away_the_step_is_cancelled_and_whoever_comes_later_starts_it_anew(service: Service) -> None:
    leaving = [asyncio.create_task(service.run()) for _ in range(2)]
    await service.started("s1")
    await asyncio.sleep(0)
    for run in leaving:
        run.cancel()
    await asyncio.wait(leaving)
    assert isinstance((await service.run()).results["s2"], Done)
    assert service.ran == ["s1", "s1", "s2"]


async def test_a_failure_is_shared_while_it_happens_and_not_kept(service: Service) -> None:
    fails = GivenPlan(Plan((Step("s1", Task.TEXT_GENERATION, ("go",)),)), {})
    runs = await asyncio.gather(*(service.run(plan=fails) for _ in range(5)))
    assert all(isinstance(run.results["s1"], Failed) for run in runs) and service.ran == ["s1"]
    await service.run(plan=fails)
    assert service.ran == ["s1", "s1"]


async def test_a_run_with_time_does_not_take_what_a_hurried_one_started_and_the_hurried_one_takes_what_it_started() -> None:
    hurried = replace(REQUEST, terms=Terms(timeout_s=30))
    first_hurried, other = Service(), Service()
    await asyncio.gather(first_hurried.run(hurried), first_hurried.run())
    assert sorted(first_hurried.ran) == ["s1", "s1", "s2", "s2"]
    await asyncio.gather(other.run(), other.run(hurried))
    assert other.ran == ["s1", "s2"]


async def test_fifty_equal_requests_with_as_little_time_share_too(service: Service) -> None:
    hurried = replace(REQUEST, terms=Terms(timeout_s=30))
    await asyncio.gather(*(service.run(hurried) for _ in range(50)))
    assert service.ran == ["s1", "s2"]


async def test_what_is_left_to_another_is_kept_by_it(service: Service) -> None:
    leaving, staying = asyncio.create_task(service.run()), asyncio.create_task(service.run())
    await service.started("s1")
    await asyncio.sleep(0)
    leaving.cancel()
    await staying
    assert (await service.run()).reused == {"s1", "s2"}
    assert service.ran == ["s1", "s2"]
