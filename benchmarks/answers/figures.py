"""Success rates with their intervals, by kind, by task and by language of the request. Pure arithmetic."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import sqrt
from statistics import median, quantiles

from benchmarks.answers.suite import Request

Z95 = 1.959964  # the normal deviate of a two-sided 95 % interval


@dataclass(frozen=True, slots=True)
class Judged:
    request: Request
    seconds: float  # of all its turns
    is_right: bool


def wilson(right: int, of: int) -> tuple[float, float]:
    """The 95 % interval of a rate (Wilson 1927), which holds also where few were asked. Raises ValueError when none was."""
    if not 0 <= right <= of or not of:
        raise ValueError(f"{right} of {of} is no rate")
    rate = right / of
    centre = rate + Z95**2 / (2 * of)
    spread = Z95 * sqrt(rate * (1 - rate) / of + Z95**2 / (4 * of**2))
    return max((centre - spread) / (1 + Z95**2 / of), 0.0), min((centre + spread) / (1 + Z95**2 / of), 1.0)


def figures(judged: Sequence[Judged]) -> dict[str, float]:
    """`success_rate`, `success_rate_<kind>`, `…_task_<task>`, `…_language_<code>`, each with `_low` and `_high`; counts and seconds.

    A request counts for each task that it needs, the usual one where several would do.
    """
    if not judged:
        raise ValueError("no request was asked")
    seconds = [one.seconds for one in judged]
    found = {"requests": float(len(judged)), **_rate("success_rate", judged)}
    for kind, group in _groups((one.request.kind.value, one) for one in judged).items():
        found |= {**_rate(f"success_rate_{kind}", group), f"requests_{kind}": float(len(group))}
    tasks = _groups((task, one) for one in judged for task in sorted({choice[0].value for choice in one.request.tasks}))
    for task, group in sorted(tasks.items()):
        found |= {**_rate(f"success_rate_task_{task}", group), f"requests_task_{task}": float(len(group))}
    for language, group in sorted(_groups((one.request.language, one) for one in judged).items()):
        found |= {**_rate(f"success_rate_language_{language}", group), f"requests_language_{language}": float(len(group))}
    p95 = quantiles(seconds, n=20, method="inclusive")[-1] if len(seconds) > 1 else seconds[0]
    return {**found, "seconds_p50": median(seconds), "seconds_p95": p95}


def _rate(name: str, judged: Sequence[Judged]) -> dict[str, float]:
    right = sum(one.is_right for one in judged)
    low, high = wilson(right, len(judged))
    return {name: right / len(judged), f"{name}_low": low, f"{name}_high": high}


def _groups(pairs: Iterable[tuple[str, Judged]]) -> Mapping[str, list[Judged]]:
    groups: dict[str, list[Judged]] = {}
    for key, one in pairs:
        groups.setdefault(key, []).append(one)
    return groups
