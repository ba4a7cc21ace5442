"""TaskBench's scores of plans (microsoft/JARVIS, taskbench/evaluate.py): how much of the gold plan a predicted one has. Pure.

Each plan becomes four sets, and F1 is micro: true positives, false positives and false negatives are summed over the requests first.

    node   the tasks' names
    edge   (name of the task referred to, name of the task that refers), from the arguments, where they are two nodes
    type   (task, type of an argument)
    value  (task, type of an argument, name of the task it refers to or the literal as it stands)

A reference of a node to itself, to no node or to a task that is none of the 23 gives nothing, and nor does a node of such a task.
Everywhere `_` in a task's name is read as a space. F1 is 0 where there is nothing to find and nothing was found, as the evaluator has it.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from benchmarks.taskbench import NAME_OF, Node
from cluster.tasks import TASKS

KINDS = ("single", "chain", "dag")
RESAMPLES = 1000
SEED = 20261124

# A reference has the first output type of its task; the evaluator's table gives this one none.
_TYPE_OF = {name: TASKS[task].output.value for task, name in NAME_OF.items()} | {"Sentence Similarity": "none"}
# A literal has a type if it has one of these anywhere in it; the first line wins. Spelled as the evaluator spells them.
_EXTENSIONS = {
    "image": (".jpg", ".png", ".jpeg", ".gif", ".bmp", ".tiff", ".svg", ".ico"),
    "audio": (".mp3", ".wav", ".wma", ".ogg", ".aac", ".flac", ".aiff", ".au"),
    "video": (".mp4", ".avi", ".mov", ".flv", ".wmv", ".mkv", ".webm", ".m4v", ".mpg", ".mpeg"),
}
_NODE = re.compile(r"<node-(\d+)>")

Counts = npt.NDArray[np.int64]  # (requests, measures, 3): true positives, false positives, false negatives
Measure = Callable[[Sequence[Node]], set[tuple[str, ...]]]
Selected = npt.NDArray[np.bool_]  # (requests,)


@dataclass(frozen=True, slots=True)
class Pair:
    """What a request asks for and what was planned: `predicted` is None where no valid plan came."""

    kind: str  # one of KINDS
    gold: tuple[Node, ...]
    predicted: tuple[Node, ...] | None


def score(pairs: Sequence[Pair]) -> dict[str, float]:
    """node_f1, edge_f1, type_f1, value_f1 and invalid_rate, from 0 to 1.

    Each F1 also as `…_single`, `…_chain`, `…_dag` (a kind that no request has is left out), and as `…_valid`, over the requests that got a
    valid plan; everywhere else a missing plan counts as an empty one. Raises ValueError when there are no pairs.
    """
    each_once = np.ones((1, _count(pairs)), dtype=np.int64)
    return {name: float(figures[0]) for name, figures in _figures(pairs, each_once).items()}


def intervals(pairs: Sequence[Pair], resamples: int = RESAMPLES, seed: int = SEED) -> dict[str, tuple[float, float]]:
    """The 2.5th and 97.5th percentile of each figure of `score` when requests are drawn with replacement, as many as there are.

    Raises ValueError when there are no pairs.
    """
    count = _count(pairs)
    drawn = np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), size=resamples)
    bounds = {name: np.percentile(figures, (2.5, 97.5)) for name, figures in _figures(pairs, drawn).items()}
    return {name: (float(low), float(high)) for name, (low, high) in bounds.items()}


def _figures(pairs: Sequence[Pair], times: Counts) -> dict[str, npt.NDArray[np.float64]]:
    """Each figure under several weightings: `times` (weightings, requests) says how often a request counts."""
    counts = np.array([[_counted(measure, pair) for measure in _MEASURES.values()] for pair in pairs])
    is_invalid = np.array([pair.predicted is None for pair in pairs])
    parts: dict[str, Selected] = {"": np.ones(len(pairs), dtype=np.bool_)}
    for kind in KINDS:
        if any(pair.kind == kind for pair in pairs):
            parts[f"_{kind}"] = np.array([pair.kind == kind for pair in pairs])
    parts["_valid"] = ~is_invalid
    figures = {
        f"{name}_f1{suffix}": _f1(times[:, selected] @ counts[selected, place])
        for suffix, selected in parts.items()
        for place, name in enumerate(_MEASURES)
    }
    return figures | {"invalid_rate": (times @ is_invalid) / len(pairs)}


def _count(pairs: Sequence[Pair]) -> int:
    if not pairs:
        raise ValueError("there are no plans to score")
    return len(pairs)


def _f1(sums: Counts) -> npt.NDArray[np.float64]:
    """(weightings, 3) → (weightings,)"""
    both = 2.0 * sums[:, 0]
    of = both + sums[:, 1] + sums[:, 2]
    ratios = np.zeros_like(both)
    np.divide(both, of, out=ratios, where=of > 0)
    return ratios


def _counted(measure: Measure, pair: Pair) -> tuple[int, int, int]:
    gold, predicted = measure(pair.gold), measure(pair.predicted or ())
    return len(gold & predicted), len(predicted - gold), len(gold - predicted)


@dataclass(frozen=True, slots=True)
class _Argument:
    task: str  # that takes it
    type: str
    value: str
    is_reference: bool


def _names(nodes: Sequence[Node]) -> set[tuple[str, ...]]:
    return {(name,) for node in nodes if (name := _name(node)) in _TYPE_OF}


def _edges(nodes: Sequence[Node]) -> set[tuple[str, ...]]:
    return {(given.value, given.task) for given in _arguments(nodes) if given.is_reference}


def _types(nodes: Sequence[Node]) -> set[tuple[str, ...]]:
    return {(given.task, given.type) for given in _arguments(nodes)}


def _values(nodes: Sequence[Node]) -> set[tuple[str, ...]]:
    return {(given.task, given.type, given.value) for given in _arguments(nodes)}


_MEASURES: Mapping[str, Measure] = {"node": _names, "edge": _edges, "type": _types, "value": _values}


def _arguments(nodes: Sequence[Node]) -> Iterator[_Argument]:
    for place, node in enumerate(nodes):
        task = _name(node)
        for argument in node.arguments if task in _TYPE_OF else ():
            if not (found := _NODE.search(argument)):
                yield _Argument(task, _type(argument), argument, is_reference=False)
            elif (wanted := int(found[1])) != place and wanted < len(nodes) and (name := _name(nodes[wanted])) in _TYPE_OF:
                yield _Argument(task, _TYPE_OF[name], name, is_reference=True)


def _type(literal: str) -> str:
    bare = literal.strip("'")
    found = (kind for kind, extensions in _EXTENSIONS.items() if any(extension in bare for extension in extensions))
    return next(found, "text")


def _name(node: Node) -> str:
    return node.task.replace("_", " ")
