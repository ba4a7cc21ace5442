"""Does it work on this machine? Five real requests against the whole service, sent as `hgpt ask` does.

Shows plan, progress, answer, timeline and files. Starts the service of serve_config.yaml with a Ray of its own and stops it; with
--url a running service is asked. Ends with status 1 when a request failed, or any of its steps.
"""

import argparse
import signal
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import samples
from benchmarks.service import service
from cluster.errors import HuggingGPTError
from controller.terminal.ask_command import Asked, ask
from controller.terminal.progress import Progress
from controller.terminal.serve_command import CONFIG, STOPPED_BY_SIGTERM

FAILED = 1
BAR_WIDTH = 32  # characters


@dataclass(frozen=True, slots=True)
class Request:
    text: str
    files: tuple[Path, ...] = ()


def main() -> int:
    args = _arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(STOPPED_BY_SIGTERM))  # unwinds, so that Ray is stopped too
    try:
        with tempfile.TemporaryDirectory(prefix="hgpt-demo-") as made, service(args.url, args.config) as url:
            print(f"the service at {url} is ready after {time.time() - args.since:.0f} s", flush=True)
            failed = _ask_all(requests(Path(made)), url, args)
    except (HuggingGPTError, FileNotFoundError) as exc:
        print(f"demo: {exc}", file=sys.stderr)
        return FAILED
    except KeyboardInterrupt:
        print("demo: stopped", file=sys.stderr)
        return FAILED
    print(f"\n{failed} of the requests failed" if failed else "\nevery request was answered")
    return FAILED if failed else 0


def requests(made: Path) -> tuple[Request, ...]:
    """The five kinds of input that the service must handle; what has to be drawn is put into the folder `made`."""
    return (
        Request("What is the capital of France?"),
        Request("What is in this photograph? Answer in one sentence.", (samples.photograph("coffee.png"),)),
        Request("What is the total due on this invoice? Say it aloud.", (samples.invoice(made),)),
        Request(
            "Transcribe this recording. From the transcript give me a summary, the named entities and the sentiment, "
            "and read the summary aloud.",
            (samples.recording("beckett.wav"),),
        ),
        Request("Translate this speech into Chinese, summarise the translation in Chinese, and read the summary aloud.", (samples.SPEECH,)),
    )


def timeline(results: Sequence[Mapping[str, Any]]) -> list[str]:
    """One line a step that ran: a bar on the run's own scale, and its seconds since the first step began."""
    done = [result for result in results if result["status"] == "done"]
    if not done:
        return []
    start = min(result["span"]["started_s"] for result in done)
    whole = max(result["span"]["finished_s"] for result in done) - start or 1.0
    width = max(len(result["task"]) for result in done)
    return [f"{result['step']:<4}{result['task']:<{width}}  {_bar(result['span'], start, whole)}" for result in done]


def _ask_all(asked: Sequence[Request], url: str, args: argparse.Namespace) -> int:
    """How many failed. One that fails does not keep the rest away."""
    failed = 0
    for number, request in enumerate(asked, 1):
        print(f"\n{number}. {request.text}  {' '.join(path.name for path in request.files)}", flush=True)
        try:
            with Progress(sys.stdout) as progress:
                reply = ask(url, request.text, request.files, folder=args.out, progress=progress)
        except HuggingGPTError as exc:
            print(f"demo: {exc.message}", file=sys.stderr, flush=True)
            failed += 1
            continue
        if number == 1:
            print(f"\n(first answer after {time.time() - args.since:.0f} s)", end="")
        failed += not _shown(reply)
    return failed


def _shown(reply: Asked) -> bool:
    """Prints what is left to tell, and says whether every step was done."""
    print()
    for line in timeline(reply.record["results"]):
        print(f"   {line}")
    for path in reply.saved:
        print(f"   saved {path}")
    sys.stdout.flush()
    return all(result["status"] == "done" for result in reply.record["results"])


def _bar(span: Mapping[str, float], start: float, whole: float) -> str:
    begin, end = span["started_s"] - start, span["finished_s"] - start
    left = min(int(BAR_WIDTH * begin / whole), BAR_WIDTH - 1)
    length = max(1, round(BAR_WIDTH * (end - begin) / whole))
    return f"|{(' ' * left + '█' * length)[:BAR_WIDTH]:<{BAR_WIDTH}}| {begin:6.1f} – {end:.1f} s"


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.demo", description=__doc__)
    parser.add_argument("--config", type=Path, default=CONFIG, help="a Serve config file (default: serve_config.yaml)")
    parser.add_argument("--url", help="a service that runs already, asked instead of starting one")
    parser.add_argument("--out", type=Path, default=Path("demo-output"), metavar="DIR", help="where made files go (default: demo-output)")
    parser.add_argument("--since", type=float, default=time.time(), metavar="UNIX_SECONDS", help="what the first answer is timed from")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
