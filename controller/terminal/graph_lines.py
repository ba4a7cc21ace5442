"""A plan's graph as lines: which step follows which, drawn with arrows in front of the steps. Pure; knows ids alone.

Every step has one line, below a step that it needs. Steps that may run side by side branch off (├─ └─); the only one behind a step follows
it (↳) at its own depth, so that a chain of a hundred steps is no wider than one of two. A step that needs several stands below the last.
"""

from collections.abc import Mapping, Sequence

BRANCH, LAST_BRANCH, CHAIN = "├─ ", "└─ ", "↳ "


def graph_lines(needs: Mapping[str, Sequence[str]]) -> list[tuple[str, str]]:
    """What is drawn in front of each step, and its id, top down. `needs`: by step id, in the plan's order."""
    place = {step: number for number, step in enumerate(needs)}
    below: dict[str | None, list[str]] = {}
    for step, needed in needs.items():
        last = max((need for need in needed if need in place), key=place.__getitem__, default=None)
        below.setdefault(last, []).append(step)
    lines: list[tuple[str, str]] = []
    left = _drawn(below.get(None, []), "", "")
    while left:  # no recursion: a plan that a person sent may be a chain of thousands
        front, step, margin = left.pop()
        lines.append((front, step))
        left.extend(_drawn(below.get(step, []), margin, CHAIN, indents=front.endswith(CHAIN)))
    return lines


def _drawn(steps: Sequence[str], margin: str, chain: str, *, indents: bool = False) -> list[tuple[str, str, str]]:
    """Steps with one parent, the last first: what stands in front of each, its id, and the margin of what is below it."""
    if len(steps) == 1:
        return [(margin + chain, steps[0], margin)]
    margin += " " * len(CHAIN) * indents
    drawn = [(margin + BRANCH, step, margin + "│  ") for step in steps[:-1]]
    drawn += [(margin + LAST_BRANCH, step, margin + "   ") for step in steps[-1:]]
    return drawn[::-1]
