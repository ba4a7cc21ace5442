"""What does a result that is known cost? The same plans asked for the first time, again, and fifty times at once, on fake models.

`cached_run_ms` is what the steps of a run took whose results were all known; the rest of the request is plan, answer and HTTP.
"""

import statistics
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx

from benchmarks.fakes import fake_service, message, wait
from benchmarks.measure import arguments, report

STEPS = (1, 3, 8)
TOLD = "50 ms"  # what every step takes when it runs
AT_ONCE = 50


def main() -> None:
    parser = arguments(__doc__ or "")
    parser.add_argument("--rounds", type=int, default=30)
    args = parser.parse_args()
    with fake_service() as url, httpx.Client(base_url=url, timeout=60) as client:
        figures = {**known(client, args.rounds), **together(client)}
    report(figures, args.out)


def known(client: httpx.Client, rounds: int) -> dict[str, float]:
    """Chains of each length, every round with words of its own: computed, then known. Raises RuntimeError where one is not."""
    figures: dict[str, float] = {}
    cached_ms: list[float] = []
    for length in STEPS:
        times: dict[str, list[float]] = {"first": [], "first_request": [], "again": [], "again_request": []}
        for number in range(-3, rounds):
            for turn in ("first", "again"):
                started_s = time.perf_counter()
                run = _asked(client, _chain(length, f"{length} {number}"))
                took_s = time.perf_counter() - started_s
                if [result["reused"] for result in run["results"]] != [turn == "again"] * length:
                    raise RuntimeError(f"{turn} of a chain of {length}: {run['results']}")
                if number >= 0:
                    times[turn].append(1000 * run["seconds"]["execute"])
                    times[f"{turn}_request"].append(1000 * took_s)
        cached_ms += times["again"]
        figures |= {f"chain_{length}_{name}_ms": statistics.median(values) for name, values in times.items()}
    return {"cached_run_ms": statistics.median(cached_ms), "cached_run_worst_ms": max(cached_ms), **figures}


def together(client: httpx.Client) -> dict[str, float]:
    """Equal requests at once: how many of their steps ran, and what the requests took beside a single one."""
    plan = _chain(3, "together")
    started_s = time.perf_counter()
    with ThreadPoolExecutor(AT_ONCE) as clients:
        runs = list(clients.map(lambda _: _asked(client, plan), range(AT_ONCE)))
    took_s = time.perf_counter() - started_s
    ran = {result["span"]["started_s"] for run in runs for result in run["results"]}
    return {f"steps_run_for_{AT_ONCE}_equal_requests": len(ran), f"{AT_ONCE}_equal_requests_s": took_s}


def _chain(length: int, words: str) -> dict[str, Any]:
    return {f"s{n}": wait(f"s{n - 1}" if n > 1 else words, TOLD) for n in range(1, length + 1)}


def _asked(client: httpx.Client, plan: Mapping[str, Any]) -> dict[str, Any]:
    body = {"model": "hugginggpt", "messages": [{"role": "user", "content": message(plan)}]}
    run: dict[str, Any] = client.post("/v1/chat/completions", json=body).raise_for_status().json()["run"]
    return run


if __name__ == "__main__":
    main()
