"""The HTTP door: OpenAI's schema in and out. It decides nothing; controller/pipeline.py does."""

import asyncio
import gc
from collections.abc import Mapping
from functools import partial
from typing import Annotated, Any

from fastapi import FastAPI, File, UploadFile
from fastapi.exceptions import RequestValidationError
from fastapi.requests import Request as HttpRequest
from fastapi.responses import FileResponse, JSONResponse, Response, StreamingResponse
from ray import serve
from ray.serve.handle import DeploymentHandle
from starlette.exceptions import HTTPException

from cluster import tracing
from cluster.artifacts import ArtifactStore
from cluster.catalogue import Catalogue
from cluster.chat import OpenAIChat
from cluster.errors import BadRequest, HuggingGPTError, NotFound
from cluster.hub import Hub
from cluster.logs import REQUEST_ID_HEADER, as_request_id, log_to_stderr, logger, said_for
from cluster.messages import ArtifactRef, Done
from cluster.metrics import Use, begin_at_zero, observe_reply
from cluster.settings import AppSettings
from cluster.tasks import TASKS
from controller.answering.responder import Responder
from controller.asking import openai_schema
from controller.asking.conversation import read_conversation
from controller.asking.intake import FILE_ID_PREFIX, Intake
from controller.asking.openai_schema import ChatRequest, RunRequest
from controller.asking.request import Request
from controller.asking.terms import Terms, read_terms
from controller.choosing.candidates import Candidates
from controller.choosing.estimate import critical_path_s
from controller.choosing.live_state import LiveState
from controller.choosing.selector import Selector
from controller.door.body_limit import BodyLimit
from controller.door.run_request import read_run
from controller.execution.events import plan_as_json
from controller.execution.replanner import Replanner
from controller.execution.results import Kept
from controller.execution.run import Run
from controller.pipeline import Pipeline
from controller.planning.plan_json import GivenPlan
from controller.planning.planner import Planner
from controller.runs.json_text import as_json
from controller.runs.live_run import LiveRun
from controller.runs.peers import Peers, Replicas, Told
from controller.runs.run_record import asked, encoded
from controller.runs.run_store import RunStore
from controller.runs.run_stream import ChunksResponse
from controller.runs.runs import Runs
from controller.watching.cluster_watch import ClusterWatch
from controller.watching.exporter import MEDIA_TYPE, exposition, ray_service_discovery

door = FastAPI(title="HuggingGPT cluster", docs_url="/docs", redoc_url=None)
JSON, SSE = "application/json", "text/event-stream"
RUN_ID_HEADER = "x-run-id"
ACCEPTED, NOTHING_LEFT = 202, 204  # HTTP statuses
BASE64_GROWTH = 4 / 3
ENVELOPE_BYTES = 1_000_000  # what a body may hold beside its files


@door.exception_handler(HuggingGPTError)
async def _refused(request: HttpRequest, exc: HuggingGPTError) -> JSONResponse:
    return JSONResponse(openai_schema.error(exc), exc.status, {**openai_schema.headers_of(exc), **getattr(request.state, "headers", {})})


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
    """The outer edge of the process: the log gets the trace, the person a sentence."""
    with said_for(as_request_id(request.headers.get(REQUEST_ID_HEADER, ""))):
        logger.error("a request failed", exc_info=exc)
    return await _refused(request, HuggingGPTError(f"the service failed inside: {type(exc).__name__}"))


def _terms(body: ChatRequest | RunRequest, http: HttpRequest) -> Terms:
    return read_terms(http.headers, user=body.safety_identifier or body.user, timeout_s=body.timeout_s, seed=body.seed)


def _headers(run: Run) -> dict[str, str]:
    """Server-Timing as in the W3C's Server Timing, in milliseconds: a browser's network panel shows it."""
    return {RUN_ID_HEADER: run.id, "server-timing": ", ".join(f"{part};dur={1000 * took_s:.1f}" for part, took_s in run.timings.items())}


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
        tracing.start(settings.tracing, "ingress")
        self._settings = settings
        self._artifacts = ArtifactStore(settings.artifacts)
        chats = {use: OpenAIChat.from_settings(settings.llm, partial(observe_reply, use)) for use in (Use.CHOOSE, Use.ANSWER)}
        catalogue = Catalogue.of(settings)
        hub = Hub(settings.hub) if settings.hub.enabled else None
        candidates = Candidates(catalogue, settings.families, hub, settings.hub)
        self._tasks = candidates.tasks
        self._telling: asyncio.Task[None] | None = None
        self._intake = Intake(self._artifacts, settings.limits, {media for task in candidates.tasks for media in TASKS[task].inputs})
        planning = OpenAIChat.from_settings(settings.planner_llm or settings.llm, partial(observe_reply, Use.PLAN))
        self._checked = [planning, *([chats[Use.ANSWER]] if settings.planner_llm else [])]
        planner = Planner(planning, candidates.tasks, settings.planning, candidates.narrower())
        self._live_state = LiveState(board)
        self._pipeline = Pipeline(
            planner=planner,
            replanner=Replanner(planning, candidates.tasks, settings.planning, planner),
            selector=Selector(candidates, chats[Use.CHOOSE], settings.selecting, settings.llm),
            families=families,
            responder=Responder(chats[Use.ANSWER], candidates.tasks, settings.answering, settings.llm),
            limits=settings.limits,
            cluster_state=self._live_state.cluster_state,
            results=Kept[Done](settings.caching.max_results, settings.caching.max_bytes),
            is_stored=self._is_stored,
            shares_results=settings.caching.shared,
        )
        self._cluster = ClusterWatch(self._live_state, settings, self._pipeline)
        store = RunStore(f"{settings.artifacts.rstrip('/')}/runs", settings.runs.keep_s)
        self._runs = Runs(self._pipeline, store, Peers(Replicas().ask), settings.runs.max_readers, settings.runs.lost_after_s)
        limit = int(settings.limits.max_files * settings.limits.max_upload_bytes * BASE64_GROWTH) + ENVELOPE_BYTES
        door.add_middleware(
            BodyLimit,
            max_bytes=min(limit, int(settings.limits.max_upload_bytes * 2)),
            max_bytes_in_flight=settings.limits.max_body_bytes_in_flight,
            retry_after_s=self._pipeline.retry_after_s,
        )
        gc.collect()
        gc.freeze()  # what was imported and made by now stays: each look through it would hold up every run for tens of milliseconds

    def _started(self, http: HttpRequest, request: Request, given: GivenPlan | None = None, *, in_background: bool = False) -> LiveRun:
        """The run, whose id every reply to this request has from now on."""
        http.state.headers = {RUN_ID_HEADER: request.id}
        return self._runs.start(request, given, in_background=in_background)

    async def _streamed(self, live: LiveRun, *, cancels: bool = True) -> Response:
        response = ChunksResponse(live, self._settings.runs.heartbeat_s, {RUN_ID_HEADER: live.request.id}, cancels=cancels)
        await response.first_told()  # so that a request of which no step could be planned gets its HTTP status
        return response

    def _is_stored(self, ref: ArtifactRef) -> bool:
        try:
            self._artifacts.ref(ref.sha256)
        except NotFound:
            return False
        return True

    @door.post("/v1/chat/completions")
    async def chat(self, body: ChatRequest, http: HttpRequest) -> Response:
        request = await asyncio.to_thread(read_conversation, body, _terms(body, http), self._intake, self._settings.limits)
        live = self._started(http, request)
        if body.stream:
            return await self._streamed(live)
        run = await live.answered()
        reply = openai_schema.completion(run.id, run.answer, (run.tokens_in, run.tokens_out), run=run.as_json())
        return Response(as_json(reply).encode("utf-8", "replace"), media_type=JSON, headers=_headers(run))

    @door.post("/v1/plan")
    async def plan(self, body: ChatRequest, http: HttpRequest) -> Response:
        """The plan, the chosen models and how long they should take, nothing run. POST /v1/runs takes it, edited or not.

        `estimated_s` is the longest chain of steps, without the answer's words; null until each of its models has run here.
        """
        request = await asyncio.to_thread(read_conversation, body, _terms(body, http), self._intake, self._settings.limits)
        with said_for(request.terms.request_id):
            run = await self._pipeline.planned(request)
        steps = [{**step, "estimated_s": _rounded(run.estimates[step["id"]])} for step in plan_as_json(run.plan, run.choices)]
        whole_s = _rounded(critical_path_s(run.plan, run.estimates))
        reply = {"object": "plan", "id": run.id, **asked(request), "steps": steps, "estimated_s": whole_s, "seconds": run.seconds}
        return JSONResponse(reply)

    @door.post("/v1/runs")
    async def run(self, body: RunRequest, http: HttpRequest) -> Response:
        """Runs what `messages` ask, or a plan as POST /v1/plan gives it, edited or not, and answers with the run's record.

        With `background` it answers at once with the record so far, and the run goes on whoever goes away. With `stream` the answer is
        that of a streamed chat completion. A plan's step has its `model` taken; without one it is chosen. With `reuse` a step that this
        process ran before, with the same model, options and inputs, is not run again; its result says `reused`. What fails is not
        planned again: who sends a plan wants that one.
        """
        request, given = await asyncio.to_thread(read_run, body, _terms(body, http), self._intake, self._tasks, self._settings)
        live = self._started(http, request, given, in_background=body.background)
        if body.background:
            await self._runs.promise(live)
        if body.stream:
            return await self._streamed(live, cancels=not body.background)
        if body.background:
            return Response(encoded(live.record()), ACCEPTED, {**http.state.headers, "location": f"/v1/runs/{request.id}"}, JSON)
        run = await live.answered()
        return Response(live.log.record, media_type=JSON, headers=_headers(run))

    @door.get("/v1/runs/{run_id}")
    async def record(self, run_id: str) -> Response:
        """The record of a run, by its id or its completion's: as far as it came, and after its end for as long as the store keeps it."""
        return Response(await self._runs.record(run_id), media_type=JSON)

    @door.get("/v1/runs/{run_id}/events")
    async def events(self, run_id: str, http: HttpRequest) -> Response:
        """Server-sent events of a run from its beginning, or after the one that the header Last-Event-ID names, until its end.

        The last one is called `run` and holds the record; of a run that only the store knows it is the only one. 204 for whoever has it.
        """
        told = await self._runs.events(run_id, http.headers.get("last-event-id"), self._settings.runs.heartbeat_s)
        if told is None:
            return Response(status_code=NOTHING_LEFT)  # by which a browser's EventSource knows not to come again
        return StreamingResponse(told, media_type=SSE, headers={"cache-control": "no-store"})

    @door.post("/v1/runs/{run_id}/cancel")
    async def cancel(self, run_id: str) -> Response:
        """Ends a run and what runs for it alone; answers with its record, also when it had been cancelled before."""
        return Response(await self._runs.cancel(run_id), media_type=JSON)

    async def run_here(self, run_id: str, cancels: bool) -> bytes | None:
        """For the other replicas: see controller.runs.peers."""
        return await self._runs.cancel_here(run_id) if cancels else self._runs.record_here(run_id)

    async def told_here(self, run_id: str, after: int, silence_s: float) -> Told | None:
        """For the other replicas."""
        return await self._runs.told_here(run_id, after, silence_s)

    @door.get("/v1/cluster")
    async def cluster(self) -> Response:
        """Nodes, replicas and their models, deployments, and of this ingress replica the runs in flight and their latencies.

        It is a second old at most; replicas tell what is in flight when a step ends, and every five seconds; nodes tell memory, use and
        queues every five to ten. What is not told in time is null.
        """
        return JSONResponse(await self._cluster.as_json())

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

    @door.get("/metrics")
    async def metrics(self) -> Response:
        """The cluster's state for Prometheus; what processes count goes through Ray's agents (cluster/metrics.py)."""
        state = await self._live_state.cluster_state()
        return Response(exposition(state, sorted(self._settings.families), is_told=self._live_state.is_told), media_type=MEDIA_TYPE)

    @door.get("/v1/monitoring")
    async def monitoring(self) -> Response:
        """Where Prometheus finds what is to be scraped: an http_sd_config of Ray's, null where this Ray has no dashboard."""
        return JSONResponse({"object": "monitoring", "ray_service_discovery": ray_service_discovery()})

    async def check_health(self) -> None:
        """Serve asks at the start, and every few seconds; what goes on for ever begins with the first time."""
        if self._telling is None:
            begin_at_zero()
            self._telling = asyncio.create_task(self._pipeline.tell_on())

    @door.get("/healthz")
    async def healthz(self) -> Response:
        """200 when the LLM answers, also one that only plans, and has read the planner's prompt; its error otherwise."""
        for chat in self._checked:
            await chat.check()
        await self._pipeline.ready()
        await self._live_state.cluster_state()  # Serve's first call to a deployment takes half a second: not of the first request's time
        return JSONResponse({"status": "ok"})
