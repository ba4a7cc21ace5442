"""Where the time went: the parts add up, overlaps are counted once, and clocks that differ do no harm."""

import pytest

from cluster.chat import ReplyTiming
from cluster.messages import Done, Failed, Span, TaskResult
from cluster.metrics import Stage
from cluster.tasks import Task
from controller.execution.timing import Interval, Part, critical_path, split
from controller.planning.plan import OutputOf, Plan, Step

BEGAN_S = 1000.0
SUM = Task.SUMMARIZATION


def done(step_id: str, arrived_s: float, started_s: float, finished_s: float, load_s: float = 0.0) -> Done:
    """Seconds after the run's start."""
    return Done(step_id, SUM, "org/m", "x", Span(BEGAN_S + arrived_s, BEGAN_S + started_s, BEGAN_S + finished_s, load_s, "node"))


STAGES = [
    (Stage.PLAN, Interval(0, 2)),
    (Stage.SELECT, Interval(2, 2.1)),
    (Stage.EXECUTE, Interval(2.1, 6)),
    (Stage.ANSWER, Interval(6.2, 8)),
]
PLAN = Plan((Step("s1", SUM, ("x",)), Step("s2", SUM, ("y",)), Step("s3", SUM, (OutputOf("s1"), OutputOf("s2")))))
RESULTS: dict[str, TaskResult] = {"s1": done("s1", 2.2, 2.3, 3.0), "s2": done("s2", 2.2, 2.5, 4.0, 0.5), "s3": done("s3", 4.1, 4.1, 5.9)}
SEEN = {"s1": Interval(2.1, 3.1), "s2": Interval(2.1, 4.05), "s3": Interval(2.1, 6.0)}


def test_every_moment_belongs_to_one_part_and_they_add_up() -> None:
    parts = split(8.2, STAGES, ReplyTiming(0.5, 0.3, 1.0), critical_path(PLAN, RESULTS, SEEN, BEGAN_S))
    expected = {
        "plan_queue": 0.5,
        "plan_prefill": 0.3,
        "plan_decode": 1.0,
        "choose": 0.1,
        "wait": 0.3,  # s2, which s3 waited for longer than for s1
        "load": 0.5,
        "run": 1.0 + 1.8,
        "merge": 0.3,
        "answer": 1.8,
        "overhead": 0.2 + 0.1 + 0.1 + 0.2,  # of the planning, before s2, before s3, at the end
    }
    assert parts == pytest.approx(expected)
    assert sum(parts.values()) == pytest.approx(8.2)


def test_a_step_beside_the_planning_costs_nothing() -> None:
    results: dict[str, TaskResult] = {"s1": done("s1", 0.5, 0.5, 2.05)}
    path = critical_path(Plan(PLAN.steps[:1]), results, {"s1": Interval(0.4, 2.1)}, BEGAN_S)
    parts = split(8.0, STAGES, ReplyTiming(0, 0, 2), path)
    assert parts["run"] == 0.0 and parts["plan_decode"] == pytest.approx(2.0)


def test_a_step_that_failed_ran_as_long_as_it_was_waited_for() -> None:
    path = critical_path(Plan(PLAN.steps[:1]), {"s1": Failed("s1", SUM, "no")}, {"s1": Interval(3, 5)}, BEGAN_S)
    assert split(8.0, STAGES, ReplyTiming(), path)["run"] == pytest.approx(2.0)


def test_another_machines_clock_does_not_take_time_from_before_or_after() -> None:
    for minutes in (-5, 5):
        wrong = BEGAN_S + 60 * minutes
        parts = split(8.0, STAGES, ReplyTiming(), critical_path(PLAN, RESULTS, SEEN, wrong))
        assert sum(parts.values()) == pytest.approx(8.0)
        assert all(took_s >= 0 for took_s in parts.values())


def test_a_language_model_that_says_it_took_longer_than_it_did_is_not_believed() -> None:
    parts = split(8.0, STAGES, ReplyTiming(1, 1, 18), [])
    assert parts["plan_decode"] == pytest.approx(1.8) and parts["overhead"] >= 0


def test_a_run_without_steps_has_all_parts() -> None:
    parts = split(1.0, [(Stage.PLAN, Interval(0, 0.5)), (Stage.ANSWER, Interval(0.5, 1))], ReplyTiming(), [])
    assert list(parts) == [part.value for part in Part] and parts["answer"] == 0.5


def test_a_chain_of_thousands_is_added_up_at_once() -> None:
    count = 5000
    steps = tuple(Step(f"s{n}", SUM, (OutputOf(f"s{n - 1}"),) if n else ("x",)) for n in range(count))
    results: dict[str, TaskResult] = {step.id: done(step.id, n, n + 0.1, n + 0.9) for n, step in enumerate(steps)}
    seen = {step.id: Interval(0, n + 1) for n, step in enumerate(steps)}
    parts = split(count, [], ReplyTiming(), critical_path(Plan(steps), results, seen, BEGAN_S))
    assert (parts["wait"], parts["run"]) == (pytest.approx(0.1 * count), pytest.approx(0.8 * count))
