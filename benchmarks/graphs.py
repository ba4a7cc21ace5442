"""Graphs whose steps only sleep, so that the ideal time of each is known: chains, fan-outs, diamonds, and drawn ones. Pure data."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

LONGEST_STEP_MS = 20  # of a drawn graph's steps; the shortest takes 1 ms
MOST_NEEDS = 3
WIDTH = 4  # of a diamond


@dataclass(frozen=True, slots=True)
class Node:
    """A step that waits for those it needs, which stand before it in their graph, and sleeps."""

    id: str
    sleep_ms: int
    needs: tuple[str, ...] = ()


Graph = tuple[Node, ...]


def chain(steps: int, sleep_ms: int) -> Graph:
    return tuple(Node(f"s{n}", sleep_ms, (f"s{n - 1}",) if n > 1 else ()) for n in range(1, steps + 1))


def fan_out(steps: int, sleep_ms: int) -> Graph:
    """All side by side."""
    return tuple(Node(f"s{n}", sleep_ms) for n in range(1, steps + 1))


def diamonds(levels: int, sleep_ms: int) -> Graph:
    """Diamonds one below the other: WIDTH steps side by side after one, and the next one after all of them."""
    nodes = [Node("s1", sleep_ms)]
    for _ in range(levels):
        top, first = nodes[-1].id, len(nodes) + 1
        nodes += [Node(f"s{n}", sleep_ms, (top,)) for n in range(first, first + WIDTH)]
        nodes.append(Node(f"s{first + WIDTH}", sleep_ms, tuple(node.id for node in nodes[-WIDTH:])))
    return tuple(nodes)


def drawn(steps: int, recent: int, seed: int) -> Graph:
    """Each step needs one to MOST_NEEDS of the `recent` before it, so that the graph is about as wide as a part of `recent`."""
    draw = random.Random(seed)  # noqa: S311 - the same graph again, no secret
    nodes: list[Node] = []
    for number in range(1, steps + 1):
        before = [node.id for node in nodes[-recent:]]
        needs = draw.sample(before, min(len(before), draw.randint(1, MOST_NEEDS)))
        nodes.append(Node(f"s{number}", draw.randint(1, LONGEST_STEP_MS), tuple(needs)))
    return tuple(nodes)


def critical_path_s(graph: Sequence[Node]) -> float:
    """The longest way through: what the graph takes where nothing but its sleeps takes time."""
    ends_ms: dict[str, int] = {}
    for node in graph:
        ends_ms[node.id] = node.sleep_ms + max((ends_ms[need] for need in node.needs), default=0)
    return max(ends_ms.values(), default=0) / 1000


def texts(graph: Sequence[Node]) -> dict[str, str]:
    """What each step gives, by its id: what its first need gave, or "go", and a mark."""
    given: dict[str, str] = {}
    for node in graph:
        given[node.id] = f"{given[node.needs[0]] if node.needs else 'go'}+"
    return given


def as_plan(graph: Sequence[Node]) -> dict[str, Any]:
    """The plan of a POST /v1/runs, for fake models."""
    return {"steps": [_as_step(node) for node in graph], "request": "Go."}


def as_bare(graph: Sequence[Node]) -> dict[str, Any]:
    """The same for the bare application (benchmarks/bare.py)."""
    return {"steps": [{"id": node.id, "sleep_s": node.sleep_ms / 1000, "needs": node.needs} for node in graph]}


def _as_step(node: Node) -> dict[str, Any]:
    inputs = [{"step": need} for need in node.needs] or [{"text": "go"}]
    return {"id": node.id, "task": "text-generation", "inputs": inputs, "options": {"prompt": f"{node.sleep_ms} ms"}}
