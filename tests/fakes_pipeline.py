"""A Pipeline whose families are plain asyncio: what a step does is in its task's name here, and every step that runs is noted."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from cluster.catalogue import Catalogue, ModelCard
from cluster.messages import Done, Failed, Span, TaskRequest, TaskResult
from cluster.settings import Answering, FamilySettings, HubSettings, LanguageModelClient, Limits, Planning, Selecting
from cluster.state import ClusterState
from cluster.tasks import Task
from controller.answering.responder import Responder
from controller.choosing.candidates import Candidates
from controller.choosing.selector import Selector
from controller.execution.replanner import Replanner
from controller.execution.results import Kept
from controller.pipeline import Pipeline
from controller.planning.planner import Planner

TASKS = (Task.SUMMARIZATION, Task.TEXT_GENERATION, Task.TEXT_CLASSIFICATION)
FAILS, WORKS, HANGS = "text-generation", "summarization", "text-classification"  # what AFamily does with each


@dataclass(frozen=True)
class AFamily:
    """A handle whose steps end by their task, and note that they ran."""

    ran: list[str]
    takes_s: float = 0.0

    def options(self, *, multiplexed_model_id: str) -> "AFamily":
        return self

    @property
    def run(self) -> "_Method":
        return _Method(self._work)

    @property
    def warm(self) -> "_Method":
        return _Method(self._warm)

    async def _work(self, request: TaskRequest, *upstream: Any) -> TaskResult:
        upstream = [await asyncio.shield(one) if isinstance(one, asyncio.Future) else one for one in upstream]  # as Ray does it
        self.ran.append(request.step_id)
        await asyncio.sleep(self.takes_s)
        if request.task == HANGS:
            await asyncio.sleep(60)
        if request.task == FAILS:
            return Failed(request.step_id, request.task, "no")
        return Done(request.step_id, request.task, request.models[0], "done", Span(0, 0, 0, 0, "here"))

    async def _warm(self, _model: str, _card: ModelCard | None) -> None: ...


@dataclass(frozen=True)
class _Method:
    work: Callable[..., Awaitable[Any]]

    def remote(self, *arguments: Any) -> "asyncio.Future[Any]":
        return asyncio.ensure_future(self.work(*arguments))


def a_pipeline(
    chat: Any, ran: list[str], limits: Limits, max_replans: int = 2, *, takes_s: float = 0.0, shares_results: bool = False
) -> Pipeline:
    planning = Planning(max_replans=max_replans)
    card = ModelCard(id="org/m", family="text", loader="x", tasks=TASKS, memory_bytes=1)
    families = {"text": FamilySettings()}
    planner = Planner(chat, TASKS, planning)
    return Pipeline(
        planner=planner,
        replanner=Replanner(chat, TASKS, planning, planner),
        selector=Selector(Candidates(Catalogue((card,)), families, None, HubSettings()), chat, Selecting(), LanguageModelClient()),
        families={"text": AFamily(ran, takes_s)},
        responder=Responder(chat, TASKS, Answering(), LanguageModelClient()),
        limits=limits,
        cluster_state=_nothing_known,
        results=Kept(10),
        is_stored=lambda _ref: True,
        shares_results=shares_results,
    )


async def _nothing_known() -> ClusterState:
    return ClusterState()
