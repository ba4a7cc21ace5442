"""Bulletin: tells a listener about changes in the background: soon after one, not more often than it likes, and now and then anyway."""

import asyncio
from collections.abc import Awaitable, Callable

from cluster.logs import logger

TIMEOUT_S = 5.0  # of one telling


class Bulletin:
    """`tell` sends the state as it is then. A telling that fails is logged once, until one goes through again."""

    def __init__(self, name: str, tell: Callable[[], Awaitable[None]], least_gap_s: float, most_gap_s: float) -> None:
        self._name = name
        self._tell = tell
        self._least_gap_s = least_gap_s
        self._most_gap_s = most_gap_s
        self._has_news = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._is_failing = False

    def start(self) -> None:
        """From within the event loop; again changes nothing."""
        if self._task is None:
            self._task = asyncio.create_task(self._go_on())

    def changed(self) -> None:
        self._has_news.set()

    async def _go_on(self) -> None:
        while True:
            self._has_news.clear()
            await self._told()
            await asyncio.sleep(self._least_gap_s)
            try:
                async with asyncio.timeout(self._most_gap_s - self._least_gap_s):
                    await self._has_news.wait()
            except TimeoutError:
                continue

    async def _told(self) -> None:
        try:
            async with asyncio.timeout(TIMEOUT_S):
                await self._tell()
            self._is_failing = False
        except Exception as exc:  # noqa: BLE001 - the listener is another process, and serving does not hang on it
            if not self._is_failing:
                logger.warning("%s was not told", self._name, extra={"reason": f"{type(exc).__name__}: {exc}"})
            self._is_failing = True
