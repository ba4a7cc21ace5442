"""Planning again: what the planner is shown, what it may not plan, what is dropped, and when nobody is asked."""

from collections.abc import Mapping
from typing import Any

import pytest

from cluster.errors import PlanError
from cluster.messages import ArtifactRef, Done, Failed, Skipped, Span, TaskResult
from cluster.settings import Planning
from cluster.tasks import Media, Option, Task
from controller.asking.request import Request, RequestFile
from controller.choosing.selector import Choice
from controller.execution.replanner import Addition, Replanner, can_be_made, lost, why
from controller.planning.plan import InputFile, OutputOf, Plan, Step
from controller.planning.plan_language import UnservedTask
from controller.planning.planner import Planner
from tests.fakes_chat import ScriptedChat

SPAN = Span(0, 0, 0, 0, "here")
TALK = RequestFile("f1", ArtifactRef("0" * 64, "audio/wav", 9, "talk.wav"))
REQUEST = Request("r", "Write down what was said, sum it up, and say 'good luck' aloud.", (TALK,))
PLAN = Plan(
    (
        Step("s1", Task.AUTOMATIC_SPEECH_RECOGNITION, (InputFile("f1"),)),
        Step("s2", Task.SUMMARIZATION, (OutputOf("s1"),)),
        Step("s3", Task.TEXT_TO_SPEECH, (OutputOf("s2"),)),
    )
)
CHOICES = {"s1": Choice(("org/ears",), ""), "s2": Choice(("org/pen",), ""), "s3": Choice(("org/voice",), "")}
TRANSCRIPT = "Good morning to you all, my dear friends and colleagues."


def done(step: Step, value: str | ArtifactRef = TRANSCRIPT) -> Done:
    return Done(step.id, step.task, "org/m", value, SPAN)


def failed(step: Step, kind: str = "model_error", reason: str = "org/pen (run): it said: 'no'") -> Failed:
    return Failed(step.id, step.task, reason, kind)


def after_the_transcript(kind: str = "model_error") -> dict[str, TaskResult]:
    """The recording was written down; the summary failed, and with it the speech."""
    first, second, third = PLAN.steps
    return {"s1": done(first), "s2": failed(second, kind), "s3": Skipped("s3", third.task, "s2")}


async def replanned(
    reply: str, results: Mapping[str, TaskResult] | None = None, *, tasks: tuple[Task, ...] = tuple(Task), plan: Plan = PLAN
) -> tuple[Addition, ScriptedChat]:
    chat = ScriptedChat(reply, reply)
    replanner = Replanner(chat, tasks, Planning(), Planner(chat, tasks, Planning()))
    results = after_the_transcript() if results is None else results
    loss = lost(plan.steps, plan, results)
    assert loss is not None
    return await replanner.plan(REQUEST, plan, results, CHOICES, loss), chat


async def test_new_steps_go_on_from_what_was_done_with_ids_that_go_on() -> None:
    more, _ = await replanned('{"s1":["text-generation","f2","Sum it up."],"s2":["text-to-speech","s1"]}')
    assert more.steps == (
        Step("s4", Task.TEXT_GENERATION, (OutputOf("s1"),), {Option.PROMPT: "Sum it up."}),
        Step("s5", Task.TEXT_TO_SPEECH, (OutputOf("s4"),)),
    )
    assert [step.id for step in more.plan.steps] == ["s4", "s5"]
    assert more.plan.steps[0].inputs == (InputFile("f2"),)
    assert more.request.file("f2").text == TRANSCRIPT


async def test_the_planner_is_told_what_there_is_what_failed_and_why_in_one_line() -> None:
    _, chat = await replanned('{"s1":["text-generation","f2","Sum it up."]}')
    files, line, asked = chat.asked[0][-1]["content"].split("\n")[-3:]
    assert files == "f2 = text transcript of talk.wav (en)"
    assert "summarization failed (org/pen (run) it said no)" in line and "f2" in line
    assert asked == REQUEST.text.replace("'good", "[q1] 'good")  # still its first quote


async def test_a_task_that_no_model_could_do_is_not_offered_again_and_the_prompt_stays_the_one_that_the_engine_has_read() -> None:
    _, chat = await replanned('{"s1":["text-generation","f2","Sum it up."]}')
    assert chat.schemas[0] is not None
    forms = chat.schemas[0]["anyOf"][1]["properties"]["s1"]["anyOf"]
    offered = {task for form in forms for task in form["prefixItems"][0]["enum"]}
    assert "summarization" not in offered and "text-generation" in offered
    assert chat.asked[0][:-1] == list(Planner(ScriptedChat(), tuple(Task), Planning()).constant_messages)
    with pytest.raises(PlanError):
        await replanned('{"s1":["summarization","f2","de"]}')


async def test_a_task_that_worked_elsewhere_in_the_run_may_be_planned_again() -> None:
    steps = (*PLAN.steps, Step("s4", Task.SUMMARIZATION, ("some text",)))
    results = after_the_transcript() | {"s4": done(steps[-1], "short")}
    more, _ = await replanned('{"s1":["summarization","f2","de"]}', results, plan=Plan(steps))
    assert [(step.id, step.task) for step in more.steps] == [("s5", Task.SUMMARIZATION)]


async def test_what_succeeded_is_not_repeated_and_what_failed_is_not_tried_again() -> None:
    steps = (*PLAN.steps, Step("s4", Task.SUMMARIZATION, ("some text",)))
    results = after_the_transcript() | {"s4": done(steps[-1], "short")}
    reply = (
        '{"s1":["automatic-speech-recognition","f1"],"s2":["summarization","s1"],"s3":["text-to-speech","s2"],'
        '"s4":["translation","s1","de"],"s5":["translation","f2","de"],"s6":["text-to-speech","s5"]}'
    )
    more, _ = await replanned(reply, results, plan=Plan(steps))
    assert more.steps == (
        Step("s5", Task.TRANSLATION, (OutputOf("s1"),), {Option.LANGUAGE: "de"}),
        Step("s6", Task.TEXT_TO_SPEECH, (OutputOf("s5"),)),
    )


@pytest.mark.parametrize(
    ("reply", "error"),
    [
        ('{"s1":["automatic-speech-recognition","f1"]}', PlanError),
        ('{"kind":"chat"}', PlanError),
        ('{"kind":"knowledge"}', PlanError),
        ('{"kind":"cannot","task":"summarization"}', UnservedTask),
        ('{"s1":["translation","f9","de"]}', PlanError),
        ("nonsense", PlanError),
    ],
)
async def test_a_plan_with_nothing_new_is_refused(reply: str, error: type[PlanError]) -> None:
    with pytest.raises(error):
        await replanned(reply)


async def test_nobody_is_asked_when_no_working_task_gives_what_is_missing() -> None:
    chat = ScriptedChat()
    speech = Plan((PLAN.steps[0], Step("s2", Task.TEXT_TO_SPEECH, (OutputOf("s1"),))))
    results: dict[str, TaskResult] = {"s1": done(speech.steps[0]), "s2": failed(speech.steps[1])}
    loss = lost(speech.steps, speech, results)
    assert loss is not None
    tasks = (Task.AUTOMATIC_SPEECH_RECOGNITION, Task.SUMMARIZATION, Task.TEXT_TO_SPEECH, Task.AUDIO_TO_AUDIO)
    more = Replanner(chat, (*tasks[:3],), Planning(), Planner(chat, tasks, Planning()))
    with pytest.raises(PlanError, match="no task that works here could give the audio that is missing"):
        await more.plan(REQUEST, speech, results, CHOICES, loss)
    assert chat.asked == []


@pytest.mark.parametrize("kind", ["overloaded", "run_timeout", "not_found", "language_model_error"])
def test_a_failure_that_no_plan_can_spare_is_no_loss(kind: str) -> None:
    assert lost(PLAN.steps, PLAN, after_the_transcript(kind)) is None


def test_only_the_latest_steps_call_for_another_plan() -> None:
    results = after_the_transcript()
    latest = (Step("s4", Task.TEXT_GENERATION, (OutputOf("s1"),)),)
    whole = Plan((*PLAN.steps, *latest))
    assert lost(latest, whole, results | {"s4": done(latest[0])}) is None
    again = lost(latest, whole, results | {"s4": failed(latest[0])})
    assert again is not None and again.tasks == {Task.SUMMARIZATION, Task.TEXT_GENERATION} and again.media == {Media.TEXT}


def test_the_record_says_task_model_and_reason() -> None:
    loss = lost(PLAN.steps, PLAN, after_the_transcript() | {"s3": failed(PLAN.steps[2], reason="no reply within 3 s")})
    assert loss is not None
    assert why(loss, CHOICES) == (
        "s2 summarization failed: org/pen (run): it said: 'no'; s3 text-to-speech failed: org/voice: no reply within 3 s"
    )


async def test_a_model_that_the_person_named_is_named_by_its_task_in_the_follow_up() -> None:
    """The new plan need not have a step for it, which a request that names it would be refused for."""
    asked = Request("r", REQUEST.text, (TALK,), named=("org/ears",))
    chat = ScriptedChat('{"s1":["text-generation","f2","Sum it up."]}')
    replanner = Replanner(chat, tuple(Task), Planning(), Planner(chat, tuple(Task), Planning()))
    loss = lost(PLAN.steps, PLAN, after_the_transcript())
    assert loss is not None
    more = await replanner.plan(asked, PLAN, after_the_transcript(), CHOICES, loss)
    assert (more.request.named, more.request.models) == ((), {Task.AUTOMATIC_SPEECH_RECOGNITION: "org/ears"})


@pytest.mark.parametrize(
    ("media", "tasks", "given", "can"),
    [
        ({"audio"}, {Task.TEXT_TO_SPEECH}, set(), True),
        ({"audio"}, {Task.AUDIO_TO_AUDIO}, set(), False),
        ({"audio"}, {Task.AUDIO_TO_AUDIO}, {"audio"}, True),
        ({"video"}, {Task.TEXT_TO_IMAGE, Task.IMAGE_TO_VIDEO}, set(), True),
        ({"text"}, {Task.IMAGE_TO_TEXT}, {"audio"}, False),
        ({"text"}, set(), {"text"}, False),
    ],
)
def test_whether_a_chain_of_tasks_leads_there(media: Any, tasks: set[Task], given: Any, can: bool) -> None:
    assert can_be_made({Media(one) for one in media}, tasks, {Media(one) for one in given}) is can
