"""What a run tells while it goes on. Plain data; the doors turn it into SSE, JSON or a terminal."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from cluster.messages import ArtifactRef, Done, Failed, Skipped, Span, TaskResult
from controller.choosing.selector import Choice
from controller.planning.plan import Plan, Step

SPAN_FIELDS = tuple(field.name for field in fields(Span))


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
    """`reused`: another run made the result, of the same model and inputs; `was_kept`: earlier, so that it was kept already."""

    result: TaskResult
    reused: bool = False
    was_kept: bool = False


@dataclass(frozen=True, slots=True)
class AnswerText:
    """The next piece of the answer."""

    text: str


Event = PlanMade | StepPlanned | PlanWithdrawn | StepStarted | StepEnded | AnswerText
Emit = Callable[[Event], None]


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
                "span": _span_as_json(result.span),
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


def _span_as_json(span: Span) -> dict[str, Any]:
    """By hand: `asdict` would be a third of what a record of many steps costs."""
    return {name: getattr(span, name) for name in SPAN_FIELDS}


def artifact_as_json(ref: ArtifactRef) -> dict[str, Any]:
    return {**asdict(ref), "url": artifact_url(ref)}


def artifact_url(ref: ArtifactRef) -> str:
    return f"/v1/artifacts/{ref.sha256}"
