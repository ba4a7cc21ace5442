"""RunLog: what a run has told, numbered from 1, and its record once it has ended. Any number of readers follow it, each at its own pace."""

import asyncio
from collections.abc import AsyncIterator

from cluster.errors import BadRequest
from controller.asking.openai_schema import shown
from controller.execution.events import Event

MOST_DIGITS = 9  # of an event's number
LAST_NUMBER = 10**MOST_DIGITS - 1
WITHOUT = "leave it out to read from the beginning"


class RunLog:
    """Of one run. A reader that is slow, or never reads, holds nobody up: each only remembers how far it came."""

    def __init__(self, run_id: str, forgotten: int = 0) -> None:
        """`forgotten`: how many events it told that are no longer known."""
        self.run_id = run_id
        self.record: bytes | None = None  # as JSON, from the end on
        self._forgotten = forgotten
        self._told: list[Event] = []
        self._news = asyncio.Event()
        self._end = asyncio.Event()

    def tell(self, event: Event) -> None:
        self._told.append(event)
        self._wake()

    def end(self, record: bytes) -> None:
        """Its readers get the record as the last event."""
        self.record = record
        self._end.set()
        self._wake()

    @property
    def count(self) -> int:
        """Of the events told so far, without the last one, which is the record."""
        return self._forgotten + len(self._told)

    @property
    def last_number(self) -> int:
        """Of the last event that there is: the record has one too."""
        return self.count + self.has_ended

    @property
    def has_ended(self) -> bool:
        return self.record is not None

    async def ended(self) -> None:
        """Returns when the run has."""
        await self._end.wait()

    async def beyond(self, number: int) -> None:
        """Returns when there are more events than that, or when the run has ended."""
        while self.count <= number and not self.has_ended:
            await self._news.wait()

    async def follow(self, after: int, silence_s: float) -> AsyncIterator[tuple[int, Event] | None]:
        """The events after the one of that number, until the run ends, with their numbers; None whenever it was silent for so long."""
        told = after
        while True:
            try:
                async with asyncio.timeout(silence_s):
                    await self.beyond(told)
            except TimeoutError:
                yield None
                continue
            if not (news := self.since(told)):
                return
            for told, event in news:
                yield told, event

    def since(self, number: int) -> list[tuple[int, Event]]:
        """The events after the one of that number, as far as they are still known."""
        first = max(number, self._forgotten)
        return list(enumerate(self._told[first - self._forgotten :], first + 1))

    def event_id(self, number: int) -> str:
        """As SSE sends it: it tells the run, so that one from another run is seen."""
        return f"{self.run_id}-{number}"

    def _wake(self) -> None:
        news, self._news = self._news, asyncio.Event()
        news.set()


def last_number(run_id: str, told: int, last_event_id: str | None) -> int:
    """How many of the `told` events of a run its reader has seen, by the Last-Event-ID that it sends; 0 without one. Raises BadRequest."""
    if not last_event_id:
        return 0
    its_run, _, number = last_event_id.rpartition("-")
    if its_run != run_id:
        raise BadRequest(f"the Last-Event-ID {shown(last_event_id)} is of another run than {run_id}: {WITHOUT}")
    if not (number.isascii() and number.isdecimal() and len(number) <= MOST_DIGITS and int(number) <= told):
        raise BadRequest(f"the run has told no event with the Last-Event-ID {shown(last_event_id)}: {WITHOUT}")
    return int(number)
