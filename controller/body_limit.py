"""ASGI middleware: a request body beyond the limit is refused with 413, before or while it is read."""

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from cluster.errors import FileTooLarge
from controller import openai_schema


class BodyLimit:
    def __init__(self, app: ASGIApp, max_bytes: int) -> None:
        self._app = app
        self._max_bytes = max_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        refusal = FileTooLarge(f"the request is larger than the limit of {self._max_bytes:,} bytes")
        length = next((value for name, value in scope["headers"] if name == b"content-length"), b"0")
        if length.isdigit() and int(length) > self._max_bytes:
            await JSONResponse(openai_schema.error(refusal), refusal.status)(scope, receive, send)
            return
        received = 0

        async def counted() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > self._max_bytes:
                raise refusal
            return message

        async def unless_refused(message: Message) -> None:
            if received <= self._max_bytes:
                await send(message)

        try:
            await self._app(scope, counted, unless_refused)  # may turn the refusal into an answer of its own, which is not sent
        except FileTooLarge:
            if received <= self._max_bytes:
                raise
        if received > self._max_bytes:
            await JSONResponse(openai_schema.error(refusal), refusal.status)(scope, receive, send)
