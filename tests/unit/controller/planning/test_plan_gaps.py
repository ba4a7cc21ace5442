"""A result that a request names in so many words is planned, also when the LLM forgot it; nothing else is added."""

import json
from typing import Any

import pytest

from cluster.messages import ArtifactRef
from cluster.tasks import Task
from controller.asking.request import Request, RequestFile
from controller.planning.plan import InputFile, OutputOf, Plan
from controller.planning.plan_gaps import with_forgotten
from controller.planning.plan_language import read_plan

HEARD = ["automatic-speech-recognition", "f1"]
LISTED = "Transcribe this. Give me a summary, the named entities and the sentiment, and read the summary aloud."


def completed(text: str, *forms: list[Any], media: str = "audio/wav", tasks: tuple[Task, ...] = tuple(Task)) -> Plan:
    request = Request("r", text, (RequestFile("f1", ArtifactRef("0" * 64, media, 1, "f1.x")),))
    draft = {"kind": "tasks", **{f"s{n}": form for n, form in enumerate(forms, 1)}}
    return with_forgotten(read_plan(json.dumps(draft), tuple(Task), request), request, tasks)


def test_a_forgotten_result_works_on_the_text_that_the_others_work_on() -> None:
    plan = completed(LISTED, HEARD, ["summarization", "s1"], ["text-to-speech", "s2"])
    added = {step.task: step.inputs for step in plan.steps[3:]}
    assert added == {Task.TEXT_CLASSIFICATION: (OutputOf("s1"),), Task.TOKEN_CLASSIFICATION: (OutputOf("s1"),)}
    assert [step.id for step in plan.steps] == ["s1", "s2", "s3", "s4", "s5"]


@pytest.mark.parametrize(
    "text", ["Fass das zusammen und sag mir die Stimmung.", "Resume esto y dime el sentimiento.", "概括一下，并判断情绪。"]
)
def test_it_is_understood_in_other_languages(text: str) -> None:
    plan = completed(text, ["summarization", "f1"], ["text-to-speech", "s1"], media="text/plain")
    assert plan.steps[-1].task is Task.TEXT_CLASSIFICATION and plan.steps[-1].inputs == (InputFile("f1"),)


@pytest.mark.parametrize(
    "forms",
    [
        [HEARD, ["summarization", "s1"], ["text-classification", "s2"], ["token-classification", "s1"]],  # nothing is missing
        [HEARD, ["zero-shot-classification", "s1", ["good", "bad"]], ["token-classification", "s1"]],  # the mood by other means
        [HEARD],  # a single step
    ],
)
def test_a_plan_that_has_all_stays_as_it_is(forms: list[Any]) -> None:
    assert len(completed(LISTED, *forms).steps) == len(forms)


def test_a_word_inside_a_quote_asks_for_nothing() -> None:
    assert len(completed('Transcribe this and translate "a bad mood" and it.', HEARD, ["translation", "s1", "de"]).steps) == 2


def test_a_task_that_is_not_deployed_is_not_added() -> None:
    plan = completed(LISTED, HEARD, ["summarization", "s1"], tasks=(Task.AUTOMATIC_SPEECH_RECOGNITION, Task.SUMMARIZATION))
    assert len(plan.steps) == 2


def test_the_mood_of_a_photograph_is_left_to_whoever_describes_it() -> None:
    forms = [["image-classification", "f1"], ["object-detection", "f1"], ["text-generation", ["s1", "s2"], "Describe its mood."]]
    assert len(completed("Describe the mood of this photo.", *forms, media="image/png").steps) == 3
