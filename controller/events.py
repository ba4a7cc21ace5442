"""What a run tells while it goes on, and the record it leaves. Plain data; the doors turn it into SSE, JSON or a terminal."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from time import perf_counter
from typing import Any

from cluster.messages import ArtifactRef, Done, Failed, Skipped, TaskResult
from controller.plan import Plan, Step
from controller.selector import Choice


@dataclass(frozen=True, slots=True)
class PlanMade:
    """The plan; with `replan`, the steps that planning for the n-th time again added, and `why`."""

    plan: Plan
    choices: Mapping[str, Choice]
    replan: int = 0
    why: str = ""


@dataclass(frozen=True, slots=True)
class StepPlanned:
    """A step that starts while the rest of the plan is still being written."""

    step: Step
    choice: Choice


@dataclass(frozen=True, slots=True)
class PlanWithdrawn:
    """Steps that had started, and were stopped because the plan they came from does not hold."""

    steps: tuple[str, ...]
    why: str


@dataclass(frozen=True, slots=True)
class StepStarted:
    step: str


@dataclass(frozen=True, slots=True)
class StepEnded:
    """`reused`: an earlier run made the result, of the same model and inputs."""

    result: TaskResult
    reused: bool = False


@dataclass(frozen=True, slots=True)
class AnswerText:
    """The next piece of the answer."""

    text: str


Event = PlanMade | StepPlanned | PlanWithdrawn | StepStarted | StepEnded | AnswerText
Emit = Callable[[Event], None]


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
    plan: Plan = Plan()
    choices: dict[str, Choice] = field(default_factory=dict)
    results: dict[str, TaskResult] = field(default_factory=dict)
    reused: set[str] = field(default_factory=set)  # ids of the steps whose result an earlier run made
    replans: list[Replan] = field(default_factory=list)
    estimates: Mapping[str, float | None] = field(default_factory=dict)  # seconds by step id, before anything ran
    started_s: float = field(default_factory=perf_counter)  # of that clock
    first_step_s: float | None = None  # after the start, when the first step was submitted
    answer: str = ""
    answer_was_composed: bool = False  # the LLM's own words failed the grounding check, or it gave none
    seconds: dict[str, float] = field(default_factory=dict)
    tokens_in: int = 0
    tokens_out: int = 0

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
            "first_step_s": None if self.first_step_s is None else round(self.first_step_s, 4),
        }


def event_as_json(event: Event) -> dict[str, Any]:
    match event:
        case PlanMade(plan=plan, choices=choices, replan=replan, why=why):
            again = {"replan": replan, "why": why} if replan else {}
            return {"event": "plan", "plan": plan_as_json(plan, choices), **again}
        case StepPlanned(step=planned, choice=choice):
            return {"event": "step_planned", **plan_as_json(Plan((planned,)), {planned.id: choice})[0]}
        case PlanWithdrawn(steps=steps, why=why):
            return {"event": "plan_withdrawn", "steps": list(steps), "why": why}
        case StepStarted(step=step):
            return {"event": "step_started", "step": step}
        case StepEnded(result=result, reused=reused):
            return {"event": "step_ended", **result_as_json(result, reused)}
        case AnswerText(text=text):
            return {"event": "answer", "text": text}


def plan_as_json(plan: Plan, choices: Mapping[str, Choice]) -> list[dict[str, Any]]:
    steps = plan.as_json()
    for step in steps:
        if choice := choices.get(step["id"]):
            step["model"], step["fallbacks"], step["reason"] = choice.models[0], list(choice.models[1:]), choice.reason
    return steps


def result_as_json(result: TaskResult, reused: bool = False) -> dict[str, Any]:
    """With `reused`, model and span are those of the run that made it."""
    head = {"step": result.step_id, "task": result.task.value}
    match result:
        case Done(value=value):
            shown = {"text": value} if isinstance(value, str) else {"artifact": artifact_as_json(value)}
            return {
                **head,
                "status": "done",
                "model": result.model,
                **shown,
                "data": dict(result.data),
                "span": asdict(result.span),
                "reused": reused,
                "fallbacks": list(result.fallbacks),
            }
        case Failed():
            return {
                **head,
                "status": "failed",
                "reason": result.reason,
                "kind": result.kind,
                "fallbacks": list(result.fallbacks),
            }
        case Skipped():
            return {**head, "status": "skipped", "because": result.because}


def artifact_as_json(ref: ArtifactRef) -> dict[str, Any]:
    return {**asdict(ref), "url": artifact_url(ref)}


def artifact_url(ref: ArtifactRef) -> str:
    return f"/v1/artifacts/{ref.sha256}"
