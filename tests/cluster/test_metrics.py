"""What Prometheus would see: the node agents' scrape pages, found as Ray tells Prometheus to find them."""

import json
import math
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families
from ray.util.metrics import Histogram

from benchmarks.fakes import message, wait
from cluster.metrics import METRICS, SECONDS, Stage, TaskPart
from cluster.run_ids import new_run_id
from cluster.tasks import Task
from controller.watching.exporter import GAUGES

pytestmark = pytest.mark.cluster

REPORT_TIMEOUT_S = 20.0
REPORT_S = 1.0  # between two reports of a process to its node's agent: see conftest.py
TASKS_HERE = 6  # that the fake model does
HISTOGRAM: tuple[tuple[str, dict[str, str]], ...] = (("count", {}), ("bucket", {"le": "0.25"}), ("sum", {}))


def test_every_stage_and_every_part_of_a_step_has_a_histogram(http: httpx.Client) -> None:
    ask(http, {"s1": wait("go", "10 ms")})
    stages = await_labels("ray_hgpt_stage_seconds", "stage", lambda found: found >= set(Stage))
    assert stages == {stage.value for stage in Stage}
    parts = await_labels("ray_hgpt_task_seconds", "part", lambda found: found >= {TaskPart.WAIT, TaskPart.RUN})
    assert parts <= {part.value for part in TaskPart}
    assert "text-generation" in await_labels("ray_hgpt_task_seconds", "task", bool)


def test_a_histogram_counts_each_step_once_and_in_the_bucket_of_its_time(http: httpx.Client) -> None:
    labels = {"task": "summarization", "part": "run"}
    count, fast, total_s = (value(f"ray_hgpt_task_seconds_{name}", {**labels, **more}) for name, more in HISTOGRAM)
    for _ in range(3):
        ask(http, {"s1": ["summarization", {"text": "300 ms"}]})
    assert await_value("ray_hgpt_task_seconds_count", labels, count + 3) == count + 3
    assert value("ray_hgpt_task_seconds_bucket", {**labels, "le": "0.25"}) == fast
    assert 0.9 <= value("ray_hgpt_task_seconds_sum", labels) - total_s < 10


def test_failed_steps_and_refused_runs_are_counted_by_code(http: httpx.Client) -> None:
    step_errors = value("ray_hgpt_errors_total", {"code": "model_error"})
    run_errors = value("ray_hgpt_errors_total", {"code": "no_plan"})
    ask(http, {"s1": wait("go", "fail")})
    ask(http, {"cannot": "text-to-image"})
    assert await_value("ray_hgpt_errors_total", {"code": "model_error"}, step_errors + 1) == step_errors + 1
    assert await_value("ray_hgpt_errors_total", {"code": "no_plan"}, run_errors + 1) == run_errors + 1


def test_a_thousand_varied_requests_make_no_more_series_than_a_hundred(http: httpx.Client) -> None:
    ask_for_all_sorts(http, range(100))
    await_value("ray_hgpt_runs_total", {"status": "declined"}, 1)
    few = series(http)
    ask_for_all_sorts(http, range(100, 1100))
    time.sleep(2 * REPORT_S)
    many = series(http)
    assert {name for name, _ in many} >= {"ray_hgpt_stage_seconds_bucket", "ray_hgpt_steps_total", "hgpt_replicas"}
    assert len(many) <= len(few) * 1.1, sorted(many - few)
    assert len(many) <= most_series()


def series(http: httpx.Client) -> set[tuple[str, str]]:
    """Name and labels of every series of ours."""
    families = [*scraped(), *text_string_to_metric_families(http.get("/metrics").text)]
    ours = [sample for family in families for sample in family.samples if sample.name.startswith(("ray_hgpt_", "hgpt_"))]
    return {(sample.name, json.dumps(sample.labels, sort_keys=True)) for sample in ours}


def most_series() -> int:
    """By the declarations, where three processes (the ingress and two replicas) do the six tasks that are deployed."""
    most = 0
    for metric in METRICS.values():
        its_series = len(SECONDS) + 3 if metric.kind is Histogram else 1  # the last bucket, the sum, the count
        most += its_series * math.prod(TASKS_HERE if values is Task else len(list(values)) for values in metric.labels.values())
    return 3 * most + sum(2 ** len(labels) for _, labels in GAUGES.values())  # one family, two replicas


def ask_for_all_sorts(http: httpx.Client, numbers: range) -> None:
    """What no two people would ask alike: plans, texts, files, models, keys; and what is refused."""

    def one(n: int) -> None:
        headers = {"authorization": f"Bearer key-{n}", "x-request-id": f"request-{n}"}
        match n % 10:
            case 0:
                http.get(f"/v1/runs/{new_run_id()}", headers=headers)
            case 1:
                http.get(f"/nowhere/{n}", headers=headers)
            case 2:
                http.post("/v1/chat/completions", content=f"{{no json {n}", headers=headers)
            case 3:
                http.post("/v1/chat/completions", json=asking({f"cannot {n}": "text-to-image"}), headers=headers)
            case 4:
                file = http.post("/v1/files", files={"file": (f"{n}.txt", f"text {n}".encode())}).json()["id"]
                http.post("/v1/chat/completions", json=asking({"s1": ["summarization", "f1"]}, file), headers=headers)
            case 5:
                http.post("/v1/chat/completions", json=asking({"s1": wait(f"{n}", "fail"), "s2": wait("s1", f"{n}")}), headers=headers)
            case _:
                task = ("summarization", "text-classification")[n % 2]
                http.post("/v1/chat/completions", json=asking({"s1": [task, {"text": f"{n} things"}]}, user=f"user {n}"), headers=headers)

    with ThreadPoolExecutor(16) as clients:
        list(clients.map(one, numbers))


def asking(plan: Mapping[str, Any], *files: str, **more: str) -> dict[str, Any]:
    parts = [{"type": "file", "file": {"file_id": file}} for file in files]
    return {"messages": [{"role": "user", "content": [*parts, {"type": "text", "text": message(plan)}]}], **more}


def test_no_label_holds_an_id_or_what_a_person_wrote(http: httpx.Client) -> None:
    ask(http, {"s1": wait("go", "a secret of 1 ms")})
    await_labels("ray_hgpt_task_seconds", "task", bool)
    ours = {"stage", "task", "part", "code", "direction", "use", "status", "outcome", "le"}
    rays = {"Component", "NodeAddress", "SessionName", "Version", "WorkerId"}
    for family in scraped():
        if family.name.startswith("ray_hgpt_"):
            for sample in family.samples:
                assert {name for name in sample.labels if not name.startswith("otel_")} <= ours | rays
                assert not any("secret" in label for label in sample.labels.values())


def ask(http: httpx.Client, plan: Mapping[str, Any]) -> None:
    """Its steps really run, whatever was asked before."""
    body = {"messages": [{"role": "user", "content": message(plan)}]}
    http.post("/v1/chat/completions", json=body, headers={"cache-control": "no-store"})


def scraped() -> list[Metric]:
    """The metric families of all scrape targets in Ray's service discovery file."""
    import ray

    folder = Path(ray._private.worker._global_node.get_session_dir_path()).parent
    targets = [target for group in json.loads((folder / "prom_metrics_service_discovery.json").read_text()) for target in group["targets"]]
    assert targets
    return [family for target in targets for family in text_string_to_metric_families(page(target))]


def page(target: str) -> str:
    """Empty for a target that is down, as Prometheus takes it: another Ray may hold the fixed ports of autoscaler and dashboard."""
    try:
        return httpx.get(f"http://{target}/metrics").raise_for_status().text
    except httpx.ConnectError:
        return ""


def value(name: str, labels: Mapping[str, str]) -> float:
    """The sum over all processes."""
    samples = [sample for family in scraped() for sample in family.samples if sample.name == name]
    return sum(sample.value for sample in samples if labels.items() <= sample.labels.items())


def await_value(name: str, labels: Mapping[str, str], least: float) -> float:
    deadline = time.monotonic() + REPORT_TIMEOUT_S
    while (found := value(name, labels)) < least:
        assert time.monotonic() < deadline, f"{name} {dict(labels)} is {found}, not {least}"
        time.sleep(0.3)  # another process's report: there is nothing to wait on but its page
    return found


def await_labels(name: str, label: str, enough: Callable[[set[str]], bool]) -> set[str]:
    deadline = time.monotonic() + REPORT_TIMEOUT_S
    while not enough(found := {s.labels[label] for f in scraped() if f.name == name for s in f.samples if label in s.labels}):
        assert time.monotonic() < deadline, f"{name} has only the {label}s {found}"
        time.sleep(0.3)
    return found
