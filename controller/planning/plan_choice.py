"""The plan that several drafts of one request agree on most (minimum Bayes risk decoding over task graphs)."""

from collections import Counter
from collections.abc import Sequence

from controller.planning.plan import InputFile, OutputOf, Plan, Step


def most_agreed(plans: Sequence[Plan]) -> Plan:
    """The plan that shares most tasks and edges with all the others; of equals the earliest. Needs one plan at least."""
    parts = [_parts(plan) for plan in plans]
    agreement = [sum(_likeness(one, other) for other in parts) for one in parts]
    return plans[agreement.index(max(agreement))]


def _parts(plan: Plan) -> Counter[tuple[str, ...]]:
    """Tasks, and what feeds each: by task and not by id, because drafts number their steps as they like."""
    tasks = {step.id: step.task.value for step in plan.steps}
    return Counter(part for step in plan.steps for part in ((step.task.value,), *_edges(step, tasks)))


def _edges(step: Step, tasks: dict[str, str]) -> list[tuple[str, ...]]:
    edges: list[tuple[str, ...]] = []
    for source in (*step.inputs, *step.options.values()):
        match source:
            case OutputOf(step=name):
                edges.append((step.task.value, "step", tasks[name]))
            case InputFile(id=name):
                edges.append((step.task.value, "file", name))
            case _:
                edges.append((step.task.value, "text", str(source)))
    return edges


def _likeness(one: Counter[tuple[str, ...]], other: Counter[tuple[str, ...]]) -> float:
    """F1 of their parts; two empty plans are alike."""
    total = one.total() + other.total()
    return 2 * (one & other).total() / total if total else 1.0
