"""A plan read while it is written: whatever the pieces, its beginnings hold for the whole."""

import json
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.errors import PlanError
from cluster.messages import ArtifactRef
from cluster.tasks import Media, Task
from controller.asking.request import Request, RequestFile
from controller.planning.plan import OutputOf, Plan
from controller.planning.plan_language import read_plan
from controller.planning.plan_stream import PlanStream

TASKS = tuple(Task)
FILES = {"f1": Media.TEXT, "f2": Media.IMAGE, "f3": Media.AUDIO}
REQUEST = Request(
    "r", "Say 'hello' and more.", tuple(RequestFile(n, ArtifactRef("0" * 64, f"{m}/x", 1, f"{n}.x")) for n, m in FILES.items())
)
SPEECH = {
    "kind": "tasks",
    "s1": ["automatic-speech-recognition", "f3"],
    "s2": ["translation", "s1", "zh"],
    "s3": ["question-answering", "s1", 'Who said "no, {never}"?'],
}


def told(text: str, piece: int = 1, max_steps: int = 10) -> list[tuple[int, Plan]]:
    """Each plan that was told, with the number of characters after which it was."""
    stream = PlanStream(TASKS, REQUEST, max_steps)
    fed = [(start + piece, stream.feed(text[start : start + piece])) for start in range(0, len(text), piece)]
    return [(at, plan) for at, plan in fed if plan is not None]


def ids(plans: list[tuple[int, Plan]]) -> list[list[str]]:
    return [[step.id for step in plan.steps] for _, plan in plans]


def test_each_step_is_told_with_the_character_that_closes_it() -> None:
    text = json.dumps(SPEECH)
    plans = told(text)
    assert ids(plans) == [["s1"], ["s1", "s2"], ["s1", "s2", "s3"]]
    assert [text[at - 1] for at, _ in plans] == ["]", "]", "]"]
    assert plans[-1][1] == read_plan(text, TASKS, REQUEST)


@pytest.mark.parametrize("piece", [2, 7, 10_000])
def test_the_size_of_the_pieces_changes_nothing_but_how_often_is_told(piece: int) -> None:
    plans = told(json.dumps(SPEECH, indent=3), piece)
    assert plans[-1][1] == read_plan(json.dumps(SPEECH), TASKS, REQUEST)


def test_nothing_is_told_before_the_kind_is_known_nor_of_a_plan_without_steps() -> None:
    late = {"s1": SPEECH["s1"], "kind": "tasks"}
    assert ids(told(json.dumps(late))) == [["s1"]] and told(json.dumps(late))[0][0] > json.dumps(late).index("kind")
    assert told('{"kind":"cannot","task":"text-to-image"}') == []
    assert told('{"kind":"chat"}') == []


@pytest.mark.parametrize(
    "spoilt",
    [
        {**SPEECH, "s2": ["translation", "s1", "xx"]},  # a wrong option
        {**SPEECH, "s2": ["translation", "s9", "zh"]},  # a step that is not there
        {**SPEECH, "s2": ["text-to-speech", {"text": "made up"}]},
        {**SPEECH, "s2": "not a step"},
    ],
)
def test_from_the_first_fault_on_nothing_more_is_told(spoilt: dict[str, Any]) -> None:
    assert ids(told(json.dumps(spoilt))) == [["s1"]]


@pytest.mark.parametrize(
    "text", ["Sure! Here is the plan", "[[[[", "{{{{", '{"kind": "tasks", 7: []}', '{"s1": ' + "[" * 5000, '{"a"' * 50]
)
def test_what_is_no_plan_tells_nothing_and_breaks_nothing(text: str) -> None:
    assert told(text) == []


def test_a_step_that_is_nested_as_deeply_as_can_just_be_read_breaks_nothing() -> None:
    for depth in range(sys.getrecursionlimit() - 200, sys.getrecursionlimit() + 1):
        assert told('{"kind": "tasks", "s1": ' + "[" * depth + "]" * depth + "}", piece=10_000) == []


def test_more_steps_than_allowed_are_not_told() -> None:
    assert ids(told(json.dumps(SPEECH), max_steps=2)) == [["s1"], ["s1", "s2"]]


def test_a_step_that_is_written_again_is_the_first_one_in_every_beginning() -> None:
    looping = {
        "kind": "tasks",
        "s1": ["automatic-speech-recognition", "f3"],
        "s2": ["automatic-speech-recognition", "f3"],
        "s3": ["summarization", "s2"],
        "s4": ["summarization", "s1"],
        "s5": ["text-to-speech", "s4"],
    }
    plans = told(json.dumps(looping))
    assert plans[-1][1].step("s5").inputs == (OutputOf("s3"),)
    assert {step.id for step in plans[-1][1].steps} == {"s1", "s3", "s5"}


FORMS = st.lists(
    st.sampled_from(
        [
            ("summarization", "{any}"),
            ("translation", "{any}", "de"),
            ("text-to-speech", "{any}"),
            ("automatic-speech-recognition", "{any}"),
            ("image-to-text", "{any}"),
            ("text-generation", "{any}", "Write."),
            ("question-answering", "{any}", "{any}"),
        ]
    ),
    min_size=1,
    max_size=7,
)


@given(FORMS, st.randoms(use_true_random=False))
def test_every_step_of_a_beginning_is_a_step_of_the_whole(forms: list[tuple[str, ...]], chance: Any) -> None:
    """So that nothing that was started has to be stopped."""
    members: dict[str, Any] = {"kind": "tasks"}
    for number, (task, *arguments) in enumerate(forms, 1):
        references = [*FILES, *(f"s{n}" for n in range(1, number))]
        members[f"s{number}"] = [task, *(chance.choice(references) if one == "{any}" else one for one in arguments)]
    text = json.dumps(members)
    plans = told(text, piece=9)
    try:
        whole = read_plan(text, TASKS, REQUEST)
    except PlanError:  # the beginnings before the fault were told, and are taken back
        return
    assert plans[-1][1] == whole
    for _, plan in plans:
        assert all(step in whole.steps for step in plan.steps)
