"""Does memory grow with the runs served? Resident memory of the service's processes after 100 runs and after 1,000, on fake models.

Both points come after runs that fill what is bounded by design (results of the last 512 steps, records of the last 256 runs), so that what
grows between them is not a cache. Runs are plain, streamed, failing, left by their client, and with an uploaded file; no two are alike.
"""

import gc
import itertools
import os
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx

from benchmarks.fakes import PORT, fake_service, message, wait
from benchmarks.measure import arguments, report

FIRST_RUNS, LAST_RUNS = 100, 1000  # after the warm-up
CLIENTS = 4
TIMEOUT_S = 60.0
SETTLE_S = 3.0  # for what is told off the runs' way, and for Ray's own counting of references
FILE_BYTES = 5_000
RAY_NAME = "ray::"
KINDS = {  # of process, by the beginning of the name that Ray gives it
    "ray::ServeReplica:hugginggpt:ingress": "ingress",
    "ray::ServeReplica:hugginggpt:fake": "family",
    "ray::ServeReplica:llm:": "llm",
    "ray::ServeReplica:hugginggpt:board": "board",
    "ray::ProxyActor": "proxy",
    "ray::ServeController": "controller",
}
OURS = ("ingress", "family", "llm")  # whose growth is rss_growth_mb


def main() -> None:
    parser = arguments(__doc__ or "")
    parser.add_argument("--warm-up", type=int, default=3000, help="runs before the first point")
    parser.add_argument("--port", type=int, default=PORT)
    args = parser.parse_args()
    with fake_service(args.port) as url:
        figures = measured(url, args.warm_up)
    report(figures, args.out)


def measured(url: str, warm_up: int) -> dict[str, float]:
    numbers = itertools.count()
    with httpx.Client(base_url=url, timeout=TIMEOUT_S) as client:
        served(client, numbers, warm_up)
        served(client, numbers, FIRST_RUNS)
        first = settled_mb()
        served(client, numbers, LAST_RUNS - FIRST_RUNS)
        last = settled_mb()
    figures = {f"{kind}_rss_{runs}_mb": found[kind] for kind in first for runs, found in ((FIRST_RUNS, first), (LAST_RUNS, last))}
    figures |= {f"{kind}_growth_mb": last[kind] - first[kind] for kind in first}
    sums = [sum(found[kind] for kind in OURS) for found in (first, last)]
    return figures | {"rss_100_mb": sums[0], "rss_1000_mb": sums[1], "rss_growth_mb": sums[1] - sums[0], "warm_up_runs": warm_up}


def served(client: httpx.Client, numbers: Iterator[int], runs: int) -> None:
    """So many runs, of every kind in turn, a few at a time. Raises RuntimeError when one ends otherwise than it should."""
    kinds = itertools.cycle((plain, streamed, chain, failing, left, with_file))
    with ThreadPoolExecutor(CLIENTS) as clients:
        for done in [clients.submit(next(kinds), client, next(numbers)) for _ in range(runs)]:
            done.result()


def plain(client: httpx.Client, number: int) -> None:
    _expect(_asked(client, {"s1": wait(f"text_{number}", "1 ms")}), "done")


def chain(client: httpx.Client, number: int) -> None:
    plan = {"s1": wait(f"text_{number}", "1 ms"), "s2": wait("s1", "1 ms"), "s3": wait("s1", "1 ms"), "s4": wait("s3", "1 ms")}
    _expect(_asked(client, plan), "done")


def failing(client: httpx.Client, number: int) -> None:
    _expect(_asked(client, {"s1": wait(f"text_{number}", "fail"), "s2": wait("s1", "1 ms")}), "failed")


def streamed(client: httpx.Client, number: int) -> None:
    with client.stream("POST", "/v1/chat/completions", json=_body({"s1": wait(f"text_{number}", "1 ms")}, stream=True)) as reply:
        if "data: [DONE]" not in list(reply.iter_lines()):
            raise RuntimeError(f"the stream of run {number} has no end: HTTP {reply.status_code}")


def left(client: httpx.Client, number: int) -> None:
    """Its client goes away after the first events, while the step runs."""
    with client.stream("POST", "/v1/chat/completions", json=_body({"s1": wait(f"text_{number}", "200 ms")}, stream=True)) as reply:
        if not next(reply.iter_lines()).startswith("data: "):
            raise RuntimeError(f"the stream of run {number} does not begin: HTTP {reply.status_code}")


def with_file(client: httpx.Client, number: int) -> None:
    content = f"text {number} ".encode().ljust(FILE_BYTES, b".")
    upload = client.post("/v1/files", files={"file": (f"{number}.txt", content)}).raise_for_status().json()
    parts = [{"type": "file", "file": {"file_id": upload["id"]}}, {"type": "text", "text": message({"s1": ["summarization", "f1"]})}]
    _expect(client.post("/v1/chat/completions", json={"messages": [{"role": "user", "content": parts}]}), "done")


def _asked(client: httpx.Client, plan: Mapping[str, Any]) -> httpx.Response:
    return client.post("/v1/chat/completions", json=_body(plan))


def _body(plan: Mapping[str, Any], **more: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": message(plan)}], **more}


def _expect(reply: httpx.Response, status: str) -> None:
    """Of the first step."""
    results = reply.raise_for_status().json()["run"]["results"]
    if not results or results[0]["status"] != status:
        raise RuntimeError(f"a step that should be {status} is {results}")


def settled_mb() -> dict[str, float]:
    """Resident megabytes of the service's processes by kind, a moment after the last run."""
    gc.collect()
    time.sleep(SETTLE_S)
    found: Counter[str] = Counter()
    for name, resident_bytes in descendants(os.getpid()):
        kind = next((kind for beginning, kind in KINDS.items() if name.startswith(beginning)), None)
        if kind is not None:
            found[kind] += resident_bytes
    if missing := set(KINDS.values()) - found.keys():
        raise RuntimeError(f"no process was found of {', '.join(sorted(missing))}")
    return {kind: resident_bytes / 1e6 for kind, resident_bytes in found.items()}


def descendants(root: int, proc: Path = Path("/proc")) -> Iterator[tuple[str, int]]:
    """(name, resident bytes) of Ray's processes under this one. Linux."""
    parents = dict(_each(proc, _parent))
    for pid in parents:
        above = pid
        while above in parents and above != root:
            above = parents[above]
        if above == root and pid != root:
            yield from ((name, size) for _, (name, size) in _each(proc, _named_size, (str(pid),)) if name.startswith(RAY_NAME))


def _each(proc: Path, read: Callable[[Path], Any], pids: tuple[str, ...] | None = None) -> Iterator[tuple[int, Any]]:
    """What can be read of processes; one that has ended meanwhile is left out."""
    for pid in pids or [path.name for path in proc.iterdir() if path.name.isdigit()]:
        try:
            yield int(pid), read(proc / pid)
        except (FileNotFoundError, ProcessLookupError):
            continue


def _parent(process: Path) -> int:
    return int((process / "stat").read_text().rpartition(")")[2].split()[1])


def _named_size(process: Path) -> tuple[str, int]:
    name = (process / "cmdline").read_bytes().partition(b"\0")[0].decode(errors="replace").strip()
    return name, int((process / "statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


if __name__ == "__main__":
    main()
