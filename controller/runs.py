"""Runs: every run of this process, each in a task of its own, and those that ended for as long as they are remembered.

A run ends by itself, by its time, or by `cancel`. What ended is kept in memory with all that it told, the last ones of it; its record goes
to the store.
"""

import asyncio
import contextvars
import json
from typing import Any, Protocol

from cluster.errors import HuggingGPTError, NotFound, Overloaded, RunCancelled, RunEnded
from cluster.logs import logger, said_for
from controller.events import Emit
from controller.openai_schema import COMPLETION_PREFIX, shown
from controller.plan_json import GivenPlan
from controller.request import Request
from controller.results import MOST_RUNS, Kept
from controller.run import Run
from controller.run_log import RunLog
from controller.run_record import Status, encoded, record_of
from controller.run_store import RunStore

CANCEL_TIMEOUT_S = 10.0  # for what a cancelled run still has to let go


class Answers(Protocol):
    """What runs a request: controller.pipeline.Pipeline."""

    async def answer(self, request: Request, emit: Emit, given: GivenPlan | None = None, run: Run | None = None) -> Run: ...


class LiveRun:
    """A run that goes on, or has just ended."""

    def __init__(self, request: Request) -> None:
        self.request = request
        self.run = Run(request.id)
        self.log = RunLog(request.id)
        self.status = Status.IN_PROGRESS
        self.error: HuggingGPTError | None = None
        self.task: asyncio.Task[None]

    async def go(self, pipeline: Answers, given: GivenPlan | None) -> None:
        with said_for(self.request.terms.request_id, self.request.id):
            await pipeline.answer(self.request, self.log.tell, given, self.run)

    def record(self) -> dict[str, Any]:
        last = self.log.count + (self.status is not Status.IN_PROGRESS)
        return record_of(self.request, self.run, self.status, self.log.event_id(last), self.error)

    async def answered(self) -> Run:
        """Its end. Raises what ended it without an answer; whoever waits and is cancelled cancels it."""
        try:
            await self.log.ended()
        except asyncio.CancelledError:
            self.cancel()
            raise
        if self.error is not None:
            raise self.error
        return self.run

    def cancel(self) -> None:
        """Frees what runs for it; once it has ended this changes nothing."""
        self.task.cancel()

    def end(self) -> None:
        """By its task's end."""
        if self.task.cancelled():
            self.status, self.error = Status.CANCELLED, RunCancelled(f"the run {self.request.id} was cancelled")
        elif (exc := self.task.exception()) is None:
            self.status = Status.COMPLETED
        elif isinstance(exc, HuggingGPTError):
            self.status, self.error = Status.FAILED, exc
        else:
            with said_for(self.request.terms.request_id, self.request.id):
                logger.error("a run failed", exc_info=exc)
            self.status, self.error = Status.FAILED, HuggingGPTError(f"the run failed inside: {type(exc).__name__}")
        self.log.end(encoded(self.record()))


class Runs:
    """All look-ups take the id of a run or of its completion."""

    def __init__(self, pipeline: Answers, store: RunStore) -> None:
        self._pipeline = pipeline
        self._store = store
        self._live: dict[str, LiveRun] = {}
        self._past: Kept[RunLog] = Kept(MOST_RUNS)

    def start(self, request: Request, given: GivenPlan | None = None, *, in_background: bool = False) -> LiveRun:
        """`in_background`: in no request's context, since Ray Serve cancels what a request has submitted when its client goes away."""
        live = self._live[request.id] = LiveRun(request)
        context = contextvars.Context() if in_background else None
        live.task = asyncio.create_task(live.go(self._pipeline, given), context=context)
        live.task.add_done_callback(lambda _: self._ended(live))
        return live

    async def record(self, run_id: str) -> bytes:
        """As JSON, of a run that goes on as far as it came. Raises NotFound."""
        if (live := self._live.get(_plain(run_id))) is not None:
            return live.log.record or encoded(live.record())
        log = await self.log(run_id)
        return log.record or b""

    async def log(self, run_id: str) -> RunLog:
        """Of a run that only the store knows, the end alone. Raises NotFound."""
        plain = _plain(run_id)
        if (live := self._live.get(plain)) is not None:
            return live.log
        if (past := self._past.get(plain)) is not None:
            return past
        if (record := await self._store.get(plain)) is not None:
            log = RunLog(plain, forgotten=int(json.loads(record)["last_event_id"].rpartition("-")[2]) - 1)
            log.end(record)
            return log
        raise NotFound(f"no run has the id {shown(run_id)}, or its record has expired")

    async def cancel(self, run_id: str) -> bytes:
        """The record, once all that ran for it was let go; that alone for one that was cancelled before.

        Raises NotFound, or RunEnded for one that ended otherwise.
        """
        if (live := self._live.get(_plain(run_id))) is not None and not live.log.has_ended:
            live.cancel()
            try:
                async with asyncio.timeout(CANCEL_TIMEOUT_S):
                    await live.log.ended()
            except TimeoutError:
                logger.warning("a cancelled run did not end", extra={"run_id": live.request.id})
        record = await self.record(run_id)
        status = json.loads(record)["status"]
        if status in (Status.COMPLETED, Status.FAILED):
            raise RunEnded(f"the run {_plain(run_id)} has ended ({status}): there is nothing left to cancel")
        return record

    def _ended(self, live: LiveRun) -> None:
        live.end()
        del self._live[live.request.id]
        if isinstance(live.error, Overloaded) and not live.log.count:
            return  # it never was a run
        record = live.log.record or b""
        self._past.keep(live.request.id, live.log, len(record))
        if live.request.terms.keeps_results:
            self._store.keep(live.request.id, record)


def _plain(run_id: str) -> str:
    return run_id.removeprefix(COMPLETION_PREFIX)
