"""Admission: how many runs may be in flight, and when whoever is refused should come again. Knows no run's content.

Everything that waits behind it is bounded by it: a run's steps by `planning.max_steps` or, in a plan that was sent, `limits.max_run_steps`.
"""

import asyncio
import math
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from cluster.errors import HuggingGPTError, Overloaded, RunTimeout
from cluster.metrics import count_error, set_runs_in_flight
from cluster.settings import Limits
from controller.execution.budget import Budget

WEIGHT = 0.2  # of the newest run, in the mean of what runs take
FIRST_GUESS_S = 5.0  # what a run takes, before one has ended
TELL_S = 1.0
LONGEST_WAIT_S = 120  # the openai client waits no longer, whatever it is told


class Admission:
    """`memory_share`: how much of the machine's memory is used, 0 to 1."""

    def __init__(self, limits: Limits, memory_share: Callable[[], float], clock: Callable[[], float] = time.monotonic) -> None:
        self._limits = limits
        self._memory_share = memory_share
        self._clock = clock
        self._in_flight = 0
        self._usual_s = FIRST_GUESS_S
        self._promised_s = 0.0  # of the clock: when the last one that was refused was told to come

    @asynccontextmanager
    async def admitted(self, timeout_s: float | None) -> AsyncIterator[Budget]:
        """One of the runs in flight for as long as it may take; its error is counted. Raises Overloaded at once, or RunTimeout."""
        self._check()
        budget = Budget(min(timeout_s or math.inf, self._limits.run_timeout_s))
        started_s = self._clock()
        self._count(+1)
        try:
            async with asyncio.timeout(budget.total_s):
                yield budget
        except TimeoutError as exc:
            count_error(RunTimeout.code)
            raise RunTimeout(f"the run took longer than {budget.total_s:g} s and was stopped") from exc
        except HuggingGPTError as exc:
            count_error(exc.code)
            raise
        finally:
            self._usual_s += WEIGHT * (self._clock() - started_s - self._usual_s)
            self._count(-1)

    async def tell_on(self) -> None:
        """For ever: a gauge that nobody sets again is dropped after two reports to the node's agent."""
        while True:
            set_runs_in_flight(self._in_flight, self._limits.max_runs_in_flight)
            await asyncio.sleep(TELL_S)

    @property
    def in_flight(self) -> int:
        return self._in_flight

    def retry_after_s(self) -> int:
        """Whole seconds. With n runs of usually t seconds in flight one ends every t / n; those who are refused get one place each."""
        place_s = self._usual_s / max(1, self._in_flight)
        now_s = self._clock()
        self._promised_s = min(max(self._promised_s, now_s) + place_s, now_s + LONGEST_WAIT_S)
        return max(1, math.ceil(self._promised_s - now_s))

    def _check(self) -> None:
        refusal = None
        if self._in_flight >= self._limits.max_runs_in_flight:
            refusal = f"{self._in_flight} runs are in flight, which is the limit"
        elif self._in_flight and (share := self._memory_share()) > self._limits.max_memory_share:  # a single run may always try
            refusal = (
                f"{100 * share:.0f} % of this machine's memory is used; above {100 * self._limits.max_memory_share:.0f} % no run is started"
            )
        if refusal:
            count_error(Overloaded.code)
            after_s = self.retry_after_s()
            raise Overloaded(f"{refusal}; try again in {after_s} s", retry_after_s=after_s)

    def _count(self, change: int) -> None:
        self._in_flight += change
        if not self._in_flight:
            self._promised_s = 0.0  # whoever was told to come later would find room now
