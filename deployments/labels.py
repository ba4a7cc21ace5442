"""Labels: those that a call brings, and those that come out with scores. Knows no network."""

from collections.abc import Iterable, Sequence
from typing import Any

from cluster.errors import ModelError
from cluster.tasks import Option
from deployments.model import Call

TOP = 5  # of the classes of a checkpoint, which may be thousands
MIN_SHOWN_SCORE = 0.05  # of the labels after the first: what a person, or the next step, would take for a finding
MAX_LABELS = 100


def labels_of(call: Call, fewest: int) -> tuple[str, ...]:
    """Each once, in the order given. Raises ModelError when there are too few or too many."""
    given = call.options.get(Option.LABELS, ())
    labels = tuple(dict.fromkeys(" ".join(label.split()) for label in (given.split(",") if isinstance(given, str) else given)))
    labels = tuple(label for label in labels if label)
    if not fewest <= len(labels) <= MAX_LABELS:
        raise ModelError(f"{call.task} needs {fewest} to {MAX_LABELS} different labels, and {len(labels)} were given")
    return labels


def ranking(scores: Iterable[tuple[str, float]], top: int | None = None) -> list[dict[str, Any]]:
    """The best `top`, or all, the best first, as `label` and `score`."""
    best = sorted(scores, key=lambda pair: -pair[1])[:top]
    return [{"label": label, "score": round(score, 4)} for label, score in best]


def likely(labels: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Of a ranking the first, and all that score enough."""
    return [label for label in labels if label["score"] >= MIN_SHOWN_SCORE] or list(labels[:1])


def in_words(labels: Iterable[dict[str, Any]]) -> str:
    return ", ".join(f"{label['label']} ({label['score']:.2f})" for label in labels)
