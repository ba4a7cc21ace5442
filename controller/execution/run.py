"""Run: the record of one request's way, written as it goes on."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from math import inf
from time import time
from typing import Any

from cluster.chat import ReplyTiming
from cluster.messages import ArtifactRef, Done, TaskResult
from cluster.metrics import Stage, observe_stage
from cluster.tracing import NOTHING, Span
from controller.choosing.selector import Choice
from controller.execution.budget import Budget
from controller.execution.events import artifact_as_json, plan_as_json, result_as_json
from controller.execution.run_spans import stage_span
from controller.execution.timing import Interval, critical_path, split
from controller.planning.plan import Plan


@dataclass(frozen=True, slots=True)
class Replan:
    """One planning again: the steps it added, or `refused`, the reason why it added none."""

    why: str
    steps: tuple[str, ...] = ()
    refused: str = ""


@dataclass(slots=True)
class Run:
    """The record of a run. Seconds are wall time of each stage."""

    id: str
    budget: Budget = field(default_factory=lambda: Budget(inf))  # from its admission on
    span: Span = NOTHING  # that its stages and steps are children of
    plan: Plan = Plan()
    choices: dict[str, Choice] = field(default_factory=dict)
    results: dict[str, TaskResult] = field(default_factory=dict)
    reused: set[str] = field(default_factory=set)  # ids of the steps whose result an earlier run made
    replans: list[Replan] = field(default_factory=list)
    estimates: Mapping[str, float | None] = field(default_factory=dict)  # seconds by step id, before anything ran
    began_s: float = field(default_factory=time)  # Unix
    first_step_s: float | None = None  # after the start, when the first step was submitted
    answer: str = ""
    answer_was_composed: bool = False  # the LLM's own words failed the grounding check, or it gave none
    seconds: dict[str, float] = field(default_factory=dict)
    planning: ReplyTiming = ReplyTiming()
    timings: dict[str, float] = field(default_factory=dict)  # seconds by controller.execution.timing.Part, which add up to the whole
    tokens_in: int = 0
    tokens_out: int = 0
    _stages: list[tuple[Stage, Interval]] = field(default_factory=list)
    _seen: dict[str, Interval] = field(default_factory=dict)  # by step id, of those that this run waited for

    @property
    def elapsed_s(self) -> float:
        return self.budget.elapsed_s

    @contextmanager
    def stage(self, stage: Stage) -> Iterator[None]:
        """Times a stage for the metrics and, summed up where it comes again, for the record; also when it fails."""
        start_s = self.elapsed_s
        try:
            with stage_span(stage):
                yield
        finally:
            end_s = self.elapsed_s
            self._stages.append((stage, Interval(start_s, end_s)))
            self.seconds[stage] = self.seconds.get(stage, 0.0) + end_s - start_s
            observe_stage(stage, end_s - start_s)

    def step_started(self, step_id: str) -> None:
        self._seen[step_id] = Interval(self.elapsed_s, self.elapsed_s)

    def step_ended(self, step_id: str) -> None:
        """One that never started was skipped, or known."""
        if step_id in self._seen:
            self._seen[step_id] = Interval(self._seen[step_id].start_s, self.elapsed_s)

    def forget_steps(self) -> None:
        """What was planned did not hold."""
        self.plan = Plan()
        self.choices.clear()
        self.results.clear()
        self.reused.clear()
        self._seen.clear()
        self.first_step_s = None

    def add_up(self) -> None:
        """At the end, whatever it was: where the time went."""
        seen = {step.id: self._seen[step.id] for step in self.plan.steps if step.id in self._seen and step.id in self.results}
        path = critical_path(self.plan, self.results, seen, self.began_s)
        self.timings = split(self.seconds[Stage.TOTAL], self._stages, self.planning, path)

    @property
    def artifacts(self) -> tuple[ArtifactRef, ...]:
        results = (self.results.get(step.id) for step in self.plan.steps)
        values = (result.value for result in results if isinstance(result, Done))
        return tuple(dict.fromkeys(value for value in values if isinstance(value, ArtifactRef)))

    def as_json(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "plan": plan_as_json(self.plan, self.choices),
            "results": [result_as_json(self.results[s.id], s.id in self.reused) for s in self.plan.steps if s.id in self.results],
            "artifacts": [artifact_as_json(ref) for ref in self.artifacts],
            "replans": [asdict(replan) for replan in self.replans],
            "answer_was_composed": self.answer_was_composed,
            "seconds": {stage: round(value, 4) for stage, value in self.seconds.items()},
            "timings": {part: round(value, 4) for part, value in self.timings.items()},
            "first_step_s": None if self.first_step_s is None else round(self.first_step_s, 4),
        }
