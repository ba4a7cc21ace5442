"""The one client of the controller LLM: any OpenAI-compatible server, asynchronous, with time limits and bounded retries."""

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field, replace
from time import perf_counter
from typing import Any, Literal, Protocol, TypedDict

import openai
from openai import AsyncOpenAI

from cluster.chat_span import ChatSpans, describe_reply
from cluster.errors import LanguageModelError, LanguageModelTimeout
from cluster.logs import NOBODY, REQUEST_ID_HEADER, request_id_now
from cluster.settings import LanguageModelClient
from cluster.tracing import Span

CHECK_TIMEOUT_S = 5.0
SEED = 7  # of drawn replies: the same request is to get the same plan
KEEP_PROMPT_HEADER = "x-keep-prompt"  # an engine that understands it keeps what it read of this prompt, also over a restart


class Message(TypedDict):
    role: Literal["system", "user", "assistant"]
    content: str


@dataclass(frozen=True, slots=True)
class ReplyTiming:
    """Where the time of a reply went. Engines that tell nothing: what went before the first piece of a stream is `prefill_s`."""

    queue_s: float = 0.0  # also the way there and back
    prefill_s: float = 0.0
    decode_s: float = 0.0

    def __add__(self, other: "ReplyTiming") -> "ReplyTiming":
        return ReplyTiming(self.queue_s + other.queue_s, self.prefill_s + other.prefill_s, self.decode_s + other.decode_s)


@dataclass(frozen=True, slots=True)
class Reply:
    text: str
    tokens_in: int
    tokens_out: int
    is_cut: bool  # stopped by max_tokens
    timing: ReplyTiming = field(default=ReplyTiming(), compare=False)


OnText = Callable[[str], None]
Observe = Callable[[Reply | LanguageModelError], None]


class ChatModel(Protocol):
    """What planner, selector, responder and the LLM experts ask of a language model."""

    async def reply(self, messages: Sequence[Message], *, max_tokens: int, timeout_s: float, schema: dict[str, Any] | None = None) -> Reply:
        """One whole reply at temperature 0, decoded under the JSON schema if there is one. Raises LanguageModelError."""
        ...

    async def written(
        self, messages: Sequence[Message], on_text: OnText, *, max_tokens: int, timeout_s: float, schema: dict[str, Any] | None = None
    ) -> Reply:
        """As `reply`; each piece of it is told as it is decoded. Raises LanguageModelError, also in the middle."""
        ...

    async def samples(
        self, messages: Sequence[Message], *, count: int, temperature: float, max_tokens: int, timeout_s: float, schema: dict[str, Any]
    ) -> list[Reply]:
        """Several replies to one prompt, drawn at a temperature; an engine may give fewer. Raises LanguageModelError."""
        ...

    def stream(self, messages: Sequence[Message], *, max_tokens: int, timeout_s: float) -> AsyncIterator[str]:
        """The reply as it is written. Raises LanguageModelError, also in the middle."""
        ...

    async def prime(self, messages: Sequence[Message], *, timeout_s: float) -> None:
        """Has the engine read a prompt that will come again and again. Raises LanguageModelError."""
        ...


class OpenAIChat:
    """ChatModel over `base_url`; `timeout_s` bounds each try, `max_retries` the tries after connection errors and 5xx."""

    def __init__(self, base_url: str, model: str, api_key: str, max_retries: int, observe: Observe | None = None) -> None:
        self._model = model
        self._observe = observe or _unobserved
        self._base_url = base_url
        self._spans = ChatSpans(base_url, model)
        http = openai.DefaultAsyncHttpxClient(event_hooks={"request": [_name_request]})
        self._client = AsyncOpenAI(base_url=base_url, api_key=api_key, max_retries=max_retries, http_client=http)

    @classmethod
    def from_settings(cls, settings: LanguageModelClient, observe: Observe | None = None) -> "OpenAIChat":
        """The key comes from the environment variable that the settings name; a local engine needs none. `observe` is told what comes."""
        return cls(settings.base_url, settings.model, os.environ.get(settings.api_key_env, "none"), settings.max_retries, observe)

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
            raise self._failed(self._explained(exc, timeout_s)) from exc

    async def reply(self, messages: Sequence[Message], *, max_tokens: int, timeout_s: float, schema: dict[str, Any] | None = None) -> Reply:
        body = _sent(messages) | _constrained(schema)
        return (await self._completed(body, temperature=0, max_tokens=max_tokens, timeout_s=timeout_s))[0]

    async def samples(
        self, messages: Sequence[Message], *, count: int, temperature: float, max_tokens: int, timeout_s: float, schema: dict[str, Any]
    ) -> list[Reply]:
        body = _sent(messages) | _constrained(schema) | {"n": count, "seed": SEED}
        return await self._completed(body, temperature=temperature, max_tokens=max_tokens, timeout_s=timeout_s)

    async def _completed(self, body: dict[str, Any], *, temperature: float, max_tokens: int, timeout_s: float) -> list[Reply]:
        with self._spans.span(max_tokens, temperature=temperature) as span:
            return await self._answered(span, body, temperature=temperature, max_tokens=max_tokens, timeout_s=timeout_s)

    async def _answered(self, span: Span, body: dict[str, Any], *, temperature: float, max_tokens: int, timeout_s: float) -> list[Reply]:
        started_s = perf_counter()
        try:
            completion: Any = await self._client.chat.completions.create(
                model=self._model,
                messages=(),
                temperature=temperature,
                max_tokens=max_tokens,
                timeout=timeout_s,
                extra_body=body,
                extra_headers=span.carrier,
            )
            replies = _replies(completion, perf_counter() - started_s)
            describe_reply(
                span, replies[0].tokens_in, replies[0].tokens_out, [str(choice.finish_reason or "") for choice in completion.choices]
            )
        except openai.OpenAIError as exc:
            raise self._failed(self._explained(exc, timeout_s)) from exc
        except (AttributeError, IndexError, TypeError, ValueError) as exc:
            raise self._failed(LanguageModelError(f"the language model at {self._base_url} did not reply in the OpenAI form")) from exc
        self._observe(replies[0])
        return replies

    async def written(
        self, messages: Sequence[Message], on_text: OnText, *, max_tokens: int, timeout_s: float, schema: dict[str, Any] | None = None
    ) -> Reply:
        written = _Written()
        with self._spans.span(max_tokens, streams=True) as span:
            try:
                async with asyncio.timeout(timeout_s):
                    async for piece in self._pieces(span, _sent(messages) | _constrained(schema), max_tokens, timeout_s):
                        written.add(piece)
                        if piece.text:
                            on_text(piece.text)
            except TimeoutError as exc:
                raise self._failed(LanguageModelTimeout(f"the language model did not reply within {timeout_s:g} s")) from exc
            if not written.end:
                raise self._failed(LanguageModelError(f"the language model at {self._base_url} broke off its reply"))
            written.describe(span)
        reply = written.reply()
        self._observe(reply)
        return reply

    async def stream(self, messages: Sequence[Message], *, max_tokens: int, timeout_s: float) -> AsyncIterator[str]:
        written = _Written()
        with self._spans.span(max_tokens, streams=True) as span:
            try:
                async for piece in self._pieces(span, _sent(messages), max_tokens, timeout_s):
                    written.add(piece)
                    if piece.text:
                        yield piece.text
            finally:
                written.describe(span)
                if written.text:  # what was written, also where nobody wanted the rest
                    self._observe(written.reply())

    async def _pieces(self, span: Span, body: dict[str, Any], max_tokens: int, timeout_s: float) -> AsyncIterator["_Piece"]:
        try:
            stream: Any = await self._client.chat.completions.create(
                model=self._model,
                messages=(),
                temperature=0,
                max_tokens=max_tokens,
                timeout=timeout_s,
                stream=True,
                stream_options={"include_usage": True},
                extra_body=body,
                extra_headers=span.carrier,
            )
            async with stream:
                async for chunk in stream:
                    yield _Piece.of(chunk)
        except openai.OpenAIError as exc:
            raise self._failed(self._explained(exc, timeout_s)) from exc
        except (AttributeError, LookupError, TypeError, ValueError) as exc:
            raise self._failed(LanguageModelError(f"the language model at {self._base_url} did not stream in the OpenAI form")) from exc

    def _failed(self, error: LanguageModelError) -> LanguageModelError:
        """Told to whoever observes."""
        self._observe(error)
        return error

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


async def _name_request(request: Any) -> None:
    """The engine's log lines are to have the same id as ours."""
    if (request_id := request_id_now()) != NOBODY:
        request.headers[REQUEST_ID_HEADER] = request_id


@dataclass(frozen=True, slots=True)
class _Piece:
    """What one chunk of a stream says."""

    text: str
    end: str  # why the reply ends here; "" where it goes on
    tokens_in: int
    tokens_out: int
    timings: Any = None  # llama.cpp's, with the last chunk

    @classmethod
    def of(cls, chunk: Any) -> "_Piece":
        """Raises AttributeError, LookupError or TypeError for another form: the openai client checks none of what it parses."""
        usage = getattr(chunk, "usage", None)
        tokens = (usage.prompt_tokens or 0, usage.completion_tokens or 0) if usage else (0, 0)
        timings = getattr(chunk, "timings", None)
        if not chunk.choices:
            return cls("", "", *tokens, timings)
        choice = chunk.choices[0]
        text = choice.delta.content or ""
        if not isinstance(text, str):
            raise TypeError(f"the content is {type(text).__name__}, not text")
        return cls(text, getattr(choice, "finish_reason", None) or "", *tokens, timings)


@dataclass(slots=True)
class _Written:
    """A streamed reply, as far as it came."""

    text: str = ""
    end: str = ""
    tokens_in: int = 0
    tokens_out: int = 0
    told: Any = None
    started_s: float = field(default_factory=perf_counter)
    first_s: float = 0.0  # after the start, when the first piece came

    def add(self, piece: _Piece) -> None:
        self.tokens_in, self.tokens_out = piece.tokens_in or self.tokens_in, piece.tokens_out or self.tokens_out
        self.end, self.told = piece.end or self.end, piece.timings or self.told
        if piece.text and not self.text:
            self.first_s = perf_counter() - self.started_s
        self.text += piece.text

    def reply(self) -> Reply:
        timing = _timing(self.told, perf_counter() - self.started_s, self.first_s)
        return Reply(self.text, self.tokens_in, self.tokens_out, is_cut=self.end == "length", timing=timing)

    def describe(self, span: Span) -> None:
        ends, first_s = [self.end] if self.end else None, self.first_s if self.text else None
        describe_reply(span, self.tokens_in, self.tokens_out, ends, first_s)


def _unobserved(_what: Reply | LanguageModelError) -> None: ...


def _sent(messages: Sequence[Message]) -> dict[str, Any]:
    """The messages as `extra_body`, which replaces the argument of that name.

    openai 3.54 would look through the argument for files to encode: 13 ms of the event loop for a planner's prompt.
    """
    return {"messages": list(messages)}


def _constrained(schema: dict[str, Any] | None) -> dict[str, Any]:
    if schema is None:
        return {}
    return {"response_format": {"type": "json_schema", "json_schema": {"name": "reply", "schema": schema, "strict": True}}}


def _timing(told: Any, took_s: float, first_s: float = 0.0) -> ReplyTiming:
    """`told`: llama.cpp's own account, in milliseconds; another engine tells none. `first_s`: until the first piece."""
    try:
        prefill_s, decode_s = told["prompt_ms"] / 1000, told["predicted_ms"] / 1000
    except (TypeError, KeyError):
        return ReplyTiming(0.0, first_s, took_s - first_s)
    return ReplyTiming(max(0.0, took_s - prefill_s - decode_s), prefill_s, decode_s)


def _replies(completion: Any, took_s: float) -> list[Reply]:
    """At least one; the tokens and the time are counted to the first. Raises AttributeError, IndexError or TypeError for another form.

    The openai client checks none of what it parses.
    """
    usage = completion.usage
    tokens_in, tokens_out = (usage.prompt_tokens or 0, usage.completion_tokens or 0) if usage else (0, 0)
    replies: list[Reply] = []
    for choice in completion.choices:
        text = choice.message.content or ""
        if not isinstance(text, str):
            raise TypeError(f"the content is {type(text).__name__}, not text")
        replies.append(Reply(text, 0, 0, is_cut=choice.finish_reason == "length"))
    if not replies:
        raise IndexError("no choice")
    timing = _timing(getattr(completion, "timings", None), took_s)
    return [replace(replies[0], tokens_in=tokens_in, tokens_out=tokens_out, timing=timing), *replies[1:]]
