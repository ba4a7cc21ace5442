"""A run as server-sent events: the chunks of a chat completion, or its own events, which a client can take up where it left off."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from typing import Any

from fastapi.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from controller.asking import openai_schema
from controller.execution.events import AnswerText, Event, event_as_json
from controller.runs.json_text import as_json
from controller.runs.live_run import LiveRun
from controller.runs.run_log import RunLog

RETRY = "retry: 2000\n\n"  # milliseconds, after which a browser takes up a stream that broke off
HEARTBEAT = ": still here\n\n"  # a comment, which every reader of SSE passes over


class ChunksResponse(StreamingResponse):
    """A chat completion's chunks, with the run's progress in fields that other clients pass over; the last one holds its record.

    With `cancels` the run ends with the stream, whichever goes first.
    """

    def __init__(self, live: LiveRun, silence_s: float, headers: Mapping[str, str], *, cancels: bool) -> None:
        super().__init__(_chunks(live, silence_s), media_type="text/event-stream", headers=headers)
        self._live = live
        self._cancels = cancels

    async def first_told(self) -> None:
        """Returns with the first event. Raises what ended the run before it."""
        try:
            await self._live.log.beyond(0)
        except asyncio.CancelledError:
            self._left()
            raise
        if not self._live.log.count and self._live.error is not None:
            raise self._live.error

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._left()

    def _left(self) -> None:
        if self._cancels:
            self._live.cancel()


async def events(log: RunLog, after: int, silence_s: float) -> AsyncIterator[str]:
    """The events after the one of that number; the last one is called `run` and is the record."""
    yield RETRY
    async for told in log.follow(after, silence_s):
        yield HEARTBEAT if told is None else event_as_sse(log, *told)
    yield end_as_sse(log)


def event_as_sse(log: RunLog, number: int, event: Event) -> str:
    said = event_as_json(event)
    return f"id: {log.event_id(number)}\nevent: {said['event']}\n{_data(said)}"


def end_as_sse(log: RunLog) -> str:
    """Of a run that has ended."""
    return f"id: {log.event_id(log.count + 1)}\nevent: run\ndata: {(log.record or b'').decode()}\n\n"


async def _chunks(live: LiveRun, silence_s: float) -> AsyncIterator[str]:
    run_id = live.request.id
    yield _data(openai_schema.chunk(run_id, {"role": "assistant", "content": ""}))
    async for told in live.log.follow(0, silence_s):
        yield HEARTBEAT if told is None else _data(_chunk(run_id, told[1]))
    if live.error is not None:
        yield _data(openai_schema.error(live.error))
    else:
        yield _data(openai_schema.chunk(run_id, {}, "stop", run=live.run.as_json()))
    yield "data: [DONE]\n\n"


def _chunk(run_id: str, event: Event) -> dict[str, Any]:
    if isinstance(event, AnswerText):
        return openai_schema.chunk(run_id, {"content": event.text})
    return openai_schema.chunk(run_id, {}, progress=event_as_json(event))


def _data(data: Mapping[str, Any]) -> str:
    return f"data: {as_json(data)}\n\n"
