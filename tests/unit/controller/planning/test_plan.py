"""A Plan that exists can be run: what cannot be run is refused with a sentence that says why."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.errors import PlanError
from cluster.tasks import Media, Option, Task
from controller.planning.plan import InputFile, OutputOf, Plan, Step

FILES = {"f1": Media.TEXT, "f2": Media.IMAGE}


def translate(step_id: str, *inputs: object, **options: object) -> Step:
    given = {Option.LANGUAGE: "zh"} if not options else {Option(name): value for name, value in options.items()}
    return Step(step_id, Task.TRANSLATION, inputs, given)  # type: ignore[arg-type]


def test_a_step_comes_after_every_step_it_needs() -> None:
    speak = Step("s3", Task.TEXT_TO_SPEECH, (OutputOf("s2"),))
    sum_up = Step("s2", Task.SUMMARIZATION, (OutputOf("s1"),))
    plan = Plan.checked([speak, sum_up, translate("s1", InputFile("f1"))], FILES)
    assert [step.id for step in plan.steps] == ["s1", "s2", "s3"]


def test_a_step_that_eats_the_same_output_twice_needs_it_once() -> None:
    step = Step("s2", Task.SENTENCE_SIMILARITY, (OutputOf("s1"), OutputOf("s1")))
    assert step.needs == ("s1",)


def test_the_last_steps_are_those_nobody_needs() -> None:
    steps = [
        translate("s1", InputFile("f1")),
        Step("s2", Task.TEXT_TO_SPEECH, (OutputOf("s1"),)),
        Step("s3", Task.IMAGE_TO_TEXT, (InputFile("f2"),)),
    ]
    assert {step.id for step in Plan.checked(steps, FILES).last_steps} == {"s2", "s3"}


def test_a_plan_without_steps_is_a_plan() -> None:
    assert Plan.checked([], {}) == Plan()


@pytest.mark.parametrize(
    ("steps", "why"),
    [
        ([translate("s1", InputFile("f1")), translate("s1", InputFile("f1"))], "share an id"),
        ([translate("s1", OutputOf("s1"))], "wait for each other"),
        ([translate("s1", OutputOf("s2")), translate("s2", OutputOf("s1"))], "s1 -> s2|s2 -> s1"),
        ([translate("s1", OutputOf("s7"))], "s1: no step has id s7"),
        ([translate("s1", InputFile("f7"))], "s1: there is no file f7"),
        ([translate("s1", InputFile("f2"))], "translation eats text, but f2 is image"),
        ([Step("s1", Task.IMAGE_TO_TEXT, ("a cat",))], "image-to-text eats image, but the quoted text is text"),
        ([Step("s1", Task.TEXT_TO_SPEECH, ("hi",)), translate("s2", OutputOf("s1"))], "eats text, but s1 is audio"),
        ([translate("s1")], r"takes 1 inputs \(text\), not 0"),
        ([Step("s1", Task.SENTENCE_SIMILARITY, (InputFile("f1"),))], r"takes 2 inputs \(text, text\), not 1"),
        ([Step("s1", Task.TRANSLATION, (InputFile("f1"),))], "translation needs the option language"),
        ([translate("s1", InputFile("f1"), language="")], "needs the option language"),
        ([translate("s1", InputFile("f1"), language="zh", prompt="x")], "takes no option prompt"),
    ],
)
def test_what_cannot_be_run_is_refused_and_told_why(steps: list[Step], why: str) -> None:
    with pytest.raises(PlanError, match=why):
        Plan.checked(steps, FILES)


@given(st.permutations([f"s{n}" for n in range(1, 7)]))
def test_whatever_order_the_steps_are_written_in_needs_come_first(order: list[str]) -> None:
    needs = {"s1": (), "s2": ("s1",), "s3": ("s1",), "s4": ("s2", "s3"), "s5": (), "s6": ("s4", "s5")}
    steps = {
        step_id: Step(
            step_id,
            Task.SENTENCE_SIMILARITY,
            tuple([*map(OutputOf, needed), "a", "b"][:2]),
        )
        for step_id, needed in needs.items()
    }
    placed = [step.id for step in Plan.checked([steps[step_id] for step_id in order], {}).steps]
    assert all(placed.index(needed) < placed.index(step_id) for step_id in order for needed in needs[step_id])
    assert sorted(placed) == sorted(order)
