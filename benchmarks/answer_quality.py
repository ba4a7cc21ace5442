"""Are the answers right? The requests of benchmarks/answers/suite.yaml, end to end over HTTP, each judged by what a right answer must hold.

With --url a running service is asked; without it the service of serve_config.yaml is started with a Ray of its own, and stopped. Every
reply is kept in FILE.answers.jsonl beside --out; one that is there already is judged again and not asked again.
"""

import argparse
import json
import signal
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

from benchmarks.answers.asking import Asker, WhisperListener
from benchmarks.answers.checks import Truths, missed
from benchmarks.answers.figures import Judged, figures
from benchmarks.answers.media import make
from benchmarks.answers.reply import Reply
from benchmarks.answers.suite import Kind, Request, Suite, read_suite
from benchmarks.measure import report
from benchmarks.service import service
from cluster.errors import HuggingGPTError
from controller.terminal.client import check_folder
from controller.terminal.serve_command import CONFIG, STOPPED_BY_SIGTERM

FAILED = 1


def main() -> int:
    args = _arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(STOPPED_BY_SIGTERM))  # unwinds, so that Ray is stopped too
    suite = read_suite()
    try:
        wanted = chosen(suite.requests, args.only, args.limit)
        check_report_file(args.out)
        judged = _judged(suite, wanted, args)
        print()
        report(figures(judged), args.out)
    except (HuggingGPTError, OSError) as exc:
        print(f"answer_quality: {exc}", file=sys.stderr)
        return FAILED
    except KeyboardInterrupt:
        print("answer_quality: stopped; the same command goes on from here", file=sys.stderr)
        return FAILED
    return 0


def chosen(requests: Sequence[Request], only: Sequence[str], limit: int | None) -> list[Request]:
    """Those of these kinds and ids, in the suite's order, `limit` at most. Raises HuggingGPTError for a name that is neither."""
    known = {*(request.id for request in requests), *(kind.value for kind in Kind)}
    if unknown := [name for name in only if name not in known]:
        raise HuggingGPTError(f"{unknown[0]} is neither a request nor a kind; the kinds are {', '.join(Kind)}")
    return [one for one in requests if not only or one.id in only or one.kind.value in only][:limit]


def kept(path: Path, requests: Sequence[Request]) -> dict[str, Reply]:
    """The replies of an earlier run by request, where the same was asked. A line that a stop cut short is passed over."""
    asked = {request.id: _as_asked(request) for request in requests}
    replies: dict[str, Reply] = {}
    for line in path.read_bytes().split(b"\n") if path.exists() else ():
        try:
            record = json.loads(line)
            if asked.get(record["id"]) == {name: record[name] for name in ("turns", "files")}:
                replies[record["id"]] = Reply.of_json(record["reply"])
        except (ValueError, KeyError, TypeError, RecursionError):
            continue
    return replies


def check_report_file(path: Path) -> None:
    """Raises HuggingGPTError when no report could be written there, before hours go into it. Creates nothing."""
    if path.is_dir() or not path.name:
        raise HuggingGPTError(f"the report cannot be written to {path}: it is a folder")
    check_folder(path.parent)


def _judged(suite: Suite, wanted: Sequence[Request], args: argparse.Namespace) -> list[Judged]:
    records = args.out.with_suffix(".answers.jsonl")
    replies = kept(records, wanted)
    judged = [_shown(request, replies[request.id], suite.truths) for request in wanted if request.id in replies]
    left = [request for request in wanted if request.id not in replies]
    if not left:
        return judged
    records.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="hgpt-answers-") as folder:
        names = dict.fromkeys(name for request in left for name in request.files)
        media = {name: make(name, suite.media[name], Path(folder)) for name in names}
        with service(args.url, args.config) as url, _appending(records) as file:
            asker = Asker(url, media, WhisperListener())
            for request in left:
                reply = asker.ask(request)
                print(json.dumps(_record(request, reply, suite.truths), ensure_ascii=False), file=file, flush=True)
                judged.append(_shown(request, reply, suite.truths))
    return judged


def _shown(request: Request, reply: Reply, truths: Truths) -> Judged:
    """Prints the request's line."""
    misses = missed(request, reply, truths)
    mark, told = ("✗", f"  {'; '.join(misses)}") if misses else ("✓", "")
    print(f"{mark} {request.id:<28}{reply.seconds:6.1f} s{told}", flush=True)
    return Judged(request, reply.seconds, not misses)


def _record(request: Request, reply: Reply, truths: Truths) -> dict[str, Any]:
    """What is kept of a request: what was asked, what came, and what was missed in it at the time."""
    asked = {"id": request.id, "kind": request.kind.value, **_as_asked(request)}
    return {**asked, "missed": missed(request, reply, truths), "reply": reply.as_json()}


def _as_asked(request: Request) -> Mapping[str, Any]:
    return {"turns": list(request.turns), "files": list(request.files)}


@contextmanager
def _appending(path: Path) -> Iterator[TextIO]:
    """At a line's beginning, also where a stop cut the last one short."""
    is_cut = path.exists() and not path.read_bytes().endswith(b"\n") and path.stat().st_size > 0
    with path.open("a", encoding="utf-8") as file:
        if is_cut:
            file.write("\n")
        yield file


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.answer_quality", description=__doc__)
    parser.add_argument("--config", type=Path, default=CONFIG, help="a Serve config file (default: serve_config.yaml)")
    parser.add_argument("--url", help="a service that runs already, asked instead of starting one")
    parser.add_argument("--only", action="append", default=[], metavar="KIND|ID", help="these requests alone; repeatable")
    parser.add_argument("--limit", type=_positive, metavar="N", help="the first N of them")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="write the JSON report here")
    return parser.parse_args()


def _positive(text: str) -> int:
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"{text} is no number of requests")
    return int(text)


if __name__ == "__main__":
    sys.exit(main())
