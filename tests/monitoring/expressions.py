"""Every PromQL expression that this project gives to an operator: of the alerts, of the dashboards, of the README's questions."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from controller.terminal.monitor_command import MONITORING

README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
_PAGE = re.search(r"^## What to watch in production\n(.*?)^## ", README, re.DOTALL | re.MULTILINE)
PAGE = _PAGE.group(1) if _PAGE else ""
_ITEM = re.compile(r"^\d+\. \*\*(.+?)\*\* (.*)$", re.MULTILINE)
QUESTIONS: dict[str, list[str]] = {  # question → the expressions that answer it
    question: [code for code in re.findall(r"`([^`]+)`", answer) if re.search(r"\b(?:hgpt|ray)_\w+", code)]
    for question, answer in _ITEM.findall(PAGE)
}


def alert_rules() -> list[dict[str, Any]]:
    groups = yaml.safe_load((MONITORING / "alerts.yml").read_text(encoding="utf-8"))["groups"]
    return [rule for group in groups for rule in group["rules"]]


def dashboards() -> list[dict[str, Any]]:
    return [json.loads(file.read_text(encoding="utf-8")) for file in sorted((MONITORING / "grafana/dashboards").glob("*.json"))]


def shown_expressions() -> Iterator[str]:
    """Those that return data whenever the service has worked; Grafana's variable filled in."""
    for dashboard in dashboards():
        for panel in dashboard["panels"]:
            yield from (target["expr"].replace("$__rate_interval", "1m") for target in panel["targets"])
    for expressions in QUESTIONS.values():
        yield from expressions


def every_expression() -> Iterator[str]:
    yield from shown_expressions()
    yield from (rule["expr"] for rule in alert_rules())
