"""The one Ray class that runs experts: it fetches inputs, leases models, batches, falls back, and times. A failure is data.

A step's candidates are tried in order. A candidate with others behind it gets two thirds of the time that is left, the last one
all of it: a download that hangs costs a step of ten minutes its first seven, and the next model has the other three.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from math import inf
from pathlib import Path
from typing import Any

from ray import serve
from ray.serve import Deployment

from cluster import tracing
from cluster.artifacts import ArtifactStore
from cluster.catalogue import Catalogue, ModelCard
from cluster.errors import HuggingGPTError, ModelError, NotFound
from cluster.logs import log_to_stderr, logger, said_for
from cluster.messages import OUT_OF_TIME, TIMEOUT, Done, Failed, FromStep, Input, OptionValue, Skipped, Span, TaskRequest, TaskResult, Value
from cluster.metrics import TaskPart, count_fallback, observe_task
from cluster.settings import AppSettings, FamilySettings
from cluster.state import ModelState, ReplicaState
from cluster.tasks import TASKS, Media
from deployments.batching import Batches
from deployments.board import HEARTBEAT_S
from deployments.breaker import Breaker
from deployments.bulletin import Bulletin
from deployments.figures import Figures
from deployments.identity import Identity, tell_router, this_replica
from deployments.memory import drop_frames, ran_out_of_memory
from deployments.model import Call, Computation, MediaOutput, Model, Output
from deployments.model_cache import ModelCache, NotReady, Source, Stage, described
from deployments.opener import ModelOpener
from deployments.step_span import SET_ASIDE, describe_result, note_gave_way, step_span

SHARE = 2 / 3  # of the time left, for a candidate that others stand behind
HURRIED_S = 60.0  # with more time than that left, a model that does not end in it is at fault, and not its run
TELL_GAP_S = 1.0  # between two reports to the board
ROUTER_GAP_S = 0.05
ROUTER_HEARTBEAT_S = 60.0  # a Serve controller that was restarted has forgotten who has which model

# What a stage that did not end in time is called.
_UNDONE = {
    Stage.DOWNLOAD: "not downloaded",
    Stage.WAIT: "found no room in memory, which other models were using,",
    Stage.LOAD: "not loaded",
    Stage.RUN: "not done",
}


@dataclass(frozen=True, slots=True)
class _GaveWay:
    """Why a candidate gave nothing. `sentence` names the model and the stage."""

    sentence: str
    kind: str = ModelError.code


class FamilyReplica:
    """Runs every model of one family. Plain asyncio; `family_deployment` adds what needs Serve."""

    def __init__(
        self,
        name: str,
        settings: AppSettings,
        board: Any | None = None,
        *,
        source: Source | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        log_to_stderr()
        tracing.start(settings.tracing, name)
        family = settings.families[name]
        self._name = name
        self._board = board
        self._catalogue = Catalogue.of(settings)
        self._artifacts = ArtifactStore(settings.artifacts)
        self._identity: Identity | None = None
        self._figures = Figures()
        self._breaker = Breaker(family.failures_in_a_row, family.rest_s, clock)
        self._cache = ModelCache(
            family.memory_bytes,
            source or ModelOpener(settings),
            clock=clock,
            changed=self._models_changed,
            on_loaded=self._figures.loaded,
        )
        self._batches = Batches(self._run_batch, self._cache, family.max_batch, family.batch_wait_s)
        self._to_board = Bulletin("the board", self._report, TELL_GAP_S, HEARTBEAT_S)
        self._to_router = Bulletin("the router", self._tell_router, ROUTER_GAP_S, ROUTER_HEARTBEAT_S)

    async def run(self, request: TaskRequest, *upstream: TaskResult) -> TaskResult:
        """One step. `upstream` are the results that FromStep inputs point into; never raises for a model's failure."""
        arrived_s = time.time()
        if (missing := next((result for result in upstream if not isinstance(result, Done)), None)) is not None:
            return Skipped(request.step_id, request.task, missing.step_id)
        self._start()
        with said_for(request.request_id, request.run_id), step_span(request, self._name) as told:
            try:
                result = await self._first_that_works(request, upstream, arrived_s, told)
            except TimeoutError:
                result = Failed(request.step_id, request.task, f"not done within {time.time() - arrived_s:.3g} s", TIMEOUT)
            except HuggingGPTError as exc:
                result = Failed(request.step_id, request.task, exc.message, exc.code)
            describe_result(told, result)
        _observe(result)
        self._to_board.changed()
        return result

    async def warm(self, model_id: str, card: ModelCard | None = None) -> None:
        """Begins to load a model that a later step will want, if that disturbs nobody. Returns at once, and tells nothing."""
        self._start()
        if card is None and (card := self._catalogue.cards.get(model_id)) is None:
            return
        if not self._breaker.is_set_aside(model_id):
            self._cache.warm(card)

    async def check_health(self) -> None:
        """Answers while models compute, since they do so in their own threads."""
        self._start()

    def state(self) -> ReplicaState:
        identity = self._identity or this_replica()
        loaded, set_aside = frozenset(self._cache.loaded), self._breaker.set_aside
        models = dict.fromkeys((*self._cache.known, *self._figures.models, *sorted(set_aside)))
        return ReplicaState(
            replica=identity.replica,
            family=self._name,
            node=identity.node,
            budget_bytes=self._cache.budget_bytes,
            used_bytes=self._cache.used_bytes,
            models=tuple(
                ModelState(
                    model=model,
                    is_loaded=model in loaded,
                    in_flight=self._cache.in_flight(model),
                    run_s=self._figures.of(model).run_s,
                    load_s=self._figures.of(model).load_s,
                    is_set_aside=model in set_aside,
                )
                for model in models
            ),
        )

    # A step

    async def _first_that_works(
        self, request: TaskRequest, upstream: Sequence[TaskResult], arrived_s: float, told: tracing.Span
    ) -> TaskResult:
        is_hurried = _left_s(request) < min(request.timeout_s, HURRIED_S)
        deadline_s = _now() + min(request.timeout_s, _left_s(request))
        if deadline_s <= _now():
            return Failed(request.step_id, request.task, "not started: no time was left for it", OUT_OF_TIME)
        async with asyncio.timeout_at(deadline_s):
            call = Call(request.task, await self._fetched(request, upstream), _options(request, upstream))
        models, passed_over = self._breaker.candidates(request.models)
        gave_way = [_GaveWay(sentence) for sentence in passed_over]
        for model_id in set(request.models).difference(models):
            note_gave_way(told, model_id, SET_ASIDE)
        for place, model_id in enumerate(models):
            until_s = _until(_now(), deadline_s, is_last=place == len(models) - 1)
            attempt = _Attempt(model_id, time.time(), until_s, is_hurried)
            output = self._too_slow(model_id, _left_s(request)) or await self._tried(attempt, request, call)
            if isinstance(output, _GaveWay):
                logger.warning(
                    "model gave way", extra={"step": request.step_id, "model": model_id, "task": request.task, "reason": output.sentence}
                )
                count_fallback(request.task)
                gave_way.append(output)
                note_gave_way(told, model_id, output.kind)
                continue
            async with asyncio.timeout_at(deadline_s):
                value = await self._stored(output.value)
            span = Span(arrived_s, attempt.started_s, time.time(), attempt.load_s, self._node)
            fallbacks = tuple(one.sentence for one in gave_way)
            return Done(request.step_id, request.task, model_id, value, span, output.data, fallbacks)
        last = gave_way[-1] if gave_way else _GaveWay("no model was named for it")
        return Failed(request.step_id, request.task, last.sentence, last.kind, tuple(one.sentence for one in gave_way))

    def _too_slow(self, model_id: str, left_s: float) -> _GaveWay | None:
        """What was never seen to be as fast as it would have to be is not started."""
        figures, is_loaded = self._figures.of(model_id), model_id in self._cache.loaded
        least_s = (figures.least_run_s or 0.0) + (0.0 if is_loaded else figures.least_load_s or 0.0)
        if least_s <= left_s:
            return None
        reason = f"not started, since it takes {least_s:.2g} s at least and {max(0.0, left_s):.2g} s were left"
        return _GaveWay(f"{model_id}: {reason}", OUT_OF_TIME)

    async def _tried(self, attempt: "_Attempt", request: TaskRequest, call: Call) -> Output | _GaveWay:
        """A candidate's output, or why there is none; what is the model's fault is counted."""
        started_s = _now()
        try:
            card = request.cards.get(attempt.model_id) or self._catalogue.card(attempt.model_id)
            async with asyncio.timeout_at(attempt.until_s) as limit:
                output = await self._output(attempt, card, call)
        except NotFound as exc:
            return self._gave_way(attempt, exc.message, counts=False)
        except NotReady as exc:
            attempt.stage = exc.stage
            return self._gave_way(attempt, exc.message, counts=exc.is_its_fault)
        except ModelError as exc:
            return self._gave_way(attempt, exc.message, counts=ran_out_of_memory(exc))
        except Exception as exc:  # noqa: BLE001 - the outer edge of other people's code: whatever an expert throws is its failure
            if isinstance(exc, TimeoutError) and limit.expired():
                waited_s = _now() - started_s
                sentence = f"{_UNDONE[attempt.stage]} within {waited_s:.3g} s"
                if attempt.is_hurried:
                    return self._gave_way(attempt, sentence, counts=False, kind=OUT_OF_TIME)
                return self._gave_way(attempt, sentence, counts=attempt.stage is not Stage.WAIT, kind=TIMEOUT)
            logger.exception("model failed", extra={"model": attempt.model_id, "task": request.task})
            return self._gave_way(attempt, _reason(exc), counts=True)
        self._breaker.worked(attempt.model_id)
        return output

    def _gave_way(self, attempt: "_Attempt", reason: str, counts: bool, kind: str = ModelError.code) -> _GaveWay:
        if counts:
            self._breaker.failed(attempt.model_id)
        return _GaveWay(f"{attempt.model_id} ({attempt.stage}): {reason}", kind)

    async def _output(self, attempt: "_Attempt", card: ModelCard, call: Call) -> Output:
        """When memory runs out, everything unused goes and the model is tried once more, this call alone. Raises what it throws."""
        try:
            return await self._ran(attempt, card, call, self._batches.run)
        except Exception as exc:
            if not ran_out_of_memory(exc):
                raise
            logger.warning("out of memory", extra={"model": card.id, "task": call.task})
            drop_frames(exc)
        await self._cache.evict_idle()
        return await self._ran(attempt, card, call, _alone)

    async def _ran(
        self,
        attempt: "_Attempt",
        card: ModelCard,
        call: Call,
        run: Callable[[str, Model, Call], Awaitable[Output | ModelError]],
    ) -> Output:
        lease = self._cache.lease(card)
        try:
            async with lease as model:
                attempt.load_s += lease.load_s
                sharing = self._cache.in_flight(card.id) if isinstance(model, Computation) else 1
                started_s = _now()
                output = await run(card.id, model, call)
                if isinstance(output, ModelError):
                    raise output
                self._figures.ran(card.id, (_now() - started_s) / sharing)  # calls of one model run after each other, or as one batch
                return output
        finally:
            attempt.stage = lease.stage

    async def _run_batch(self, model_id: str, calls: Sequence[Call]) -> list[Output | ModelError]:
        """Calls of one model, which each of them has leased."""
        return await self._cache.model(model_id).run(calls)

    # A step's inputs and output

    async def _fetched(self, request: TaskRequest, upstream: Sequence[TaskResult]) -> tuple[str | Path, ...]:
        values = [_value(source, upstream) for source in request.inputs]
        media = TASKS[request.task].media_of(len(values))
        return tuple([await self._input(value, kind) for value, kind in zip(values, media, strict=True)])

    async def _input(self, value: Value, media: Media) -> str | Path:
        """Texts pass as they are: a thread would cost each step more than the rest of this method."""
        if isinstance(value, str):
            return value
        if media == Media.TEXT:
            return (await asyncio.to_thread(self._artifacts.read, value.sha256)).decode("utf-8")
        return await asyncio.to_thread(self._artifacts.local, value)

    async def _stored(self, value: str | MediaOutput) -> Value:
        if isinstance(value, str):
            return value
        return await asyncio.to_thread(self._artifacts.put, value.content, value.media_type, value.name)

    # What others are told, off the steps' way

    def _start(self) -> None:
        """At the first sign of an event loop, which a constructor has none of."""
        if self._identity is None:
            self._identity = this_replica()
            self._to_router.start()
            if self._board is not None:
                self._to_board.start()

    @property
    def _node(self) -> str:
        return self._identity.node if self._identity else "local"

    def _models_changed(self) -> None:
        self._to_router.changed()
        self._to_board.changed()

    async def _report(self) -> None:
        if self._board is not None:
            await self._board.report.remote(self.state())

    async def _tell_router(self) -> None:
        if self._identity is not None:
            await tell_router(self._identity, self._cache.known)


@dataclass(slots=True)
class _Attempt:
    """One candidate's turn at a step."""

    model_id: str
    started_s: float  # Unix
    until_s: float  # of the event loop's clock
    is_hurried: bool  # by its run, which has little time left: running out of it is not the model's fault
    stage: Stage = Stage.DOWNLOAD
    load_s: float = 0.0


def family_deployment(name: str, family: FamilySettings, **usual: Any) -> Deployment:
    """The Serve deployment of a family, to be bound with its name, the settings and the board's handle.

    `usual` are deployment options that hold where the family's settings say nothing else.
    """

    class Replica(FamilyReplica):
        """Its name is what Serve's own records show."""

    Replica.__name__ = Replica.__qualname__ = f"{name.title().replace('_', '')}Family"
    made: Deployment = serve.deployment(name=name)(Replica)
    return made.options(**{**usual, **family.deployment})


async def _alone(_model_id: str, model: Model, call: Call) -> Output | ModelError:
    (output,) = await model.run([call])
    return output


def _left_s(request: TaskRequest) -> float:
    """Of the time of its run."""
    return inf if request.until_s is None else request.until_s - time.time()


def _until(now_s: float, deadline_s: float, *, is_last: bool) -> float:
    return deadline_s if is_last else now_s + SHARE * (deadline_s - now_s)


def _reason(exc: Exception) -> str:
    if ran_out_of_memory(exc):
        return "out of memory, also with every unused model gone"
    return exc.message if isinstance(exc, HuggingGPTError) else described(exc)


def _now() -> float:
    return asyncio.get_running_loop().time()


def _options(request: TaskRequest, upstream: Sequence[Any]) -> dict[str, OptionValue]:
    """A step's options, those that are what another step said filled in."""
    return {name: str(upstream[value.position].value) if isinstance(value, FromStep) else value for name, value in request.options.items()}


def _value(source: Input, upstream: Sequence[Any]) -> Value:
    if isinstance(source, FromStep):
        value: Value = upstream[source.position].value
        return value
    return source


def _observe(result: TaskResult) -> None:
    """What a step took; whether it failed is counted by the run."""
    if isinstance(result, Done):
        span = result.span
        observe_task(result.task, TaskPart.WAIT, max(0.0, span.started_s - span.arrived_s))
        observe_task(result.task, TaskPart.RUN, span.finished_s - span.started_s - span.load_s)
        if span.load_s:
            observe_task(result.task, TaskPart.LOAD, span.load_s)
