"""ModelCache: the models that a replica has in memory, kept by bytes and by last use. Plain asyncio; knows no task, no Ray, no torch.

What is loaded, being loaded and being freed together never exceeds the budget. Files are fetched side by side; into memory comes
one model at a time, while the loaded ones go on serving. A model with calls in flight, or waited for, is never evicted.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

from cluster.catalogue import ModelCard
from cluster.errors import ModelError
from cluster.logs import logger
from deployments.eviction import earliest
from deployments.memory import Libraries, drop_frames, give_back
from deployments.model import Model

FETCHES = 16  # at a time: many, so that hanging downloads leave room for the small read that tells that files are there
SPARED_S = 60.0  # a model used this lately does not give way to a warm-up, which is a guess


class Stage(StrEnum):
    """How far a call has come with its model."""

    DOWNLOAD = "download"
    WAIT = "wait"  # for its turn to load, or until models in use leave room
    LOAD = "load"
    RUN = "run"


class NotReady(ModelError):
    """A model could not be had. `is_its_fault` is False when the replica is only too full or too small for it."""

    code = "model_not_ready"

    def __init__(self, message: str, stage: Stage = Stage.LOAD, is_its_fault: bool = True) -> None:
        super().__init__(message)
        self.stage = stage
        self.is_its_fault = is_its_fault


class Source(Protocol):
    """Where models come from. `fetch` and `load` block, and are called in threads; whatever they throw is the model's failure."""

    def size_bytes(self, card: ModelCard) -> int:
        """What the model will take in memory, as far as is known before it is loaded."""

    def fetch(self, card: ModelCard) -> Path | None:
        """Brings the files to this machine's disk."""

    def load(self, card: ModelCard, folder: Path | None) -> Model: ...


@dataclass(slots=True, eq=False)
class _Entry:
    card: ModelCard
    used_s: float
    is_warm_up: bool
    size_bytes: int = 0  # reserved while it loads, then taken
    claims: int = 0  # calls that wait for it or run
    stage: Stage = Stage.DOWNLOAD
    model: Model | None = None
    is_ready: bool = False
    loading: "asyncio.Task[None] | None" = None

    @property
    def is_idle(self) -> bool:
        return self.is_ready and not self.claims

    @property
    def is_wanted(self) -> bool:
        return self.claims > 0


class Lease:
    """A claim on a loaded model for as long as the block lasts. `stage` tells, also afterwards, how far it came."""

    def __init__(self, cache: "ModelCache", card: ModelCard) -> None:
        self._cache = cache
        self._card = card
        self._entry: _Entry | None = None
        self.stage = Stage.DOWNLOAD
        self.load_s = 0.0  # that this call waited until the model was there

    async def __aenter__(self) -> Model:
        entry = self._entry = self._cache._claimed(self._card)
        try:
            self.load_s = await self._cache._loaded(entry)
            self.stage = Stage.RUN
            return _model(entry)
        except BaseException:
            self.stage = entry.stage
            self._cache._released(entry)
            raise

    async def __aexit__(self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None) -> None:
        if self._entry is not None:
            self._cache._released(self._entry)


class ModelCache:
    """`changed` is called when models come, go, or begin to load; `on_loaded` with each load's seconds."""

    def __init__(
        self,
        budget_bytes: int,
        source: Source,
        *,
        clock: Callable[[], float] = time.monotonic,
        changed: Callable[[], None] = lambda: None,
        on_loaded: Callable[[str, float], None] = lambda _model_id, _seconds: None,
    ) -> None:
        self.budget_bytes = budget_bytes
        self._source = source
        self._clock = clock
        self._tell = changed
        self._on_loaded = on_loaded
        self._entries: dict[str, _Entry] = {}
        self._measured: dict[str, int] = {}  # sizes that loaded models told; better than their cards
        self._freeing: dict[asyncio.Task[None], int] = {}  # bytes of models that are being let go
        self._queue: list[_Entry] = []  # fetched, and waiting for their turn to load
        self._turn: _Entry | None = None
        self._news = asyncio.Event()  # replaced at each change: who waits holds the one that will be set
        self._libraries = Libraries()
        self._fetching = ThreadPoolExecutor(FETCHES, "fetch")
        self._loading = ThreadPoolExecutor(1, "load")

    @property
    def used_bytes(self) -> int:
        return sum(entry.size_bytes for entry in self._entries.values()) + sum(self._freeing.values())

    @property
    def free_bytes(self) -> int:
        return self.budget_bytes - self.used_bytes

    def size_bytes(self, model_id: str) -> int:
        """Of a model that is loaded or being loaded."""
        return self._entries[model_id].size_bytes

    @property
    def loaded(self) -> tuple[str, ...]:
        return tuple(model_id for model_id, entry in self._entries.items() if entry.is_ready)

    @property
    def known(self) -> tuple[str, ...]:
        """Loaded and loading."""
        return tuple(self._entries)

    def in_flight(self, model_id: str) -> int:
        entry = self._entries.get(model_id)
        return entry.claims if entry else 0

    def model(self, model_id: str) -> Model:
        """A model that is leased at the moment."""
        return _model(self._entries[model_id])

    def lease(self, card: ModelCard) -> Lease:
        """`async with cache.lease(card) as model`. Entering raises NotReady; concurrent leases of a model share one load."""
        return Lease(self, card)

    def warm(self, card: ModelCard) -> None:
        """Begins to load a model that will be wanted soon, if it fits or by evicting what has been idle for a while."""
        if card.id not in self._entries and not self._too_large(card):
            self._begin(card, is_warm_up=True)

    async def evict_idle(self) -> None:
        """Frees every model that no call needs."""
        freeing = [self._evict(entry) for entry in tuple(self._entries.values()) if entry.is_idle]
        for task in freeing:
            await asyncio.shield(task)

    # A lease's side

    def _claimed(self, card: ModelCard) -> _Entry:
        entry = self._entries.get(card.id)
        if entry is None:
            self._refuse_too_large(card)
            entry = self._begin(card, is_warm_up=False)
        entry.claims += 1
        return entry

    async def _loaded(self, entry: _Entry) -> float:
        """Seconds until the model was there. The load itself goes on when one who waits for it goes away."""
        if entry.is_ready or entry.loading is None:
            return 0.0
        started = self._clock()
        self._announce()  # a warm-up that is wanted now takes its turn as such
        await asyncio.shield(entry.loading)
        return self._clock() - started

    def _released(self, entry: _Entry) -> None:
        entry.claims -= 1
        entry.used_s = self._clock()
        if not entry.is_wanted and entry.stage is Stage.WAIT and entry.loading is not None:
            entry.loading.cancel()  # nobody wants it any more, and nothing has begun that could not be stopped
            self._forget(entry)  # now, so that nobody new waits for a load that is cancelled
        self._announce()

    # A load's side

    def _begin(self, card: ModelCard, is_warm_up: bool) -> _Entry:
        entry = self._entries[card.id] = _Entry(card, self._clock(), is_warm_up)
        entry.loading = asyncio.create_task(self._bring_in(entry))
        entry.loading.add_done_callback(_looked_at)
        self._tell()
        return entry

    async def _bring_in(self, entry: _Entry) -> None:
        try:
            folder: Path | None = await self._threaded(self._fetching, Stage.DOWNLOAD, self._source.fetch, entry.card)
            if not entry.is_wanted and not entry.is_warm_up:
                raise NotReady(f"{entry.card.id} is not wanted any more", Stage.DOWNLOAD, is_its_fault=False)
            entry.stage = Stage.WAIT
            await self._take_turn(entry)
            try:
                await self._load(entry, folder)
            finally:
                self._turn = None
        except NotReady as exc:
            if not entry.is_wanted:
                logger.info("a model that nobody waits for did not come", extra={"model": entry.card.id, "reason": exc.message})
            raise
        finally:
            entry.loading = None
            if not entry.is_ready:
                self._forget(entry)
            self._announce()
            self._tell()

    async def _take_turn(self, entry: _Entry) -> None:
        self._queue.append(entry)
        try:
            while self._turn is not None or _next(self._queue) is not entry:
                await self._news.wait()
        finally:
            self._queue.remove(entry)
        self._turn = entry

    async def _load(self, entry: _Entry, folder: Path | None) -> None:
        """Twice when the model is larger than its card says and others are in the way of the difference."""
        while not entry.is_ready:
            entry.stage = Stage.WAIT
            await self._make_room(entry)
            entry.stage = Stage.LOAD
            started = self._clock()
            entry.model = await self._threaded(self._loading, Stage.LOAD, self._source.load, entry.card, folder)
            load_s = self._clock() - started
            await self._measure(entry)
        self._on_loaded(entry.card.id, load_s)

    async def _make_room(self, entry: _Entry) -> None:
        """Evicts what is needed, least lately used first; waits for models in use, unless the load is only a guess."""
        size_bytes = self._size_bytes(entry.card)
        while (victims := self._victims(entry, size_bytes)) is None:
            if not entry.is_wanted:
                raise NotReady(f"{entry.card.id} finds no room", Stage.WAIT, is_its_fault=False)
            await self._news.wait()
        await self._evict_all(victims, size_bytes)
        entry.size_bytes = size_bytes

    async def _measure(self, entry: _Entry) -> None:
        """Takes the model in. When it is larger than was thought and the room for that is not there, lets it go again."""
        entry.size_bytes = self._measured[entry.card.id] = getattr(entry.model, "size_bytes", entry.size_bytes)
        victims = self._victims(entry, 0)
        if victims is None:
            freeing = self._let_go(entry, entry.size_bytes)
            entry.size_bytes = 0
            await asyncio.shield(freeing)
            self._refuse_too_large(entry.card)
            return
        await self._evict_all(victims, 0)
        entry.is_ready, entry.used_s = True, self._clock()

    def _victims(self, entry: _Entry, more_bytes: int) -> list[_Entry] | None:
        """What must go so that so much is free; nothing when it is. None when that cannot be had now."""
        idle = [other for other in self._entries.values() if other.is_idle]
        if entry.is_warm_up and not entry.is_wanted:
            idle = [other for other in idle if self._clock() - other.used_s >= SPARED_S]
        idle.sort(key=lambda other: (getattr(other.model, "is_computing", False), other.used_s))
        held_bytes = sum(other.size_bytes for other in self._entries.values())  # what is being freed will be waited for
        places = earliest([other.size_bytes for other in idle], held_bytes + more_bytes - self.budget_bytes)
        return None if places is None else [idle[place] for place in places]

    async def _evict_all(self, victims: Sequence[_Entry], more_bytes: int) -> None:
        """All at once, before a new call can claim one; then waits until there really is room for so much more."""
        for victim in victims:
            self._evict(victim)
        while self.used_bytes + more_bytes > self.budget_bytes and self._freeing:
            await self._news.wait()

    def _evict(self, entry: _Entry) -> "asyncio.Task[None]":
        self._forget(entry)
        self._tell()
        logger.info("model evicted", extra={"model": entry.card.id})
        return self._let_go(entry, entry.size_bytes)

    def _let_go(self, entry: _Entry, size_bytes: int) -> "asyncio.Task[None]":
        """Frees the model in a task that outlives the one who wants its room; until then its bytes count as used."""
        freeing = asyncio.create_task(_freed([entry.model]))
        entry.model = None
        self._freeing[freeing] = size_bytes
        freeing.add_done_callback(self._let_gone)
        return freeing

    def _let_gone(self, freeing: "asyncio.Task[None]") -> None:
        del self._freeing[freeing]
        if not self._freeing and all(entry.model is None and entry.stage is not Stage.LOAD for entry in self._entries.values()):
            self._libraries.spare()
        _looked_at(freeing)
        self._announce()

    def _forget(self, entry: _Entry) -> None:
        if self._entries.get(entry.card.id) is entry:
            del self._entries[entry.card.id]

    async def _threaded(self, threads: ThreadPoolExecutor, stage: Stage, work: Callable[..., Any], card: ModelCard, *args: Any) -> Any:
        try:
            return await asyncio.get_running_loop().run_in_executor(threads, work, card, *args)
        except Exception as exc:  # the outer edge of other people's code: whatever it throws is the model's failure
            drop_frames(exc)  # they hold what was loaded so far
            if not isinstance(exc, ModelError):
                logger.exception("%s failed", stage, extra={"model": card.id})
            raise NotReady(exc.message if isinstance(exc, ModelError) else described(exc), stage) from exc

    def _size_bytes(self, card: ModelCard) -> int:
        known = self._measured.get(card.id)
        return self._source.size_bytes(card) if known is None else known

    def _too_large(self, card: ModelCard) -> bool:
        return self._size_bytes(card) > self.budget_bytes

    def _refuse_too_large(self, card: ModelCard) -> None:
        if self._too_large(card):
            size, budget = _giga(self._size_bytes(card)), _giga(self.budget_bytes)
            reason = f"{card.id} takes {size} GB of memory, more than the {budget} GB that a replica of {card.family} may use"
            raise NotReady(reason, Stage.LOAD, is_its_fault=False)

    def _announce(self) -> None:
        self._news.set()
        self._news = asyncio.Event()


def described(exc: BaseException) -> str:
    """One line about an error of somebody else's code."""
    said = " ".join(str(exc).split())[:200]
    return f"{type(exc).__name__}: {said}" if said else type(exc).__name__


def _next(queue: Sequence[_Entry]) -> _Entry:
    """Who loads next: the first that a call waits for, then the first warm-up."""
    return min(queue, key=lambda entry: not entry.is_wanted)


def _model(entry: _Entry) -> Model:
    if entry.model is None:
        raise NotReady(f"{entry.card.id} is not loaded", is_its_fault=False)
    return entry.model


async def _freed(held: list[Model | None]) -> None:
    """Ends the model's thread, drops the last reference, gives the memory back. In a list, so that no caller's frame holds the model."""
    model = held.pop()
    close = getattr(model, "close", None)
    if close is not None:
        await asyncio.to_thread(close)
    del model, close
    await asyncio.to_thread(give_back)


def _looked_at(task: "asyncio.Task[None]") -> None:
    """So that asyncio does not complain of an error that nobody waited for."""
    if not task.cancelled():
        task.exception()


def _giga(size_bytes: int) -> str:
    return f"{size_bytes / 1e9:.3g}"
