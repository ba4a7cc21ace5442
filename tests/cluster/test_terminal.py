"""What a person at a terminal sees: of a run by `hgpt ask`, of the service by `hgpt top` and GET /v1/cluster."""

import json
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from benchmarks.fakes import message, wait
from controller.cli import main
from tests.cluster.terminal import terminal

pytestmark = pytest.mark.cluster

MODEL = "fakes/obedient"


def ask(http: httpx.Client, plan: Mapping[str, Any]) -> None:
    """Its steps really run, whatever was asked before."""
    body = {"messages": [{"role": "user", "content": message(plan)}]}
    http.post("/v1/chat/completions", json=body, headers={"cache-control": "no-store"}).raise_for_status()


def line_of(screen: list[str], *words: str) -> str:
    return next((line for line in screen if all(word in line.split() for word in words)), "")


# A run


def both_of_two_run(screen: list[str]) -> bool:
    """A screen that is whole, since it may be read half-written."""
    done, waiting = line_of(screen, "s1", "✓", MODEL), line_of(screen, "s4", "·", "waiting", MODEL)
    running = [line_of(screen, step, MODEL) for step in ("s2", "s3")]
    return " 1 of 4 steps done" in screen[0] and bool(waiting) and all(line.endswith(" s") and "·" not in line for line in (done, *running))


def test_a_run_is_seen_as_it_goes_on_and_stays_above_its_answer(fake_service: str) -> None:
    plan = {
        "s1": wait("seen", "300 ms"),
        "s2": wait("s1", "2000 ms"),
        "s3": wait("s1", "2000 ms"),
        "s4": ["sentence-similarity", "s2", "s3"],
    }
    with terminal("ask", message(plan), "--no-cache", "--url", fake_service) as shown:
        shown.until(both_of_two_run)
        assert shown.ended() == 0
        screen = shown.screen
    assert screen[0].startswith("✓ 4 steps done") and screen[0].endswith(" s")
    for number, step in enumerate(plan, 1):
        assert f"✓ {step} " in screen[number] and MODEL in screen[number] and screen[number].endswith(" s")
    assert [screen[number][:3].rstrip() for number in (2, 3)] == ["├─", "└─"]
    answer = screen.index("seen+++")
    assert answer > len(plan) and sum(line.startswith("✓ 4 steps") for line in screen) == 1
    assert any(line.endswith("in all") for line in screen[answer:])
    assert not shown.hides_the_cursor


def test_a_failed_step_says_why_above_the_answer(fake_service: str) -> None:
    with terminal("ask", message({"s1": wait("go", "fail"), "s2": wait("s1", "1 ms")}), "--url", fake_service, columns=60) as shown:
        assert shown.ended() == 1
        screen = shown.screen
    assert screen[0].startswith("! 0 of 2 steps done, 1 failed, 1 skipped")
    assert "✗ s1" in screen[1] and "told to fail: fail" in screen[2] and screen[3].endswith("skipped")


def test_an_answer_that_goes_to_a_file_has_the_graph_beside_it(fake_service: str, tmp_path: Path) -> None:
    file = tmp_path / "answer.txt"
    with (
        file.open("wb") as output,
        terminal("ask", message({"s1": wait("kept", "1 ms")}), "--url", fake_service, output=output.fileno()) as shown,
    ):
        assert shown.ended() == 0
        assert "✓ s1 " in shown.screen[1] and MODEL in shown.screen[1]
        assert "kept+" not in shown.screen
    text = file.read_text()
    assert "kept+" in text and "\x1b" not in text and "✓" not in text


def test_ctrl_c_says_so_in_one_line_and_leaves_the_terminal_as_it_was(fake_service: str, http: httpx.Client) -> None:
    with terminal("ask", message({"s1": wait("long", "20000 ms")}), "--no-cache", "--url", fake_service) as shown:
        shown.until(lambda screen: line_of(screen, "s1", MODEL).endswith(" s"))
        shown.press(b"\x03")
        assert shown.ended() == 1
        told = [line for line in shown.screen if line]
        assert told[0].startswith("✗ stopped while running") and told[1].endswith("stopped") and told[2:] == ["hgpt: stopped"]
        assert shown.echoes_keys and not shown.hides_the_cursor
    await_runs_in_flight(http, 0)


def test_a_sent_plan_is_seen_as_it_runs(fake_service: str, http: httpx.Client, tmp_path: Path) -> None:
    plan = http.post("/v1/plan", json={"messages": [{"role": "user", "content": message({"s1": wait("sent", "1 ms")})}]}).json()
    (tmp_path / "plan.json").write_text(json.dumps(plan))
    with terminal("run", str(tmp_path / "plan.json"), "--no-reuse", "--url", fake_service) as shown:
        assert shown.ended() == 0
        assert shown.screen[0].startswith("✓ 1 step done") and "✓ s1 " in shown.screen[1]


# The service


def test_a_model_that_ran_is_seen_warm_on_its_replica_and_node_within_its_budget(http: httpx.Client) -> None:
    ask(http, {"s1": wait("warm", "20 ms")})
    cluster = await_cluster(http, lambda told: is_whole(told) and any(model["mean_run_s"] for _, model in each_model(told)))
    (node,) = cluster["nodes"]
    assert node["is_alive"] and node["cpus"] >= 1 and node["address"] == "127.0.0.1"
    (family,) = cluster["families"]
    assert family["family"] == "fake"
    replica, model = next((replica, model) for replica, model in each_model(cluster) if model["mean_run_s"])
    assert model["model"] == MODEL and model["is_loaded"] and not model["is_set_aside"] and model["mean_load_s"] is not None
    assert replica["node"] == node["id"]
    assert 0 < replica["memory_used_bytes"] <= replica["memory_budget_bytes"]
    assert {"plan", "execute", "total"} <= cluster["ingress"]["stage_latencies"].keys()


def test_memory_of_the_node_is_told_as_its_metrics_tell_it(http: httpx.Client) -> None:
    cluster = await_cluster(http, lambda told: told["nodes"][0]["memory_used_bytes"] is not None)
    (node,) = cluster["nodes"]
    assert 0 < node["memory_used_bytes"] < node["memory_bytes"]


def test_a_run_is_in_flight_while_it_goes_on_and_so_is_its_model(http: httpx.Client, fake_service: str) -> None:
    assert http.get("/v1/cluster").json()["ingress"]["runs_in_flight"] == 0
    with ThreadPoolExecutor() as pool, httpx.Client(base_url=fake_service, timeout=30) as another:
        run = pool.submit(ask, another, {"s1": wait("in flight", "8000 ms")})  # a replica tells its state every 5 s at least
        cluster = await_runs_in_flight(http, 1)
        assert cluster["ingress"]["max_runs_in_flight"] == 200
        await_cluster(http, lambda told: sum(model["in_flight"] for _, model in each_model(told)) == 1)
        run.result()
    await_runs_in_flight(http, 0)


def test_top_prints_one_look_where_no_terminal_is(fake_service: str, http: httpx.Client, capsys: pytest.CaptureFixture[str]) -> None:
    ask(http, {"s1": wait("top", "1 ms")})
    for flags in ([], ["--once"]):
        assert main(["top", *flags, "--url", fake_service]) == 0
        out = capsys.readouterr().out
        assert "\x1b" not in out and "0 of 200 runs in flight" in out
        lines = out.splitlines()
        assert line_of(lines, MODEL, "fake") and line_of(lines, "hugginggpt/fake", "healthy", "2") and line_of(lines, "p95")


def test_top_prints_the_json_of_the_service(fake_service: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["top", "--json", "--url", fake_service]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["object"] == "cluster" and told["families"][0]["family"] == "fake"


@pytest.mark.parametrize("key", [b"q", b"\x03"])
def test_top_is_renewed_until_a_key_ends_it(fake_service: str, http: httpx.Client, key: bytes) -> None:
    with terminal("top", "--interval", "0.2", "--url", fake_service, columns=80) as shown:
        shown.until(lambda screen: "0 of 200 runs in flight" in screen[0])
        with ThreadPoolExecutor() as pool:
            run = pool.submit(ask, http, {"s1": wait("renewed", "1500 ms")})
            shown.until(lambda screen: "1 of 200 runs in flight" in screen[0])
            run.result()
        shown.press(key)
        assert shown.ended() == 0
        assert shown.echoes_keys and not shown.hides_the_cursor


def each_model(cluster: Mapping[str, Any]) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    replicas = [replica for family in cluster["families"] for replica in family["replicas"]]
    return [(replica, model) for replica in replicas for model in replica["models"]]


def is_whole(cluster: Mapping[str, Any]) -> bool:
    """Both replicas of the fakes live, as the board and as Serve tell it: another test may have killed them just before."""
    told = [len(family["replicas"]) for family in cluster["families"] or ()]
    fakes = [one for one in cluster["deployments"] or () if (one["application"], one["deployment"]) == ("hugginggpt", "fake")]
    return told == [2] and [(one["status"], one["replicas"]) for one in fakes] == [("HEALTHY", {"running": 2, "other": 0})]


def await_cluster(http: httpx.Client, enough: Any) -> dict[str, Any]:
    """Replicas tell their state by the second, nodes every few seconds."""
    deadline = time.monotonic() + 20
    while not enough(cluster := http.get("/v1/cluster").raise_for_status().json()):
        assert time.monotonic() < deadline, f"the service still tells {cluster}"
        time.sleep(0.2)
    told: dict[str, Any] = cluster
    return told


def await_runs_in_flight(http: httpx.Client, count: int) -> dict[str, Any]:
    return await_cluster(http, lambda told: told["ingress"]["runs_in_flight"] == count)
