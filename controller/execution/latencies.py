"""Latencies: how long the stages of the last runs of this process took."""

from collections import deque
from collections.abc import Mapping
from math import ceil
from typing import Any

from cluster.metrics import Stage

MOST_RUNS = 200


class Latencies:
    def __init__(self, most: int = MOST_RUNS) -> None:
        self._runs: deque[Mapping[str, float]] = deque(maxlen=most)

    def add(self, seconds: Mapping[str, float]) -> None:
        """Of a run that has ended, by stage."""
        self._runs.append(dict(seconds))

    def as_json(self) -> dict[str, Any]:
        """For each stage that was run: of how many runs, and the seconds that half of them, and 95 in a hundred, stayed within."""
        told = {}
        for stage in Stage:
            if took_s := sorted(run[stage] for run in self._runs if stage in run):
                told[stage.value] = {
                    "runs": len(took_s),
                    "p50_s": round(_percentile(took_s, 50), 4),
                    "p95_s": round(_percentile(took_s, 95), 4),
                }
        return told


def _percentile(ascending: list[float], percent: int) -> float:
    """By nearest rank: a value that was seen."""
    return ascending[ceil(len(ascending) * percent / 100) - 1]
