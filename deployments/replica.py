"""The one Ray class that runs experts: it fetches inputs, keeps models loaded, batches, falls back, and times. A failure is data."""

import asyncio
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import ray
from ray import serve
from ray.serve import Deployment

from cluster.artifacts import ArtifactStore
from cluster.catalogue import BUILT_IN, Catalogue
from cluster.chat import OpenAIChat
from cluster.errors import HuggingGPTError, ModelError
from cluster.logs import log_to_stderr, logger
from cluster.messages import Done, Failed, FromStep, Input, Skipped, Span, TaskRequest, TaskResult, Value
from cluster.metrics import TaskPart, count_error, count_fallback, observe_task
from cluster.settings import AppSettings, FamilySettings
from cluster.tasks import TASKS, Media
from deployments.llm_expert import LanguageExpert
from deployments.model import Call, MediaOutput, Model, Output
from deployments.registry import LOADERS
from deployments.store import ModelStore

MAX_BATCH = 16


class FamilyReplica:
    """Runs every model of one family; `load` is what Serve multiplexes."""

    def __init__(self, settings: AppSettings) -> None:
        log_to_stderr()
        self._catalogue = Catalogue.read(BUILT_IN, *settings.catalogues)
        self._artifacts = ArtifactStore(settings.artifacts)
        self._store = ModelStore(settings.models)
        self._settings = settings
        self._load_s: dict[str, float] = {}

    async def run(self, request: TaskRequest, *upstream: TaskResult) -> TaskResult:
        """One step. `upstream` are the results that FromStep inputs point into; never raises for a model's failure."""
        arrived_s = time.time()
        if (missing := next((result for result in upstream if not isinstance(result, Done)), None)) is not None:
            return Skipped(request.step_id, request.task, missing.step_id)
        try:
            async with asyncio.timeout(request.timeout_s):
                result = await self._first_that_works(request, upstream, arrived_s)
        except TimeoutError:
            result = Failed(request.step_id, request.task, f"not done within {request.timeout_s:g} s", "timeout")
        except HuggingGPTError as exc:
            result = Failed(request.step_id, request.task, exc.message, exc.code)
        _observe(result)
        return result

    async def load(self, model_id: str) -> Model:
        """Brings a model into memory, fetching its files first if need be. Raises ModelError."""
        started = time.perf_counter()
        model = await asyncio.to_thread(self._load_blocking, model_id)
        self._load_s[model_id] = time.perf_counter() - started
        return model

    async def check_health(self) -> None:
        """Answers while models compute, since they do so in their own threads."""

    def _load_blocking(self, model_id: str) -> Model:
        card = self._catalogue.card(model_id)
        if card.loader == "llm":
            llm = self._settings.llm
            return LanguageExpert(OpenAIChat.from_settings(llm), llm.timeout_s)
        if card.loader not in LOADERS:
            raise ModelError(f"the card {card.id} names the loader {card.loader}, which is none of {', '.join(LOADERS)}")
        folder = self._store.ensure(card) if card.has_files else None
        try:
            return LOADERS[card.loader](card, folder)
        except (OSError, RuntimeError, ValueError, ImportError) as exc:
            raise ModelError(f"the model {card.id} could not be loaded: {exc}") from exc

    async def _first_that_works(self, request: TaskRequest, upstream: Sequence[TaskResult], arrived_s: float) -> TaskResult:
        inputs = await self._fetched(request, upstream)
        call = Call(request.task, inputs, request.options)
        fallbacks: list[str] = []
        for model_id in request.models:
            self._load_s.pop(model_id, None)
            started_s = time.time()
            try:
                output = await self._output(model_id, call)
            except ModelError as exc:
                logger.warning("model gave way", extra={"model": model_id, "task": request.task, "reason": exc.message})
                fallbacks.append(f"{model_id}: {exc.message}")
                count_fallback(request.task)
                continue
            value = await self._stored(output.value)
            span = Span(arrived_s, started_s, time.time(), self._load_s.pop(model_id, 0.0), _node())
            return Done(request.step_id, request.task, model_id, value, span, output.data, tuple(fallbacks))
        reason = fallbacks[-1] if fallbacks else "no model was named for it"
        return Failed(request.step_id, request.task, reason, ModelError.code, tuple(fallbacks))

    async def _output(self, model_id: str, call: Call) -> Output:
        """Raises ModelError, also for what a model's library threw."""
        try:
            model = await self.load(model_id)
            if model.max_batch > 1:
                output: Output | ModelError = await self.batched(model_id, call)
            else:
                (output,) = await model.run([call])
        except HuggingGPTError as exc:
            raise ModelError(exc.message) from exc
        except Exception as exc:  # the outer edge of other people's code: whatever an expert throws is its failure
            logger.exception("model failed", extra={"model": model_id, "task": call.task})
            raise ModelError(f"{model_id} failed: {type(exc).__name__}: {str(exc)[:200]}") from exc
        if isinstance(output, ModelError):
            raise output
        return output

    async def batched(self, model_id: str, call: Call) -> Output | ModelError:
        """Overridden with the Serve-batched version by `family_deployment`."""
        return (await self.run_batch([(model_id, call)]))[0]

    async def run_batch(self, items: Sequence[tuple[str, Call]]) -> list[Output | ModelError]:
        """Calls of several models, each model's together, in batches no larger than it likes."""
        outputs: dict[int, Output | ModelError] = {}
        for model_id in dict.fromkeys(model_id for model_id, _ in items):
            places = [place for place, (wanted, _) in enumerate(items) if wanted == model_id]
            model = await self.load(model_id)
            for first in range(0, len(places), model.max_batch):
                chunk = places[first : first + model.max_batch]
                outputs.update(zip(chunk, await model.run([items[place][1] for place in chunk]), strict=True))
        return [outputs[place] for place in range(len(items))]

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


def family_deployment(name: str, family: FamilySettings, settings: AppSettings) -> Deployment:
    """The Serve deployment of a family, to be bound with `settings`."""

    class Replica(FamilyReplica):
        @serve.multiplexed(max_num_models_per_replica=family.max_models)
        async def load(self, model_id: str) -> Model:
            return await super().load(model_id)

        @serve.batch(max_batch_size=MAX_BATCH, batch_wait_timeout_s=family.batch_wait_s)
        async def _batch(self, items: list[tuple[str, Call]]) -> list[Output | ModelError]:
            return await self.run_batch(items)

        async def batched(self, model_id: str, call: Call) -> Output | ModelError:
            result: Output | ModelError = await self._batch((model_id, call))
            return result

    Replica.__name__ = Replica.__qualname__ = f"{name.capitalize()}Family"
    made: Deployment = serve.deployment(name=name)(Replica)
    return made.options(**family.deployment)


def _value(source: Input, upstream: Sequence[Any]) -> Value:
    if isinstance(source, FromStep):
        value: Value = upstream[source.position].value
        return value
    return source


def _node() -> str:
    with suppress(RuntimeError):
        return str(ray.get_runtime_context().get_node_id())[:12]
    return "local"


def _observe(result: TaskResult) -> None:
    match result:
        case Done(task=task, span=span):
            observe_task(task, TaskPart.WAIT, max(0.0, span.started_s - span.arrived_s))
            observe_task(task, TaskPart.RUN, span.finished_s - span.started_s - span.load_s)
            if span.load_s:
                observe_task(task, TaskPart.LOAD, span.load_s)
        case Failed(kind=kind):
            count_error(kind)
