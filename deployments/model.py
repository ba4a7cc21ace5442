"""The Model protocol: what a family replica asks of an expert. Plain Python; knows nothing of Ray, plans or HTTP."""

import asyncio
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from cluster.errors import ModelError
from cluster.messages import OptionValue
from cluster.tasks import Task


@dataclass(frozen=True, slots=True)
class Call:
    """One request to a model, its inputs fetched: texts as str, media as local files."""

    task: Task
    inputs: tuple[str | Path, ...]
    options: Mapping[str, OptionValue] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class MediaOutput:
    """Bytes a model made, to be stored as an artifact."""

    content: bytes
    media_type: str  # IANA
    name: str  # file name with extension


@dataclass(frozen=True, slots=True)
class Output:
    """What a model gives: a text or a medium, and the same as data for machines (labels, scores in 0..1, boxes in pixels)."""

    value: str | MediaOutput
    data: Mapping[str, Any] = field(default_factory=dict)


class Model(Protocol):
    """An expert that is loaded. One reply per call, in order; a call that fails alone is a ModelError in its place."""

    max_batch: int  # calls that gain from running together; 1 when none do

    async def run(self, calls: Sequence[Call]) -> list[Output | ModelError]: ...


class Computation:
    """A Model that computes on this machine: `compute` runs in the model's own thread, so the replica stays responsive.

    A call that is cancelled leaves its computation behind in that thread; the next one waits for it, so a model never
    computes twice at once.
    """

    max_batch = 1
    is_computing = False  # also for a call that nobody waits for any more

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(max_workers=1)

    def close(self) -> None:
        """Ends the model's thread, so that nothing holds the model any more. Waits for a computation that was left behind."""
        self._thread.shutdown(wait=True, cancel_futures=True)

    async def run(self, calls: Sequence[Call]) -> list[Output | ModelError]:
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._compute_all, calls)

    def compute(self, calls: Sequence[Call]) -> list[Output]:
        raise NotImplementedError

    def _compute_all(self, calls: Sequence[Call]) -> list[Output | ModelError]:
        self.is_computing = True
        try:
            return self._compute_each(calls)
        finally:
            self.is_computing = False

    def _compute_each(self, calls: Sequence[Call]) -> list[Output | ModelError]:
        """The whole batch, or, when it fails, call by call, so that one bad input does not spoil its neighbours."""
        try:
            return list(self.compute(calls))
        except ModelError as exc:
            if len(calls) == 1:
                return [exc]
        return [self._compute_each([call])[0] for call in calls]
