"""LiveRun: a run in a task of its own, from its start to its end, whatever that is."""

import asyncio
from typing import Any, Protocol

from cluster.errors import HuggingGPTError, Overloaded, RunCancelled
from cluster.logs import logger, said_for
from cluster.metrics import Ending, count_error, count_run
from controller.asking.request import Request
from controller.execution.events import Emit
from controller.execution.run import Run
from controller.planning.plan_json import GivenPlan
from controller.runs.run_log import RunLog
from controller.runs.run_record import Status, encoded, record_of

FAULT_OF_THE_SERVICE = 500  # HTTP statuses from here on


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
        self._is_unwanted = False

    async def go(self, pipeline: Answers, given: GivenPlan | None) -> None:
        with said_for(self.request.terms.request_id, self.request.id):
            await pipeline.answer(self.request, self.log.tell, given, self.run)

    def record(self) -> dict[str, Any]:
        last = self.log.count + (self.status is not Status.IN_PROGRESS)
        return record_of(self.request, self.run, self.status, self.log.event_id(last), self.error)

    async def let_in(self) -> None:
        """Returns once it has begun. Raises Overloaded where there is no place for it, which it is told before it first waits."""
        for _ in ("the task's first step", "the news of its end"):
            await asyncio.sleep(0)
        if self.was_refused and self.error is not None:
            raise self.error

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
        self._is_unwanted = True
        self.task.cancel()

    def end(self) -> None:
        """By its task's end."""
        exc = asyncio.CancelledError() if self.task.cancelled() else self.task.exception()
        if isinstance(exc, asyncio.CancelledError) and self._is_unwanted:
            self.status, self.error = Status.CANCELLED, RunCancelled(f"the run {self.request.id} was cancelled")
        elif exc is None:
            self.status = Status.COMPLETED
        elif isinstance(exc, HuggingGPTError):
            self.status, self.error = Status.FAILED, exc
        else:
            with said_for(self.request.terms.request_id, self.request.id):
                logger.error("a run failed", exc_info=exc)
            self.status, self.error = Status.FAILED, HuggingGPTError(f"the run failed inside: {type(exc).__name__}")
            count_error(self.error.code)  # the others were counted where they were raised
        count_run(self._ending)
        self.log.end(encoded(self.record()))

    @property
    def _ending(self) -> Ending:
        if self.was_refused:
            return Ending.REFUSED
        if self.status is Status.FAILED and self.error is not None and self.error.status < FAULT_OF_THE_SERVICE:
            return Ending.DECLINED
        return Ending(self.status)

    @property
    def was_refused(self) -> bool:
        """It was never let in."""
        return isinstance(self.error, Overloaded) and not self.log.count
