"""Every metric of ours, declared once: its name, what it says, and the closed sets that its labels come from.

Where which comes from:
- What happens in a process of Ray (a run, a step, a reply of the LLM) goes through ray.util.metrics to the node's agent, which Prometheus
  scrapes by Ray's service discovery. Each process has series of its own, told apart by Ray's label WorkerId, so that any number of ingress
  replicas adds up by `sum`; gauges of a process that is gone are dropped by the agent after two reports. Ray prefixes `ray_`.
- What the cluster is (replicas, models, memory against the budget) is known to the board alone. Whichever ingress replica is scraped at
  GET /metrics says the same, by prometheus_client: controller/watching/exporter.py.
- What Ray, Serve and vLLM measure themselves (`ray_node_…`, `ray_serve_…`, `vllm:…` or `ray_vllm_…`) stays as it is.

Labels are closed sets: no ids, no text of a person, no model of the hub. Seconds and bytes are the only units.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cache
from itertools import product
from typing import Any

from ray.util.metrics import Counter, Gauge, Histogram

from cluster.chat import Reply
from cluster.errors import HuggingGPTError, LanguageModelError
from cluster.messages import OUT_OF_TIME, REPLICA_DIED, REPLICA_ERROR, TIMEOUT, Done, Failed, TaskResult
from cluster.tasks import Task

SECONDS = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0]
OTHER = "other"  # in the place of a value that is in no set


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


class Outcome(StrEnum):
    """How a step got its result: by a model, from what an earlier run made, from another run's step on its way; or why it got none."""

    COMPUTED = "computed"
    KEPT = "kept"
    SHARED = "shared"
    FAILED = "failed"
    SKIPPED = "skipped"


class Ending(StrEnum):
    """Of a run. `declined`: what was asked was wrong or cannot be planned (4xx); `refused`: there was no place for it."""

    COMPLETED = "completed"
    DECLINED = "declined"
    FAILED = "failed"
    CANCELLED = "cancelled"
    REFUSED = "refused"


class Use(StrEnum):
    """What the LLM is asked for."""

    PLAN = "plan"
    CHOOSE = "choose"
    ANSWER = "answer"
    EXPERT = "expert"  # a step that it does itself


class Replied(StrEnum):
    """What became of a request to the LLM, after the client's own retries."""

    WHOLE = "replied"
    FAILED = "failed"


class ReplyPart(StrEnum):
    QUEUE = "queue"
    PREFILL = "prefill"
    DECODE = "decode"


class Direction(StrEnum):
    IN = "in"
    OUT = "out"


def _codes(kind: type[HuggingGPTError]) -> Iterable[str]:
    yield kind.code
    for child in kind.__subclasses__():
        yield from _codes(child)


ERROR_CODES = frozenset([*_codes(HuggingGPTError), TIMEOUT, OUT_OF_TIME, REPLICA_ERROR, REPLICA_DIED, OTHER])  # of runs, and of steps


@dataclass(frozen=True, slots=True)
class Metric:
    """`labels`: the values that each may have."""

    kind: type[Counter] | type[Gauge] | type[Histogram]
    says: str
    labels: Mapping[str, Iterable[str]] = field(default_factory=dict)


METRICS: Mapping[str, Metric] = {
    "hgpt_stage_seconds": Metric(Histogram, "Latency of a stage of a run; total is the whole run", {"stage": Stage}),
    "hgpt_first_step_seconds": Metric(Histogram, "From a run's start to its first step"),
    "hgpt_task_seconds": Metric(Histogram, "A step's time: queueing, loading its model, running", {"task": Task, "part": TaskPart}),
    "hgpt_runs_total": Metric(Counter, "Runs by how they ended", {"status": Ending}),
    "hgpt_runs_in_flight": Metric(Gauge, "Runs being worked on"),
    "hgpt_runs_limit": Metric(Gauge, "Runs that may be in flight"),
    "hgpt_replans_total": Metric(Counter, "Plannings again, for what had failed"),
    "hgpt_steps_total": Metric(Counter, "Steps by how they got their result, or did not", {"task": Task, "outcome": Outcome}),
    "hgpt_errors_total": Metric(Counter, "Failed runs and failed steps by error code", {"code": ERROR_CODES}),
    "hgpt_fallbacks_total": Metric(Counter, "Models that gave way to the next candidate of their step", {"task": Task}),
    "hgpt_llm_requests_total": Metric(Counter, "Requests to the LLM by whether it replied", {"use": Use, "outcome": Replied}),
    "hgpt_llm_seconds": Metric(Histogram, "Where the time of an LLM's reply went", {"use": Use, "part": ReplyPart}),
    "hgpt_llm_tokens_total": Metric(Counter, "Tokens that the LLM read and wrote", {"use": Use, "direction": Direction}),
}


def observe_stage(stage: Stage, seconds: float) -> None:
    _made("hgpt_stage_seconds").observe(seconds, {"stage": stage})


def observe_first_step(seconds: float) -> None:
    _made("hgpt_first_step_seconds").observe(seconds)


def observe_task(task: Task, part: TaskPart, seconds: float) -> None:
    _made("hgpt_task_seconds").observe(seconds, {"task": task, "part": part})


def observe_reply(use: Use, reply: Reply | LanguageModelError) -> None:
    """One that came to its end, or was given up after its first words; or what came instead. One that broke off in its middle is both."""
    outcome = Replied.WHOLE if isinstance(reply, Reply) else Replied.FAILED
    _made("hgpt_llm_requests_total").inc(1, {"use": use, "outcome": outcome})
    if isinstance(reply, Reply):
        _observe_what_it_took(use, reply)


def _observe_what_it_took(use: Use, reply: Reply) -> None:
    timing = reply.timing
    for part, seconds in ((ReplyPart.QUEUE, timing.queue_s), (ReplyPart.PREFILL, timing.prefill_s), (ReplyPart.DECODE, timing.decode_s)):
        _made("hgpt_llm_seconds").observe(seconds, {"use": use, "part": part})
    for direction, tokens in ((Direction.IN, reply.tokens_in), (Direction.OUT, reply.tokens_out)):
        if tokens:
            _made("hgpt_llm_tokens_total").inc(tokens, {"use": use, "direction": direction})


def count_run(ending: Ending) -> None:
    _made("hgpt_runs_total").inc(1, {"status": ending})


def count_step(result: TaskResult, *, reused: bool = False, was_kept: bool = False) -> None:
    """With the error of one that failed."""
    match result:
        case Done():
            outcome = Outcome.KEPT if was_kept else Outcome.SHARED if reused else Outcome.COMPUTED
        case Failed():
            outcome = Outcome.FAILED
            count_error(result.kind)
        case _:
            outcome = Outcome.SKIPPED
    _made("hgpt_steps_total").inc(1, {"task": result.task, "outcome": outcome})


def count_replan() -> None:
    _made("hgpt_replans_total").inc(1)


def count_error(code: str) -> None:
    """`code`: an error code of cluster.errors, or a kind of failed step."""
    _made("hgpt_errors_total").inc(1, {"code": code if code in ERROR_CODES else OTHER})


def count_fallback(task: Task) -> None:
    _made("hgpt_fallbacks_total").inc(1, {"task": task})


def begin_at_zero() -> None:
    """By an ingress replica, once: a rate does not see the first event of a counter that comes into being with it.

    Ray 2.60's own `inc` takes no 0.
    """
    for name in ("hgpt_runs_total", "hgpt_errors_total", "hgpt_llm_requests_total"):
        labels = METRICS[name].labels
        for values in product(*labels.values()):
            _made(name)._record(0, dict(zip(labels, values, strict=True)))


def set_runs_in_flight(count: int, limit: int) -> None:
    _made("hgpt_runs_in_flight").set(count)
    _made("hgpt_runs_limit").set(limit)


@cache
def _made(name: str) -> Any:
    """At first use, not at import: Ray's metric objects register with the worker they are made in."""
    declared = METRICS[name]
    more: dict[str, Any] = {"boundaries": SECONDS} if declared.kind is Histogram else {}
    return declared.kind(name, declared.says, tag_keys=tuple(declared.labels), **more)
