"""Figures: how fast models ran and loaded on this replica, as means in which the last few weigh most. Counts nothing else."""

from dataclasses import dataclass

WEIGHT = 0.3  # of the newest figure
KEPT = 200  # models remembered; the one heard of longest ago is forgotten first


@dataclass(slots=True)
class Means:
    """Seconds; None before the first. The least are of all that were seen here, not of the last few."""

    run_s: float | None = None
    load_s: float | None = None
    least_run_s: float | None = None
    least_load_s: float | None = None


class Figures:
    def __init__(self) -> None:
        self._means: dict[str, Means] = {}

    def ran(self, model_id: str, seconds: float) -> None:
        means = self._touched(model_id)
        means.run_s = _mixed(means.run_s, seconds)
        means.least_run_s = seconds if means.least_run_s is None else min(seconds, means.least_run_s)

    def loaded(self, model_id: str, seconds: float) -> None:
        means = self._touched(model_id)
        means.load_s = _mixed(means.load_s, seconds)
        means.least_load_s = seconds if means.least_load_s is None else min(seconds, means.least_load_s)

    def of(self, model_id: str) -> Means:
        return self._means.get(model_id, Means())

    @property
    def models(self) -> tuple[str, ...]:
        return tuple(self._means)

    def _touched(self, model_id: str) -> Means:
        means = self._means[model_id] = self._means.pop(model_id, Means())
        if len(self._means) > KEPT:
            del self._means[next(iter(self._means))]
        return means


def _mixed(mean: float | None, new: float) -> float:
    return new if mean is None else mean + WEIGHT * (new - mean)
