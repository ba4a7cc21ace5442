"""What does the machinery cost? Plans whose steps only sleep, through the HTTP door of the whole service on fake models.

Whole-request wall time as an OpenAI client sees it, beside the ideal: the sleeps on the critical path and nothing else.
"""

import statistics
import time
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from openai import OpenAI

from benchmarks.fakes import fake_service, message, wait
from benchmarks.measure import arguments, report


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
    parser.add_argument("--rounds", type=int, default=25)
    parser.add_argument("--warm-up", type=int, default=8)
    args = parser.parse_args()
    with fake_service() as url:
        figures = measured(url, args.rounds, args.warm_up)
    report(figures, args.out)


def measured(url: str, rounds: int, warm_up: int) -> dict[str, float]:
    """Median and best of the rounds; the scenarios take turns, so that a busy moment of the machine touches all of them."""
    client = OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0)
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


if __name__ == "__main__":
    main()
