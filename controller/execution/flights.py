"""Flights: submissions that are on their way, each shared by every run that wants the same step. Knows neither plans nor results.

A flight is cancelled when the last run that rides it has left. It stays on the board until one who rode it to its end has kept what
came out, so that whoever comes then finds either the flight or the kept result. A run that is short of time may ride the flight of one
that is not; the other way round it would get what a hurried run gets.
"""

import asyncio
import contextvars
from collections.abc import Callable
from typing import Any

from cluster.messages import TaskResult

ABOUT_AS_LONG_S = 1.0  # between runs that came together


class Flight:
    """One submission. `future` is what steps that need its result are given as an argument; `until_s`: inf where it is not hurried."""

    def __init__(self, key: str | None, future: Any, until_s: float) -> None:
        self.key = key
        self.future = future
        self.until_s = until_s
        self.riders = 1
        self._landing: asyncio.Task[TaskResult] = asyncio.ensure_future(_landed(future))
        self._landing.add_done_callback(_looked_at)

    async def landed(self) -> TaskResult:
        """Its result, under the step id of the run that submitted it. Raises what the submission raised."""
        return await asyncio.shield(self._landing)

    def cancel(self) -> None:
        """The future only after nobody waits for it: to one that waits, Ray 2.60 reports the cancel as an error, and the cancel is lost."""
        if self._landing.cancel():
            self._landing.add_done_callback(lambda _: self.future.cancel())


class Flights:
    """Of one process, by the key of what is computed."""

    def __init__(self) -> None:
        self._board: dict[str, Flight] = {}

    def board(self, key: str | None, until_s: float, submit: Callable[[], Any]) -> tuple[Flight, bool]:
        """The flight of that key, or one that `submit` starts; and whether another run had started it. None is shared with nobody.

        `until_s`: of the event loop's clock, when a run that is short of time gives up; inf for one that is not.
        """
        if key is None:
            return Flight(None, submit(), until_s), False
        if (flight := self._board.get(key)) and flight.until_s >= until_s - ABOUT_AS_LONG_S:
            flight.riders += 1
            return flight, True
        # In no request's context: Ray Serve cancels what a request has submitted when its client goes away, and others may ride along.
        flight = self._board[key] = Flight(key, contextvars.Context().run(submit), until_s)
        return flight, False

    def leave(self, flight: Flight) -> None:
        """By one of its riders, before its end or after."""
        flight.riders -= 1
        if not flight.riders:
            self.land(flight)
            flight.cancel()

    def land(self, flight: Flight) -> None:
        """Nobody new may board it: what came out is kept, or is worth nothing."""
        if flight.key is not None and self._board.get(flight.key) is flight:
            del self._board[flight.key]


async def _landed(future: Any) -> TaskResult:
    result: TaskResult = await future
    return result


def _looked_at(landing: "asyncio.Task[TaskResult]") -> None:
    """An error that all riders have left behind is nobody's any more."""
    if not landing.cancelled():
        landing.exception()
