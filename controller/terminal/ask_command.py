"""`hgpt ask` and `hgpt plan`: a request to the HTTP door, with live progress on standard error and the answer on standard output."""

import argparse
import json
import math
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cluster.errors import HuggingGPTError
from controller.asking.openai_schema import MOST_SEED
from controller.asking.terms import LEAST_TIMEOUT_S
from controller.terminal.client import NO_WISHES, Client, Wishes, add_url_option, check_folder
from controller.terminal.live_progress import Follower, progress_on
from controller.terminal.run_view import given

BAR = 30  # characters of a bar that is the whole


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    for name, text, command in (
        ("ask", "ask in plain words and get one answer", ask_command),
        ("plan", "show the plan, the chosen models and the time it should take, and run nothing", plan_command),
    ):
        parser = subparsers.add_parser(name, help=text)
        parser.add_argument("request", help="what is to be done, in any language")
        parser.add_argument("--file", type=Path, action="append", default=[], metavar="F", help="a text, picture or recording; repeatable")
        parser.add_argument("--model", action="append", default=[], metavar="ID", help="a model to use, as org/name; repeatable")
        if command is ask_command:
            parser.add_argument("--no-cache", action="store_true", help="compute every step, also what was computed before")
            add_run_options(parser)
        add_reply_options(parser, makes_files=command is ask_command)
        parser.set_defaults(run=command)


def add_run_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--timeout", type=_seconds, metavar="S", help="seconds it may take; what is not done by then is left out")
    parser.add_argument("--seed", type=_seed, metavar="N", help="another number, another picture, sound or film")
    parser.add_argument("--timings", action="store_true", help="show where the time went")


def add_reply_options(parser: argparse.ArgumentParser, *, makes_files: bool = True) -> None:
    parser.add_argument("--json", action="store_true", help="print the whole record as JSON")
    add_url_option(parser)
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
    wishes: Wishes = NO_WISHES,
    folder: Path,
    progress: Follower,
    answer_is_shown: bool = True,
) -> Asked:
    """Asks the service at `url`, and saves in `folder` what it made. Raises HuggingGPTError with one sentence."""
    client = Client(url)
    record, answer = follow(client.asked(request, files, wishes), progress, answer_is_shown=answer_is_shown)
    return Asked(record, answer, tuple(client.save(record["artifacts"], folder)))


def follow(chunks: Iterable[Mapping[str, Any]], progress: Follower, *, answer_is_shown: bool) -> tuple[dict[str, Any], str]:
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
    progress.ended(record)
    return record, answer


def ask_command(args: argparse.Namespace) -> int:
    if args.save:
        check_folder(args.save)
    with progress_on(sys.stderr) as progress:
        asked = ask(
            args.url,
            args.request,
            args.file,
            wishes=Wishes(args.model, args.timeout, args.seed, args.no_cache),
            folder=args.save or Path(),
            progress=progress,
            answer_is_shown=not args.json,
        )
    return print_outcome(asked, as_json=args.json, with_timings=args.timings)


def print_outcome(asked: Asked, *, as_json: bool, with_timings: bool) -> int:
    """What is left to print after the answer; gives the exit status."""
    if with_timings:
        print_timings(asked.record.get("timings", {}))
    if as_json:
        print(json.dumps({**asked.record, "answer": asked.answer, "files": list(map(str, asked.saved))}, ensure_ascii=False, indent=2))
    else:
        print()
        for path in asked.saved:
            print(f"saved {path}")
    return 0 if _has_result(asked.record) else 1


def print_timings(timings: Mapping[str, float]) -> None:
    """On standard error: a line for every part of the time, and its share as a bar."""
    total_s = sum(timings.values()) or 1.0
    print(file=sys.stderr)
    for part, took_s in timings.items():
        bar = "█" * round(BAR * took_s / total_s)
        print(f"{part.replace('_', ' '):<13} {took_s:8.3f} s  {100 * took_s / total_s:3.0f} %  {bar}".rstrip(), file=sys.stderr)
    print(f"{'total':<13} {total_s:8.3f} s", file=sys.stderr)


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


def _seconds(text: str) -> float:
    if (seconds := float(text)) >= LEAST_TIMEOUT_S and math.isfinite(seconds):
        return seconds
    raise argparse.ArgumentTypeError(f"{text} is no number of seconds, {LEAST_TIMEOUT_S:g} or more")


def _seed(text: str) -> int:
    if 0 <= (seed := int(text)) <= MOST_SEED:
        return seed
    raise argparse.ArgumentTypeError(f"a seed is a whole number from 0 to {MOST_SEED}")


def _has_result(record: Mapping[str, Any]) -> bool:
    """A run in which every step failed is a failure, whatever was said about it."""
    return not record["results"] or any(result["status"] == "done" for result in record["results"])
