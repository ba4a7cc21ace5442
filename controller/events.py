"""What a run tells while it goes on, and the record it leaves. Plain data; the doors turn it into SSE, JSON or a terminal."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from cluster.messages import ArtifactRef, Done, Failed, Skipped, TaskResult
from controller.plan import Plan
from controller.selector import Choice


@dataclass(frozen=True, slots=True)
class PlanMade:
    plan: Plan
    choices: Mapping[str, Choice]


@dataclass(frozen=True, slots=True)
class StepStarted:
    step: str


@dataclass(frozen=True, slots=True)
class StepEnded:
    result: TaskResult


@dataclass(frozen=True, slots=True)
class AnswerText:
    """The next piece of the answer."""

    text: str


Event = PlanMade | StepStarted | StepEnded | AnswerText
Emit = Callable[[Event], None]


@dataclass(slots=True)
class Run:
    """The record of a run. Seconds are wall time of each stage."""

    id: str
    plan: Plan = Plan()
    choices: Mapping[str, Choice] = field(default_factory=dict)
    results: Mapping[str, TaskResult] = field(default_factory=dict)
    answer: str = ""
    answer_was_composed: bool = False  # the LLM's own words failed the grounding check, or it gave none
    seconds: dict[str, float] = field(default_factory=dict)
    tokens_in: int = 0
    tokens_out: int = 0

    @property
    def artifacts(self) -> tuple[ArtifactRef, ...]:
        values = (result.value for result in self.results.values() if isinstance(result, Done))
        return tuple(dict.fromkeys(value for value in values if isinstance(value, ArtifactRef)))

    def as_json(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "plan": plan_as_json(self.plan, self.choices),
            "results": [result_as_json(self.results[s.id]) for s in self.plan.steps if s.id in self.results],
            "artifacts": [artifact_as_json(ref) for ref in self.artifacts],
            "answer_was_composed": self.answer_was_composed,
            "seconds": {stage: round(value, 4) for stage, value in self.seconds.items()},
        }


def event_as_json(event: Event) -> dict[str, Any]:
    match event:
        case PlanMade(plan=plan, choices=choices):
            return {"event": "plan", "plan": plan_as_json(plan, choices)}
        case StepStarted(step=step):
            return {"event": "step_started", "step": step}
        case StepEnded(result=result):
            return {"event": "step_ended", **result_as_json(result)}
        case AnswerText(text=text):
            return {"event": "answer", "text": text}


def plan_as_json(plan: Plan, choices: Mapping[str, Choice]) -> list[dict[str, Any]]:
    steps = plan.as_json()
    for step in steps:
        if choice := choices.get(step["id"]):
            step["model"], step["fallbacks"], step["reason"] = choice.models[0], list(choice.models[1:]), choice.reason
    return steps


def result_as_json(result: TaskResult) -> dict[str, Any]:
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
