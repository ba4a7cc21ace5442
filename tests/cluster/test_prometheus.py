"""A real Prometheus, as `hgpt monitor` starts it, beside the whole service on fake models: what it is asked, and what it tells."""

import json
import math
import os
import re
import signal
import subprocess
import sys
import time
from bisect import bisect_left
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import httpx
import pytest
import yaml

from benchmarks.fakes import CONFIG, wait
from cluster.metrics import SECONDS, Stage
from tests.cluster.serving import free_port, served
from tests.monitoring.expressions import alert_rules, every_expression, shown_expressions
from tests.scripted_llm import ScriptedLanguageModel, scripted_llm

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.skipif(
        not (Path(sys.executable).parent / "prometheus").exists() and not os.environ.get("CI"),
        reason="there is no Prometheus here, and `make test` could not fetch it",
    ),
]

PLACES = 6  # runs that may be in flight
RUNS = 40
SLOW_MS, FAST_MS = 320, 20  # of a run's only step; every eighth run is slow
PATIENCE_S = 60.0

WRONG_MODEL = {
    "plan": {"steps": [{"id": "s1", "task": "summarization", "inputs": [{"text": "go"}], "model": "nobody/nothing"}]},
}
T = TypeVar("T")


@dataclass(frozen=True)
class Prometheus:
    url: str
    process: "subprocess.Popen[str]"

    def ask(self, promql: str) -> list[dict[str, Any]]:
        reply = httpx.get(f"{self.url}/api/v1/query", params={"query": promql}, timeout=10)
        assert reply.status_code == 200, f"{promql}: {reply.text}"
        found: list[dict[str, Any]] = reply.json()["data"]["result"]
        return found

    def value(self, promql: str) -> float:
        found = self.ask(promql)
        return float(found[0]["value"][1]) if found else 0.0

    def get(self, path: str) -> Any:
        return httpx.get(f"{self.url}/api/v1/{path}", timeout=10).json()["data"]


@pytest.fixture(scope="module")
def llm() -> ScriptedLanguageModel:
    return ScriptedLanguageModel()


@pytest.fixture(scope="module")
def service(llm: ScriptedLanguageModel, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The planner is scripted, so that it can plan again; whoever else asks the LLM asks the echo engine."""
    folder = tmp_path_factory.mktemp("prometheus")
    config = yaml.safe_load(CONFIG.read_text(encoding="utf-8").replace(":8010/", ":the-port/"))
    config["http_options"]["port"] = "the-port"
    app = config["applications"][1]["args"]
    app["limits"]["max_runs_in_flight"] = PLACES
    app["families"]["fake"]["deployment"]["num_replicas"] = 1
    with scripted_llm(llm) as port:
        app["planner_llm"] = {"base_url": f"http://127.0.0.1:{port}/v1", "timeout_s": 30}
        with served(config, folder, HGPT_HOME=str(folder / "home"), RAY_metrics_report_interval_ms="1000") as url:
            yield url


@pytest.fixture(scope="module")
def prometheus(service: str) -> Iterator[Prometheus]:
    port = free_port()
    words = ["monitor", "--url", service, "--port", str(port), "--interval", "1"]
    process = subprocess.Popen(
        [sys.executable, "-m", "controller.cli", *words], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    try:
        assert process.stdout is not None
        said = process.stdout.readline()
        assert said.startswith(f"Prometheus watches {service} at http://127.0.0.1:{port}"), said
        yield Prometheus(f"http://127.0.0.1:{port}", process)
    finally:
        process.terminate()
        process.wait(30)


def until(found: Callable[[], T], what: str) -> T:
    """Another process's next scrape: there is nothing to wait on but what it tells."""
    deadline = time.monotonic() + PATIENCE_S
    while not (value := found()):
        assert time.monotonic() < deadline, f"{what} did not come"
        time.sleep(0.5)
    return value


class Asker:
    def __init__(self, service: str, llm: ScriptedLanguageModel) -> None:
        self._http = httpx.Client(base_url=service, timeout=60, headers={"cache-control": "no-cache"})
        self._llm = llm
        self._asked = 0
        self.completed = 0

    def __call__(self, *plans: dict[str, Any], **headers: str) -> httpx.Response:
        """A request that the planner answers with these plans, one after another."""
        self._asked += 1
        body = {"model": "hugginggpt", "messages": [{"role": "user", "content": f"{self._llm.script(f'n{self._asked}', *plans)} go"}]}
        return self._counted(self._http.post("/v1/chat/completions", json=body, headers=headers))

    def all_at_once(self, count: int, plan: dict[str, Any]) -> list[httpx.Response]:
        """They may share what they compute."""
        names = [self._llm.script(f"at_once_{n}", plan) for n in range(count)]
        bodies = [{"model": "hugginggpt", "messages": [{"role": "user", "content": f"{name} go"}]} for name in names]
        with ThreadPoolExecutor(count) as clients:
            replies = clients.map(lambda body: self._http.post("/v1/chat/completions", json=body, headers={"cache-control": ""}), bodies)
            return [self._counted(reply) for reply in replies]

    def _counted(self, reply: httpx.Response) -> httpx.Response:
        self.completed += reply.status_code == 200
        return reply


@pytest.fixture(scope="module")
def ask(service: str, llm: ScriptedLanguageModel) -> Asker:
    return Asker(service, llm)


def test_every_target_that_rays_service_discovery_lists_is_up(prometheus: Prometheus) -> None:
    def targets() -> dict[str, list[str]] | None:
        found: dict[str, list[str]] = {}
        for target in prometheus.get("targets")["activeTargets"]:
            found.setdefault(target["labels"]["job"], []).append(target["health"])
        return found if set(found) == {"ray", "hugginggpt"} and all(set(health) == {"up"} for health in found.values()) else None

    assert until(targets, "every target's first scrape")["hugginggpt"] == ["up"]
    assert prometheus.value("hgpt_board_up") == 1
    (failed,) = until(lambda: prometheus.ask('sum(ray_hgpt_runs_total{status="failed"})'), "a counter that is there before the first run")
    assert float(failed["value"][1]) == 0


def test_the_p95_of_every_stage_is_that_of_the_runs_own_records(prometheus: Prometheus, ask: Asker) -> None:
    first = ask({"s1": wait("first", "1 ms")}).json()["run"]["seconds"]  # from now on every series is there
    until(lambda: prometheus.value('sum(ray_hgpt_stage_seconds_count{stage="total"})') >= 1, "the first run")
    records = [ask({"s1": wait(f"run {n}", f"{SLOW_MS if n % 8 == 0 else FAST_MS} ms")}).json()["run"] for n in range(RUNS)]
    until(lambda: prometheus.value('sum(ray_hgpt_stage_seconds_count{stage="total"})') >= RUNS + 1, "the last run")
    for stage in Stage:
        seconds = sorted([*(record["seconds"][stage] for record in records), first[stage]])
        asked = prometheus.value(f'histogram_quantile(0.95, sum by (le) (ray_hgpt_stage_seconds_bucket{{stage="{stage}"}}))')
        low, high = bucket_of(seconds[math.ceil(0.95 * len(seconds)) - 1])
        assert low <= asked <= high, (stage, asked, seconds)
        over_time = prometheus.value(f'histogram_quantile(0.95, sum by (le) (rate(ray_hgpt_stage_seconds_bucket{{stage="{stage}"}}[5m])))')
        low, high = bucket_of(seconds[-6])[0], bucket_of(seconds[-1])[1]  # the window may miss a run at its edge
        assert low <= over_time <= high, (stage, over_time, seconds)
    assert 0.25 <= prometheus.value('histogram_quantile(0.95, sum by (le) (ray_hgpt_stage_seconds_bucket{stage="execute"}))') <= 0.5


def bucket_of(seconds: float) -> tuple[float, float]:
    edges = [0.0, *SECONDS, math.inf]
    place = max(1, bisect_left(edges, seconds))
    return edges[place - 1], edges[place]


def test_all_that_happens_is_counted(prometheus: Prometheus, ask: Asker, service: str) -> None:
    until(lambda: counted(prometheus).get("status completed", 0) == ask.completed, "the count of the runs before")
    before = counted(prometheus)
    replies = ask.all_at_once(3 * PLACES, {"s1": wait("go", "1500 ms")})  # a text of the request: another one would be replaced
    assert {reply.status_code for reply in replies} == {200, 429}
    refused = sum(reply.status_code == 429 for reply in replies)
    again = ask({"s1": wait("go", "fail")}, {"s1": ["summarization", {"text": "instead"}]}).json()["run"]
    assert [bool(replan["steps"]) for replan in again["replans"]] == [True]
    assert httpx.post(f"{service}/v1/runs", json=WRONG_MODEL, timeout=30).status_code == 400
    with pytest.raises(httpx.ReadTimeout):
        httpx.post(f"{service}/v1/runs", json={"plan": {"steps": [slow_step()]}}, timeout=1)

    def news() -> dict[str, float] | None:
        found = {name: value - before.get(name, 0) for name, value in counted(prometheus).items() if value != before.get(name, 0)}
        return found if found.get("status refused") == refused and found.get("status cancelled") else None

    found = until(news, "the count of refused and cancelled runs")
    assert found["status completed"] == 3 * PLACES - refused + 1 and (found["status declined"], found["status cancelled"]) == (1, 1)
    assert (found["code invalid_request"], found["code overloaded"], found["code model_error"], found["replans"]) == (1, refused, 1, 1)
    shared = found.get("outcome shared", 0) + found.get("outcome kept", 0)
    assert found["outcome computed"] + shared == 3 * PLACES - refused + 1 and shared > 0 and found["outcome failed"] == 1


def slow_step() -> dict[str, Any]:
    return {"id": "s1", "task": "text-generation", "inputs": [{"text": "abandoned"}], "options": {"prompt": "20000 ms"}}


def counted(prometheus: Prometheus) -> dict[str, float]:
    found: dict[str, float] = {}
    for label, name in (("status", "runs"), ("code", "errors"), ("outcome", "steps")):
        for sample in prometheus.ask(f"sum by ({label}) (ray_hgpt_{name}_total)"):
            found[f"{label} {sample['metric'][label]}"] = float(sample["value"][1])
    return {**found, "replans": prometheus.value("sum(ray_hgpt_replans_total)")}


def test_the_state_of_the_cluster_is_told(prometheus: Prometheus) -> None:
    until(lambda: prometheus.value('hgpt_models_loaded{family="fake"}') == 1, "the loaded model")
    assert prometheus.value('hgpt_replicas{family="fake"}') == 1 and prometheus.value("hgpt_nodes") == 1
    assert 0 < prometheus.value("hgpt_replica_memory_bytes / hgpt_replica_memory_budget_bytes") < 1
    assert prometheus.value("sum(ray_hgpt_runs_limit)") == PLACES


def test_a_model_that_keeps_failing_sets_off_its_alert(prometheus: Prometheus, ask: Asker) -> None:
    assert not [alert for alert in prometheus.get("alerts")["alerts"] if alert["labels"]["alertname"] == "ModelSetAside"]
    for n in range(3):
        ask({"s1": wait(f"go {n}", "crash")})

    def firing() -> list[dict[str, Any]]:
        alerts = prometheus.get("alerts")["alerts"]
        return [alert for alert in alerts if alert["labels"]["alertname"] == "ModelSetAside" and alert["state"] == "firing"]

    (alert,) = until(firing, "the alert")
    assert alert["labels"]["family"] == "fake"
    assert alert["annotations"]["summary"] == "Models of fake keep failing and are not tried for a while: 1, counted on each replica."


def test_every_expression_that_an_operator_is_given_returns_data(prometheus: Prometheus) -> None:
    for expression in shown_expressions():
        found = until(partial(prometheus.ask, expression), expression)
        assert all(math.isfinite(float(sample["value"][1])) or "histogram_quantile" in expression or "/" in expression for sample in found)
    names = {name for expression in every_expression() for name in re.findall(r"\b(?:ray|hgpt)_[a-z_]+\b(?=[{\[ )]|$)", expression)}
    for name in sorted(names):  # also those that an alert compares, and which may be there for a moment: Ray tells of nodes every 5 s
        until(partial(prometheus.ask, name), name)


def test_every_alert_was_loaded_and_can_be_evaluated(prometheus: Prometheus) -> None:
    rules = [rule for group in prometheus.get("rules")["groups"] for rule in group["rules"]]
    assert {rule["name"] for rule in rules} == {rule["alert"] for rule in alert_rules()}
    until(lambda: all(rule["health"] == "ok" for group in prometheus.get("rules")["groups"] for rule in group["rules"]), "healthy rules")


def test_a_second_prometheus_on_the_port_is_refused_in_a_sentence(prometheus: Prometheus, service: str) -> None:
    port = prometheus.url.rpartition(":")[2]
    command = [sys.executable, "-m", "controller.cli", "monitor", "--url", service, "--port", port]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr == f"hgpt: Prometheus cannot listen on port {port}: Address already in use; choose another --port\n"


def test_runs_go_on_when_prometheus_is_gone(prometheus: Prometheus, ask: Asker, service: str) -> None:
    prometheus.process.send_signal(signal.SIGINT)
    assert prometheus.process.wait(30) == 0
    with pytest.raises(httpx.ConnectError):
        prometheus.ask("up")
    assert ask({"s1": ["summarization", {"text": "alone"}]}).status_code == 200
    assert json.loads(httpx.get(f"{service}/v1/monitoring").text)["ray_service_discovery"].startswith("http://127.0.0.1:")
    assert b"hgpt_board_up 1.0" in httpx.get(f"{service}/metrics").content
