"""The graphs that benchmarks run: their shape, their ideal time, and both forms in which they are sent."""

import pytest

from benchmarks.graphs import Node, as_bare, as_plan, chain, critical_path_s, diamonds, drawn, fan_out, texts
from cluster.tasks import Task
from controller.planning.plan_json import read_steps

DIAMOND = (Node("s1", 5), Node("s2", 10, ("s1",)), Node("s3", 30, ("s1",)), Node("s4", 1, ("s2", "s3")))


def test_a_chain_takes_the_sum_of_its_steps_and_a_fan_out_takes_one() -> None:
    assert critical_path_s(chain(8, 10)) == pytest.approx(0.08)
    assert critical_path_s(fan_out(8, 10)) == pytest.approx(0.01)


def test_a_diamond_takes_its_slower_side() -> None:
    assert critical_path_s(DIAMOND) == pytest.approx(0.036)


def test_diamonds_stand_below_each_other() -> None:
    graph = diamonds(levels=2, sleep_ms=10)
    assert len(graph) == 11
    assert critical_path_s(graph) == pytest.approx(0.05)
    assert graph[5] == Node("s6", 10, ("s2", "s3", "s4", "s5"))
    assert graph[6].needs == ("s6",)


def test_no_step_takes_no_time() -> None:
    assert critical_path_s(()) == 0


def test_a_seed_draws_the_same_graph_again() -> None:
    assert drawn(50, 20, seed=7) == drawn(50, 20, seed=7)
    assert drawn(50, 20, seed=7) != drawn(50, 20, seed=8)


def test_a_drawn_step_needs_one_to_three_recent_ones() -> None:
    graph = drawn(300, 20, seed=1)
    places = {node.id: place for place, node in enumerate(graph)}
    assert graph[0].needs == ()
    for node in graph[1:]:
        assert 1 <= len(set(node.needs)) == len(node.needs) <= 3
        assert all(0 < places[node.id] - places[need] <= 20 for need in node.needs)
        assert 1 <= node.sleep_ms <= 20


def test_a_step_gives_on_what_its_first_need_gave() -> None:
    assert texts(DIAMOND) == {"s1": "go+", "s2": "go++", "s3": "go++", "s4": "go+++"}


@pytest.mark.parametrize("graph", [chain(3, 10), fan_out(3, 10), diamonds(2, 10), drawn(1000, 20, seed=1000)])
def test_the_service_takes_every_graph_as_a_plan(graph: tuple[Node, ...]) -> None:
    plan = read_steps(as_plan(graph)["steps"], {}, tuple(Task), max_steps=1000, max_characters=100).plan
    assert {step.id: step.needs for step in plan.steps} == {node.id: node.needs for node in graph}


def test_bare_calls_get_seconds_and_needs() -> None:
    assert as_bare(DIAMOND)["steps"][3] == {"id": "s4", "sleep_s": 0.001, "needs": ("s2", "s3")}
