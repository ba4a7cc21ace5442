"""The HTTP door: OpenAI's schema in and out. It decides nothing; pipeline.py does."""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from typing import Annotated, Any

from fastapi import FastAPI, File, UploadFile
from fastapi.exceptions import RequestValidationError
from fastapi.requests import Request as HttpRequest
from fastapi.responses import FileResponse, JSONResponse, Response, StreamingResponse
from ray import serve
from ray.serve.handle import DeploymentHandle
from starlette.exceptions import HTTPException

from cluster.artifacts import ArtifactStore
from cluster.catalogue import BUILT_IN, Catalogue
from cluster.chat import OpenAIChat
from cluster.errors import BadRequest, HuggingGPTError, NotFound
from cluster.logs import log_to_stderr, logger
from cluster.settings import AppSettings
from controller import openai_schema
from controller.body_limit import BodyLimit
from controller.conversation import read_conversation
from controller.events import AnswerText, Event, Run, event_as_json, plan_as_json
from controller.intake import FILE_ID_PREFIX, Intake
from controller.openai_schema import ChatRequest
from controller.pipeline import Pipeline
from controller.planner import Planner
from controller.responder import Responder
from controller.selector import Selector

door = FastAPI(title="HuggingGPT cluster", docs_url="/docs", redoc_url=None)
BASE64_GROWTH = 4 / 3
ENVELOPE_BYTES = 1_000_000  # what a body may hold beside its files


@door.exception_handler(HuggingGPTError)
async def _refused(_request: HttpRequest, exc: HuggingGPTError) -> JSONResponse:
    return JSONResponse(openai_schema.error(exc), status_code=exc.status)


@door.exception_handler(RequestValidationError)
async def _unreadable(request: HttpRequest, exc: RequestValidationError) -> JSONResponse:
    wrong = openai_schema.unreadable(exc.errors(), exc.body)
    return await _refused(request, BadRequest(f"the request cannot be read: {wrong}"))


@door.exception_handler(HTTPException)
async def _unknown_route(request: HttpRequest, exc: HTTPException) -> JSONResponse:
    if exc.status_code == NotFound.status:
        return await _refused(request, NotFound(f"there is nothing at {request.method} {request.url.path}"))
    refusal = BadRequest(f"{request.method} {request.url.path}: {exc.detail}")
    return JSONResponse(openai_schema.error(refusal), status_code=exc.status_code, headers=exc.headers)


@door.exception_handler(Exception)
async def _broken(request: HttpRequest, exc: Exception) -> JSONResponse:
    """The outer edge of the process: starlette logs the trace, the person gets a sentence."""
    return await _refused(request, HuggingGPTError(f"the service failed inside: {type(exc).__name__}"))


class _Events:
    """A run in a task of its own, told as server-sent events. The task ends with the stream, whichever goes first."""

    def __init__(self, pipeline: Pipeline, request: Any) -> None:
        self._run_id = request.id
        self._queue: asyncio.Queue[Event | Run | HuggingGPTError] = asyncio.Queue()
        self._task = asyncio.create_task(self._work(pipeline, request))
        self._first: Event | Run | HuggingGPTError | None = None

    async def first(self) -> None:
        """Waits for the first event. Raises what ended the run before it."""
        try:
            self._first = await self._queue.get()
        except asyncio.CancelledError:
            self._task.cancel()
            raise
        if isinstance(self._first, HuggingGPTError):
            raise self._first

    async def as_sse(self) -> AsyncIterator[str]:
        try:
            yield _sse(openai_schema.chunk(self._run_id, {"role": "assistant", "content": ""}))
            item = self._first
            while item is not None and not isinstance(item, Run | HuggingGPTError):
                yield _sse(_told(self._run_id, item))
                item = await self._queue.get()
            if isinstance(item, Run):
                yield _sse(openai_schema.chunk(self._run_id, {}, "stop", run=item.as_json()))
            elif item is not None:
                yield _sse(openai_schema.error(item))
            yield "data: [DONE]\n\n"
        finally:
            self._task.cancel()

    async def _work(self, pipeline: Pipeline, request: Any) -> None:
        try:
            self._queue.put_nowait(await pipeline.answer(request, self._queue.put_nowait))
        except HuggingGPTError as exc:
            self._queue.put_nowait(exc)
        except Exception as exc:  # noqa: BLE001 - the run's outer edge: the stream must end with a sentence, whatever happened
            logger.exception("a run failed", extra={"request_id": request.id})
            self._queue.put_nowait(HuggingGPTError(f"the run failed inside: {type(exc).__name__}"))


def _told(run_id: str, event: Event) -> dict[str, Any]:
    if isinstance(event, AnswerText):
        return openai_schema.chunk(run_id, {"content": event.text})
    return openai_schema.chunk(run_id, {}, progress=event_as_json(event))


def _sse(data: Mapping[str, Any]) -> str:
    return f"data: {json.dumps(data, ensure_ascii=False)}\n\n"


def _ignore(_event: Event) -> None:
    """For callers who wait for the whole."""


def _quoted(name: str) -> str:
    from urllib.parse import quote

    return quote(name, safe="")


# Last in the file: serve.ingress pickles the door with what the module holds at this line.
@serve.deployment(name="ingress")
@serve.ingress(door)
class Ingress:
    def __init__(self, settings: AppSettings, families: Mapping[str, DeploymentHandle[Any]]) -> None:
        log_to_stderr()
        self._settings = settings
        self._artifacts = ArtifactStore(settings.artifacts)
        self._intake = Intake(self._artifacts, settings.limits)
        self._chat = OpenAIChat.from_settings(settings.llm)
        catalogue = Catalogue.read(BUILT_IN, *settings.catalogues)
        selector = Selector(catalogue, tuple(families), self._chat, settings.selecting, settings.llm)
        self._pipeline = Pipeline(
            Planner(self._chat, selector.tasks, settings.planning),
            selector,
            families,
            Responder(self._chat, selector.tasks, settings.answering, settings.llm),
            settings.limits,
        )
        limit = int(settings.limits.max_files * settings.limits.max_upload_bytes * BASE64_GROWTH) + ENVELOPE_BYTES
        door.add_middleware(BodyLimit, max_bytes=min(limit, int(settings.limits.max_upload_bytes * 2)))

    @door.post("/v1/chat/completions")
    async def chat(self, body: ChatRequest) -> Response:
        request = await asyncio.to_thread(read_conversation, body, self._intake, self._settings.limits)
        if body.stream:
            events = _Events(self._pipeline, request)
            await events.first()  # so that a request that cannot be planned gets its HTTP status
            return StreamingResponse(events.as_sse(), media_type="text/event-stream", headers={"x-run-id": request.id})
        run = await self._pipeline.answer(request, _ignore)
        tokens = run.tokens_in, run.tokens_out
        reply = openai_schema.completion(run.id, run.answer, tokens, run=run.as_json())
        return JSONResponse(reply, headers={"x-run-id": run.id})

    @door.post("/v1/plan")
    async def plan(self, body: ChatRequest) -> Response:
        """The plan and the chosen models, nothing run."""
        request = await asyncio.to_thread(read_conversation, body, self._intake, self._settings.limits)
        run = Run(request.id)
        await self._pipeline.plan(request, run)
        files = [{"id": file.id, "name": file.artifact.name, "media": file.artifact.media} for file in request.files]
        plan = plan_as_json(run.plan, run.choices)
        return JSONResponse({"object": "plan", "steps": plan, "files": files, "seconds": run.seconds})

    @door.get("/v1/models")
    async def models(self) -> Response:
        return JSONResponse(openai_schema.model_list())

    @door.post("/v1/files")
    async def upload(self, file: Annotated[list[UploadFile], File()]) -> Response:
        """One file: a list only so that a second one is seen."""
        if len(file) > 1:
            raise BadRequest(f"an upload holds one file, and this one holds {len(file)}: send each in a request of its own")
        ref = await asyncio.to_thread(self._intake.accept, await file[0].read(), file[0].filename or "file")
        return JSONResponse(openai_schema.file_object(FILE_ID_PREFIX + ref.sha256, ref.size_bytes, ref.name))

    @door.get("/v1/files/{file_id}")
    async def file(self, file_id: str) -> Response:
        ref = await asyncio.to_thread(self._intake.known, file_id)
        return JSONResponse(openai_schema.file_object(FILE_ID_PREFIX + ref.sha256, ref.size_bytes, ref.name))

    @door.head("/v1/files/{file_id}/content", include_in_schema=False)
    @door.head("/v1/artifacts/{file_id}", include_in_schema=False)
    @door.get("/v1/files/{file_id}/content")
    @door.get("/v1/artifacts/{file_id}")
    async def artifact(self, file_id: str) -> Response:
        """The bytes, or the range that is asked for: a browser's player seeks so."""
        ref = await asyncio.to_thread(self._intake.known, file_id)
        path = await asyncio.to_thread(self._artifacts.local, ref)
        headers = {
            "etag": f'"{ref.sha256}"',
            "cache-control": "private, max-age=31536000, immutable",
            "x-content-type-options": "nosniff",
            "content-disposition": f"inline; filename*=UTF-8''{_quoted(ref.name)}",
        }
        return FileResponse(path, media_type=ref.media_type, headers=headers)

    @door.get("/healthz")
    async def healthz(self) -> Response:
        """200 when the LLM answers and has read the planner's prompt; its error otherwise."""
        await self._chat.check()
        await self._pipeline.ready()
        return JSONResponse({"status": "ok"})
