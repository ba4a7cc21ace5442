"""Steps that start while their plan is still being written: on families that are plain asyncio, with an LLM that writes when it is let."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection, Generator, Sequence
from typing import Any

import pytest
from ray.serve.exceptions import RequestCancelledError

from cluster.catalogue import Catalogue, ModelCard
from cluster.chat import Message, OnText, Reply
from cluster.errors import HuggingGPTError, LanguageModelError, LanguageModelTimeout, PlanError, RunTimeout
from cluster.messages import Done, Span, TaskRequest, TaskResult
from cluster.settings import Answering, FamilySettings, HubSettings, LanguageModelClient, Limits, Planning, Selecting
from cluster.state import ClusterState, ModelState, ReplicaState
from cluster.tasks import Task
from controller.answering.responder import Responder
from controller.asking.request import Request
from controller.choosing.candidates import Candidates
from controller.choosing.selector import Choice, Selector
from controller.execution.budget import Budget
from controller.execution.dispatch import Dispatch
from controller.execution.early_steps import EarlySteps
from controller.execution.events import Event, PlanMade, PlanWithdrawn, StepEnded, StepPlanned
from controller.execution.graph import GraphRun
from controller.execution.replanner import Replanner
from controller.execution.results import Kept
from controller.execution.run import Run
from controller.pipeline import Pipeline
from controller.planning.plan import Plan, Step
from controller.planning.planner import Planner
from tests.fakes_chat import ScriptedChat

TASKS = (Task.SUMMARIZATION, Task.TEXT_GENERATION, Task.TEXT_CLASSIFICATION)
REQUEST = Request("r", "Sum up the matter.")
FIRST = '{"kind":"tasks","s1":["summarization",{"text":"go"}]'
TWO = FIRST + ',"s2":["text-classification","s1"]}'
WRONG = FIRST + ',"s2":["text-classification","s7"]}'
LIMIT_S = 5


class Family:
    """A handle. `hangs` names a task that never ends."""

    def __init__(self, hangs: str = "") -> None:
        self.hangs = hangs
        self.began: list[str] = []
        self.cancelled: list[str] = []
        self.news = asyncio.Event()

    def options(self, *, multiplexed_model_id: str) -> "Family":
        return self

    @property
    def run(self) -> "Family":
        return self

    @property
    def warm(self) -> "_Warm":
        return _Warm()

    def remote(self, request: TaskRequest, *upstream: Any) -> "_Response":
        return _Response(asyncio.ensure_future(self._work(request, upstream)))

    async def _work(self, request: TaskRequest, upstream: Sequence[Any]) -> TaskResult:
        try:
            for one in upstream:
                if isinstance(one, _Response):
                    await asyncio.shield(one.task)
            self.began.append(f"{request.step_id} {request.task}")
            self.news.set()
            if request.task == self.hangs:
                await asyncio.sleep(60)
        except asyncio.CancelledError:
            self.cancelled.append(request.step_id)
            raise
        return Done(request.step_id, request.task, request.models[0], "done", Span(0, 0, 0, 0, "here"))


class _Response:
    """As Ray's DeploymentResponse: whoever waits when it is cancelled gets an error, and no CancelledError."""

    def __init__(self, task: "asyncio.Task[TaskResult]") -> None:
        self.task = task
        self._is_cancelled = False

    def __await__(self) -> Generator[Any, None, TaskResult]:
        try:
            return (yield from self.task.__await__())
        except asyncio.CancelledError:
            if self._is_cancelled:
                raise RequestCancelledError("request") from None
            raise

    def cancel(self) -> None:
        self._is_cancelled = True
        self.task.cancel()


class _Warm:
    def remote(self, *_arguments: Any) -> "asyncio.Future[None]":
        return asyncio.ensure_future(asyncio.sleep(0))


class WaitingChat(ScriptedChat):
    """Goes on writing after `first` only when a step has begun, so that nothing ends unless steps start early."""

    def __init__(self, family: Family, *script: Any, first: str = FIRST, then: Exception | None = None) -> None:
        super().__init__(*script)
        self._family, self._first, self._then = family, first, then

    async def written(self, messages: Sequence[Message], on_text: OnText, **limits: Any) -> Reply:
        whole = (await self.reply(messages, **limits)).text
        on_text(self._first)
        async with asyncio.timeout(LIMIT_S):
            await self._family.news.wait()
        if self._then:
            raise self._then
        on_text(whole.removeprefix(self._first))
        return Reply(whole, 1, 1, is_cut=False)


async def _nothing_known() -> ClusterState:
    return ClusterState()


def a_pipeline(
    chat: Any,
    family: Family,
    *,
    limits: Limits | None = None,
    streams: bool = True,
    cards: int = 1,
    cluster_state: Callable[[], Awaitable[ClusterState]] = _nothing_known,
) -> Pipeline:
    planning = Planning(max_replans=0, streams=streams)
    models = tuple(ModelCard(id=f"org/m{n}", family="text", loader="x", tasks=TASKS, memory_bytes=1) for n in range(cards))
    planner = Planner(chat, TASKS, planning)
    return Pipeline(
        planner=planner,
        replanner=Replanner(chat, TASKS, planning, planner),
        selector=Selector(
            Candidates(Catalogue(models), {"text": FamilySettings()}, None, HubSettings()), chat, Selecting(), LanguageModelClient()
        ),
        families={"text": family},
        responder=Responder(chat, TASKS, Answering(), LanguageModelClient()),
        limits=limits or Limits(),
        cluster_state=cluster_state,
        results=Kept(10),
        is_stored=lambda _ref: True,
    )


async def test_a_step_runs_while_the_rest_of_its_plan_is_still_being_written() -> None:
    family, told, planned_s = Family(), list[Event](), list[float]()

    def tell(event: Event) -> None:
        told.append(event)
        if isinstance(event, PlanMade):
            planned_s.append(time.monotonic())

    run = await a_pipeline(WaitingChat(family, TWO, "It went well."), family).answer(REQUEST, tell)
    kinds = [type(event) for event in told]
    assert kinds[0] is StepPlanned and kinds.count(StepPlanned) == kinds.count(StepEnded) == 2 and kinds.count(PlanMade) == 1
    assert family.began == ["s1 summarization", "s2 text-classification"]
    assert run.first_step_s is not None and run.budget.started_s + run.first_step_s <= planned_s[0]


async def test_the_record_is_that_of_a_run_that_was_not_streamed() -> None:
    def without_times(run: Run) -> dict[str, Any]:
        return {name: value for name, value in run.as_json().items() if name not in ("seconds", "first_step_s", "timings")}

    runs = []
    for streams in (True, False):
        family = Family()
        chat = ScriptedChat(TWO, "It went well.")
        runs.append(await a_pipeline(chat, family, streams=streams).answer(REQUEST, lambda _event: None))
    assert without_times(runs[0]) == without_times(runs[1])
    assert runs[0].answer == runs[1].answer


async def test_a_plan_that_turns_out_wrong_cancels_what_it_started_and_the_mended_one_runs_anew() -> None:
    family, told = Family(hangs="summarization"), list[Event]()
    mended = '{"kind":"tasks","s1":["text-classification",{"text":"go"}]}'
    chat = WaitingChat(family, WRONG, mended, "It went well.")
    run = await a_pipeline(chat, family).answer(REQUEST, told.append)
    assert family.cancelled == ["s1"]
    assert [event.steps for event in told if isinstance(event, PlanWithdrawn)] == [("s1",)]
    assert [(step.id, step.task) for step in run.plan.steps] == [("s1", Task.TEXT_CLASSIFICATION)]
    assert run.choices.keys() == run.results.keys() == {"s1"} and isinstance(run.results["s1"], Done)


async def test_what_is_told_while_a_choice_takes_its_time_is_chosen_for_in_one() -> None:
    asked: list[set[str]] = []
    is_written = asyncio.Event()
    steps = tuple(Step(f"s{n}", Task.SUMMARIZATION, ("go",)) for n in range(1, 5))

    async def choose(_plan: Plan, wanted: Collection[str]) -> dict[str, Choice]:
        asked.append(set(wanted))
        await is_written.wait()
        return {step_id: Choice(("org/m",), "the only one", "text") for step_id in wanted}

    async with asyncio.timeout(LIMIT_S), GraphRun(lambda _event: None) as graph, asyncio.TaskGroup() as tasks:
        early = EarlySteps(Run("r", Budget(60)), graph, choose, lambda step, _choice: _dispatch(step), lambda _event: None)
        tasks.create_task(early.start())
        for count in range(1, 5):
            early.tell(Plan(steps[:count]))
            await asyncio.sleep(0)
        early.finish()
        is_written.set()
    assert asked == [{"s1"}, {"s2", "s3", "s4"}]
    assert graph.steps == {"s1", "s2", "s3", "s4"}


def _dispatch(step: Step) -> Dispatch:
    return Dispatch(Family(), TaskRequest("r", step.id, step.task, ("org/m",), (), {}, LIMIT_S))


async def test_of_a_withdrawn_plan_nothing_stays_in_the_record() -> None:
    family = Family()
    run = await a_pipeline(WaitingChat(family, WRONG, '{"kind":"knowledge"}', "It went well."), family).answer(REQUEST, lambda _event: None)
    assert family.began == ["s1 summarization"]
    assert (run.plan.steps, run.choices, run.results, run.first_step_s) == ((), {}, {}, None)


async def test_a_step_that_the_reply_says_anew_is_run_anew() -> None:
    family, told = Family(), list[Event]()
    twice = FIRST + ',"s1":["text-classification",{"text":"go"}],"s2":["text-classification","s1"]}'
    run = await a_pipeline(ScriptedChat(twice, "It went well."), family).answer(REQUEST, told.append)
    assert family.began[0] == "s1 summarization" and any(isinstance(event, PlanWithdrawn) for event in told)
    assert {step.id: step.task for step in run.plan.steps} == {step_id: result.task for step_id, result in run.results.items()}
    assert all(isinstance(result, Done) for result in run.results.values())


async def test_a_model_is_chosen_by_what_the_cluster_tells_when_its_step_is_written() -> None:
    aside = ModelState("org/m0", is_loaded=False, is_set_aside=True)
    now = ClusterState()

    class Chat(ScriptedChat):
        async def written(self, messages: Sequence[Message], on_text: OnText, **limits: Any) -> Reply:
            nonlocal now
            await asyncio.sleep(0)
            now = ClusterState((ReplicaState("r", "text", "here", 1, 0, (aside,)),))
            return await super().written(messages, on_text, **limits)

    async def told_now() -> ClusterState:
        return now

    runs = [
        await a_pipeline(Chat(TWO, "It went well."), Family(), streams=streams, cards=2, cluster_state=told_now).answer(REQUEST, print)
        for streams in (True, False)
    ]
    assert [run.choices["s1"].models[0] for run in runs] == ["org/m1", "org/m1"]


@pytest.mark.parametrize(
    ("script", "then", "error"),
    [
        ((WRONG, WRONG), None, PlanError),
        ((TWO, LanguageModelError("cannot be reached")), LanguageModelError("the connection broke"), LanguageModelError),
        ((TWO,), LanguageModelTimeout("it took too long"), LanguageModelTimeout),
    ],
)
async def test_without_a_plan_there_is_its_error_and_nothing_goes_on(
    script: tuple[str, ...], then: Exception | None, error: type[HuggingGPTError]
) -> None:
    family = Family(hangs="summarization")
    with pytest.raises(error):
        await a_pipeline(WaitingChat(family, *script, then=then), family).answer(REQUEST, lambda _event: None)
    assert family.cancelled == ["s1"]


async def test_a_stream_that_breaks_off_is_asked_for_again_as_a_whole() -> None:
    family, told = Family(hangs="text-generation"), list[Event]()
    first = '{"kind":"tasks","s1":["text-generation",{"text":"go"}]'
    chat = WaitingChat(family, first + "}", TWO, "It went well.", first=first, then=LanguageModelError("the connection broke"))
    run = await a_pipeline(chat, family).answer(REQUEST, told.append)
    assert family.cancelled == ["s1"]
    assert [step.task for step in run.plan.steps] == [Task.SUMMARIZATION, Task.TEXT_CLASSIFICATION]
    assert all(isinstance(result, Done) for result in run.results.values())


async def test_what_breaks_inside_is_raised_as_it_is_and_not_as_a_group() -> None:
    class Broken(Family):
        def remote(self, request: TaskRequest, *upstream: Any) -> Any:
            raise ZeroDivisionError("by zero")

    family = Broken()
    with pytest.raises(ZeroDivisionError):
        await a_pipeline(ScriptedChat(TWO), family).answer(REQUEST, lambda _event: None)


async def test_a_run_whose_plan_does_not_come_in_its_time_cancels_what_was_started_early() -> None:
    class Endless(WaitingChat):
        async def written(self, messages: Sequence[Message], on_text: OnText, **limits: Any) -> Reply:
            on_text(self._first)
            await self._family.news.wait()
            await asyncio.sleep(60)
            raise AssertionError("nobody waits so long")

    family = Family(hangs="summarization")
    chat = Endless(family)
    with pytest.raises(RunTimeout):
        await a_pipeline(chat, family, limits=Limits(run_timeout_s=1)).answer(REQUEST, lambda _event: None)
    await asyncio.sleep(0.01)
    assert family.cancelled == ["s1"]


async def test_what_was_started_early_and_hangs_is_cancelled_in_time_for_an_answer() -> None:
    family = Family(hangs="summarization")
    chat = WaitingChat(family, TWO, "It took too long.")
    run = await a_pipeline(chat, family, limits=Limits(run_timeout_s=4)).answer(REQUEST, lambda _event: None)
    assert "It took too long." in run.answer
    await asyncio.sleep(0.01)
    assert "s1" in family.cancelled


async def test_a_step_whose_model_the_llm_chooses_waits_for_the_whole_plan() -> None:
    family, told = Family(), list[Event]()
    chat = ScriptedChat(TWO, '{"s1":"org/m1","s2":"org/m1"}', "It went well.")
    run = await a_pipeline(chat, family, cards=2).answer(REQUEST, told.append)
    assert isinstance(told[0], PlanMade)
    assert {choice.models[0] for choice in run.choices.values()} == {"org/m1"}


async def test_a_named_model_that_no_step_can_use_is_refused_as_ever() -> None:
    family = Family()
    asked = Request("r", "Sum up the matter.", named=("org/m0",))
    chat = ScriptedChat('{"kind":"knowledge"}', "It went well.")
    assert (await a_pipeline(chat, family).answer(asked, lambda _event: None)).answer
    run = await a_pipeline(ScriptedChat(TWO, "It went well."), family).answer(asked, lambda _event: None)
    assert run.choices["s1"].reason == "named in the request or the configuration"
