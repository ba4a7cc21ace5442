"""Shelf: a Source whose fetches and loads a test holds up and counts; Clock: the time that a test sets."""

import threading
import weakref
from collections.abc import Callable, Sequence
from pathlib import Path

from cluster.catalogue import ModelCard
from deployments.model import Call, Computation, Model, Output


class Weights(Computation):
    """Computes until it is let go."""

    def __init__(self, size_bytes: int | None, closed: Callable[[], None]) -> None:
        super().__init__()
        self._closed = closed
        self.may_end = threading.Event()
        self.may_end.set()
        if size_bytes is not None:
            self.size_bytes = size_bytes

    def compute(self, calls: Sequence[Call]) -> list[Output]:
        self.may_end.wait(5)
        return [Output("done") for _ in calls]

    def close(self) -> None:
        super().close()
        self._closed()


class Shelf:
    """A Source whose fetches and loads wait until they are let through, and which counts what is in memory."""

    def __init__(self, measured: dict[str, int] | None = None) -> None:
        self.now_bytes = 0
        self.loads: list[str] = []
        self.fetches: list[str] = []
        self.most_loading = 0
        self.most_bytes = 0
        self.models: dict[str, weakref.ref[Weights]] = {}
        self.fails: dict[str, Exception] = {}
        self.held: dict[tuple[str, str], threading.Event] = {}  # by stage and model id
        self._measured = measured or {}
        self._loading = 0
        self._lock = threading.Lock()

    def hold(self, stage: str, name: str) -> Callable[[], None]:
        event = self.held[stage, f"org/{name}"] = threading.Event()
        return event.set

    def size_bytes(self, card: ModelCard) -> int:
        return card.memory_bytes

    def fetch(self, card: ModelCard) -> Path | None:
        self.fetches.append(card.id)
        self._wait("fetch", card)
        return None

    def load(self, card: ModelCard, folder: Path | None) -> Model:
        self.loads.append(card.id)
        self._loading += 1
        self.most_loading = max(self.most_loading, self._loading)
        try:
            self._wait("load", card)
            if (failure := self.fails.get(card.id)) is not None:
                raise failure
            size_bytes = self._measured.get(card.id)
            takes_bytes = card.memory_bytes if size_bytes is None else size_bytes
            self._count(takes_bytes)
            model = Weights(size_bytes, lambda: self._count(-takes_bytes))
            self.models[card.id] = weakref.ref(model)
            return model
        finally:
            self._loading -= 1

    def _count(self, more_bytes: int) -> None:
        with self._lock:
            self.now_bytes += more_bytes
            self.most_bytes = max(self.most_bytes, self.now_bytes)

    def _wait(self, stage: str, card: ModelCard) -> None:
        if event := self.held.get((stage, card.id)):
            assert event.wait(5)


class Clock:
    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s
