"""Batches: calls of one model that wait for it run together, as many as its memory allows. Plain asyncio; knows no task, no Ray, no torch.

A batch is put together when the model is free, not before: what came while it computed is the next one, so that no call waits for
others unless the model is busy anyway. What a call takes is what its model tells (`call_bytes`), or a guess from the model's size;
a batch that ran out of memory halves those that follow. The process's own size is no measure: allocators keep what was freed, and
other models compute and load beside this one.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from cluster.errors import ModelError
from cluster.logs import logger
from deployments.memory import ran_out_of_memory
from deployments.model import Call, Model, Output

GUESSED_SHARE = 0.25  # of its model's size, for a call whose model tells nothing: small encoders take a tenth, wide pictures more

Reply = Output | ModelError
Run = Callable[[str, Sequence[Call]], Awaitable[list[Reply]]]
"""Runs the calls of a model, by its id, which each of them has leased."""


class Memory(Protocol):
    """What a ModelCache tells of its budget."""

    @property
    def free_bytes(self) -> int: ...

    def size_bytes(self, model_id: str) -> int:
        """Of a loaded model."""
        ...


@dataclass(slots=True, eq=False)
class _Waiting:
    call: Call
    size_bytes: int
    reply: "asyncio.Future[Reply]"

    def tell(self, reply: Reply | Exception) -> None:
        if self.reply.done():  # its caller went away
            return
        if isinstance(reply, Output | ModelError):
            self.reply.set_result(reply)
        else:
            self.reply.set_exception(reply)


class Batches:
    """The queues of a replica's models. `most` caps every model's own `max_batch`; `wait_s` is what an idle model waits for company."""

    def __init__(self, run: Run, memory: Memory, most: int | None = None, wait_s: float = 0.0) -> None:
        self._run = run
        self._memory = memory
        self._most = most
        self._wait_s = wait_s
        self._queues: dict[str, deque[_Waiting]] = {}  # of models that compute or are about to
        self._draining: set[asyncio.Task[None]] = set()
        self._halved: dict[str, int] = {}  # calls a batch, of models that ran out of memory
        self._taken_bytes = 0  # by the batches that compute

    async def run(self, model_id: str, model: Model, call: Call) -> Reply:
        """The reply to one call of a model that is leased until then. Raises what the model throws."""
        if self._most_of(model_id, model) == 1:
            return (await self._run(model_id, [call]))[0]
        waiting = _Waiting(call, self._size_bytes(model_id, model, call), asyncio.get_running_loop().create_future())
        if model_id in self._queues:
            self._queues[model_id].append(waiting)
        else:
            self._queues[model_id] = deque([waiting])
            task = asyncio.create_task(self._drain(model_id, model))
            self._draining.add(task)
            task.add_done_callback(self._draining.discard)
        return await waiting.reply

    async def _drain(self, model_id: str, model: Model) -> None:
        queue = self._queues[model_id]
        try:
            await asyncio.sleep(self._wait_s)
            while queue:
                batch = self._next(model_id, model, queue)
                if batch:
                    await self._answer(model_id, batch)
        finally:
            del self._queues[model_id]
            for left in queue:
                left.reply.cancel()

    def _next(self, model_id: str, model: Model, queue: deque[_Waiting]) -> list[_Waiting]:
        """The first that fit, taken out of the queue; those that nobody waits for any more are dropped."""
        wanted = [waiting for waiting in queue if not waiting.reply.done()]
        room_bytes = self._memory.free_bytes - self._taken_bytes
        count = fitting([waiting.size_bytes for waiting in wanted], self._most_of(model_id, model), room_bytes)
        queue.clear()
        queue.extend(wanted[count:])
        return wanted[:count]

    async def _answer(self, model_id: str, batch: Sequence[_Waiting]) -> None:
        taken_bytes = sum(waiting.size_bytes for waiting in batch)
        self._taken_bytes += taken_bytes
        try:
            replies = await self._replies(model_id, [waiting.call for waiting in batch])
            for waiting, reply in zip(batch, replies, strict=True):
                waiting.tell(reply)
        finally:
            self._taken_bytes -= taken_bytes
            for waiting in batch:
                waiting.reply.cancel()  # nothing, where it was told

    async def _replies(self, model_id: str, calls: Sequence[Call]) -> Sequence[Reply | Exception]:
        """What a batch throws is told to each call when memory ran out; otherwise each runs alone, so that only the guilty one fails."""
        try:
            return await self._run(model_id, calls)
        except Exception as exc:  # noqa: BLE001 - the outer edge of other people's code: whatever it throws is the calls' failure
            if ran_out_of_memory(exc) and len(calls) > 1:
                self._halved[model_id] = len(calls) // 2
                logger.warning("a batch ran out of memory", extra={"model": model_id, "calls": len(calls)})
            elif len(calls) > 1:
                return [(await self._replies(model_id, [call]))[0] for call in calls]
            return [exc] * len(calls)

    def _most_of(self, model_id: str, model: Model) -> int:
        return min(model.max_batch, self._most or model.max_batch, self._halved.get(model_id, model.max_batch))

    def _size_bytes(self, model_id: str, model: Model, call: Call) -> int:
        told: Callable[[Call], int] | None = getattr(model, "call_bytes", None)
        return told(call) if told else round(GUESSED_SHARE * self._memory.size_bytes(model_id))


def fitting(sizes_bytes: Sequence[int], most: int, room_bytes: int) -> int:
    """How many of these, from the first on, run together: at most so many, and together no larger than the room. At least one, if any."""
    count = taken_bytes = 0
    for size_bytes in sizes_bytes[:most]:
        taken_bytes += size_bytes
        if count and taken_bytes > room_bytes:
            break
        count += 1
    return count
