"""The table of benchmarks/README.md, made of benchmarks/results/*.json: `python -m benchmarks.table` writes it anew.

Knows which figure answers which question, and its goal; measures nothing.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
README, RESULTS = HERE / "README.md", HERE / "results"
BEGIN, END = "<!-- table: python -m benchmarks.table -->\n", "<!-- end of the table -->\n"


@dataclass(frozen=True, slots=True)
class Row:
    """`goal`: "≤ 0.16", "≥ 2", or "" where there is none."""

    benchmark: str
    figure: str
    says: str
    goal: str = ""


ROWS = (
    Row("graph_overhead", "chain_8x10ms_s", "a chain of 8 steps of 10 ms, as a whole chat request", "≤ 0.16"),
    Row("graph_overhead", "diamond_150ms_s", "a diamond, 3 levels of 50 ms", "≤ 0.20"),
    Row("graph_overhead", "fanout_8x100ms_s", "8 steps of 100 ms side by side", "≤ 0.14"),
    Row("graph_overhead", "failing_root_s", "a chain of 8 whose first step fails", "≤ 0.1"),
    Row("graph_overhead", "one_step_0ms_s", "one step of 0 ms"),
    Row("graph_overhead", "dag_1000_over_bare", "a drawn graph of 1,000 steps over bare Ray Serve", "≤ 1.15"),
    Row("graph_overhead", "dag_100_over_bare", "one of 100 steps", "≤ 1.15"),
    Row("graph_overhead", "chain_100_over_bare", "a chain of 100 steps of 10 ms", "≤ 1.15"),
    Row("graph_overhead", "diamonds_101_over_bare", "20 diamonds, one behind the other", "≤ 1.15"),
    Row("graph_overhead", "fanout_100_over_bare", "100 steps of 20 ms side by side", "≤ 1.15"),
    Row("graph_overhead", "fanout_100_execute_over_bare", "the same without HTTP, choice and answer on either side", "≤ 1.15"),
    Row("graph_overhead", "dag_100_app_overhead_per_step_ms", "cost of a step in a graph of 100, beyond the ideal"),
    Row("graph_overhead", "dag_1000_app_overhead_per_step_ms", "in one of 1,000: linear"),
    Row(
        "first_step",
        "first_step_fraction_p50",
        "share of the planning time after which the first step can start, plans of 3 steps or more",
        "≤ 0.5",
    ),
    Row("first_step", "first_step_streamed_s_p50", "the first step of real requests starts after, streamed"),
    Row("first_step", "first_step_unstreamed_s_p50", "and when the plan is not streamed"),
    Row("first_step", "to_the_end_streamed_over_unstreamed_p50", "the whole answer, streamed over not streamed"),
    Row("http_ingress", "http_over_bare_throughput", "requests a second over a bare application of the same hops, 16 clients", "≥ 0.8"),
    Row("http_ingress", "fast_app_empty_16_requests_per_s", "requests a second without steps, 16 clients"),
    Row("http_ingress", "fast_app_chain3_16_requests_per_s", "with a chain of 3"),
    Row("http_ingress", "default_app_chain3_16_requests_per_s", "with a chain of 3, Ray Serve's default settings"),
    Row("cache", "cached_run_ms", "the steps of a run whose results are known", "≤ 20"),
    Row("cache", "steps_run_for_50_equal_requests", "steps that ran for 50 equal requests of 3 steps at once", "≤ 3"),
    Row("batching", "batching_gain", "steps a second in batches over one by one, the smaller of two models", "≥ 2"),
    Row("data_plane", "data_100mb_over_memcpy", "100 MB through 3 steps over one memcpy and their hashing", "≤ 3"),
    Row("model_switch", "minilm_cold_s", "a step of MiniLM in a new process"),
    Row("model_switch", "minilm_warm_s", "with the model loaded"),
    Row("model_switch", "switch_s", "each of two models in turns where only one has room"),
    Row("memory", "rss_growth_mb", "growth of the service's memory from 100 to 1,000 runs, MB"),
    Row("load_fakes", "requests_per_s", "20 users who never pause, on fake models: requests a second"),
    Row("load_fakes", "p99_s", "their waiting, p99"),
    Row("load_fakes", "failures", "their failures", "≤ 0"),
    Row("load", "requests_per_s", "4 users with real requests: requests a second"),
    Row("load", "p50_s", "their waiting, p50"),
    Row("load", "failures", "their failures", "≤ 0"),
)


def main() -> None:
    text = README.read_text(encoding="utf-8")
    README.write_text(with_table(text, table(results())), encoding="utf-8")


def results() -> dict[str, Mapping[str, float]]:
    """Figures by benchmark."""
    return {path.stem: json.loads(path.read_text(encoding="utf-8"))["figures"] for path in sorted(RESULTS.glob("*.json"))}


def table(found: Mapping[str, Mapping[str, float]]) -> str:
    """Markdown. Raises KeyError for a figure that was not measured."""
    lines = ["| benchmark | what | figure | goal | measured |", "|---|---|---|---|---|"]
    before = ""
    for row in ROWS:
        figure = found[row.benchmark][row.figure]
        name = f"`{row.benchmark}`" if row.benchmark != before else ""
        lines.append(
            f"| {name} | {row.says} | `{row.figure}` | {row.goal} | {shown(figure)}{'' if reached(figure, row.goal) else ', missed'} |"
        )
        before = row.benchmark
    return "\n".join(lines) + "\n"


def reached(figure: float, goal: str) -> bool:
    if not goal:
        return True
    relation, _, bound = goal.partition(" ")
    return figure <= float(bound) if relation == "≤" else figure >= float(bound)


def shown(figure: float) -> str:
    """Three digits that count."""
    return f"{figure:.0f}" if figure == round(figure) or figure >= 100 else f"{figure:.3g}"


def with_table(text: str, made: str) -> str:
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}{made}{END}{after}"


if __name__ == "__main__":
    main()
