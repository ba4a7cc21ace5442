"""A client of the HTTP door, as the commands use it: the openai SDK as anybody would use it, with its errors turned into one sentence."""

import argparse
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import openai
from openai import OpenAI, Stream
from openai.types.chat import ChatCompletionChunk

from cluster.errors import BadFile, HuggingGPTError
from controller.asking.openai_schema import MODEL

DEFAULT_URL = "http://127.0.0.1:8000"
TIMEOUT_S = 1800.0
CLUSTER_TIMEOUT_S = 10.0


@dataclass(frozen=True, slots=True)
class Wishes:
    """What a person asks beside the words: see controller.asking.terms. `is_fresh`: nothing that was computed before."""

    models: Sequence[str] = ()
    timeout_s: float | None = None
    seed: int | None = None
    is_fresh: bool = False

    @property
    def fields(self) -> dict[str, Any]:
        asked = {"named_models": list(self.models), "timeout_s": self.timeout_s, "seed": self.seed}
        return {name: value for name, value in asked.items() if value not in (None, [])}

    @property
    def headers(self) -> dict[str, str]:
        return {"cache-control": "no-cache"} if self.is_fresh else {}


NO_WISHES = Wishes()


class Client:
    """Raises HuggingGPTError where `url` is no address."""

    def __init__(self, url: str) -> None:
        self._url = url.rstrip("/")
        no_address = HuggingGPTError(f"{url!r} is no address of a service; one reads {DEFAULT_URL}")
        if not self._url.startswith(("http://", "https://")):
            raise no_address
        try:
            self._openai = OpenAI(base_url=f"{self._url}/v1", api_key="none", timeout=TIMEOUT_S, max_retries=0)
        except httpx2.InvalidURL as exc:
            raise no_address from exc

    def asked(self, request: str, files: Sequence[Path], wishes: Wishes = NO_WISHES) -> Iterator[Mapping[str, Any]]:
        """The chunks of the answer to a request. Raises HuggingGPTError with one sentence, as all of these do."""
        try:
            messages = self._messages(request, files)
            stream: Any = self._openai.chat.completions.create(
                model=MODEL, messages=messages, stream=True, extra_body=wishes.fields, extra_headers=wishes.headers
            )
            for chunk in stream:
                yield chunk.model_dump()
        except openai.OpenAIError as exc:
            raise self._explained(exc) from exc

    def run(self, plan: Mapping[str, Any], wishes: Wishes = NO_WISHES) -> Iterator[Mapping[str, Any]]:
        """The chunks of the answer that a plan comes to."""
        try:
            self._check()
            body = {"plan": plan, "reuse": not wishes.is_fresh, "stream": True, **wishes.fields}
            kind = Stream[ChatCompletionChunk]
            for chunk in self._openai.post("/runs", body=body, cast_to=ChatCompletionChunk, stream=True, stream_cls=kind):
                yield chunk.model_dump()
        except openai.OpenAIError as exc:
            raise self._explained(exc) from exc

    def plan(self, request: str, files: Sequence[Path], models: Sequence[str]) -> dict[str, Any]:
        try:
            body = {"model": MODEL, "messages": self._messages(request, files), **Wishes(models).fields}
            plan: dict[str, Any] = self._openai.post("/plan", body=body, cast_to=dict[str, Any])
        except openai.OpenAIError as exc:
            raise self._explained(exc) from exc
        return plan

    def monitoring(self) -> dict[str, Any]:
        """Where what the service measures can be had."""
        try:
            self._check()
            found: dict[str, Any] = self._openai.get("/monitoring", cast_to=dict[str, Any])
        except openai.OpenAIError as exc:
            raise self._explained(exc) from exc
        return found

    def cluster(self) -> dict[str, Any]:
        """What GET /v1/cluster tells."""
        try:
            cluster: Any = self._openai.get("/cluster", cast_to=dict[str, Any], options={"timeout": CLUSTER_TIMEOUT_S})
        except openai.OpenAIError as exc:
            raise self._explained(exc, CLUSTER_TIMEOUT_S) from exc
        if not isinstance(cluster, dict) or cluster.get("object") != "cluster":
            raise HuggingGPTError(f"what answers at {self._url} is no HuggingGPT service: GET {self._url}/v1/cluster gave something else")
        return cluster

    def save(self, artifacts: Sequence[Mapping[str, Any]], folder: Path) -> list[Path]:
        """Downloads what the run made under its own names, without overwriting anything."""
        paths = []
        for artifact in artifacts:
            try:
                content = self._openai.files.content(artifact["sha256"]).content
                folder.mkdir(parents=True, exist_ok=True)
                path = free(folder / Path(artifact["name"]).name)
                path.write_bytes(content)
            except openai.OpenAIError as exc:
                raise self._explained(exc) from exc
            except OSError as exc:
                raise HuggingGPTError(f"{artifact['name']} cannot be saved in {folder}: {exc.strerror}") from exc
            paths.append(path)
        return paths

    def _check(self) -> None:
        """Raises HuggingGPTError with what answers, where that is another program: it might take a request for its own."""
        try:
            reply: Any = self._openai.models.with_raw_response.list()
        except openai.APIStatusError as exc:
            reply = exc.response
        if MODEL not in _model_ids(reply.text):
            kind = reply.headers.get("content-type", "nothing that is named")
            said = f"GET {self._url}/v1/models gave HTTP {reply.status_code}, {kind}"
            raise HuggingGPTError(f"what answers at {self._url} is no HuggingGPT service: {said}")

    def _messages(self, request: str, files: Sequence[Path]) -> Any:
        """All files are read, and it is known who answers, before the first is sent."""
        contents = [read(path) for path in files]
        self._check()
        parts: list[dict[str, Any]] = []
        for path, content in zip(files, contents, strict=True):
            uploaded = self._openai.files.create(file=(path.name, content), purpose="user_data")
            parts.append({"type": "file", "file": {"file_id": uploaded.id}})
        return [{"role": "user", "content": [*parts, {"type": "text", "text": request}]}]

    def _explained(self, exc: openai.OpenAIError, timeout_s: float = TIMEOUT_S) -> HuggingGPTError:
        match exc:
            case openai.APIStatusError(body={"message": str(message)}) | openai.APIError(body={"message": str(message)}):
                return HuggingGPTError(message)
            case openai.APITimeoutError():
                return HuggingGPTError(f"no answer from {self._url} within {timeout_s:g} s")
            case openai.APIConnectionError():
                return HuggingGPTError(f"no service answers at {self._url}; start one with `hgpt serve`")
            case _:
                return HuggingGPTError(f"the service at {self._url} failed: {exc}")


def add_url_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--url", default=os.environ.get("HGPT_URL", DEFAULT_URL), help="where the service is")


def read(path: Path) -> bytes:
    """Raises BadFile."""
    try:
        return path.read_bytes()
    except OSError as exc:
        raise BadFile(f"{path} cannot be read: {exc.strerror}") from exc
    except ValueError as exc:  # a null byte
        raise BadFile(f"{str(path)!r} is no name of a file") from exc


def check_folder(folder: Path) -> None:
    """Raises HuggingGPTError when nothing could be saved there, before minutes go into making it. Creates nothing."""
    there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not there.is_dir():
        raise HuggingGPTError(f"files cannot be saved in {folder}: {there} is no folder")
    if not os.access(there, os.W_OK | os.X_OK):
        raise HuggingGPTError(f"files cannot be saved in {folder}: you may not write in {there}")


def free(path: Path) -> Path:
    """The path, or where it is taken one with a number."""
    number = 1
    other = path
    while other.exists():
        number += 1
        other = path.with_stem(f"{path.stem}-{number}")
    return other


def _model_ids(text: str) -> set[str]:
    """Of an OpenAI list of models; none of any other text."""
    try:
        return {model["id"] for model in json.loads(text)["data"]}
    except (ValueError, KeyError, TypeError):
        return set()
