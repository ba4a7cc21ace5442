"""What GET /v1/cluster tells when everything is known, and when something is not."""

import asyncio
import threading
from typing import Any

import httpx
import pytest

from cluster.metrics import Stage
from cluster.state import ClusterState, ModelState, ReplicaState
from controller.execution.latencies import Latencies
from controller.watching.cluster_view import cluster_view
from controller.watching.ray_facts import STALE_S, Asked, DeploymentFacts, NodeFacts, read_pages, wanted_samples

STATE = ClusterState((ReplicaState("r1", "text", "n1", 4000, 3000, (ModelState("org/m", True, 2, 0.5, 3.0),)),))
NODES = [
    NodeFacts("n1", "head", "10.0.0.1", True, {"CPU": 8.0, "GPU": 1.0}, {"CPU": 7.5}, "10.0.0.1:1"),
    NodeFacts("n2", "gone", "10.0.0.2", False, {}, None, None),
]
DEPLOYMENTS = [DeploymentFacts("app", "text", "UPDATING", {"RUNNING": 2, "STARTING": 1})]
PAGE = """# HELP ray_node_mem_used Memory usage on a ray node
ray_node_mem_used{IsHeadNode="true",ip="10.0.0.1"} 2.0e9
ray_node_mem_total{IsHeadNode="true",ip="10.0.0.1"} 8e+09
ray_node_mem_used_host{ip="10.0.0.1"} 7e9
ray_node_cpu_utilization{ip="10.0.0.1"} 25.0
ray_serve_deployment_queued_queries{application="app",deployment="text",handle="a"} 3.0
ray_serve_deployment_queued_queries{application="app",deployment="text",handle="b"} 4.0
ray_serve_deployment_queued_queries{application="app",deployment="other",handle="b"} 50.0
"""


def test_what_is_known_is_told() -> None:
    view = cluster_view(STATE, ["text", "vision"], NODES, DEPLOYMENTS, {"10.0.0.1:1": wanted_samples(PAGE)}, time_s=1.0)
    head, gone = view["nodes"]
    assert (head["cpus"], head["cpus_allocated"], head["gpus_allocated"], head["cpu_utilization"]) == (8.0, 0.5, 1.0, 0.25)
    assert (head["memory_used_bytes"], head["memory_bytes"]) == (2_000_000_000, 8_000_000_000)
    assert (gone["is_alive"], gone["cpus"], gone["memory_used_bytes"]) == (False, None, None)
    text, vision = view["families"]
    assert vision == {"family": "vision", "replicas": []}
    (replica,) = text["replicas"]
    assert (replica["node"], replica["memory_used_bytes"], replica["memory_budget_bytes"]) == ("n1", 3000, 4000)
    assert replica["models"][0] == {
        "model": "org/m",
        "is_loaded": True,
        "in_flight": 2,
        "mean_run_s": 0.5,
        "mean_load_s": 3.0,
        "is_set_aside": False,
    }
    (deployment,) = view["deployments"]
    assert (deployment["status"], deployment["replicas"]) == ("UPDATING", {"running": 2, "other": 1})
    assert (deployment["queued_requests"], deployment["ongoing_requests"]) == (7, None)


def test_what_ray_does_not_tell_is_null_and_the_replicas_are_told_all_the_same() -> None:
    view = cluster_view(STATE, ["text"], None, None, None)
    assert view["nodes"] is None and view["deployments"] is None
    assert view["families"][0]["replicas"][0]["replica"] == "r1"
    assert cluster_view(None, ["text"], None, None, None)["families"] is None
    without_pages = cluster_view(ClusterState(), ["text"], NODES, DEPLOYMENTS, None)
    assert without_pages["nodes"][0]["memory_bytes"] is None and without_pages["deployments"][0]["queued_requests"] is None


def test_a_node_whose_page_does_not_answer_is_left_out_and_the_others_are_read() -> None:
    assert read_pages(["127.0.0.1:9"]) == {}


async def test_what_fails_leaves_the_last_answer_for_a_while_and_then_none() -> None:
    answers: list[Any] = [1, httpx.ReadError("gone"), httpx.ReadError("gone")]

    def ask() -> int:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return int(answer)

    now_s = 100.0
    asked = Asked(ask, 1.0, lambda: now_s)
    assert await asked.latest() == 1
    assert await asked.latest() == 1 and len(answers) == 2, "it is fresh"
    now_s += 1
    assert await asked.latest() == 1 and len(answers) == 1
    now_s += STALE_S
    assert await asked.latest() is None


async def test_a_call_that_hangs_holds_nobody_up_and_is_not_made_twice() -> None:
    calls, goes_on = list[int](), threading.Event()

    def ask() -> int:
        calls.append(1)
        goes_on.wait(30)
        return 1

    asked = Asked(ask, 0.0)
    try:
        async with asyncio.timeout(10):
            assert await asyncio.gather(*(asked.latest() for _ in range(5))) == [None] * 5
        assert len(calls) == 1
    finally:
        goes_on.set()
    assert await asked.latest() == 1


@pytest.mark.parametrize("runs", [1, 100, 1000])
def test_half_of_the_last_runs_and_95_in_a_hundred_stayed_within(runs: int) -> None:
    latencies = Latencies(most=100)
    for number in range(runs):
        latencies.add({Stage.PLAN: float(number), Stage.TOTAL: 1.0} if number % 2 else {Stage.TOTAL: 1.0})
    told = latencies.as_json()
    assert told["total"] == {"runs": min(runs, 100), "p50_s": 1.0, "p95_s": 1.0}
    assert (
        told.get("plan")
        == {
            1: None,
            100: {"runs": 50, "p50_s": 49.0, "p95_s": 95.0},
            1000: {"runs": 50, "p50_s": 949.0, "p95_s": 995.0},
        }[runs]
    )
    assert "answer" not in told
