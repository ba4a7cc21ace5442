"""The HTTP door: OpenAI's schema in and out. It decides nothing; pipeline.py does."""

import asyncio
import gc
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Annotated, Any

from fastapi import FastAPI, File, UploadFile
from fastapi.exceptions import RequestValidationError
from fastapi.requests import Request as HttpRequest
from fastapi.responses import FileResponse, JSONResponse, Response, StreamingResponse
from ray import serve
from ray.serve.handle import DeploymentHandle
from starlette.exceptions import HTTPException

from cluster.artifacts import ArtifactStore
from cluster.catalogue import Catalogue
from cluster.chat import OpenAIChat
from cluster.errors import BadRequest, HuggingGPTError, NotFound
from cluster.hub import Hub
from cluster.logs import log_to_stderr, logger
from cluster.messages import ArtifactRef, Done
from cluster.settings import AppSettings
from cluster.tasks import TASKS
from controller import openai_schema
from controller.body_limit import BodyLimit
from controller.candidates import Candidates
from controller.conversation import read_conversation
from controller.estimate import critical_path_s
from controller.events import AnswerText, Emit, Event, event_as_json, plan_as_json
from controller.intake import FILE_ID_PREFIX, Intake
from controller.live_state import LiveState
from controller.openai_schema import ChatRequest, RunRequest
from controller.pipeline import Pipeline
from controller.plan_json import GivenPlan
from controller.planner import Planner
from controller.replanner import Replanner
from controller.request import Request
from controller.responder import Responder
from controller.results import MOST_RUNS, Kept
from controller.run import Run
from controller.run_request import read_run
from controller.selector import Selector
from controller.terms import Terms, read_terms

door = FastAPI(title="HuggingGPT cluster", docs_url="/docs", redoc_url=None)
JSON = "application/json"
BASE64_GROWTH = 4 / 3
ENVELOPE_BYTES = 1_000_000  # what a body may hold beside its files


@door.exception_handler(HuggingGPTError)
async def _refused(_request: HttpRequest, exc: HuggingGPTError) -> JSONResponse:
    return JSONResponse(openai_schema.error(exc), exc.status, openai_schema.headers_of(exc))


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

    def __init__(self, run_id: str, work: Callable[[Emit], Awaitable[Run]]) -> None:
        self._run_id = run_id
        self._queue: asyncio.Queue[Event | Run | HuggingGPTError] = asyncio.Queue()
        self._task = asyncio.create_task(self._follow(work))
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

    async def _follow(self, work: Callable[[Emit], Awaitable[Run]]) -> None:
        try:
            self._queue.put_nowait(await work(self._queue.put_nowait))
        except HuggingGPTError as exc:
            self._queue.put_nowait(exc)
        except asyncio.CancelledError:
            self._queue.put_nowait(HuggingGPTError("the run was cancelled"))  # for who still reads, if it was not the reader who ended it
            raise
        except Exception as exc:  # noqa: BLE001 - the run's outer edge: the stream must end with a sentence, whatever happened
            logger.exception("a run failed", extra={"request_id": self._run_id})
            self._queue.put_nowait(HuggingGPTError(f"the run failed inside: {type(exc).__name__}"))


def _told(run_id: str, event: Event) -> dict[str, Any]:
    if isinstance(event, AnswerText):
        return openai_schema.chunk(run_id, {"content": event.text})
    return openai_schema.chunk(run_id, {}, progress=event_as_json(event))


def _sse(data: Mapping[str, Any]) -> str:
    return f"data: {json.dumps(data, ensure_ascii=False)}\n\n"


def _ignore(_event: Event) -> None:
    """For callers who wait for the whole."""


def _asked(request: Request) -> dict[str, Any]:
    """What a plan is about: with its steps this is all that a later run needs."""
    refs = [(file.id, file.artifact) for file in request.files]
    files = [{"id": file_id, "name": ref.name, "media": ref.media, "sha256": ref.sha256} for file_id, ref in refs]
    return {"request": request.text, "files": files}


def _record(request: Request, run: Run) -> bytes:
    """As JSON."""
    record = {"object": "run", **_asked(request), "answer": run.answer, **run.as_json()}
    return json.dumps(record, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")


def _terms(body: ChatRequest | RunRequest, http: HttpRequest) -> Terms:
    return read_terms(http.headers, user=body.safety_identifier or body.user, timeout_s=body.timeout_s, seed=body.seed)


def _headers(run: Run) -> dict[str, str]:
    """Server-Timing as in the W3C's Server Timing, in milliseconds: a browser's network panel shows it."""
    return {"x-run-id": run.id, "server-timing": ", ".join(f"{part};dur={1000 * took_s:.1f}" for part, took_s in run.timings.items())}


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 3)


def _quoted(name: str) -> str:
    from urllib.parse import quote

    return quote(name, safe="")


# Last in the file: serve.ingress pickles the door with what the module holds at this line.
@serve.deployment(name="ingress")
@serve.ingress(door)
class Ingress:
    def __init__(
        self, settings: AppSettings, families: Mapping[str, DeploymentHandle[Any]], board: DeploymentHandle[Any] | None = None
    ) -> None:
        log_to_stderr()
        self._settings = settings
        self._records: Kept[bytes] = Kept(MOST_RUNS)  # as JSON
        self._artifacts = ArtifactStore(settings.artifacts)
        self._chat = OpenAIChat.from_settings(settings.llm)
        catalogue = Catalogue.of(settings)
        hub = Hub(settings.hub) if settings.hub.enabled else None
        candidates = Candidates(catalogue, settings.families, hub, settings.hub)
        self._tasks = candidates.tasks
        self._intake = Intake(self._artifacts, settings.limits, {media for task in candidates.tasks for media in TASKS[task].inputs})
        planning = OpenAIChat.from_settings(settings.planner_llm) if settings.planner_llm else self._chat
        self._chats = {self._chat, planning}
        planner = Planner(planning, candidates.tasks, settings.planning, candidates.narrower())
        self._pipeline = Pipeline(
            planner=planner,
            replanner=Replanner(planning, candidates.tasks, settings.planning, planner),
            selector=Selector(candidates, self._chat, settings.selecting, settings.llm),
            families=families,
            responder=Responder(self._chat, candidates.tasks, settings.answering, settings.llm),
            limits=settings.limits,
            cluster_state=LiveState(board).cluster_state,
            results=Kept[Done](settings.caching.max_results, settings.caching.max_bytes),
            is_stored=self._is_stored,
            shares_results=settings.caching.shared,
        )
        limit = int(settings.limits.max_files * settings.limits.max_upload_bytes * BASE64_GROWTH) + ENVELOPE_BYTES
        door.add_middleware(
            BodyLimit,
            max_bytes=min(limit, int(settings.limits.max_upload_bytes * 2)),
            max_bytes_in_flight=settings.limits.max_body_bytes_in_flight,
            retry_after_s=self._pipeline.retry_after_s,
        )
        gc.collect()
        gc.freeze()  # what was imported and made by now stays: each look through it would hold up every run for tens of milliseconds

    async def _answered(self, request: Request, emit: Emit, given: GivenPlan | None = None) -> Run:
        run = await self._pipeline.answer(request, emit, given)
        self._records.keep(run.id, _record(request, run))
        return run

    async def _streamed(self, request: Request, given: GivenPlan | None = None) -> Response:
        events = _Events(request.id, lambda emit: self._answered(request, emit, given))
        await events.first()  # so that a request of which no step could be planned gets its HTTP status
        return StreamingResponse(events.as_sse(), media_type="text/event-stream", headers={"x-run-id": request.id})

    def _is_stored(self, ref: ArtifactRef) -> bool:
        try:
            self._artifacts.ref(ref.sha256)
        except NotFound:
            return False
        return True

    @door.post("/v1/chat/completions")
    async def chat(self, body: ChatRequest, http: HttpRequest) -> Response:
        request = await asyncio.to_thread(read_conversation, body, _terms(body, http), self._intake, self._settings.limits)
        if body.stream:
            return await self._streamed(request)
        run = await self._answered(request, _ignore)
        tokens = run.tokens_in, run.tokens_out
        reply = openai_schema.completion(run.id, run.answer, tokens, run=run.as_json())
        return JSONResponse(reply, headers=_headers(run))

    @door.post("/v1/plan")
    async def plan(self, body: ChatRequest, http: HttpRequest) -> Response:
        """The plan, the chosen models and how long they should take, nothing run. POST /v1/runs takes it, edited or not.

        `estimated_s` is the longest chain of steps, without the answer's words; null until each of its models has run here.
        """
        request = await asyncio.to_thread(read_conversation, body, _terms(body, http), self._intake, self._settings.limits)
        run = await self._pipeline.planned(request)
        steps = [{**step, "estimated_s": _rounded(run.estimates[step["id"]])} for step in plan_as_json(run.plan, run.choices)]
        whole_s = _rounded(critical_path_s(run.plan, run.estimates))
        reply = {"object": "plan", "id": run.id, **_asked(request), "steps": steps, "estimated_s": whole_s, "seconds": run.seconds}
        return JSONResponse(reply)

    @door.post("/v1/runs")
    async def run(self, body: RunRequest, http: HttpRequest) -> Response:
        """Runs a plan as POST /v1/plan gives it, edited or not, and answers. A step's `model` is taken; without one it is chosen.

        With `reuse` a step that this process ran before, with the same model, options and inputs, is not run again; its result says
        `reused`. What fails is not planned again: who sends a plan wants that one.
        """
        request, given = await asyncio.to_thread(read_run, body, _terms(body, http), self._intake, self._tasks, self._settings)
        if body.stream:
            return await self._streamed(request, given)
        run = await self._answered(request, _ignore, given)
        record = self._records.get(run.id) or _record(request, run)  # one that is too large to be kept
        return Response(record, media_type=JSON, headers=_headers(run))

    @door.get("/v1/runs/{run_id}")
    async def record(self, run_id: str) -> Response:
        """The record of a run that has ended, by its id or that of its completion.

        This process keeps the last ones in memory, so that it is 404 after a while or a restart.
        """
        if (kept := self._records.get(run_id.removeprefix(openai_schema.COMPLETION_PREFIX))) is None:
            raise NotFound(f"no run {openai_schema.shown(run_id)} is remembered: records of the last {MOST_RUNS} runs at most are kept")
        return Response(kept, media_type=JSON)

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
        """200 when the LLM answers, also one that only plans, and has read the planner's prompt; its error otherwise."""
        for chat in self._chats:
            await chat.check()
        await self._pipeline.ready()
        return JSONResponse({"status": "ok"})
