"""Runs: every run of this process, each in a task of its own, and those that ended for as long as they are remembered.

A run ends by itself, by its time, by `cancel`, or with this process. The last runs that ended are kept in memory with all that they
told; their records go to the store.
"""

import asyncio
import contextvars
import json
from collections.abc import AsyncIterator
from contextlib import suppress

from cluster.errors import NotFound, RunEnded, Unavailable
from cluster.logs import logger
from controller.asking.openai_schema import COMPLETION_PREFIX, shown
from controller.asking.request import Request
from controller.execution.results import MOST_RUNS, Kept
from controller.planning.plan_json import GivenPlan
from controller.runs.live_run import Answers, LiveRun
from controller.runs.peers import Peers, Told
from controller.runs.readers import Readers
from controller.runs.run_log import LAST_NUMBER, RunLog, last_number
from controller.runs.run_record import Status, begun, encoded, goes_on, lost, silence_s
from controller.runs.run_store import RunStore
from controller.runs.run_stream import end_as_sse, event_as_sse, events

CANCEL_TIMEOUT_S = 10.0  # for what a cancelled run still has to let go
TOLD_TIMES = 3  # that a run in the background goes on, before it would be taken for lost


class Runs:
    """All look-ups take the id of a run or of its completion, and raise NotFound for an unknown one."""

    def __init__(self, pipeline: Answers, store: RunStore, peers: Peers, max_readers: int, lost_after_s: float) -> None:
        self._readers = Readers(max_readers)
        self._pipeline = pipeline
        self._store = store
        self._peers = peers
        self._live: dict[str, LiveRun] = {}
        self._past: Kept[RunLog] = Kept(MOST_RUNS)
        self._lost_after_s = lost_after_s
        self._telling: set[asyncio.Task[None]] = set()

    def start(self, request: Request, given: GivenPlan | None = None, *, in_background: bool = False) -> LiveRun:
        """`in_background`: in no request's context, since Ray Serve cancels what a request has submitted when its client goes away."""
        live = self._live[request.id] = LiveRun(request)
        context = contextvars.Context() if in_background else None
        live.task = asyncio.create_task(live.go(self._pipeline, given), context=context)
        live.task.add_done_callback(lambda _: self._ended(live))
        return live

    async def promise(self, live: LiveRun) -> None:
        """Returns once a run in the background has begun. Raises Overloaded where there is no place for it.

        From then on the store knows of it, also when this process ends before the run.
        """
        await live.let_in()
        if live.request.terms.keeps_results:
            telling = asyncio.create_task(self._tell_on(live), context=contextvars.Context())
            self._telling.add(telling)
            telling.add_done_callback(self._telling.discard)

    async def record(self, run_id: str) -> bytes:
        """As JSON, of a run that goes on as far as it came."""
        plain = _plain(run_id)
        return self.record_here(plain) or await self._elsewhere(plain)

    async def cancel(self, run_id: str) -> bytes:
        """The record, once all that ran for it was let go; that alone for one that was cancelled before.

        Raises RunEnded for one that ended otherwise.
        """
        plain = _plain(run_id)
        record = await self.cancel_here(plain) or await self._elsewhere(plain, cancels=True)
        status = json.loads(record)["status"]
        if status in (Status.COMPLETED, Status.FAILED):
            raise RunEnded(f"the run {plain} has ended ({status}): there is nothing left to cancel")
        return record

    async def events(self, run_id: str, last_event_id: str | None, silence_s: float) -> AsyncIterator[str] | None:
        """As SSE, those after the one that the reader names; None where it has them all. Of a run that only the store knows, the end alone.

        Raises BadRequest for an id of another run, or of no event, and Overloaded where too many read already.
        """
        plain = _plain(run_id)
        if (log := self._log(plain)) is None:
            told, silent = await self._told_elsewhere(plain)
            if told is not None:
                after = last_number(plain, told.count + told.has_ended, last_event_id)
                return None if after > told.count else self._readers.counted(self._peers.events(plain, after, silence_s))
            record = await self._left(plain)
            if record is None or goes_on(record):
                raise silent or (_unknown(plain) if record is None else self._unheard(plain))
            log = _log_of(plain, record)
        after = last_number(plain, log.last_number, last_event_id)
        return None if after > log.count else self._readers.counted(events(log, after, silence_s))

    # What the peers ask

    def record_here(self, plain: str) -> bytes | None:
        if (live := self._live.get(plain)) is not None:
            return live.log.record or encoded(live.record())
        return past.record if (past := self._past.get(plain)) is not None else self._store.unwritten(plain)

    async def cancel_here(self, plain: str) -> bytes | None:
        if (live := self._live.get(plain)) is not None:
            live.cancel()
            try:
                async with asyncio.timeout(CANCEL_TIMEOUT_S):
                    await live.log.ended()
            except TimeoutError:
                logger.warning("a cancelled run did not end", extra={"run_id": plain})
        return self.record_here(plain)

    async def told_here(self, plain: str, after: int, silence_s: float) -> Told | None:
        if (log := self._log(plain)) is None:
            return None
        with suppress(TimeoutError):
            async with asyncio.timeout(silence_s):
                await log.beyond(after)
        news = [event_as_sse(log, *told) for told in log.since(after)]
        return Told((*news, end_as_sse(log)) if log.has_ended else tuple(news), log.count, log.has_ended)

    def _log(self, plain: str) -> RunLog | None:
        live = self._live.get(plain)
        return live.log if live is not None else self._past.get(plain)

    async def _told_elsewhere(self, plain: str) -> tuple[Told | None, Unavailable | None]:
        """By the replica that has the run, and why there may be one that does not answer. Peers first: they know more than the store."""
        try:
            return await self._peers.told(plain, LAST_NUMBER, silence_s=0), None
        except Unavailable as exc:
            return None, exc

    async def _elsewhere(self, plain: str, *, cancels: bool = False) -> bytes:
        """From the store, which has the runs that ended, or from the replica that has it."""
        record = await self._store.get(plain)
        if record is None or goes_on(record):
            if (told := await self._peers.record(plain, cancels=cancels)) is not None:
                return told
            record = await self._left(plain)
        if record is None:
            raise _unknown(plain)
        if cancels and goes_on(record):
            raise self._unheard(plain)
        return record

    async def _left(self, plain: str) -> bytes | None:
        """What the store has of a run that no replica knows. One that had not ended, and that was not told of for too long, is lost."""
        record = await self._store.get(plain)
        if record is not None and goes_on(record) and silence_s(record) > self._lost_after_s:
            return lost(record)
        return record

    async def _tell_on(self, live: LiveRun) -> None:
        """Until it ends: that it goes on, and how far it came."""
        while not live.log.has_ended:
            self._store.keep(live.request.id, begun(live.record()))
            with suppress(TimeoutError):
                async with asyncio.timeout(self._lost_after_s / TOLD_TIMES):
                    await live.log.ended()

    def _unheard(self, plain: str) -> Unavailable:
        within = f"if it has ended, that is known in {self._lost_after_s:g} s"
        return Unavailable(f"the process that runs {plain} does not answer: try again; {within}")

    def _ended(self, live: LiveRun) -> None:
        del self._live[live.request.id]
        live.end()
        if live.was_refused:
            return
        record = live.log.record or b""
        self._past.keep(live.request.id, live.log, len(record))
        if live.request.terms.keeps_results:
            self._store.keep(live.request.id, record)


def _unknown(plain: str) -> NotFound:
    return NotFound(f"no run has the id {shown(plain)}, or its record has expired")


def _plain(run_id: str) -> str:
    return run_id.removeprefix(COMPLETION_PREFIX)


def _log_of(plain: str, record: bytes) -> RunLog:
    """All but the last event are forgotten."""
    log = RunLog(plain, forgotten=int(json.loads(record)["last_event_id"].rpartition("-")[2]) - 1)
    log.end(record)
    return log
