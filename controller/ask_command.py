"""`hgpt ask` and `hgpt plan`: a request to the HTTP door, with live progress on standard error and the answer on standard output."""

import argparse
import json
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cluster.errors import HuggingGPTError
from controller.client import DEFAULT_URL, Client, check_folder
from controller.progress import Progress, given


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    for name, text, command in (
        ("ask", "ask in plain words and get one answer", ask_command),
        ("plan", "show the plan, the chosen models and the time it should take, and run nothing", plan_command),
    ):
        parser = subparsers.add_parser(name, help=text)
        parser.add_argument("request", help="what is to be done, in any language")
        parser.add_argument("--file", type=Path, action="append", default=[], metavar="F", help="a text, picture or recording; repeatable")
        parser.add_argument("--model", action="append", default=[], metavar="ID", help="a model to use, as org/name; repeatable")
        add_reply_options(parser, makes_files=command is ask_command)
        parser.set_defaults(run=command)


def add_reply_options(parser: argparse.ArgumentParser, *, makes_files: bool = True) -> None:
    parser.add_argument("--json", action="store_true", help="print the whole record as JSON")
    parser.add_argument("--url", default=os.environ.get("HGPT_URL", DEFAULT_URL), help="where the service is")
    if makes_files:
        parser.add_argument("--save", type=Path, metavar="DIR", help="where made files go (default: the current folder)")


@dataclass(frozen=True, slots=True)
class Asked:
    """What came back: the run's record as the service tells it, the answer, and where the files that were made lie."""

    record: Mapping[str, Any]
    answer: str
    saved: tuple[Path, ...]


def ask(
    url: str,
    request: str,
    files: Sequence[Path],
    *,
    models: Sequence[str] = (),
    folder: Path,
    progress: Progress,
    answer_is_shown: bool = True,
) -> Asked:
    """Asks the service at `url`, which is to use `models`, and saves in `folder` what it made. Raises HuggingGPTError with one sentence."""
    client = Client(url)
    record, answer = follow(client.asked(request, files, models), progress, answer_is_shown=answer_is_shown)
    return Asked(record, answer, tuple(client.save(record["artifacts"], folder)))


def follow(chunks: Iterable[Mapping[str, Any]], progress: Progress, *, answer_is_shown: bool) -> tuple[dict[str, Any], str]:
    """Shows a run while it goes on; gives its record and its answer. Raises HuggingGPTError when it breaks off."""
    record: dict[str, Any] = {}
    answer = ""
    for chunk in chunks:
        if text := chunk["choices"][0]["delta"].get("content"):
            answer += text
            if answer_is_shown:
                progress.answer(text)
        if event := chunk.get("progress"):
            progress.show(event)
        record = chunk.get("run") or record
    if not record:
        raise HuggingGPTError("the service closed the stream before the answer was complete")
    return record, answer


def ask_command(args: argparse.Namespace) -> int:
    if args.save:
        check_folder(args.save)
    with Progress(sys.stderr) as progress:
        asked = ask(
            args.url,
            args.request,
            args.file,
            models=args.model,
            folder=args.save or Path(),
            progress=progress,
            answer_is_shown=not args.json,
        )
    return print_outcome(asked, as_json=args.json)


def print_outcome(asked: Asked, *, as_json: bool) -> int:
    """What is left to print after the answer; gives the exit status."""
    if as_json:
        print(json.dumps({**asked.record, "answer": asked.answer, "files": list(map(str, asked.saved))}, ensure_ascii=False, indent=2))
    else:
        print()
        for path in asked.saved:
            print(f"saved {path}")
    return 0 if _has_result(asked.record) else 1


def plan_command(args: argparse.Namespace) -> int:
    plan = Client(args.url).plan(args.request, args.file, args.model)
    if args.json:
        print(json.dumps(plan, ensure_ascii=False, indent=2))
        return 0
    for step in plan["steps"]:
        inputs = " ".join(given(source) for source in step["inputs"])
        options = " ".join(f"{name}={given(value)}" for name, value in step["options"].items())
        print(f"{step['id']}  {step['task']}  {inputs}  {options}  {_about(step)}  [{step['model']}: {step['reason']}]")
    print(f"{_about(plan)} in all" if plan["steps"] else "no step is needed: the language model answers directly")
    return 0


def _about(timed: Mapping[str, Any]) -> str:
    seconds = timed["estimated_s"]
    return "time unknown" if seconds is None else f"about {seconds:.1f} s"


def _has_result(record: Mapping[str, Any]) -> bool:
    """A run in which every step failed is a failure, whatever was said about it."""
    return not record["results"] or any(result["status"] == "done" for result in record["results"])
