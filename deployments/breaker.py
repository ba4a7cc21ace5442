"""Breaker: sets a model that keeps failing aside for a while. Counts and times; knows nothing of models, Ray or why they fail.

What its callers count: a model that could not be downloaded or loaded, ran out of memory or out of time, or threw what is no
ModelError. A ModelError out of a running model does not count: runners raise it for an input that they cannot work on, and one
person's broken file must not take a good model away from everybody else.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass


@dataclass(slots=True)
class _Record:
    failures: int = 0  # in a row
    failed_s: float = 0.0


class Breaker:
    """After a rest one more try is allowed; when it fails the rest starts again."""

    def __init__(self, failures_in_a_row: int, rest_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._limit = failures_in_a_row
        self._rest_s = rest_s
        self._clock = clock
        self._records: dict[str, _Record] = {}

    def failed(self, model_id: str) -> None:
        record = self._records.setdefault(model_id, _Record())
        record.failures += 1
        record.failed_s = self._clock()

    def worked(self, model_id: str) -> None:
        self._records.pop(model_id, None)

    def is_set_aside(self, model_id: str) -> bool:
        return self._rest_left_s(model_id) > 0

    @property
    def set_aside(self) -> frozenset[str]:
        return frozenset(filter(self.is_set_aside, self._records))

    def candidates(self, models: Sequence[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Those to try, in order, and why the others are passed over, a sentence each.

        When all are set aside, the one whose last failure is longest ago is tried: trying costs less than refusing the step.
        """
        to_try = [model for model in models if not self.is_set_aside(model)]
        if not to_try and models:
            to_try = [min(models, key=lambda model: self._records[model].failed_s)]
        return tuple(to_try), tuple(self._sentence(model) for model in models if model not in to_try)

    def _rest_left_s(self, model_id: str) -> float:
        record = self._records.get(model_id)
        if record is None or record.failures < self._limit:
            return 0.0
        return max(0.0, record.failed_s + self._rest_s - self._clock())

    def _sentence(self, model_id: str) -> str:
        failures, left_s = self._records[model_id].failures, self._rest_left_s(model_id)
        return f"{model_id}: set aside after {failures} failures in a row, for {left_s:.0f} s more"
