"""Peers: the other replicas of the ingress, asked about a run that is not here. Ray Serve sends a look-up to any of them.

Nobody is asked about a run that is here, so that a run costs its peers nothing.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from ray import serve
from ray.exceptions import RayError
from ray.serve.exceptions import RayServeException
from ray.serve.handle import DeploymentHandle

from cluster.errors import Unavailable
from controller.runs.run_stream import HEARTBEAT, RETRY

ANSWER_S = 5.0  # for a peer's answer; a cancelled run may take as long as it may here
CANCEL_S = 15.0

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Told:
    """What a run told after some event, as SSE, how much it told in all, and whether that is the end."""

    events: tuple[str, ...]
    count: int
    has_ended: bool


class Ask(Protocol):
    """Calls a method of every replica; gives what they answered."""

    async def __call__(self, method: str, *arguments: Any, timeout_s: float) -> Sequence[Any]: ...


class Peers:
    def __init__(self, ask: Ask) -> None:
        self._ask = ask

    async def record(self, run_id: str, *, cancels: bool = False) -> bytes | None:
        """As JSON; None where no peer knows the run. With `cancels` after it was cancelled. Raises Unavailable."""
        return await self._first(bytes, "run_here", run_id, cancels, timeout_s=CANCEL_S if cancels else ANSWER_S)

    async def told(self, run_id: str, after: int, silence_s: float) -> Told | None:
        """Returns when the run has told more than `after` events, has ended, or was silent for so long. Raises Unavailable."""
        return await self._first(Told, "told_here", run_id, after, silence_s, timeout_s=silence_s + ANSWER_S)

    async def events(self, run_id: str, after: int, silence_s: float) -> AsyncIterator[str]:
        """As controller.runs.run_stream.events; breaks off with the peer."""
        yield RETRY
        while (told := await self.told(run_id, after, silence_s)) is not None:
            for event in told.events or [HEARTBEAT]:
                yield event
            if told.has_ended:
                return
            after += len(told.events)

    async def _first(self, kind: type[T], method: str, *arguments: Any, timeout_s: float) -> T | None:
        try:
            answers = await self._ask(method, *arguments, timeout_s=timeout_s)
        except (TimeoutError, RayError, RayServeException) as exc:
            raise Unavailable(f"not every replica of the ingress answers: try again ({type(exc).__name__})") from exc
        if found := [answer for answer in answers if isinstance(answer, kind)]:
            return found[0]
        if broken := [answer for answer in answers if isinstance(answer, BaseException)]:
            raise Unavailable(f"not every replica of the ingress answers: try again ({type(broken[0]).__name__})")
        return None


class Replicas:
    """All of the deployment that this code runs in, this one included."""

    def __init__(self) -> None:
        self._handle: DeploymentHandle[Any] | None = None

    async def ask(self, method: str, *arguments: Any, timeout_s: float) -> Sequence[Any]:
        if self._handle is None:  # in a thread: Serve asks its controller whether there is such a deployment
            here = serve.get_replica_context()
            self._handle = await asyncio.to_thread(serve.get_deployment_handle, here.deployment, here.app_name)
        answers: Sequence[Any] = await self._handle.broadcast(method, *arguments).results_async(timeout_s=timeout_s, return_exceptions=True)
        return answers
