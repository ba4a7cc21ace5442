"""ASGI middleware: a request body beyond the limit is refused with 413, before or while it is read.

What all bodies take together is bounded too: each counts from its first byte until its request has been answered, and one that would
bring them beyond `max_bytes_in_flight` is refused with 429.
"""

from collections.abc import Callable

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from cluster.errors import FileTooLarge, HuggingGPTError, Overloaded
from controller.asking import openai_schema


class BodyLimit:
    """`retry_after_s`: when whoever is refused should come again."""

    def __init__(self, app: ASGIApp, max_bytes: int, max_bytes_in_flight: int, retry_after_s: Callable[[], int]) -> None:
        self._app = app
        self._max_bytes = max_bytes
        self._max_bytes_in_flight = max_bytes_in_flight
        self._retry_after_s = retry_after_s
        self._in_flight_bytes = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        length = next((value for name, value in scope["headers"] if name == b"content-length"), b"0")
        if length.isdigit() and int(length) > self._max_bytes:
            await _answer(self._too_large)(scope, receive, send)
            return
        received_bytes = held_bytes = 0  # what a client only declares takes no memory yet
        refusal: HuggingGPTError | None = None

        async def counted() -> Message:
            nonlocal received_bytes, held_bytes, refusal
            message = await receive()
            more_bytes = len(message.get("body", b""))
            received_bytes += more_bytes
            if refusal := refusal or self._refusal(received_bytes, more_bytes):
                raise refusal
            held_bytes += more_bytes
            self._in_flight_bytes += more_bytes
            return message

        async def unless_refused(message: Message) -> None:
            if refusal is None:
                await send(message)

        try:
            await self._app(scope, counted, unless_refused)  # may turn the refusal into an answer of its own, which is not sent
        except (FileTooLarge, Overloaded):
            if refusal is None:
                raise
        finally:
            self._in_flight_bytes -= held_bytes
        if refusal is not None:
            await _answer(refusal)(scope, receive, send)

    def _refusal(self, size_bytes: int, more_bytes: int) -> HuggingGPTError | None:
        if size_bytes > self._max_bytes:
            return self._too_large
        if more_bytes and self._in_flight_bytes + more_bytes > self._max_bytes_in_flight:
            after_s = self._retry_after_s()
            return Overloaded(f"too many bytes of requests are being worked on; try again in {after_s} s", retry_after_s=after_s)
        return None

    @property
    def _too_large(self) -> FileTooLarge:
        return FileTooLarge(f"the request is larger than the limit of {self._max_bytes:,} bytes")


def _answer(refusal: HuggingGPTError) -> JSONResponse:
    return JSONResponse(openai_schema.error(refusal), refusal.status, openai_schema.headers_of(refusal))
