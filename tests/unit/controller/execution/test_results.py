"""What is kept of finished steps is found again by what it was made of, and by nothing else."""

import asyncio
import hashlib
from dataclasses import replace

import pytest

from cluster.catalogue import ModelCard
from cluster.messages import ArtifactRef, Done, Span, TaskResult
from cluster.tasks import Option, Task
from controller.asking.request import Request, RequestFile
from controller.asking.terms import Terms
from controller.choosing.selector import Choice
from controller.execution.results import Kept, Recall
from controller.planning.plan import InputFile, OutputOf, Plan, Step

SPAN = Span(1, 2, 3, 0, "here")
WORDS = "It was the best of times."
STORY = RequestFile("f1", ArtifactRef(hashlib.sha256(WORDS.encode()).hexdigest(), "text/plain", len(WORDS), "story.txt"), WORDS)
PLAN = Plan(
    (
        Step("s1", Task.SUMMARIZATION, (InputFile("f1"),)),
        Step("s2", Task.TRANSLATION, (OutputOf("s1"),), {Option.LANGUAGE: "de"}),
        Step("s3", Task.QUESTION_ANSWERING, (OutputOf("s2"),), {Option.QUESTION: OutputOf("s1")}),
    )
)
RESULTS: dict[str, TaskResult] = {
    "s1": Done("s1", Task.SUMMARIZATION, "org/m", "short", SPAN),
    "s2": Done("s2", Task.TRANSLATION, "org/m", "kurz", SPAN),
    "s3": Done("s3", Task.QUESTION_ANSWERING, "org/m", "yes", SPAN),
}


def a_recall(
    kept: Kept[Done], *, model: str = "org/m", revision: str | None = None, files: tuple[RequestFile, ...] = (STORY,), stored: bool = True
) -> Recall:
    card = ModelCard(id=model, revision=revision, family="text", loader="x", tasks=(Task.SUMMARIZATION,), memory_bytes=1)
    choices = {f"s{n}": Choice((model, "org/second"), "", "text", {model: card} if revision else {}) for n in range(1, 10)}
    return Recall(kept, Request("r", "Sum it up.", files), choices, lambda _ref: stored)


@pytest.fixture
def kept() -> Kept[Done]:
    """After a run of PLAN."""
    kept: Kept[Done] = Kept(100)
    for step in PLAN.steps:
        result = RESULTS[step.id]
        assert isinstance(result, Done)
        a_recall(kept).keep(step, result, RESULTS)
    return kept


def known(recall: Recall, *steps: Step) -> dict[str, Done]:
    return asyncio.run(recall.known(Plan(steps)))


def test_an_equal_plan_is_known_whole_and_keeps_model_and_span(kept: Kept[Done]) -> None:
    assert known(a_recall(kept), *PLAN.steps) == RESULTS


def test_ids_of_steps_and_files_do_not_matter(kept: Kept[Done]) -> None:
    recall = a_recall(kept, files=(replace(STORY, id="f7"),))
    found = known(recall, Step("s8", Task.SUMMARIZATION, (InputFile("f7"),)))
    assert found["s8"] == replace(RESULTS["s1"], step_id="s8")


def test_a_file_and_its_words_are_the_same(kept: Kept[Done]) -> None:
    assert known(a_recall(kept, files=()), Step("s1", Task.SUMMARIZATION, (WORDS,)))


def test_when_the_last_of_a_chain_changes_the_steps_before_it_are_known(kept: Kept[Done]) -> None:
    changed = replace(PLAN.steps[2], options={Option.QUESTION: "Really?"})
    assert list(known(a_recall(kept), *PLAN.steps[:2], changed)) == ["s1", "s2"]


def test_when_the_first_changes_nothing_behind_it_is_known_until_it_has_run(kept: Kept[Done]) -> None:
    changed = replace(PLAN.steps[0], options={Option.LANGUAGE: "en"})
    recall = a_recall(kept)
    assert known(recall, changed, *PLAN.steps[1:]) == {}
    assert recall.may_know(PLAN.steps[1])
    assert not recall.may_know(Step("s2", Task.TEXT_TO_SPEECH, (OutputOf("s1"),)))
    equal_output = {"s1": replace(RESULTS["s1"], model="org/other")}
    assert asyncio.run(recall.found(PLAN.steps[1], equal_output)) == RESULTS["s2"]
    assert asyncio.run(recall.found(PLAN.steps[1], {"s1": replace(RESULTS["s1"], value="shorter")})) is None


@pytest.mark.parametrize(
    "step",
    [
        Step("s1", Task.TEXT_GENERATION, (InputFile("f1"),)),
        Step("s1", Task.SUMMARIZATION, ("other words",)),
        Step("s1", Task.SUMMARIZATION, (InputFile("f1"),), {Option.LANGUAGE: "de"}),
    ],
    ids=["task", "input", "option"],
)
def test_another_task_input_or_option_is_computed(kept: Kept[Done], step: Step) -> None:
    assert known(a_recall(kept), step) == {}


def test_another_model_or_revision_is_computed(kept: Kept[Done]) -> None:
    assert known(a_recall(kept, model="org/new"), *PLAN.steps) == {}
    assert known(a_recall(kept, revision="abc"), *PLAN.steps) == {}


def test_what_a_fallback_did_is_known_where_the_fallback_comes_first(kept: Kept[Done]) -> None:
    step = Step("s1", Task.TEXT_GENERATION, ("x",))
    result = Done("s1", step.task, "org/second", "written", SPAN)
    a_recall(kept).keep(step, result, {})
    assert known(a_recall(kept), step) == {}
    assert known(a_recall(kept, model="org/second"), step) == {"s1": result}


def test_a_result_whose_file_is_gone_is_computed(kept: Kept[Done]) -> None:
    step = Step("s4", Task.TEXT_TO_SPEECH, ("hello",))
    spoken = Done("s4", step.task, "org/m", ArtifactRef("a" * 64, "audio/wav", 1, "speech.wav"), SPAN)
    a_recall(kept).keep(step, spoken, {})
    assert known(a_recall(kept), step) == {"s4": spoken}
    assert known(a_recall(kept, stored=False), step) == {}


def test_the_values_used_last_stay_within_number_and_size() -> None:
    kept: Kept[str] = Kept(2, most_bytes=1000)
    for key in "abc":
        kept.keep(key, key)
        kept.get("a")
    assert [kept.get(key) for key in "abc"] == ["a", None, "c"]
    kept.keep("long", "x" * 900)
    assert [kept.get(key) is not None for key in ("a", "c", "long")] == [False, True, True]
    kept.keep("too long", "x" * 2000)
    assert kept.get("too long") is None and kept.get("long")


def test_a_task_that_draws_keys_on_its_seed_and_another_does_not() -> None:
    def key(task: Task, seed: int | None) -> str | None:
        request = Request("r", "Draw.", terms=Terms(seed=seed))
        return Recall(Kept(1), request, {"s1": Choice(("org/m",), "")}, lambda _ref: True).recipe(Step("s1", task, ("a fox",)), {})

    assert len({key(Task.TEXT_TO_IMAGE, seed) for seed in (None, 1, 2)}) == 3
    assert len({key(Task.TRANSLATION, seed) for seed in (None, 1, 2)}) == 1


def test_steps_on_their_way_are_the_same_only_with_the_same_fallbacks() -> None:
    def recipe(*models: str) -> str | None:
        return Recall(Kept(1), Request("r", "Go."), {"s1": Choice(models, "")}, lambda _ref: True).recipe(
            Step("s1", Task.SUMMARIZATION, ("x",)), {}
        )

    assert len({recipe("org/a"), recipe("org/a", "org/b"), recipe("org/b", "org/a")}) == 3
    assert recipe("org/a", "org/b") == recipe("org/a", "org/b")
