"""Readers: how many follow events at once. Ray Serve holds back nothing that is sent, so that each may cost what its run has told."""

from collections.abc import AsyncIterator

from cluster.errors import Overloaded

RETRY_AFTER_S = 5


class Readers:
    def __init__(self, most: int) -> None:
        self._most = most
        self._now = 0

    def counted(self, stream: AsyncIterator[str]) -> AsyncIterator[str]:
        """The stream, one of those that are read until it ends or its reader leaves. Raises Overloaded where there are too many."""
        if self._now >= self._most:
            raise Overloaded(
                f"{self._now} readers follow events here, which is the limit; try again in {RETRY_AFTER_S} s", retry_after_s=RETRY_AFTER_S
            )
        return self._while_read(stream)

    async def _while_read(self, stream: AsyncIterator[str]) -> AsyncIterator[str]:
        self._now += 1
        try:
            async for text in stream:
                yield text
        finally:
            self._now -= 1
