"""ScriptedChat: a ChatModel that says what it was told to say, and remembers what it was asked."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any

from cluster.chat import Message, OnText, Reply
from cluster.errors import LanguageModelError

Scripted = str | Reply | LanguageModelError


class ScriptedChat:
    """One entry of `script` a call, in order. A streamed reply comes in pieces of `piece` characters.

    With `breaks_after` a stream fails once that many characters have been sent.
    """

    def __init__(self, *script: Scripted, piece: int = 7, breaks_after: int | None = None) -> None:
        self._script = list(script)
        self._piece = piece
        self._breaks_after = breaks_after
        self.asked: list[list[Message]] = []
        self.schemas: list[dict[str, Any] | None] = []

    async def reply(self, messages: Sequence[Message], *, max_tokens: int, timeout_s: float, schema: dict[str, Any] | None = None) -> Reply:
        self.schemas.append(schema)
        said = self._next(messages)
        return said if isinstance(said, Reply) else Reply(said, 1, 1, is_cut=False)

    async def written(
        self, messages: Sequence[Message], on_text: OnText, *, max_tokens: int, timeout_s: float, schema: dict[str, Any] | None = None
    ) -> Reply:
        """In pieces, and whoever listens gets a turn after each."""
        reply = await self.reply(messages, max_tokens=max_tokens, timeout_s=timeout_s, schema=schema)
        for start in range(0, len(reply.text), self._piece):
            if self._breaks_after is not None and start >= self._breaks_after:
                raise LanguageModelError("the connection broke")
            on_text(reply.text[start : start + self._piece])
            await asyncio.sleep(0)
        return reply

    async def samples(
        self, messages: Sequence[Message], *, count: int, temperature: float, max_tokens: int, timeout_s: float, schema: dict[str, Any]
    ) -> list[Reply]:
        self.asked.append(list(messages))
        self.schemas.append(schema)
        said, self._script = self._script[:count], self._script[count:]
        assert all(isinstance(each, str) for each in said)
        return [Reply(str(each), 0 if number else 1, 0 if number else count, is_cut=False) for number, each in enumerate(said)]

    async def stream(self, messages: Sequence[Message], *, max_tokens: int, timeout_s: float) -> AsyncIterator[str]:
        said = self._next(messages)
        text = said.text if isinstance(said, Reply) else said
        for start in range(0, len(text), self._piece):
            if self._breaks_after is not None and start >= self._breaks_after:
                raise LanguageModelError("the connection broke")
            yield text[start : start + self._piece]

    def _next(self, messages: Sequence[Message]) -> str | Reply:
        self.asked.append(list(messages))
        assert self._script, "the language model was asked more often than the test expects"
        said = self._script.pop(0)
        if isinstance(said, LanguageModelError):
            raise said
        return said
