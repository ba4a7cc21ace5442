"""The engine `llama_cpp`: xllamacpp's own OpenAI server, run and supervised inside a Serve deployment.

The replica owns the server, passes HTTP on to it, and reports ill health when it stops answering, so that Serve replaces it.
"""

import asyncio
import json
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse, StreamingResponse
from ray import serve

from cluster.catalogue import BUILT_IN, Catalogue
from cluster.chat import KEEP_PROMPT_HEADER
from cluster.errors import HuggingGPTError, ModelError
from cluster.logs import log_to_stderr, logger
from cluster.settings import EngineSettings, home_folder
from deployments.adapters import adapter_folder, as_gguf
from deployments.store import ModelStore

HEALTH_TIMEOUT_S = 30.0  # a long prefill keeps every core busy
CONNECT_TIMEOUT_S = 5.0
BATCH_TOKENS = 512  # of prompt read at a time between the decoding of other requests
KEPT_SLOT = 0  # holds the prompt that clients marked as constant
PASSED_HEADERS = ("content-type", "cache-control")

door = FastAPI()


async def _body(reply: httpx.Response) -> AsyncIterator[bytes]:
    try:
        async for chunk in reply.aiter_raw():
            yield chunk
    finally:
        await reply.aclose()


def _prompts_folder() -> Path:
    folder = home_folder() / "prompts"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _gguf(files: Any) -> str:
    paths: list[str] = [file.path for file in files if file.path.endswith(".gguf")]
    if len(paths) != 1:
        raise HuggingGPTError(f"the engine llama_cpp needs a card with one GGUF file, not {len(paths)}")
    return paths[0]


def start_server(path: str, settings: EngineSettings, adapter: Path | None = None) -> Any:
    """A running server on the loopback: `listening_address` says where. `adapter` is a GGUF file, applied to every request."""
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = path
    if adapter:
        params.lora_adapters = [xllamacpp.CommonAdapterLoraInfo(str(adapter), 1.0)]
    params.model_alias = {settings.serves_as}
    params.n_parallel = settings.parallel
    params.n_ctx = settings.context_tokens * settings.parallel
    params.n_batch = BATCH_TOKENS
    params.kv_unified = True
    params.endpoint_slots = True  # KEPT_SLOT is saved and restored through it
    params.slot_save_path = f"{_prompts_folder()}/"
    params.warmup = False
    params.hostnames = ["127.0.0.1"]  # only this replica talks to it
    params.port = 0
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = settings.threads or os.cpu_count() or 1
    return xllamacpp.Server(params)


def client_of(address: str) -> httpx.AsyncClient:
    """One that opens a connection for each request.

    llama.cpp's server (xllamacpp 2026.10) closes a kept one now and then just as the next request comes: 5 of 40 were lost so, one after
    another in turns streamed and not; with connections of their own none of 40.
    """
    return httpx.AsyncClient(
        base_url=address,
        timeout=httpx.Timeout(None, connect=CONNECT_TIMEOUT_S),
        limits=httpx.Limits(max_keepalive_connections=0),
    )


# Last in the file: serve.ingress pickles the door with what the module holds at this line.
@serve.deployment(name="llama_cpp")
@serve.ingress(door)
class LlamaServer:
    """One model, `settings.parallel` requests decoded together, prompts kept in the engine's prefix cache."""

    def __init__(self, settings: EngineSettings) -> None:
        log_to_stderr()
        card = Catalogue.read(BUILT_IN, *settings.catalogues).card(settings.model)
        folder = ModelStore(settings.models).ensure(card)
        adapter = as_gguf(adapter_folder(settings.adapter), home_folder() / "adapters") if settings.adapter else None
        self._server = start_server(str(folder / _gguf(card.files)), settings, adapter)
        self._client = client_of(self._server.listening_address)
        self._kept = f"{card.files[0].digest[:16]}{f'-{adapter.stem}' if adapter else ''}.slot"
        self._restore_prompt()
        logger.info("llama.cpp serves", extra={"model": card.id})

    def _restore_prompt(self) -> None:
        """What a constant prompt came to last time this model ran here: reading it again would take a CPU most of a minute."""
        if (_prompts_folder() / self._kept).exists():
            with httpx.Client(base_url=self._server.listening_address, timeout=HEALTH_TIMEOUT_S) as client:
                client.post(f"/slots/{KEPT_SLOT}", params={"action": "restore"}, json={"filename": self._kept})

    async def check_health(self) -> None:
        """Raises when the server no longer answers; Serve then replaces the replica."""
        try:
            async with asyncio.timeout(HEALTH_TIMEOUT_S):
                (await self._client.get("/health")).raise_for_status()
        except (httpx.HTTPError, TimeoutError) as exc:
            raise ModelError(f"llama.cpp's server does not answer: {exc}") from exc

    @door.api_route("/v1/{path:path}", methods=["GET", "POST"])
    async def pass_on(self, path: str, request: Request) -> Response:
        """Streams the server's reply as it comes; a client that goes away closes the upstream request, which stops decoding."""
        body = await request.body()
        keeps = KEEP_PROMPT_HEADER in request.headers
        if keeps:
            body = json.dumps({**json.loads(body), "id_slot": KEPT_SLOT}).encode()
        sent = self._client.build_request(
            request.method,
            f"/v1/{path}",
            content=body,
            headers={"content-type": request.headers.get("content-type", "application/json")},
        )
        try:
            reply = await self._client.send(sent, stream=True)
        except httpx.HTTPError as exc:
            error = {"message": f"llama.cpp's server does not answer: {exc}", "type": "server_error", "code": "engine_down"}
            return JSONResponse({"error": error}, status_code=502)
        if keeps and reply.is_success:
            await reply.aread()
            await self._client.post(f"/slots/{KEPT_SLOT}", params={"action": "save"}, json={"filename": self._kept})
            return Response(reply.content, reply.status_code, media_type=reply.headers.get("content-type"))
        headers = {name: reply.headers[name] for name in PASSED_HEADERS if name in reply.headers}
        return StreamingResponse(_body(reply), reply.status_code, headers)
