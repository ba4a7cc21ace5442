"""The language of plans: the schema refuses what cannot be run, and reading a reply gives a Plan or a PlanError, nothing else."""

import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from cluster.errors import PlanError
from cluster.messages import ArtifactRef
from cluster.tasks import TASKS, Media, Option, Task
from controller.asking.request import Request, RequestFile
from controller.planning.plan import InputFile, OutputOf, Plan, Step
from controller.planning.plan_language import UnservedTask, read_plan, write_plan
from controller.planning.plan_repeats import without_repeats
from controller.planning.plan_schema import plan_schema

ALL = tuple(Task)
FILES = {"f1": Media.TEXT, "f2": Media.IMAGE, "f3": Media.AUDIO, "f4": Media.VIDEO}
QUOTING = """Say 'hello', 'I lost my keys', 'a cat' and "quoted «words»"."""
SPEECH = {"kind": "tasks", "s1": ["translation", "f1", "zh"], "s2": ["summarization", "s1"], "s3": ["text-to-speech", "s2"]}


def request(text: str = QUOTING, files: dict[str, Media] = FILES) -> Request:
    return Request(
        "r", text, tuple(RequestFile(name, ArtifactRef("0" * 64, f"{media}/x", 1, f"{name}.x")) for name, media in files.items())
    )


def allows(draft: Any, tasks: tuple[Task, ...] = ALL, files: dict[str, Media] = FILES, max_steps: int = 4, text: str = QUOTING) -> bool:
    return bool(Draft202012Validator(plan_schema(tasks, request(text, files), max_steps)).is_valid(draft))


def test_a_text_is_one_that_the_request_quotes() -> None:
    assert allows({"kind": "tasks", "s1": ["text-to-speech", "q1"]})
    assert not allows({"kind": "tasks", "s1": ["text-to-speech", "q9"]})
    assert not allows({"kind": "tasks", "s1": ["text-to-speech", {"text": "The total is ..."}]})
    assert not allows({"kind": "tasks", "s1": ["text-to-speech", "q1"]}, text="Say the total aloud.")
    assert allows({"kind": "tasks", "s1": ["text-to-speech", {"text": "hello"}]}, files={}, text="Say hello aloud.")


def test_a_quote_is_named_by_its_number_and_stands_in_the_plan_as_its_words() -> None:
    plan = read_plan('{"s1":["sentence-similarity","q2","q1"]}', ALL, request())
    assert plan.step("s1").inputs == ("I lost my keys", "hello")


@pytest.mark.parametrize(
    ("said", "question"),
    [("s1", OutputOf("s1")), ("f1", InputFile("f1")), ("q3", "a cat"), ("What is it?", "What is it?"), ("s1 or s2?", "s1 or s2?")],
)
def test_a_question_may_be_what_a_step_a_file_or_a_quote_says(said: str, question: Any) -> None:
    draft = {"kind": "tasks", "s1": ["automatic-speech-recognition", "f3"], "s2": ["visual-question-answering", "f2", said]}
    assert allows(draft)
    plan = read_plan(json.dumps(draft), ALL, request())
    assert plan.step("s2").options == {Option.QUESTION: question}
    assert plan.step("s2").needs == (("s1",) if said == "s1" else ())


def test_a_label_that_is_said_twice_counts_once() -> None:
    plan = read_plan('{"s1":["zero-shot-classification","f1",["one","two","one"]]}', ALL, request())
    assert plan.step("s1").options == {Option.LABELS: ("one", "two")}


def test_a_question_that_is_asked_of_its_own_words_is_general_knowledge() -> None:
    draft = '{"kind":"tasks","s1":["question-answering",{"text":"When did the war end?"},"When did it end?"]}'
    assert read_plan(draft, ALL, request("When did the war end?", {})) == Plan()
    assert read_plan(draft, ALL, request("Say 'hello'. When did the war end?", {}), is_last=True).steps
    assert read_plan('{"s1":["question-answering","f1","When did it end?"]}', ALL, request()).steps


def test_an_instruction_may_be_worded_by_the_planner_also_beside_files() -> None:
    edited = {"kind": "tasks", "s1": ["image-editing", {"text": "make the sky red"}, "f2"]}
    assert allows(edited)
    assert read_plan(json.dumps(edited), ALL, request("Could the sky be red?")).step("s1").inputs == ("make the sky red", InputFile("f2"))


def test_the_schema_is_one() -> None:
    Draft202012Validator.check_schema(plan_schema(ALL, request(), 3))


@pytest.mark.parametrize(
    "draft",
    [
        {"kind": "chat"},
        {"kind": "knowledge"},
        SPEECH,
        {"kind": "tasks", "s1": ["image-to-text", "f2"], "s2": ["question-answering", "s1", "What did it cost?"]},
        {"kind": "tasks", "s1": ["automatic-speech-recognition", "f3"], "s2": ["text-classification", "s1"]},
        {"kind": "tasks", "s1": ["sentence-similarity", "f1", "q1"]},
        {"kind": "tasks", "s1": ["zero-shot-classification", "q2", ["sports", "misfortune"]]},
        {"kind": "cannot", "task": "web-search"},
    ],
)
def test_the_schema_allows_what_can_be_read(draft: dict[str, Any]) -> None:
    assert allows(draft)
    if draft["kind"] != "cannot":
        assert len(read_plan(json.dumps(draft), ALL, request()).steps) == len(draft) - 1


@pytest.mark.parametrize(
    ("draft", "what"),
    [
        ({"kind": "tasks", "s1": ["translation", "s2", "zh"], "s2": ["summarization", "f1"]}, "a later step"),
        ({"kind": "tasks", "s1": ["translation", "s1", "zh"]}, "itself"),
        ({"kind": "tasks", "s1": ["translation", "f9", "zh"]}, "an unknown file"),
        ({"kind": "tasks", "s1": ["translation", "f2", "zh"]}, "a picture where a text goes"),
        ({"kind": "tasks", "s1": ["image-to-text", "f1"]}, "a text where a picture goes"),
        ({"kind": "tasks", "s1": ["image-to-text", "q3"]}, "quoted words where a picture goes"),
        ({"kind": "tasks", "s1": ["translation", "f1"]}, "a missing option"),
        ({"kind": "tasks", "s1": ["translation", "f1", "klingon"]}, "an unknown language"),
        ({"kind": "tasks", "s1": ["translation", "zh"]}, "a missing input"),
        ({"kind": "tasks", "s1": ["sentence-similarity", "f1"]}, "half of two inputs"),
        ({"kind": "tasks", "s1": ["text-to-3d", {"text": "a cat"}]}, "an unknown task"),
        ({"kind": "tasks", "s1": ["summarization", "f1", "en", "more"]}, "too many options"),
        ({"kind": "tasks"} | {f"s{n}": ["summarization", "f1"] for n in range(1, 6)}, "more steps than the limit"),
        ({"kind": "cannot", "task": "summarization"}, "declining what is deployed"),
        ([], "no object"),
        ({"s1": ["summarization", "f1"]}, "no kind"),
        ({"kind": "tasks"}, "tasks without a step"),
        ({"kind": "chat", "s1": ["summarization", "f1"]}, "small talk with a step"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_the_schema_refuses(draft: Any, what: str) -> None:
    assert not allows(draft), what


def test_a_task_that_is_not_deployed_can_be_declined_and_not_planned() -> None:
    tasks = (Task.TRANSLATION,)
    assert not allows({"kind": "tasks", "s1": ["summarization", "f1"]}, tasks)
    assert allows({"kind": "cannot", "task": "summarization"}, tasks)


def test_a_task_whose_medium_nobody_can_give_is_not_offered() -> None:
    assert "image-to-text" not in json.dumps(plan_schema((Task.IMAGE_TO_TEXT, Task.TRANSLATION), request(files={}), 2)["anyOf"][1])


def test_a_medium_that_an_earlier_step_makes_can_be_eaten_later_only() -> None:
    tasks = (Task.TEXT_TO_SPEECH, Task.AUTOMATIC_SPEECH_RECOGNITION)
    heard = {"kind": "tasks", "s1": ["text-to-speech", "q1"], "s2": ["automatic-speech-recognition", "s1"]}
    assert allows(heard, tasks, {})
    assert not allows({"kind": "tasks", "s1": ["automatic-speech-recognition", "s1"]}, tasks, {})


def test_a_reply_becomes_a_plan() -> None:
    plan = read_plan(json.dumps(SPEECH), ALL, request())
    assert plan.step("s1") == Step("s1", Task.TRANSLATION, (InputFile("f1"),), {Option.LANGUAGE: "zh"})
    assert plan.step("s3").inputs == (OutputOf("s2"),)


@pytest.mark.parametrize("reply", ["{}", '{"kind": "chat"}', '{"kind": "knowledge"}', '{"kind": "tasks"}'])
def test_a_reply_without_steps_is_an_empty_plan(reply: str) -> None:
    assert read_plan(reply, ALL, request(files={})) == Plan()


def test_a_task_that_nobody_serves_is_said_with_those_that_are() -> None:
    with pytest.raises(UnservedTask, match=r"text-to-image.*translation"):
        read_plan('{"kind": "cannot", "task": "text-to-image"}', (Task.TRANSLATION,), request(files={}))


@pytest.mark.parametrize(
    ("reply", "why"),
    [
        ("", "not JSON"),
        ("Sure! Here is the plan", "not JSON"),
        ('{"s1": ["translation", "f1"', "not JSON"),
        ("[]", "not a JSON object"),
        ("null", "not a JSON object"),
        ('{"s1": "translation"}', "s1: a step is"),
        ('{"s1": []}', "s1: a step is"),
        ('{"s1": [["translation"], "f1"]}', "s1: a step is"),
        ('{"s1": ["text-to-3d", {"text": "a cat"}]}', "s1: a step is .*one of these tasks"),
        ('{"s1": ["translation", 7, "zh"]}', "s1: an input is"),
        ('{"s1": ["translation", {"text": "  "}, "zh"]}', "s1: an input is"),
        ('{"s1": ["translation", "the speech", "zh"]}', 's1: an input is .*"the speech"'),
        ('{"s1": ["translation", "f1", "klingon"]}', '"klingon" is no value for the option language'),
        ('{"s1": ["question-answering", "f1", ""]}', "no value for the option question"),
        ('{"s1": ["zero-shot-classification", "f1", ["one"]]}', "no value for the option labels"),
        ('{"s1": ["zero-shot-classification", "f1", "one, two"]}', "no value for the option labels"),
        ('{"s1": ["translation", "f1", "zh", "more"]}', "takes 1 inputs and 1 options"),
        ('{"s1": ["translation", {"text": "made up"}, "zh"]}', "made up.* does not stand in the request"),
        ('{"s1": ["translation", "q9", "zh"]}', "the request has no quote q9"),
        ('{"s1": ["text-to-speech", ["q1", "q2"]]}', r's1: an input is .*\["q1", "q2"\]'),
        ('{"s1": ["question-answering", "f1", ["s1"]]}', "no value for the option question"),
        ('{"s1": ["zero-shot-classification", "f1", ["one", " "]]}', "no value for the option labels"),
        ('{"s1": ["zero-shot-classification", "f1", ["one", "one"]]}', "no value for the option labels"),
        ('{"speak": ["text-to-speech", "q1"]}', '"speak" names no step'),
        ('{"f1": ["text-to-speech", "q1"]}', '"f1" names no step'),
        ('{"s1": ["text-to-speech", {"text": "\\ud83d"}]}', "not valid Unicode"),
        ('{"s1": ["text-to-speech", ' + "9" * 5000 + "]}", "number of thousands of digits"),
        ('{"kind": "cannot", "task": "' + "x" * 5000 + '"}', "no deployed model can do x{80};"),
        ('{"s1": ["translation", "s2", "zh"], "s2": ["translation", "s1", "en"]}', "wait for each other"),
        ('{"s2": ["translation", "s1", "zh"]}', "no step has id s1"),
    ],
)
def test_a_wrong_reply_is_explained(reply: str, why: str) -> None:
    with pytest.raises(PlanError, match=why):
        read_plan(reply, ALL, request())


quick = settings(
    max_examples=40,
    deadline=None,  # a core is shared: no example, and no drawing of one, is too slow
    suppress_health_check=[HealthCheck.too_slow],
    database=None,
    phases=[Phase.explicit, Phase.generate],
)

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.sampled_from(["f1", "s1", "s2", "zh", "", "f²", *ALL]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(["s1", "s2", "text", "kind"]), inner, max_size=3),
    max_leaves=12,
)


@quick
@given(json_values)
def test_any_json_is_a_plan_or_a_plan_error(draft: Any) -> None:
    with suppress(PlanError):
        plan = read_plan(json.dumps(draft), ALL, request())
        assert plan == Plan() or {step.id for step in plan.steps} == set(draft) - {"kind"}


@st.composite
def plans(draw: st.DrawFn) -> Plan:
    """Chains and fans over all tasks: every step eats files, quoted words or earlier steps that fit."""
    steps: list[Step] = []
    giving: dict[Media, list[Any]] = {media: [] for media in Media}
    for file_id, media in FILES.items():
        giving[media].append(InputFile(file_id))
    for number in range(1, draw(st.integers(1, 5)) + 1):
        spec = TASKS[draw(st.sampled_from(ALL))]
        inputs = tuple(
            draw(st.sampled_from([*giving[media], *(["quoted «words»"] if media == Media.TEXT else [])])) for media in spec.inputs
        )
        values = {Option.LANGUAGE: "de", Option.LABELS: ("a", "b")}
        steps.append(Step(f"s{number}", spec.task, inputs, {option: values.get(option, "what?") for option in spec.required}))
        giving[spec.output].append(OutputOf(f"s{number}"))
    return Plan.checked(steps, FILES)


@quick
@given(plans())
def test_a_plan_that_is_written_is_allowed_by_the_schema_and_read_as_the_same_plan_without_its_repeats(plan: Plan) -> None:
    written = write_plan(plan, request())
    assert allows(json.loads(written), max_steps=5)
    assert read_plan(written, ALL, request()) == Plan(tuple(without_repeats(plan.steps)))


def test_a_reply_nested_without_end_is_a_plan_error() -> None:
    with pytest.raises(PlanError, match="nested too deeply"):
        read_plan('{"s1":' + "[" * 100_000, ALL, request("x"))


def test_where_no_task_can_begin_only_an_answer_without_steps_is_allowed() -> None:
    schema = plan_schema((Task.IMAGE_TO_TEXT,), request(files={}), 3)
    Draft202012Validator.check_schema(schema)
    assert not allows({"kind": "tasks", "s1": ["image-to-text", "f1"]}, (Task.IMAGE_TO_TEXT,), files={})
    assert allows({"kind": "chat"}, (Task.IMAGE_TO_TEXT,), files={})


def test_the_schema_that_goes_with_every_request_is_small() -> None:
    """Without shared forms and definitions it was 120 kB."""
    assert len(json.dumps(plan_schema(ALL, request(files={}), 10))) < 40_000
