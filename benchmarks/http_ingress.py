"""How much of what Ray Serve's HTTP can do is left by this service? Clients who never pause, beside a bare Serve application.

Both are asked for the same hops: a request without steps asks the LLM twice, for a plan and for an answer, and one with a chain of
three once, for the plan, and calls three replicas one after another. The LLM echoes, the steps take no time.
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.bare import ROUTE, bare_application
from benchmarks.fakes import fake_service_apart, message, wait
from benchmarks.graphs import as_bare, chain
from benchmarks.http_clients import Clients, Order, Seen, clients, percentile
from benchmarks.measure import arguments, report
from benchmarks.plot import plot_lines
from controller.terminal.serve_command import FAST

CLIENTS = (1, 4, 16, 64)
COMPARED_AT = 16
SAID = "no language model is loaded"  # by the echo engine, also in its answer

MODES: dict[str, dict[str, str]] = {  # variables that Ray Serve 2.60 reads when it is imported
    "default": dict.fromkeys(FAST, "1"),
    "fast": FAST,  # what `hgpt serve` sets
    "haproxy": {**FAST, "RAY_SERVE_ENABLE_HA_PROXY": "1"},
    "grpc": {"RAY_SERVE_THROUGHPUT_OPTIMIZED": "1", "RAY_SERVE_ENABLE_DIRECT_INGRESS": "0"},
    "all": {"RAY_SERVE_THROUGHPUT_OPTIMIZED": "1", "RAY_SERVE_ENABLE_HA_PROXY": "1"},
}


@dataclass(frozen=True, slots=True)
class Asking:
    """One plan, as the service and as the bare application are asked for it."""

    content: str
    expected: str
    bare: Mapping[str, Any]

    def order(self, url: str, side: str, clients: int, warm_up_s: float, seconds: float) -> Order:
        if side == "app":
            body: Mapping[str, Any] = {"model": "hugginggpt", "messages": [{"role": "user", "content": self.content}]}
            path = "/v1/chat/completions"
        else:
            body, path = {"content": self.content, **self.bare}, f"{ROUTE}/chat"
        return Order(url + path, json.dumps(body), self.expected, clients, warm_up_s, seconds)


CHAIN = {f"s{n}": wait(f"s{n - 1}" if n > 1 else "go", "at once") for n in range(1, 4)}
PLANS = {
    "empty": Asking("Hello", SAID, {"asks": 2, "steps": []}),
    "chain3": Asking(message(CHAIN), '"go+++"', {"asks": 1, **as_bare(chain(3, sleep_ms=0))}),
}
SIDES = ("app", "bare")


@dataclass(slots=True)
class Tally:
    """All rounds of one plan, side and number of clients."""

    latencies_s: list[float] = field(default_factory=list)
    took_s: float = 0.0
    clients_cpu_s: float = 0.0

    def add(self, seen: Seen) -> None:
        self.latencies_s += seen.latencies_s
        self.took_s += seen.took_s
        self.clients_cpu_s += seen.own_cpu_s

    @property
    def requests_per_s(self) -> float:
        return len(self.latencies_s) / self.took_s


def main() -> None:
    parser = arguments(__doc__ or "")
    parser.add_argument("--modes", nargs="+", choices=MODES, default=["default", "fast"], help="of Ray Serve (default: default fast)")
    parser.add_argument("--rounds", type=_positive, default=2)
    parser.add_argument("--seconds", type=float, default=2.0, help="of a round with one client; 64 take twice that (default: 2)")
    parser.add_argument("--warm-up", type=float, default=0.6, help="seconds before it, likewise (default: 0.6)")
    parser.add_argument("--plot", type=Path, help="write requests per second against clients here, as SVG or PNG")
    parser.add_argument("--port", type=int, default=8010)
    args = parser.parse_args()
    figures: dict[str, float] = {}
    for mode in args.modes:
        with fake_service_apart(args.port, MODES[mode], beside=[bare_application(args.port)]) as url, clients() as asking:
            tallies = measured(url, asking, args.rounds, args.warm_up, args.seconds)
        figures |= {f"{mode}_{name}": figure for name, figure in mode_figures(tallies).items()}
    if "fast" in args.modes:
        figures["http_over_bare_throughput"] = figures["fast_http_over_bare_throughput"]
    if args.plot:
        plot(figures, args.modes, args.plot)
    report(figures, args.out)


Tallies = Mapping[tuple[str, str, int], Tally]


def measured(url: str, asking: Clients, rounds: int, warm_up_s: float, seconds: float) -> Tallies:
    """By plan, side and number of clients. The two sides take turns, so that a busy moment of the machine touches both."""
    tallies = {(plan, side, count): Tally() for plan in PLANS for count in CLIENTS for side in SIDES}
    for asked in PLANS.values():  # a first moment for what only the first requests meet
        for side in SIDES:
            asking.ask(asked.order(url, side, 4, 0.0, 2.0))
    for _ in range(rounds):
        for (plan, side, count), tally in tallies.items():
            longer = 1 + count / 64  # many clients wait long for each answer
            tally.add(asking.ask(PLANS[plan].order(url, side, count, longer * warm_up_s, longer * seconds)))
    return tallies


def mode_figures(tallies: Tallies) -> dict[str, float]:
    """`http_over_bare_throughput` is the smaller of the two plans' shares, at COMPARED_AT clients."""
    figures: dict[str, float] = {}
    for (plan, side, count), tally in tallies.items():
        head = f"{side}_{plan}_{count}"
        figures[f"{head}_requests_per_s"] = tally.requests_per_s
        figures[f"{head}_p50_ms"] = 1000 * percentile(tally.latencies_s, 0.5)
        figures[f"{head}_p99_ms"] = 1000 * percentile(tally.latencies_s, 0.99)
    shares = {plan: tallies[plan, "app", COMPARED_AT].requests_per_s / tallies[plan, "bare", COMPARED_AT].requests_per_s for plan in PLANS}
    figures |= {f"{plan}_over_bare_throughput": share for plan, share in shares.items()}
    figures["http_over_bare_throughput"] = min(shares.values())
    figures["load_generator_cores_most"] = max(tally.clients_cpu_s / tally.took_s for tally in tallies.values())
    return figures


def plot(figures: Mapping[str, float], modes: Sequence[str], out: Path) -> None:
    """Of the chain."""
    lines = {
        f"{name}, {mode}": [(count, figures[f"{mode}_{side}_chain3_{count}_requests_per_s"]) for count in CLIENTS]
        for mode in modes
        for side, name in (("app", "this service"), ("bare", "bare Ray Serve"))
    }
    title = "A chain of three steps of 0 ms, whole requests"
    plot_lines(out, lines, title=title, across="clients", up="requests per second", up_scale="linear")


def _positive(text: str) -> int:
    if (number := int(text)) < 1:
        raise argparse.ArgumentTypeError(f"{text} is less than 1")
    return number


if __name__ == "__main__":
    main()
