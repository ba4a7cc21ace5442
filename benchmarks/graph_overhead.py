"""What does the machinery cost? Steps that only sleep, through the HTTP door of the whole service on fake models.

First whole chat requests of five plans, beside the ideal: the sleeps on the critical path and nothing else. Then given plans of up to
1,000 steps, beside the same graphs as bare Ray Serve handle calls and as asyncio tasks of one process.
"""

import statistics
import time
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from openai import OpenAI

from benchmarks.bare import bare_application
from benchmarks.fakes import fake_service, message, wait
from benchmarks.graph_runs import HEADERS, SHAPES, STEPS_DRAWN, Timings, measured_in_turns
from benchmarks.graphs import critical_path_s
from benchmarks.measure import arguments, report
from benchmarks.plot import plot_lines

MOST_STEPS = 1000
BARE = "bare_execute"  # the same calls' time inside the bare door, without HTTP: what the service's own stage `execute` is compared with


@dataclass(frozen=True, slots=True)
class Scenario:
    plan: Mapping[str, Any]
    ideal_s: float


SCENARIOS = {
    "chain_8x10ms": Scenario({f"s{n}": wait(f"s{n - 1}" if n > 1 else "go", "10 ms") for n in range(1, 9)}, 0.08),
    "diamond_150ms": Scenario(
        {
            "s1": wait("50 ms", "50 ms"),
            "s2": wait("s1", "50 ms"),
            "s3": wait("s1", "50 ms"),
            "s4": ["text-generation", ["s2", "s3"], "50 ms"],
        },
        0.15,
    ),
    "fanout_8x100ms": Scenario({f"s{n}": wait("go", "100 ms") for n in range(1, 9)}, 0.1),
    "failing_root": Scenario(
        {"s1": wait("go", "fail"), **{f"s{n}": wait(f"s{n - 1}", "10 ms") for n in range(2, 9)}},
        0.0,
    ),
    "one_step_0ms": Scenario({"s1": wait("go", "at once")}, 0.0),
}


def main() -> None:
    parser = arguments(__doc__ or "")
    parser.add_argument("--rounds", type=int, default=25, help="of the chat requests (default: 25)")
    parser.add_argument("--warm-up", type=int, default=8)
    parser.add_argument("--graph-rounds", type=int, default=4, help="of the given plans (default: 4)")
    parser.add_argument("--plot", type=Path, help="write time over ideal against the number of steps here, as SVG or PNG")
    parser.add_argument("--port", type=int, default=8010)
    args = parser.parse_args()
    with fake_service(args.port) as url:
        figures = measured(url, args.rounds, args.warm_up)
    with fake_service(args.port, limits={"max_run_steps": MOST_STEPS}, beside=[bare_application(args.port)]) as url:
        timings = measured_in_turns(url, args.graph_rounds)
    figures |= graph_figures(timings)
    if args.plot:
        plot(timings, args.plot)
    report(figures, args.out)


def measured(url: str, rounds: int, warm_up: int) -> dict[str, float]:
    """Median and best of the rounds; the scenarios take turns, so that a busy moment of the machine touches all of them."""
    client = OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0, default_headers=HEADERS)
    wall_s, execute_s = defaultdict(list), defaultdict(list)
    for number in range(-warm_up, rounds):
        for name, scenario in SCENARIOS.items():
            started = time.perf_counter()
            reply = client.chat.completions.create(model="hugginggpt", messages=[{"role": "user", "content": message(scenario.plan)}])
            took_s = time.perf_counter() - started
            run = (reply.model_extra or {})["run"]
            if len(run["results"]) != len(scenario.plan):
                raise RuntimeError(f"{name}: {len(run['results'])} results for {len(scenario.plan)} steps")
            if number >= 0:
                wall_s[name].append(took_s)
                execute_s[name].append(run["seconds"]["execute"])
    figures = {}
    for name, scenario in SCENARIOS.items():
        figures[f"{name}_s"] = statistics.median(wall_s[name])
        figures[f"{name}_best_s"] = min(wall_s[name])
        figures[f"{name}_execute_s"] = statistics.median(execute_s[name])
        figures[f"{name}_ideal_s"] = scenario.ideal_s
    return figures


def graph_figures(timings: Timings) -> dict[str, float]:
    """Medians of each shape for each of the three, what the service takes over bare Ray, and what a step costs over the ideal."""
    figures: dict[str, float] = {}
    for shape, graph in SHAPES.items():
        medians_s = {kind: statistics.median(took_s) for kind, took_s in timings.whole_s[shape].items()}
        figures |= {f"{shape}_{kind}_s": median_s for kind, median_s in medians_s.items()}
        stages_s = {stage: statistics.median(took_s) for stage, took_s in timings.stages_s[shape].items()}
        figures |= {f"{shape}_{stage}_s" if stage == BARE else f"{shape}_app_{stage}_s": took_s for stage, took_s in stages_s.items()}
        figures[f"{shape}_ideal_s"] = critical_path_s(graph)
        figures[f"{shape}_over_bare"] = medians_s["app"] / medians_s["bare"]
        figures[f"{shape}_execute_over_bare"] = stages_s["execute"] / stages_s[BARE]
    for steps in STEPS_DRAWN:
        for kind in ("app", "bare"):
            over_s = figures[f"dag_{steps}_{kind}_s"] - figures[f"dag_{steps}_ideal_s"]
            figures[f"dag_{steps}_{kind}_overhead_per_step_ms"] = 1000 * over_s / steps
    return figures


def plot(timings: Timings, out: Path) -> None:
    """Of the drawn graphs."""
    lines = {
        name: [
            (steps, statistics.median(timings.whole_s[f"dag_{steps}"][kind]) - critical_path_s(SHAPES[f"dag_{steps}"]))
            for steps in STEPS_DRAWN
        ]
        for kind, name in (("app", "this service"), ("bare", "bare Ray Serve"), ("asyncio", "asyncio, one process"))
    }
    plot_lines(out, lines, title="What a drawn graph takes beyond its critical path", across="steps", up="seconds over the ideal")


if __name__ == "__main__":
    main()
