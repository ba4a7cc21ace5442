"""Weightless, deterministic stand-ins for experts and for the LLM: dry runs of a configuration, tests and benchmarks.

FakeExpert obeys its prompt, or its text when the task takes no prompt: "10 ms" takes 10 ms, "fail" fails, "crash" throws. A text comes
back with a mark, a recording with its last byte changed, so that no two steps store the same bytes.
EchoLanguageModel plans what the request tells it: the JSON after "plan:" is the plan, also when it is asked to repair it;
without one no step is run. A token is a word to it.
"""

import asyncio
import json
import mmap
import re
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response, StreamingResponse
from pydantic import BaseModel
from ray import serve
from starlette.exceptions import HTTPException

from cluster.errors import ModelError
from cluster.tasks import TASKS, Media
from deployments.model import Call, MediaOutput, Output

_MILLISECONDS = re.compile(r"(\d+(?:\.\d+)?)\s*ms")
_PLAN = re.compile(r"plan:\s*(\{.*\})", re.DOTALL)
_MARK = re.compile(r"\[q\d+\] ")  # the planner marks quotes also inside the plan that a request holds


class FakeExpert:
    """A Model that sleeps as long as it is told and gives its input back, changed a little."""

    max_batch = 1

    async def run(self, calls: Sequence[Call]) -> list[Output | ModelError]:
        return [await self._one(call) for call in calls]

    async def _one(self, call: Call) -> Output | ModelError:
        given = call.inputs[0]
        told = str(call.options.get("prompt") or (given if isinstance(given, str) else ""))
        if wait := _MILLISECONDS.search(told):
            await asyncio.sleep(float(wait.group(1)) / 1000)
        if "fail" in told:
            return ModelError(f"told to fail: {told}")
        if "crash" in told:
            raise RuntimeError(f"told to crash: {told}")
        if isinstance(given, Path) and TASKS[call.task].output is Media.AUDIO:
            return Output(MediaOutput(await asyncio.to_thread(changed, given), "audio/wav", "changed.wav"))
        return Output(f"{given}+")


def changed(path: Path) -> bytes:
    """The file with one more in its last byte. Mapped, so that it is copied once."""
    with (
        path.open("rb") as file,
        mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped,
        memoryview(mapped) as content,
        content[:-1] as kept,
    ):
        return b"".join((kept, bytes([(content[-1] + 1) % 256])))


class ChatRequest(BaseModel):
    """The part of the OpenAI request that is read; the rest is ignored."""

    messages: list[dict[str, Any]]
    stream: bool = False
    response_format: dict[str, Any] | None = None


door = FastAPI()


def _reply(request: ChatRequest) -> str:
    if request.response_format is None:
        return "This is the echo engine: no language model is loaded."
    told = (_PLAN.search(str(message.get("content"))) for message in reversed(request.messages) if message.get("role") == "user")
    return next((_MARK.sub("", plan.group(1)) for plan in told if plan), "{}")


def _usage(request: ChatRequest, reply: str) -> dict[str, int]:
    read = sum(len(str(message.get("content")).split()) for message in request.messages)
    written = len(reply.split())
    return {"prompt_tokens": read, "completion_tokens": written, "total_tokens": read + written}


@door.exception_handler(RequestValidationError)
async def _unreadable(_request: Request, exc: RequestValidationError) -> JSONResponse:
    place = ".".join(map(str, exc.errors()[0]["loc"]))
    return _refusal(400, f"the echo engine cannot read the request: {place} is wrong or missing")


@door.exception_handler(HTTPException)
async def _unknown_route(request: Request, exc: HTTPException) -> JSONResponse:
    return _refusal(exc.status_code, f"the echo engine has no answer to {request.method} {request.url.path}: {exc.detail}")


def _refusal(status: int, sentence: str) -> JSONResponse:
    error = {"message": sentence, "type": "invalid_request_error", "param": None, "code": "invalid_request"}
    return JSONResponse({"error": error}, status_code=status)


# Last in the file: serve.ingress pickles the door with what the module holds at this line.
@serve.deployment(name="echo")
@serve.ingress(door)
class EchoLanguageModel:
    def __init__(self, name: str) -> None:
        self._name = name

    @door.get("/v1/models")
    async def models(self) -> dict[str, Any]:
        return {"object": "list", "data": [{"id": self._name, "object": "model", "created": 0, "owned_by": "echo"}]}

    @door.post("/v1/chat/completions")
    async def complete(self, request: ChatRequest) -> Response:
        text = _reply(request)
        if request.stream:
            return StreamingResponse(self._streamed(text, _usage(request, text)), media_type="text/event-stream")
        message = {"role": "assistant", "content": text}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        return JSONResponse({**self._head("chat.completion"), "choices": [choice], "usage": _usage(request, text)})

    async def _streamed(self, text: str, usage: dict[str, int]) -> AsyncIterator[str]:
        """The tokens come with the end and not after it: each chunk more is one more message between processes."""
        for delta, reason, more in (({"role": "assistant", "content": text}, None, {}), ({}, "stop", {"usage": usage})):
            choice = {"index": 0, "delta": delta, "finish_reason": reason}
            yield f"data: {json.dumps({**self._head('chat.completion.chunk'), 'choices': [choice], **more})}\n\n"
        yield "data: [DONE]\n\n"

    def _head(self, kind: str) -> dict[str, Any]:
        return {"id": "echo", "object": kind, "created": 0, "model": self._name}
