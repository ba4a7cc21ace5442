"""`hgpt ask` and `hgpt plan`: a client of the HTTP door, with live progress on standard error and the answer on standard output."""

import argparse
import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import openai
from openai import OpenAI

from cluster.errors import BadFile, HuggingGPTError, LanguageModelError
from controller.openai_schema import MODEL
from controller.progress import Progress

DEFAULT_URL = "http://127.0.0.1:8000"
TIMEOUT_S = 1800.0


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    for name, text, command in (
        ("ask", "ask in plain words and get one answer", ask_command),
        ("plan", "show the plan and the chosen models, and run nothing", plan_command),
    ):
        parser = subparsers.add_parser(name, help=text)
        parser.add_argument("request", help="what is to be done, in any language")
        parser.add_argument("--file", type=Path, action="append", default=[], metavar="F", help="a text, picture or recording; repeatable")
        parser.add_argument("--json", action="store_true", help="print the whole record as JSON")
        parser.add_argument("--url", default=os.environ.get("HGPT_URL", DEFAULT_URL), help="where the service is")
        parser.add_argument("--save", type=Path, metavar="DIR", help="where made files go (default: the current folder)")
        parser.set_defaults(run=command)


@dataclass(frozen=True, slots=True)
class Asked:
    """What came back: the run's record as the service tells it, the answer, and where the files that were made lie."""

    record: Mapping[str, Any]
    answer: str
    saved: tuple[Path, ...]


def ask(url: str, request: str, files: Sequence[Path], *, folder: Path, progress: Progress, answer_is_shown: bool = True) -> Asked:
    """Asks the service at `url` and saves in `folder` what it made. Raises HuggingGPTError with one sentence."""
    client = _Client(url)
    record: dict[str, Any] = {}
    answer = ""
    for chunk in client.streamed(request, files):
        if text := chunk["choices"][0]["delta"].get("content"):
            answer += text
            if answer_is_shown:
                progress.answer(text)
        if event := chunk.get("progress"):
            progress.show(event)
        record = chunk.get("run") or record
    if not record:
        raise HuggingGPTError("the service closed the stream before the answer was complete")
    return Asked(record, answer, tuple(client.save(record["artifacts"], folder)))


def ask_command(args: argparse.Namespace) -> int:
    if args.save:
        _check_folder(args.save)
    with Progress(sys.stderr) as progress:
        asked = ask(args.url, args.request, args.file, folder=args.save or Path(), progress=progress, answer_is_shown=not args.json)
    if args.json:
        print(json.dumps({**asked.record, "answer": asked.answer, "files": list(map(str, asked.saved))}, ensure_ascii=False, indent=2))
    else:
        print()
        for path in asked.saved:
            print(f"saved {path}")
    return 0 if _has_result(asked.record) else 1


def plan_command(args: argparse.Namespace) -> int:
    plan = _Client(args.url).plan(args.request, args.file)
    if args.json:
        print(json.dumps(plan, ensure_ascii=False, indent=2))
        return 0
    for step in plan["steps"]:
        inputs = " ".join(next(iter(source.values())) for source in step["inputs"])
        options = " ".join(f"{name}={value}" for name, value in step["options"].items())
        print(f"{step['id']}  {step['task']}  {inputs}  {options}  [{step['model']}: {step['reason']}]")
    if not plan["steps"]:
        print("no step is needed: the language model answers directly")
    return 0


class _Client:
    """The openai SDK as anybody would use it, with its errors turned into one sentence."""

    def __init__(self, url: str) -> None:
        self._url = url.rstrip("/")
        self._openai = OpenAI(base_url=f"{self._url}/v1", api_key="none", timeout=TIMEOUT_S, max_retries=0)

    def streamed(self, request: str, files: Sequence[Path]) -> Iterator[Mapping[str, Any]]:
        try:
            messages = self._messages(request, files)
            stream: Any = self._openai.chat.completions.create(model=MODEL, messages=messages, stream=True)
            for chunk in stream:
                yield chunk.model_dump()
        except openai.OpenAIError as exc:
            raise self._explained(exc) from exc

    def plan(self, request: str, files: Sequence[Path]) -> dict[str, Any]:
        try:
            body = {"model": MODEL, "messages": self._messages(request, files)}
            plan: dict[str, Any] = self._openai.post("/plan", body=body, cast_to=dict[str, Any])
        except openai.OpenAIError as exc:
            raise self._explained(exc) from exc
        return plan

    def save(self, artifacts: list[dict[str, Any]], folder: Path) -> list[Path]:
        """Downloads what the run made under its own names, without overwriting anything."""
        paths = []
        for artifact in artifacts:
            try:
                content = self._openai.files.content(artifact["sha256"]).content
                folder.mkdir(parents=True, exist_ok=True)
                path = _free(folder / Path(artifact["name"]).name)
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
        contents = [_read(path) for path in files]
        self._check()
        parts: list[dict[str, Any]] = []
        for path, content in zip(files, contents, strict=True):
            uploaded = self._openai.files.create(file=(path.name, content), purpose="user_data")
            parts.append({"type": "file", "file": {"file_id": uploaded.id}})
        return [{"role": "user", "content": [*parts, {"type": "text", "text": request}]}]

    def _explained(self, exc: openai.OpenAIError) -> HuggingGPTError:
        match exc:
            case openai.APIStatusError(body={"message": str(message)}) | openai.APIError(body={"message": str(message)}):
                return HuggingGPTError(message)
            case openai.APITimeoutError():
                return LanguageModelError(f"no answer from {self._url} within {TIMEOUT_S:g} s")
            case openai.APIConnectionError():
                return HuggingGPTError(f"no service answers at {self._url}; start one with `hgpt serve`")
            case _:
                return HuggingGPTError(f"the service at {self._url} failed: {exc}")


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as exc:
        raise BadFile(f"{path} cannot be read: {exc.strerror}") from exc


def _model_ids(text: str) -> set[str]:
    """Of an OpenAI list of models; none of any other text."""
    try:
        return {model["id"] for model in json.loads(text)["data"]}
    except (ValueError, KeyError, TypeError):
        return set()


def _check_folder(folder: Path) -> None:
    """Raises HuggingGPTError when nothing could be saved there, before minutes go into making it. Creates nothing."""
    there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not there.is_dir():
        raise HuggingGPTError(f"files cannot be saved in {folder}: {there} is no folder")
    if not os.access(there, os.W_OK | os.X_OK):
        raise HuggingGPTError(f"files cannot be saved in {folder}: you may not write in {there}")


def _has_result(record: Mapping[str, Any]) -> bool:
    """A run in which every step failed is a failure, whatever was said about it."""
    return not record["results"] or any(result["status"] == "done" for result in record["results"])


def _free(path: Path) -> Path:
    number = 1
    free = path
    while free.exists():
        number += 1
        free = path.with_stem(f"{path.stem}-{number}")
    return free
