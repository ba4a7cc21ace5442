"""How long a plan should take is told from what was measured, and not where nothing was."""

import pytest

from cluster.state import ClusterState, ModelState, ReplicaState
from cluster.tasks import Task
from controller.choosing.estimate import critical_path_s, estimates
from controller.choosing.selector import Choice
from controller.planning.plan import OutputOf, Plan, Step


def a_step(step_id: str, *needs: str) -> Step:
    return Step(step_id, Task.TEXT_GENERATION, tuple(OutputOf(need) for need in needs) or ("x",))


DIAMOND = Plan((a_step("s1"), a_step("s2", "s1"), a_step("s3", "s1"), a_step("s4", "s2", "s3")))


def estimated(plan: Plan, *models: ModelState, **chosen: str) -> dict[str, float | None]:
    choices = {step.id: Choice((chosen.get(step.id, "org/m"),), "") for step in plan.steps}
    return estimates(plan, choices, ClusterState((ReplicaState("r", "text", "n", 1, 0, models),)))


def test_a_model_that_never_ran_here_has_no_estimate_and_neither_has_the_plan() -> None:
    seconds = estimated(DIAMOND, ModelState("org/m", True, run_s=2.0), s3="org/new")
    assert seconds == {"s1": 2.0, "s2": 2.0, "s3": None, "s4": 2.0}
    assert critical_path_s(DIAMOND, seconds) is None


def test_side_by_side_steps_take_as_long_as_the_longest() -> None:
    seconds = estimated(DIAMOND, ModelState("org/m", True, run_s=2.0), ModelState("org/slow", True, run_s=5.0), s3="org/slow")
    assert critical_path_s(DIAMOND, seconds) == pytest.approx(9.0)


def test_a_queue_is_waited_for_and_a_model_is_loaded_once() -> None:
    assert estimated(Plan((a_step("s1"),)), ModelState("org/m", True, in_flight=2, run_s=1.0)) == {"s1": 3.0}
    chain = Plan((a_step("s1"), a_step("s2", "s1")))
    assert estimated(chain, ModelState("org/m", False, run_s=1.0, load_s=10.0)) == {"s1": 11.0, "s2": 1.0}


def test_a_plan_without_steps_has_no_estimate() -> None:
    assert critical_path_s(Plan(), {}) is None
