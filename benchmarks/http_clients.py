"""HTTP clients who ask again as soon as they are answered, in a process of their own that imports neither Ray nor the service.

An order comes as a line of JSON on standard input; what was seen goes as a line of JSON to standard output.
"""

import asyncio
import json
import math
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass

import aiohttp

REQUEST_TIMEOUT_S = 30.0


@dataclass(frozen=True, slots=True)
class Order:
    url: str
    body: str  # JSON
    expected: str  # what every right reply holds
    clients: int
    warm_up_s: float
    seconds: float


@dataclass(frozen=True, slots=True)
class Seen:
    """Of the requests that were answered after the warm-up."""

    latencies_s: list[float]
    took_s: float
    wrong: int  # replies with another status than 200 or without what was expected
    example: str  # the beginning of a wrong one
    own_cpu_s: float  # of this process


class Clients:
    """The other end of the process's pipes."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process

    def ask(self, order: Order) -> Seen:
        """Blocks. Raises RuntimeError when a reply was wrong, or none came."""
        if self._process.stdin is None or self._process.stdout is None:
            raise RuntimeError("the clients' process has no pipes")
        print(json.dumps(asdict(order)), file=self._process.stdin, flush=True)
        seen = Seen(**json.loads(self._process.stdout.readline()))
        if seen.wrong:
            raise RuntimeError(f"{seen.wrong} wrong replies from {order.url}, such as {seen.example}")
        if not seen.latencies_s:
            raise RuntimeError(f"{order.url} answered none of {order.clients} clients within {order.seconds:g} s: measure longer")
        return seen


@contextmanager
def clients() -> Iterator[Clients]:
    command = [sys.executable, "-m", "benchmarks.http_clients"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield Clients(process)
        finally:
            process.terminate()


def percentile(values: Sequence[float], share: float) -> float:
    """The nearest rank: the smallest value that `share` of all do not exceed."""
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)]


async def asked(order: Order) -> Seen:
    timeout = aiohttp.ClientTimeout(total=REQUEST_TIMEOUT_S)
    headers = {"Content-Type": "application/json", "Cache-Control": "no-store"}
    connector = aiohttp.TCPConnector(limit=order.clients)
    async with aiohttp.ClientSession(timeout=timeout, headers=headers, connector=connector) as session:
        begin = time.perf_counter() + order.warm_up_s
        cpu_s = time.process_time()
        tellings = [_Telling([], []) for _ in range(order.clients)]
        async with asyncio.TaskGroup() as group:
            for telling in tellings:
                group.create_task(_client(session, order, begin, begin + order.seconds, telling))
    wrong = [reply for telling in tellings for reply in telling.wrong]
    latencies_s = [latency_s for telling in tellings for latency_s in telling.latencies_s]
    return Seen(latencies_s, order.seconds, len(wrong), wrong[0] if wrong else "", time.process_time() - cpu_s)


@dataclass(frozen=True, slots=True)
class _Telling:
    """What one client has to tell."""

    latencies_s: list[float]
    wrong: list[str]


async def _client(session: aiohttp.ClientSession, order: Order, begin: float, end: float, telling: _Telling) -> None:
    while (started := time.perf_counter()) < end:
        try:
            async with session.post(order.url, data=order.body) as reply:
                text, status = await reply.text(), reply.status
        except (aiohttp.ClientError, TimeoutError) as exc:
            telling.wrong.append(f"{type(exc).__name__}: {exc}")
            return
        if status != 200 or order.expected not in text:
            telling.wrong.append(f"HTTP {status}: {text[:200]}")
            return
        if begin <= (now := time.perf_counter()) < end:
            telling.latencies_s.append(now - started)


def main() -> None:
    for line in sys.stdin:
        seen = asyncio.run(asked(Order(**json.loads(line))))
        print(json.dumps(asdict(seen)), flush=True)


if __name__ == "__main__":
    main()
