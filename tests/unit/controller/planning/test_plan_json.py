"""A plan's JSON comes back as the same plan; an edited one is checked, and what is wrong with it is said by step."""

import json
from typing import Any

import pytest

from cluster.errors import BadRequest
from cluster.tasks import Media, Option, Task
from controller.planning.plan import InputFile, OutputOf, Plan, Step
from controller.planning.plan_json import GivenPlan, read_steps

FILES = {"f1": Media.AUDIO, "f2": Media.TEXT}
PLAN = Plan(
    (
        Step("s1", Task.AUTOMATIC_SPEECH_RECOGNITION, (InputFile("f1"),)),
        Step("s2", Task.QUESTION_ANSWERING, (InputFile("f2"),), {Option.QUESTION: OutputOf("s1")}),
        Step("s3", Task.TEXT_GENERATION, (OutputOf("s1"), OutputOf("s2")), {Option.PROMPT: InputFile("f2")}),
        Step("s4", Task.ZERO_SHOT_CLASSIFICATION, ("good news",), {Option.LABELS: ("good", "bad")}),
        Step("s5", Task.TRANSLATION, (OutputOf("s3"),), {Option.LANGUAGE: "de"}),
    )
)


def read(steps: list[Any], *, tasks: tuple[Task, ...] = tuple(Task), max_steps: int = 10) -> GivenPlan:
    return read_steps(steps, FILES, tasks, max_steps=max_steps, max_characters=1000)


def spoken(**more: Any) -> dict[str, Any]:
    return {"id": "s1", "task": "text-to-speech", "inputs": [{"text": "hello"}], "options": {}} | more


def asked(question: Any) -> dict[str, Any]:
    return {"id": "s1", "task": "question-answering", "inputs": [{"file": "f2"}], "options": {"question": question}}


def test_a_plan_comes_back_as_it_was() -> None:
    steps = read(json.loads(json.dumps(PLAN.as_json()))).plan.steps
    assert sorted(steps, key=lambda step: step.id) == list(PLAN.steps)


def test_steps_may_stand_in_any_order_and_are_ordered_by_what_they_need() -> None:
    assert {step.id for step in read(PLAN.as_json()[::-1]).plan.steps} == {"s1", "s2", "s3", "s4", "s5"}
    order = [step.id for step in read(PLAN.as_json()[::-1]).plan.steps]
    assert order.index("s1") < order.index("s2") < order.index("s3") < order.index("s5")


def test_what_the_plan_said_of_models_is_read_the_first_one_first_and_the_rest_passed_over() -> None:
    given = read([spoken(model="org/a", fallbacks=["org/b", "org/a"], reason="the best of 2", estimated_s=1.5)])
    assert given.models == {"s1": ("org/a", "org/b")}
    assert read([spoken()]).models == read([spoken(fallbacks=["org/b"])]).models == {}


@pytest.mark.parametrize(
    ("steps", "sentence"),
    [
        ([], "the plan has no steps"),
        (["s1"], 'step 1 of the plan is no JSON object, but "s1"'),
        ([{}], "step 1 of the plan: an id is a letter and up to 39 more letters, digits, - and _, not null"),
        ([spoken(id="s 1")], 'step 1 of the plan: an id is a letter and up to 39 more letters, digits, - and _, not "s 1"'),
        ([spoken(), spoken()], "s1: two steps have this id"),
        ([spoken(task="sing")], 's1: no task is called "sing"; `hgpt models tasks` shows those there are'),
        ([spoken(task=["a"])], 's1: no task is called ["a"]; `hgpt models tasks` shows those there are'),
        ([spoken(modell="org/a")], 's1: a step has no field "modell"; it may have '),
        ([spoken(inputs="f1")], 's1: inputs is a list of at most 20, not "f1"'),
        ([spoken(inputs=["f1"])], 's1: an input is {"file": "f1"}, {"step": "s1"} or {"text": "…"}, not "f1"'),
        ([spoken(inputs=[{"text": " "}])], "s1: an input is "),
        ([spoken(inputs=[{"text": "a", "file": "f1"}])], "s1: an input is "),
        ([spoken(inputs=[{"step": "\ud800"}])], "s1: an input is "),
        ([spoken(inputs=[{"file": "f" * 100_000}])], "s1: an input is "),
        ([asked({"step": "s" * 100_000})], "s1: an input is "),
        ([spoken(inputs=[{"text": "a" * 1001}])], "s1: a text has 1,001 characters; the limit is 1,000"),
        ([spoken(inputs=[{"text": "\ud800"}])], "s1: a text is not valid Unicode at character 0"),
        ([spoken(inputs=[])], "s1: text-to-speech takes 1 inputs (text), not 0"),
        ([spoken(inputs=[{"file": "f9"}])], "s1: there is no file f9"),
        ([spoken(inputs=[{"step": "s9"}])], "s1: no step has id s9"),
        ([spoken(inputs=[{"file": "f1"}])], "s1: text-to-speech eats text, but f1 is audio"),
        ([spoken(options=[])], "s1: options is a JSON object, not []"),
        ([spoken(options={"speed": 2})], 's1: text-to-speech has no option "speed"; it takes none'),
        ([asked(None)], "s1: null is no value for the option question"),
        ([asked({"file": "f1"})], "s1: the option question is text, but f1 is audio"),
        ([asked({"step": "s1"})], "steps wait for each other: s1 -> s1"),
        ([asked("Who?") | {"options": {}}], "s1: question-answering needs the option question"),
        ([spoken(task="translation", options={"language": "klingon"})], 's1: "klingon" is no value for the option language'),
        ([spoken(task="zero-shot-classification", options={"labels": ["one"]})], 's1: ["one"] is no value for the option labels'),
        ([spoken(model="gpt")], 's1: "gpt" is no id of a model; they read owner/name'),
        ([spoken(model="org/" + "a" * 100_000)], 's1: "org/aaa'),
        ([spoken(model="org/a", fallbacks="org/b")], "s1: fallbacks is a list of at most 10 models"),
    ],
)
def test_one_sentence_names_the_step_and_the_fault(steps: list[Any], sentence: str) -> None:
    with pytest.raises(BadRequest) as refused:
        read(steps)
    assert refused.value.status == 400
    assert refused.value.message.startswith(sentence)
    assert "\n" not in refused.value.message and len(refused.value.message) < 300


def test_steps_in_a_circle_are_named() -> None:
    circle = [spoken(id="a", task="summarization", inputs=[{"step": "b"}]), spoken(id="b", task="summarization", inputs=[{"step": "a"}])]
    with pytest.raises(BadRequest, match="steps wait for each other: a -> b -> a|steps wait for each other: b -> a -> b"):
        read(circle)


def test_a_plan_of_a_thousand_steps_is_refused_with_the_limit() -> None:
    with pytest.raises(BadRequest, match=r"^the plan has 1,000 steps; at most 10 are allowed \(limits.max_run_steps\)$"):
        read([spoken(id=f"s{n}") for n in range(1, 1001)])


def test_a_task_that_nothing_deployed_does_is_refused() -> None:
    with pytest.raises(BadRequest, match="^s1: no deployed model can do text-to-speech$"):
        read([spoken()], tasks=(Task.SUMMARIZATION,))
