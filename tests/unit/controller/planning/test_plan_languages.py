"""A summary comes in the language of whoever asks, unless they name one or nobody can tell."""

import json
from typing import Any

import pytest

from cluster.messages import ArtifactRef
from cluster.tasks import Option, Task
from controller.asking.request import Request, RequestFile
from controller.planning.plan_language import read_plan

GERMAN = "Der Bericht beschreibt, wie viele Bienen in den Gärten der Stadt leben und was die Forscher dem Rat empfehlen."
IN_ENGLISH = "Please give me a short summary of what this report says."


def options_of(text: str, *form: Any, content: str | None = GERMAN) -> dict[Option, Any]:
    """Of the plan's step that sums up."""
    file = RequestFile("f1", ArtifactRef("0" * 64, "text/plain", 1, "bericht.txt"), content)
    draft = {"kind": "tasks", **{f"s{n}": step for n, step in enumerate(form, 1)}}
    plan = read_plan(json.dumps(draft), tuple(Task), Request("r", text, (file,)))
    (step,) = [step for step in plan.steps if step.task is Task.SUMMARIZATION]
    return dict(step.options)


def test_a_foreign_text_is_summed_up_in_the_language_of_the_request() -> None:
    assert options_of(IN_ENGLISH, ["summarization", "f1"]) == {Option.LANGUAGE: "en"}


@pytest.mark.parametrize("text", ["Worum geht es in diesem Bericht, bitte in zwei Sätzen?", "tl;dr", "Sum this up."])
def test_without_another_language_that_is_certain_the_text_keeps_its_own(text: str) -> None:
    assert options_of(text, ["summarization", "f1"]) == {}


def test_a_language_that_was_named_stays() -> None:
    assert options_of(IN_ENGLISH, ["summarization", "f1", "fr"]) == {Option.LANGUAGE: "fr"}


def test_what_a_step_gave_is_summed_up_as_it_is() -> None:
    assert options_of(IN_ENGLISH, ["translation", "f1", "zh"], ["summarization", "s1"]) == {}


def test_a_file_whose_language_nobody_can_tell_is_left_alone() -> None:
    assert options_of(IN_ENGLISH, ["summarization", "f1"], content="1 2 3") == {}
