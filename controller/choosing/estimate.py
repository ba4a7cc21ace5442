"""How long a plan will take, from what its models took on this cluster lately. Pure functions; what was never seen is not guessed."""

from collections.abc import Mapping

from cluster.state import ClusterState
from controller.choosing.selector import Choice
from controller.planning.plan import Plan


def estimates(plan: Plan, choices: Mapping[str, Choice], cluster: ClusterState) -> dict[str, float | None]:
    """Seconds by step id: its model's usual run, the queue before it, and loading where it must be; None for a model that never ran here.

    A model is loaded once, so that only the first of its steps waits for it. A loading that was never seen counts nothing.
    """
    seconds: dict[str, float | None] = {}
    loaded: set[str] = set()
    for step in plan.steps:
        model = choices[step.id].models[0]
        view = cluster.view(model)
        if view.run_s is None:
            seconds[step.id] = None
            continue
        waits_s = view.in_flight * view.run_s / view.loaded_on if view.loaded_on else 0.0
        loads_s = 0.0 if view.loaded_on or model in loaded else view.load_s or 0.0
        loaded.add(model)
        seconds[step.id] = view.run_s + waits_s + loads_s
    return seconds


def critical_path_s(plan: Plan, seconds: Mapping[str, float | None]) -> float | None:
    """The longest chain of steps; None where a step's time is not known, and for a plan without steps, which only the LLM answers."""
    ends: dict[str, float] = {}
    for step in plan.steps:
        own_s = seconds.get(step.id)
        if own_s is None:
            return None
        ends[step.id] = own_s + max((ends[need] for need in step.needs), default=0.0)
    return max(ends.values(), default=None)
