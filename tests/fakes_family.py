"""A family whose replicas are plain asyncio, plans over it, and what a graph of them tells."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from cluster.catalogue import ModelCard
from cluster.messages import Done, Failed, Span, TaskRequest, TaskResult
from cluster.tasks import Task
from controller.execution.dispatch import Dispatch
from controller.planning.plan import OutputOf, Plan, Step

Work = Callable[[TaskRequest, list[TaskResult]], Awaitable[TaskResult]]
SPAN = Span(0, 0, 0, 0, "here")


def done(request: TaskRequest, text: str = "text") -> Done:
    return Done(request.step_id, request.task, request.models[0], text, SPAN)


@dataclass
class FakeFamily:
    """A handle: futures among the arguments are resolved before the work starts, as Ray does it. `work` by step id."""

    work: dict[str, Work] = field(default_factory=dict)
    submitted: list[str] = field(default_factory=list)
    cancelled: set[str] = field(default_factory=set)
    warmed: list[tuple[str, str, ModelCard | None]] = field(default_factory=list)  # routed by, named, with
    warming: Callable[[], Awaitable[None]] = field(default_factory=lambda: _at_once)

    def options(self, *, multiplexed_model_id: str) -> Any:
        return _Routed(self, multiplexed_model_id)

    def remote(self, request: TaskRequest, *upstream: Any) -> "asyncio.Task[TaskResult]":
        self.submitted.append(request.step_id)
        return asyncio.ensure_future(self._work(request, upstream))

    async def _work(self, request: TaskRequest, upstream: tuple[Any, ...]) -> TaskResult:
        try:
            given = [await asyncio.shield(one) if isinstance(one, asyncio.Future) else one for one in upstream]
            if any(not isinstance(one, Done) for one in given):
                return Failed(request.step_id, request.task, "was given nothing")
            result = await self.work[request.step_id](request, given) if request.step_id in self.work else done(request)
        except asyncio.CancelledError:
            self.cancelled.add(request.step_id)
            raise
        return result


@dataclass(frozen=True)
class _Routed:
    """The handle of one model's replicas."""

    family: FakeFamily
    model: str

    @property
    def run(self) -> FakeFamily:
        return self.family

    @property
    def warm(self) -> "_Routed":
        return self

    def remote(self, model_id: str, card: ModelCard | None) -> "asyncio.Future[None]":
        self.family.warmed.append((self.model, model_id, card))
        return asyncio.ensure_future(self.family.warming())


async def _at_once() -> None:
    pass


def a_plan(**needs: str) -> Plan:
    """`s3="s1 s2"`: step s3 eats what s1 and s2 give."""
    steps = [
        Step(step_id, Task.TEXT_GENERATION, tuple(OutputOf(need) for need in needed.split()) or ("x",)) for step_id, needed in needs.items()
    ]
    return Plan(tuple(steps))


def dispatches(family: FakeFamily, plan: Plan, timeout_s: float = 5, **models: str) -> dict[str, Dispatch]:
    """`s2="org/other"`: step s2 wants another model than org/model; its card comes with it."""
    chosen = {step.id: models.get(step.id, "org/model") for step in plan.steps}
    cards = {model: a_card(model) for model in models.values()}
    return {s.id: Dispatch(family, TaskRequest("r", s.id, s.task, (chosen[s.id],), (), {}, timeout_s, cards)) for s in plan.steps}


def a_card(model: str) -> ModelCard:
    return ModelCard(id=model, family="text", loader="fake", tasks=(Task.TEXT_GENERATION,), memory_bytes=1)


async def hangs(request: TaskRequest, _given: list[TaskResult]) -> TaskResult:
    await asyncio.sleep(60)
    return done(request)
