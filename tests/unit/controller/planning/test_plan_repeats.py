"""A plan that says a step twice runs it once; what is made anew each time is made as often as it was asked for."""

import json
from typing import Any

import pytest

from cluster.messages import ArtifactRef
from cluster.tasks import Media, Task
from controller.asking.request import Request, RequestFile
from controller.planning.plan import InputFile, OutputOf, Plan
from controller.planning.plan_language import read_plan

FILES = {"f1": Media.TEXT, "f2": Media.AUDIO, "f3": Media.IMAGE}


def plan_of(**steps: list[Any]) -> Plan:
    files = tuple(RequestFile(name, ArtifactRef("0" * 64, f"{media}/x", 1, f"{name}.x")) for name, media in FILES.items())
    return read_plan(json.dumps({"kind": "tasks", **steps}), tuple(Task), Request("r", 'Draw "a cat" twice.', files))


def test_a_step_that_is_written_four_times_runs_once() -> None:
    plan = plan_of(**{f"s{n}": ["text-to-speech", "f1"] for n in range(1, 5)})
    assert [step.id for step in plan.steps] == ["s1"]


def test_what_needed_the_repeated_step_needs_the_first_one_also_down_a_chain() -> None:
    plan = plan_of(
        s1=["automatic-speech-recognition", "f2"],
        s2=["automatic-speech-recognition", "f2"],
        s3=["translation", "s1", "de"],
        s4=["translation", "s2", "de"],
        s5=["text-to-speech", "s4"],
        s6=["question-answering", "f1", "s2"],
    )
    assert [step.id for step in plan.steps] == ["s1", "s3", "s6", "s5"]
    assert plan.step("s5").inputs == (OutputOf("s3"),)
    assert plan.step("s6").needs == ("s1",)


def test_steps_of_other_inputs_or_options_are_no_repeats() -> None:
    plan = plan_of(s1=["translation", "f1", "de"], s2=["translation", "f1", "fr"], s3=["translation", "s1", "fr"])
    assert [step.id for step in plan.steps] == ["s1", "s2", "s3"]


@pytest.mark.parametrize("form", [["text-to-image", "q1"], ["image-to-image", "f3"], ["text-generation", "q1"], ["text-to-audio", "q1"]])
def test_two_pictures_of_a_cat_are_two(form: list[Any]) -> None:
    assert len(plan_of(s1=form, s2=form).steps) == 2


def test_a_list_names_each_thing_once() -> None:
    plan = plan_of(s1=["summarization", "f1"], s2=["text-generation", ["s1", "f1", "s1"], "a poem"])
    assert plan.step("s2").inputs == (OutputOf("s1"), InputFile("f1"))
