"""A small hub on this machine: folders served as repositories, in the words of the Hugging Face hub's own API, with faults on demand.

It knows what the real client library asks for: search, model info with file hashes, resolve with ranges. It keeps every commit.
"""

import asyncio
import hashlib
import json
import socket
import threading
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

LARGE_SUFFIXES = frozenset({".safetensors", ".bin", ".pth", ".gguf", ".onnx", ".model", ".spm", ".ckpt"})  # what the hub keeps in git LFS
CHUNK_BYTES = 1 << 20
MAIN = "main"
PAGE = 100  # models in one answer


class Kind(StrEnum):
    GATED = "gated"  # 403, as for a repository whose terms were not accepted
    MISSING = "missing"  # 401, as for an unknown repository without a token
    ENTRY_MISSING = "entry missing"  # 404, as for an unknown file
    BUSY = "busy"  # 503
    TOO_MANY = "too many"  # 429
    SLOW = "slow"  # answers after `seconds`
    DRIPPING = "dripping"  # a byte of JSON every tenth of a second, for `seconds`
    CUT = "cut"  # closes the connection after `at_bytes` of the body
    CORRUPT = "corrupt"  # one byte of the body is another
    NONSENSE = "nonsense"  # 200 and something that is no JSON


@dataclass
class Fault:
    kind: Kind
    seconds: float = 60
    at_bytes: int = 0
    times: int | None = None  # after which it is over


@dataclass(frozen=True)
class Asked:
    method: str
    path: str
    range: str | None
    query: str


@dataclass
class Repository:
    """Facts in the API's own words, and the folder of every commit; `refs` are names of commits."""

    id: str
    facts: dict[str, Any] = field(default_factory=dict)
    commits: dict[str, Path] = field(default_factory=dict)
    refs: dict[str, str] = field(default_factory=dict)
    discussions: list[dict[str, Any]] = field(default_factory=list)

    def commit(self, revision: str) -> str | None:
        sha = self.refs.get(revision, revision)
        return sha if sha in self.commits else None

    def info(self, sha: str, with_blobs: bool = False) -> dict[str, Any]:
        files = files_of(self.commits[sha])
        names = list(files)
        tags = [*self.facts.get("tags", []), *(["safetensors"] if any(name.endswith(".safetensors") for name in names) else [])]
        known = {"id": self.id, "sha": sha, "gated": False, "downloads": 0, "likes": 0, "trendingScore": 0, "private": False}
        shown = {"library_name": "diffusers" if "model_index.json" in names else "transformers", "config": config_of(self.commits[sha])}
        siblings = [{"rfilename": name, **(blob(path) if with_blobs else {})} for name, path in files.items()]
        return {**known, **shown, **self.facts, "tags": tags, "siblings": siblings}


class HubServer:
    """`endpoint` is what a client is told. Faults are set by patterns of URL paths, and may be changed while it runs."""

    def __init__(self) -> None:
        self.repositories: dict[str, Repository] = {}
        self.faults: dict[str, Fault] = {}
        self.tokens: set[str] = set()  # that may read gated repositories
        self.asked: list[Asked] = []
        self.endpoint = ""

    def publish(self, model_id: str, folder: Path, *, ref: str = MAIN, **facts: Any) -> str:
        """A commit with the folder's files; gives its sha. Facts that are named replace what was known."""
        repository = self.repositories.setdefault(model_id, Repository(model_id))
        digest = hashlib.sha1(model_id.encode(), usedforsecurity=False)
        for name, path in files_of(folder).items():
            digest.update(f"{name} {blob(path)['blobId']}\n".encode())
        sha = digest.hexdigest()
        repository.commits[sha] = folder
        repository.refs[ref] = sha
        repository.facts |= facts
        return sha

    def downloads_of(self, name: str) -> list[Asked]:
        return [asked for asked in self.asked if asked.method == "GET" and "/resolve/" in asked.path and asked.path.endswith(f"/{name}")]

    def app(self) -> Starlette:
        model = "/api/models/{org}/{name}"
        routes = [
            Route("/", self._root),
            Route("/api/models", self._search),
            Route(model, self._info),
            Route(f"{model}/auth-check", self._auth_check),
            Route(f"{model}/discussions", self._discussions),
            Route(f"{model}/revision/{{revision:path}}", self._info),
            Route("/{org}/{name}/resolve/{revision}/{path:path}", self._resolve, methods=["GET", "HEAD"]),
        ]
        return Starlette(routes=routes)

    async def _root(self, request: Request) -> Response:
        return await self._spoiled(request) or JSONResponse({})

    async def _search(self, request: Request) -> Response:
        if (spoiled := await self._spoiled(request)) is not None:
            return spoiled
        query = request.query_params
        filters = set(query.getlist("filter"))
        infos = [repository.info(repository.refs[MAIN]) for repository in self.repositories.values()]
        found = [info for info in infos if query.get("pipeline_tag") in (None, info.get("pipeline_tag")) and filters <= all_tags(info)]
        if sort := query.get("sort"):
            found.sort(key=lambda info: -(info.get(sort) or 0))
        shown = query.getlist("expand")
        chosen = found[: int(query.get("limit", PAGE))]
        return JSONResponse([expanded(info, shown) for info in chosen])

    async def _info(self, request: Request) -> Response:
        if (spoiled := await self._spoiled(request)) is not None:
            return spoiled
        repository = self._repository(request)
        if repository is None:
            return repository_missing()
        sha = repository.commit(request.path_params.get("revision", MAIN))
        if sha is None:
            return refused(404, "RevisionNotFound")
        info = repository.info(sha, with_blobs="blobs" in request.query_params)
        return JSONResponse(expanded(info, request.query_params.getlist("expand")))

    async def _auth_check(self, request: Request) -> Response:
        repository = self._repository(request)
        if repository is None:
            return repository_missing()
        return refused(403, "GatedRepo") if self._is_closed(repository, request) else Response()

    async def _discussions(self, request: Request) -> Response:
        repository = self._repository(request)
        if repository is None:
            return repository_missing()
        found = [d for d in repository.discussions if request.query_params.get("author") in (None, d["author"]["name"])]
        return JSONResponse({"discussions": found, "count": len(found), "start": 0})

    async def _resolve(self, request: Request) -> Response:
        if (spoiled := await self._spoiled(request)) is not None:
            return spoiled
        repository = self._repository(request)
        if repository is None:
            return repository_missing()
        if self._is_closed(repository, request):
            return refused(403, "GatedRepo")
        sha = repository.commit(request.path_params["revision"])
        if sha is None:
            return refused(404, "RevisionNotFound")
        path = files_of(repository.commits[sha]).get(request.path_params["path"])
        return refused(404, "EntryNotFound") if path is None else self._file(request, path, sha)

    def _file(self, request: Request, path: Path, sha: str) -> Response:
        known, content = blob(path), path.read_bytes()
        etag = known["lfs"]["sha256"] if "lfs" in known else known["blobId"]
        start = int((request.headers.get("range") or "bytes=0-").removeprefix("bytes=").partition("-")[0])
        fault = None if request.method == "HEAD" else self._fault(request.url.path, Kind.CUT, Kind.CORRUPT)
        if fault is not None and fault.kind == Kind.CORRUPT:
            content = bytes([content[0] ^ 1]) + content[1:]
        headers = {"ETag": f'"{etag}"', "X-Repo-Commit": sha, "Accept-Ranges": "bytes", "Content-Length": str(len(content) - start)}
        if "lfs" in known:
            headers |= {"X-Linked-Etag": f'"{etag}"', "X-Linked-Size": str(known["size"])}
        if "range" in request.headers:
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        cut_at = fault.at_bytes if fault is not None and fault.kind == Kind.CUT else None
        body = pieces(b"" if request.method == "HEAD" else content[start:], cut_at)
        return StreamingResponse(body, 206 if "range" in request.headers else 200, headers)

    async def _spoiled(self, request: Request) -> Response | None:
        """What a fault answers in place of the hub."""
        path = request.url.path
        self.asked.append(Asked(request.method, path, request.headers.get("range"), request.url.query))
        fault = self._fault(path, *(kind for kind in Kind if kind not in (Kind.CUT, Kind.CORRUPT)))
        match fault and fault.kind:
            case Kind.GATED:
                return refused(403, "GatedRepo")
            case Kind.MISSING:
                return repository_missing()
            case Kind.ENTRY_MISSING:
                return refused(404, "EntryNotFound")
            case Kind.BUSY:
                return Response(status_code=503)
            case Kind.TOO_MANY:
                return Response(status_code=429)
            case Kind.NONSENSE:
                return Response("<html>welcome to the hotel</html>")
            case Kind.SLOW if fault is not None:
                await asyncio.sleep(fault.seconds)
            case Kind.DRIPPING if fault is not None:
                return StreamingResponse(dripping(fault.seconds))
        return None

    def _fault(self, path: str, *kinds: Kind) -> Fault | None:
        for pattern, fault in self.faults.items():
            if fault.kind in kinds and fault.times != 0 and fnmatch(path, pattern):
                if fault.times is not None:
                    fault.times -= 1
                return fault
        return None

    def _repository(self, request: Request) -> Repository | None:
        return self.repositories.get(f"{request.path_params['org']}/{request.path_params['name']}")

    def _is_closed(self, repository: Repository, request: Request) -> bool:
        token = request.headers.get("authorization", "").removeprefix("Bearer ")
        return bool(repository.facts.get("gated")) and token not in self.tokens


@contextmanager
def running_hub() -> Iterator[HubServer]:
    """A hub at a free port of this machine, in a thread."""
    hub = HubServer()
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()  # a client that comes before the server is up waits here
        hub.endpoint = f"http://127.0.0.1:{listening.getsockname()[1]}"
        config = uvicorn.Config(hub.app(), log_level="critical", lifespan="off", timeout_graceful_shutdown=1)
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            yield hub
        finally:
            server.should_exit = True
            thread.join()


def files_of(folder: Path) -> dict[str, Path]:
    return {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*")) if path.is_file()}


def blob(path: Path) -> dict[str, Any]:
    """A file as model info with `blobs` shows it."""
    content = path.read_bytes()
    git = hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()
    known: dict[str, Any] = {"size": len(content), "blobId": git}
    if path.suffix in LARGE_SUFFIXES:
        known["lfs"] = {"size": len(content), "sha256": hashlib.sha256(content).hexdigest(), "pointerSize": 130}
    return known


def config_of(folder: Path) -> dict[str, Any]:
    """The part of config.json that the hub shows."""
    path = folder / "config.json"
    config = json.loads(path.read_text()) if path.is_file() else {}
    return {name: config[name] for name in ("architectures", "auto_map", "model_type", "quantization_config") if name in config}


def all_tags(info: Mapping[str, Any]) -> set[str]:
    languages = info.get("cardData", {}).get("language", [])
    named = [languages] if isinstance(languages, str) else languages
    return {*info["tags"], *named, info.get("library_name", ""), info.get("pipeline_tag", "")}


def expanded(info: dict[str, Any], names: list[str]) -> dict[str, Any]:
    return {name: info[name] for name in ("id", *names) if name in info} if names else info


def refused(status: int, code: str) -> Response:
    return Response(status_code=status, headers={"X-Error-Code": code, "X-Error-Message": code})


def repository_missing() -> Response:
    """The hub does not tell a stranger whether a repository is private or not there."""
    return refused(401, "RepoNotFound")


async def dripping(seconds: float) -> AsyncIterator[bytes]:
    for _ in range(int(10 * seconds)):
        yield b" "
        await asyncio.sleep(0.1)


async def pieces(content: bytes, cut_at: int | None) -> AsyncIterator[bytes]:
    end = len(content) if cut_at is None else min(cut_at, len(content))
    for start in range(0, end, CHUNK_BYTES):
        yield content[start : min(start + CHUNK_BYTES, end)]
    if cut_at is not None:
        raise ConnectionResetError("cut on demand")
