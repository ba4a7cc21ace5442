"""RunView: what is known of a run from what it told so far. Plain data, a new one for every event; no clock and no terminal."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any


class State(StrEnum):
    WAITING = "waiting"
    RUNNING = "running"
    DONE = "done"
    REUSED = "reused"
    FAILED = "failed"
    SKIPPED = "skipped"


class Phase(StrEnum):
    """How far the run is. Choosing ends with the event that tells the plan, so that it has no beginning of its own."""

    PLANNING = "planning and choosing models"
    RUNNING_EARLY = "planning, with steps running already"
    RUNNING = "running"
    MENDING = "planning again or answering"
    ANSWERING = "answering"


@dataclass(frozen=True, slots=True)
class StepView:
    """`given`: its inputs and options, each a step's or a file's id or a text. `gave`: the text or the name of what came out."""

    id: str
    task: str
    given: tuple[str, ...]
    needs: tuple[str, ...]
    model: str  # that was chosen, then that did it
    chosen: str
    why: str  # it was chosen
    state: State = State.WAITING
    started_s: float | None = None  # of the reader's clock
    took_s: float | None = None  # of the service's, or of the reader's where that tells none
    gave: str = ""
    reason: str = ""  # why there is no result
    gave_way: tuple[str, ...] = ()  # a sentence for each model that was tried before

    @property
    def is_over(self) -> bool:
        return self.state not in (State.WAITING, State.RUNNING)


@dataclass(frozen=True, slots=True)
class Round:
    """A plan's steps in its order. `why`: what led to planning again."""

    steps: tuple[str, ...] = ()
    why: str | None = None


@dataclass(frozen=True, slots=True)
class RunView:
    """`rounds`: the plan, then what each planning again added."""

    started_s: float = 0.0
    phase: Phase = Phase.PLANNING
    steps: Mapping[str, StepView] = field(default_factory=dict)
    rounds: tuple[Round, ...] = (Round(),)
    withdrawn: tuple[str, ...] = ()  # a sentence for each plan that was taken back
    ended_s: float | None = None  # of the reader's clock, when the answer began or the run broke off
    broke_off: bool = False

    def after(self, event: Mapping[str, Any], now_s: float) -> "RunView":
        """What is known once the event (see controller.execution.events) is told; one of a kind that is not known changes nothing."""
        match event["event"]:
            case "step_planned":
                return self._with_steps([event], Phase.RUNNING_EARLY)
            case "plan_withdrawn":
                sentence = f"stopped {', '.join(event['steps'])}: {event['why']}"
                return replace(self, steps={}, rounds=(Round(),), phase=Phase.PLANNING, withdrawn=(*self.withdrawn, sentence))
            case "plan":
                again = replace(self, rounds=(*self.rounds, Round(why=event["why"]))) if event.get("replan") else self
                return again._with_steps(event["plan"], Phase.RUNNING)._settled()
            case "step_started":
                return self._with_step(event["step"], state=State.RUNNING, started_s=now_s)
            case "step_ended":
                return self._ended(event, now_s)._settled()
        return self

    def ended(self, now_s: float, *, broke_off: bool = False) -> "RunView":
        """Once: what comes later is the answer's."""
        return self if self.ended_s is not None else replace(self, ended_s=now_s, broke_off=broke_off)

    def count(self, *states: State) -> int:
        return sum(step.state in states for step in self.steps.values())

    def _with_steps(self, planned: list[Mapping[str, Any]] | list[dict[str, Any]], phase: Phase) -> "RunView":
        """A step that started early is known already, and may have got its model anew."""
        steps, last = dict(self.steps), self.rounds[-1]
        for step in map(_step, planned):
            known = steps.get(step.id)
            steps[step.id] = step if known is None or known.state is State.WAITING else known
        more = tuple(step["id"] for step in planned if step["id"] not in self.steps)
        return replace(self, steps=steps, rounds=(*self.rounds[:-1], replace(last, steps=last.steps + more)), phase=phase)

    def _ended(self, event: Mapping[str, Any], now_s: float) -> "RunView":
        """A run that was stopped tells the end of steps that never started, and of no others."""
        gave_way = tuple(event.get("fallbacks", ()))
        match event["status"]:
            case "done":
                gave = event.get("text") or event.get("artifact", {}).get("name", "")
                took_s = event["span"]["finished_s"] - event["span"]["started_s"]
                state = State.REUSED if event.get("reused") else State.DONE
                return self._with_step(event["step"], state=state, took_s=took_s, gave=gave, model=event["model"], gave_way=gave_way)
            case "failed":
                known = self.steps.get(event["step"])
                took_s = now_s - known.started_s if known and known.started_s is not None else None
                return self._with_step(event["step"], state=State.FAILED, took_s=took_s, reason=event["reason"], gave_way=gave_way)
            case "skipped":
                return self._with_step(event["step"], state=State.SKIPPED, reason=f"{event['because']} gave nothing")
        return self

    def _with_step(self, step_id: str, **changes: Any) -> "RunView":
        if (step := self.steps.get(step_id)) is None:
            return self
        return replace(self, steps={**self.steps, step_id: replace(step, **changes)})

    def _settled(self) -> "RunView":
        """When all that was planned is over, the rest is the answer, or what failed is planned again."""
        if self.phase is not Phase.RUNNING or not all(step.is_over for step in self.steps.values()):
            return self
        return replace(self, phase=Phase.MENDING if self.count(State.FAILED) else Phase.ANSWERING)


def _step(planned: Mapping[str, Any]) -> StepView:
    sources = [*planned["inputs"], *planned["options"].values()]
    needs = dict.fromkeys(source["step"] for source in sources if isinstance(source, Mapping) and "step" in source)
    model, why = planned.get("model", ""), planned.get("reason", "").partition(";")[0]  # the score is for the record
    return StepView(planned["id"], planned["task"], tuple(map(given, sources)), tuple(needs), model, model, why)


def given(value: Any) -> str:
    """An input or an option of a step: the id or the text that it is."""
    if isinstance(value, Mapping):
        return str(next(iter(value.values())))
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
