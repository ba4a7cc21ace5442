"""The one client of the controller LLM: any OpenAI-compatible server, asynchronous, with time limits and bounded retries."""

import os
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, TypedDict

import openai
from openai import AsyncOpenAI

from cluster.errors import LanguageModelError, LanguageModelTimeout
from cluster.settings import LanguageModelClient

CHECK_TIMEOUT_S = 5.0
KEEP_PROMPT_HEADER = "x-keep-prompt"  # an engine that understands it keeps what it read of this prompt, also over a restart


class Message(TypedDict):
    role: Literal["system", "user", "assistant"]
    content: str


@dataclass(frozen=True, slots=True)
class Reply:
    text: str
    tokens_in: int
    tokens_out: int
    is_cut: bool  # stopped by max_tokens


class ChatModel(Protocol):
    """What planner, selector, responder and the LLM experts ask of a language model."""

    async def reply(self, messages: Sequence[Message], *, max_tokens: int, timeout_s: float, schema: dict[str, Any] | None = None) -> Reply:
        """One whole reply at temperature 0, decoded under the JSON schema if there is one. Raises LanguageModelError."""
        ...

    def stream(self, messages: Sequence[Message], *, max_tokens: int, timeout_s: float) -> AsyncIterator[str]:
        """The reply as it is written. Raises LanguageModelError, also in the middle."""
        ...

    async def prime(self, messages: Sequence[Message], *, timeout_s: float) -> None:
        """Has the engine read a prompt that will come again and again. Raises LanguageModelError."""
        ...


class OpenAIChat:
    """ChatModel over `base_url`; `timeout_s` bounds each try, `max_retries` the tries after connection errors and 5xx."""

    def __init__(self, base_url: str, model: str, api_key: str, max_retries: int) -> None:
        self._model = model
        self._base_url = base_url
        self._client = AsyncOpenAI(base_url=base_url, api_key=api_key, max_retries=max_retries)

    @classmethod
    def from_settings(cls, settings: LanguageModelClient) -> "OpenAIChat":
        """The key comes from the environment variable that the settings name; a local engine needs none."""
        return cls(settings.base_url, settings.model, os.environ.get(settings.api_key_env, "none"), settings.max_retries)

    async def check(self) -> None:
        """Raises LanguageModelError when the server does not answer within CHECK_TIMEOUT_S."""
        try:
            await self._client.with_options(max_retries=0).models.list(timeout=CHECK_TIMEOUT_S)
        except openai.OpenAIError as exc:
            raise self._explained(exc, CHECK_TIMEOUT_S) from exc

    async def prime(self, messages: Sequence[Message], *, timeout_s: float) -> None:
        try:
            await self._client.chat.completions.create(
                model=self._model,
                messages=[],
                temperature=0,
                max_tokens=1,
                timeout=timeout_s,
                extra_body=_sent(messages),
                extra_headers={KEEP_PROMPT_HEADER: "1"},
            )
        except openai.OpenAIError as exc:
            raise self._explained(exc, timeout_s) from exc

    async def reply(self, messages: Sequence[Message], *, max_tokens: int, timeout_s: float, schema: dict[str, Any] | None = None) -> Reply:
        body = _sent(messages)
        if schema is not None:
            wrapped = {"name": "reply", "schema": schema, "strict": True}
            body["response_format"] = {"type": "json_schema", "json_schema": wrapped}
        try:
            completion: Any = await self._client.chat.completions.create(
                model=self._model, messages=(), temperature=0, max_tokens=max_tokens, timeout=timeout_s, extra_body=body
            )
            return _reply(completion)
        except openai.OpenAIError as exc:
            raise self._explained(exc, timeout_s) from exc
        except (AttributeError, IndexError, TypeError, ValueError) as exc:
            raise LanguageModelError(f"the language model at {self._base_url} did not reply in the OpenAI form") from exc

    async def stream(self, messages: Sequence[Message], *, max_tokens: int, timeout_s: float) -> AsyncIterator[str]:
        try:
            stream: Any = await self._client.chat.completions.create(
                model=self._model,
                messages=(),
                temperature=0,
                max_tokens=max_tokens,
                timeout=timeout_s,
                stream=True,
                extra_body=_sent(messages),
            )
            async with stream:
                async for chunk in stream:
                    if chunk.choices and (text := chunk.choices[0].delta.content):
                        yield text
        except openai.OpenAIError as exc:
            raise self._explained(exc, timeout_s) from exc
        except (AttributeError, IndexError, TypeError, ValueError) as exc:
            raise LanguageModelError(f"the language model at {self._base_url} did not stream in the OpenAI form") from exc

    def _explained(self, exc: openai.OpenAIError, timeout_s: float) -> LanguageModelError:
        match exc:
            case openai.APITimeoutError():
                return LanguageModelTimeout(f"the language model did not reply within {timeout_s:g} s")
            case openai.APIConnectionError():
                return LanguageModelError(f"the language model at {self._base_url} cannot be reached")
            case openai.APIStatusError():
                return LanguageModelError(f"the language model answered HTTP {exc.status_code}: {exc.message[:200]}")
            case _:
                return LanguageModelError(f"the language model failed: {str(exc)[:200]}")


def _sent(messages: Sequence[Message]) -> dict[str, Any]:
    """The messages as `extra_body`, which replaces the argument of that name.

    openai 3.54 would look through the argument for files to encode: 13 ms of the event loop for a planner's prompt.
    """
    return {"messages": list(messages)}


def _reply(completion: Any) -> Reply:
    """Raises AttributeError, IndexError or TypeError for another form: the openai client checks none of what it parses."""
    choice, usage = completion.choices[0], completion.usage
    text = choice.message.content or ""
    if not isinstance(text, str):
        raise TypeError(f"the content is {type(text).__name__}, not text")
    tokens_in, tokens_out = (usage.prompt_tokens or 0, usage.completion_tokens or 0) if usage else (0, 0)
    return Reply(text, tokens_in, tokens_out, is_cut=choice.finish_reason == "length")
