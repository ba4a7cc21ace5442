"""Where the time of a run went: every moment belongs to one part, and the parts add up to the whole. Pure functions.

While the plan is being written, chosen for or answered, the time is the plan's, the choice's, the answer's, also where steps run beside
it: they cost nothing then. In between it is that of the critical path, the steps that the last one waited for. What no part claims is
the framework's own: HTTP between the parts, Ray between the steps, reading and checking.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from cluster.chat import ReplyTiming
from cluster.messages import Done, TaskResult
from cluster.metrics import Stage
from controller.planning.plan import Plan


class Part(StrEnum):
    """Of a run's time, in the order in which a person reads them."""

    PLAN_QUEUE = "plan_queue"  # the LLM had other requests
    PLAN_PREFILL = "plan_prefill"  # it read the prompt
    PLAN_DECODE = "plan_decode"  # it wrote the plan
    CHOOSE = "choose"  # models were chosen
    WAIT = "wait"  # a step waited in its replica
    LOAD = "load"  # a model was loaded for a step
    RUN = "run"  # a model ran
    MERGE = "merge"  # between the end of the last step and the answer's beginning
    ANSWER = "answer"
    OVERHEAD = "overhead"  # what is left


# What a stage's time is called, where no earlier one of these claims it; planning is divided later.
STAGE_PARTS = {Stage.PLAN: Part.PLAN_DECODE, Stage.SELECT: Part.CHOOSE, Stage.ANSWER: Part.ANSWER}


@dataclass(frozen=True, slots=True)
class Interval:
    """Seconds after the run's start."""

    start_s: float
    end_s: float


def split(
    total_s: float,
    stages: Sequence[tuple[Stage, Interval]],
    planning: ReplyTiming,
    steps: Sequence[tuple[Part, Interval]],
) -> dict[str, float]:
    """Seconds of every part, which add up to `total_s`. `planning` divides what the planning stages took."""
    seconds: dict[Part, float] = {}
    free = [Interval(0.0, total_s)]
    for stage, part in STAGE_PARTS.items():
        for interval in (interval for one, interval in stages if one is stage):
            claimed_s, free = _claimed(free, interval)
            seconds[part] = seconds.get(part, 0.0) + claimed_s
    last_s = max((interval.end_s for _, interval in steps), default=total_s)
    answer_s = max((interval.start_s for stage, interval in stages if stage is Stage.ANSWER), default=0.0)
    at_s = 0.0  # what lies before it is counted
    for part, interval in (*sorted(steps, key=lambda one: one[1].start_s), (Part.MERGE, Interval(last_s, answer_s))):
        rest = Interval(max(at_s, interval.start_s), interval.end_s)
        seconds[part] = seconds.get(part, 0.0) + sum(_common_s(rest, each) for each in free)
        at_s = max(at_s, interval.end_s)
    seconds |= _of_planning(seconds.pop(Part.PLAN_DECODE, 0.0), planning)
    parts = {part.value: seconds.get(part, 0.0) for part in Part if part is not Part.OVERHEAD}
    return {**parts, Part.OVERHEAD.value: max(0.0, total_s - sum(parts.values()))}


def critical_path(
    plan: Plan, results: Mapping[str, TaskResult], seen: Mapping[str, Interval], began_s: float
) -> list[tuple[Part, Interval]]:
    """What the steps did of which the last to end waited for the next, the last first.

    `seen`: by step id, from its start to its end as this process saw them, of the steps that this run waited for. `began_s`: Unix time of
    the run's start, since a replica tells its times so.
    """
    path: list[tuple[Part, Interval]] = []
    here = max(seen, key=lambda step_id: seen[step_id].end_s, default=None)
    while here is not None:
        path += _parts(results[here], seen[here], began_s)
        needs = [need for need in plan.step(here).needs if need in seen]
        here = max(needs, key=lambda step_id: seen[step_id].end_s, default=None)
    return path


def _parts(result: TaskResult, seen: Interval, began_s: float) -> list[tuple[Part, Interval]]:
    """Of one step; clocks of other machines may differ from this one's, so that nothing reaches beyond what was seen here."""
    if not isinstance(result, Done):
        return [(Part.RUN, seen)]
    span = result.span
    marks = [moment - began_s for moment in (span.arrived_s, span.started_s, span.started_s + span.load_s, span.finished_s)]
    arrived_s, started_s, loaded_s, finished_s = (min(mark, seen.end_s) for mark in marks)
    return [
        (Part.WAIT, Interval(arrived_s, started_s)),
        (Part.LOAD, Interval(started_s, loaded_s)),
        (Part.RUN, Interval(loaded_s, finished_s)),
    ]


def _claimed(free: Sequence[Interval], claim: Interval) -> tuple[float, list[Interval]]:
    """How much of it was free, and what is free afterwards."""
    before = [Interval(each.start_s, min(each.end_s, claim.start_s)) for each in free]
    after = [Interval(max(each.start_s, claim.end_s), each.end_s) for each in free]
    return sum(_common_s(each, claim) for each in free), [each for each in (*before, *after) if each.start_s < each.end_s]


def _common_s(one: Interval, other: Interval) -> float:
    return max(0.0, min(one.end_s, other.end_s) - max(one.start_s, other.start_s))


def _of_planning(whole_s: float, timing: ReplyTiming) -> dict[Part, float]:
    """Shortened where the LLM's own clock says more than the stages took."""
    told_s = timing.queue_s + timing.prefill_s + timing.decode_s
    scale = min(1.0, whole_s / told_s) if told_s else 0.0
    return {
        Part.PLAN_QUEUE: scale * timing.queue_s,
        Part.PLAN_PREFILL: scale * timing.prefill_s,
        Part.PLAN_DECODE: scale * timing.decode_s,
    }
