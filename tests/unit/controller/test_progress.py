"""What a person sees of a run whose steps start while the plan is still being written."""

import io
from typing import Any

from controller.progress import Progress


def shown(*events: dict[str, Any]) -> list[str]:
    stream = io.StringIO()
    progress = Progress(stream)
    for event in events:
        progress.show(event)
    return stream.getvalue().splitlines()


def step(name: str) -> dict[str, Any]:
    return {"id": name, "task": "summarization", "inputs": [{"file": "f1"}], "options": {}, "model": "org/m", "reason": "the only one; 1.0"}


def test_a_step_that_started_early_is_shown_once() -> None:
    lines = shown({"event": "step_planned", **step("s1")}, {"event": "plan", "plan": [step("s1"), step("s2")]})
    assert [sum(f"{name}  summarization(f1)  org/m, the only one" in line for line in lines) for name in ("s1", "s2")] == [1, 1]


def test_a_plan_that_was_taken_back_says_what_it_stopped_and_shows_its_steps_anew() -> None:
    withdrawn = {"event": "plan_withdrawn", "steps": ["s1"], "why": "the plan was not valid"}
    lines = shown({"event": "step_planned", **step("s1")}, withdrawn, {"event": "plan", "plan": [step("s1")]})
    assert any("stopped s1: the plan was not valid" in line for line in lines)
    assert sum("s1  summarization(f1)" in line for line in lines) == 2
