"""The files of cluster/monitoring: Prometheus takes them, each alert fires when it should, and all they ask for is declared."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from cluster.errors import HuggingGPTError
from cluster.metrics import METRICS
from controller.terminal.monitor_command import MONITORING, configuration
from controller.watching.exporter import GAUGES
from tests.monitoring.expressions import QUESTIONS, alert_rules, dashboards, every_expression

PROMTOOL = Path(sys.executable).parent / "promtool"
IS_MISSED = not PROMTOOL.exists() and not os.environ.get("CI")
needs_promtool = pytest.mark.skipif(IS_MISSED, reason="there is no promtool here, and `make test` could not fetch it")


def promtool(*words: str) -> str:
    done = subprocess.run([PROMTOOL, *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@needs_promtool
def test_prometheus_takes_the_configuration_and_the_rules(tmp_path: Path) -> None:
    assert f"{len(alert_rules())} rules found" in promtool("check", "config", str(MONITORING / "prometheus.yml"))
    moved = tmp_path / "prometheus.yml"
    moved.write_text(yaml.safe_dump(configuration("https://example.org:8443/hgpt/", "http://ray:8265/api/prometheus/sd", 5)))
    promtool("check", "config", str(moved))


@needs_promtool
def test_each_alert_fires_when_it_should_and_only_then() -> None:
    tests = Path(__file__).parents[2] / "monitoring" / "alerts_test.yml"
    assert "SUCCESS" in promtool("test", "rules", str(tests))
    cases = [case for group in yaml.safe_load(tests.read_text())["tests"] for case in group["alert_rule_test"]]
    names = {rule["alert"] for rule in alert_rules()}
    assert {case["alertname"] for case in cases if case["exp_alerts"]} == names == {case["alertname"] for case in cases}


def test_each_alert_says_how_bad_it_is_and_what_to_do() -> None:
    for rule in alert_rules():
        assert rule["labels"]["severity"] in {"critical", "warning", "info"}
        assert rule["annotations"]["summary"] and rule["annotations"]["description"]


def test_whatever_is_asked_for_is_declared() -> None:
    declared = {f"ray_{name}{suffix}" for name in METRICS for suffix in ("", "_bucket", "_sum", "_count")} | set(GAUGES)
    asked = {name for expression in every_expression() for name in re.findall(r"\b(?:ray_)?hgpt_\w+", expression)}
    assert asked and asked - declared == set()


def test_every_metric_is_shown_on_a_dashboard() -> None:
    shown = " ".join(target["expr"] for dashboard in dashboards() for panel in dashboard["panels"] for target in panel["targets"])
    assert [name for name in (*METRICS, *GAUGES) if not re.search(rf"\b(?:ray_)?{name}(_bucket|_sum|_count)?\b", shown)] == []


def test_the_dashboards_are_what_grafana_takes() -> None:
    source = yaml.safe_load((MONITORING / "grafana/provisioning/datasources/prometheus.yml").read_text())["datasources"][0]
    for dashboard in dashboards():
        ids = [panel["id"] for panel in dashboard["panels"]]
        assert len(set(ids)) == len(ids) and dashboard["uid"] and dashboard["title"]
        for panel in dashboard["panels"]:
            assert panel["datasource"] == {"type": "prometheus", "uid": source["uid"]} and panel["description"]
        assert list(overlapping(dashboard["panels"])) == []


def overlapping(panels: list[dict[str, Any]]) -> Iterator[tuple[str, str]]:
    places = {}
    for panel in panels:
        at = panel["gridPos"]
        assert at["x"] + at["w"] <= 24
        for cell in ((x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])):
            if cell in places:
                yield places[cell], panel["title"]
            places[cell] = panel["title"]


def test_names_are_as_prometheus_wants_them() -> None:
    for name, metric in METRICS.items():
        assert re.fullmatch(r"hgpt_[a-z_]+", name)
        assert (metric.kind.__name__ == "Counter") == name.endswith("_total")
        assert metric.kind.__name__ != "Histogram" or name.endswith("_seconds")
        assert not any(re.search(r"(^|_)id$|user|run|replica|model", label) for label in metric.labels)


def test_the_configuration_is_for_the_service_that_was_named() -> None:
    config = configuration("https://example.org:8443/hgpt/", "http://ray:8265/api/prometheus/sd", 5)
    ray, service = config["scrape_configs"]
    assert ray["http_sd_configs"][0]["url"] == "http://ray:8265/api/prometheus/sd"
    assert (service["scheme"], service["metrics_path"]) == ("https", "/hgpt/metrics")
    assert service["static_configs"] == [{"targets": ["example.org:8443"]}]
    assert config["global"]["scrape_interval"] == "5s" and all(Path(name).exists() for name in config["rule_files"])


def test_without_a_program_it_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    from controller.terminal.monitor_command import prometheus_program

    monkeypatch.setenv("HGPT_PROMETHEUS", "/nowhere/prometheus")
    with pytest.raises(HuggingGPTError, match="install your system's package `prometheus`"):
        prometheus_program()


def test_the_readme_has_ten_questions() -> None:
    assert len(QUESTIONS) == 10 and all(QUESTIONS.values())
    assert all(question.endswith("?") for question in QUESTIONS)
