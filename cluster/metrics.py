"""Every metric. Inside Ray they go through ray.util.metrics to the node's agent, which Prometheus scrapes.

Labels are closed sets (stages, tasks, error codes): no ids, no user text. Names carry their unit; Ray prefixes `ray_`.
"""

from enum import StrEnum
from functools import cache

from ray.util.metrics import Counter, Gauge, Histogram

from cluster.tasks import Task

SECONDS = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0]


class Stage(StrEnum):
    PLAN = "plan"
    SELECT = "select"
    EXECUTE = "execute"
    ANSWER = "answer"
    TOTAL = "total"


class TaskPart(StrEnum):
    """A step's time: waiting in the replica, loading its model, running."""

    WAIT = "wait"
    LOAD = "load"
    RUN = "run"


def observe_stage(stage: Stage, seconds: float) -> None:
    _stage_seconds().observe(seconds, {"stage": stage})


def observe_task(task: Task, part: TaskPart, seconds: float) -> None:
    _task_seconds().observe(seconds, {"task": task, "part": part})


def count_error(code: str) -> None:
    """`code` is an error code of cluster.errors."""
    _errors().inc(1, {"code": code})


def count_fallback(task: Task) -> None:
    _fallbacks().inc(1, {"task": task})


def count_tokens(tokens_in: int, tokens_out: int) -> None:
    for direction, tokens in (("in", tokens_in), ("out", tokens_out)):
        if tokens:
            _tokens().inc(tokens, {"direction": direction})


def set_runs_in_flight(count: int) -> None:
    _in_flight().set(count)


# Ray's metric objects register with the worker they are made in, so they are made at first use, not at import.
@cache
def _stage_seconds() -> Histogram:
    return Histogram("hgpt_stage_seconds", "Latency of a stage of a run", boundaries=SECONDS, tag_keys=("stage",))


@cache
def _task_seconds() -> Histogram:
    return Histogram("hgpt_task_seconds", "Latency of a step's part", boundaries=SECONDS, tag_keys=("task", "part"))


@cache
def _errors() -> Counter:
    return Counter("hgpt_errors_total", "Failed runs and failed steps by error code", tag_keys=("code",))


@cache
def _fallbacks() -> Counter:
    return Counter("hgpt_fallbacks_total", "Candidates that gave way to the next model", tag_keys=("task",))


@cache
def _tokens() -> Counter:
    return Counter("hgpt_llm_tokens_total", "Tokens read and written by the controller LLM", tag_keys=("direction",))


@cache
def _in_flight() -> Gauge:
    return Gauge("hgpt_runs_in_flight", "Runs being worked on by this ingress replica")
