"""Choosing models: filtered by task and language, ranked, and put to the LLM only where several are close."""

import json
from typing import Any

import pytest

from cluster.catalogue import Catalogue, ModelCard
from cluster.errors import BadRequest, LanguageModelError, PlanError
from cluster.messages import ArtifactRef
from cluster.settings import LanguageModelClient, Selecting
from cluster.tasks import Option, Task
from controller.plan import InputFile, OutputOf, Plan, Step
from controller.request import Request, RequestFile
from controller.selector import Choice, Selector
from tests.fakes_chat import ScriptedChat

ENGLISH = RequestFile(
    "f1", ArtifactRef("0" * 64, "text/plain", 9, "speech.txt"), "Good morning to you all, my dear friends and colleagues."
)
REQUEST = Request("r", "Sum it up.", (ENGLISH,))
SUMMARY = Step("s1", Task.SUMMARIZATION, (InputFile("f1"),))


def a_card(name: str, task: Task, quality: float, *languages: str, family: str = "text") -> ModelCard:
    return ModelCard(
        id=f"org/{name}", family=family, loader="x", tasks=(task,), languages=languages or ("*",), licence="MIT", origin="a test",
        memory_bytes=1, quality=quality, description=name,
    )  # fmt: skip


def selector(chat: ScriptedChat, *cards: ModelCard, **settings: Any) -> Selector:
    return Selector(Catalogue(cards), ("text", "speech"), chat, Selecting(**settings), LanguageModelClient())


CLOSE = (a_card("good", Task.SUMMARIZATION, 0.8), a_card("better", Task.SUMMARIZATION, 0.85), a_card("poor", Task.SUMMARIZATION, 0.3))


async def test_the_only_fitting_model_is_taken_and_no_llm_is_asked() -> None:
    chosen = await selector(ScriptedChat(), a_card("good", Task.SUMMARIZATION, 0.8)).choose(Plan((SUMMARY,)), REQUEST)
    assert chosen == {"s1": Choice(("org/good",), "the only fitting model")}


async def test_one_model_far_ahead_is_taken_with_the_others_as_fallbacks_and_no_llm_is_asked() -> None:
    cards = (a_card("poor", Task.SUMMARIZATION, 0.3), a_card("good", Task.SUMMARIZATION, 0.8))
    chosen = await selector(ScriptedChat(), *cards).choose(Plan((SUMMARY,)), REQUEST)
    assert chosen["s1"].models == ("org/good", "org/poor")


async def test_a_model_that_does_not_speak_the_language_of_the_file_is_no_candidate() -> None:
    cards = (a_card("chinese", Task.SUMMARIZATION, 0.9, "zh"), a_card("english", Task.SUMMARIZATION, 0.5, "en"))
    chosen = await selector(ScriptedChat(), *cards).choose(Plan((SUMMARY,)), REQUEST)
    assert chosen["s1"].models == ("org/english",)


async def test_a_translation_is_read_aloud_by_a_voice_of_its_language() -> None:
    cards = (
        a_card("translator", Task.TRANSLATION, 0.5),
        a_card("tom", Task.TEXT_TO_SPEECH, 0.9, "en", family="speech"),
        a_card("mei", Task.TEXT_TO_SPEECH, 0.4, "zh", family="speech"),
    )
    steps = (
        Step("s1", Task.TRANSLATION, (InputFile("f1"),), {Option.LANGUAGE: "zh"}),
        Step("s2", Task.TEXT_TO_SPEECH, (OutputOf("s1"),)),
        Step("s3", Task.TEXT_TO_SPEECH, (InputFile("f1"),)),
    )
    chosen = await selector(ScriptedChat(), *cards).choose(Plan(steps), REQUEST)
    assert [chosen[step].models[0] for step in ("s1", "s2", "s3")] == ["org/translator", "org/mei", "org/tom"]


async def test_a_language_that_no_model_speaks_is_said() -> None:
    with pytest.raises(PlanError, match="no deployed model does summarization in the language 'en'"):
        await selector(ScriptedChat(), a_card("chinese", Task.SUMMARIZATION, 0.9, "zh")).choose(Plan((SUMMARY,)), REQUEST)


async def test_close_models_of_all_steps_are_put_to_the_llm_in_one_call_and_its_pick_leads() -> None:
    cards = (*CLOSE, a_card("a", Task.TRANSLATION, 0.5), a_card("b", Task.TRANSLATION, 0.5))
    steps = (SUMMARY, Step("s2", Task.TRANSLATION, (OutputOf("s1"),), {Option.LANGUAGE: "de"}))
    chat = ScriptedChat('{"s1": "org/good", "s2": "org/b"}')
    chosen = await selector(chat, *cards).choose(Plan(steps), REQUEST)
    assert len(chat.asked) == 1
    assert chosen["s1"] == Choice(("org/good", "org/better", "org/poor"), "the language model chose among 2")
    assert chosen["s2"].models == ("org/b", "org/a")


async def test_the_llm_can_name_only_candidates() -> None:
    chat = ScriptedChat('{"s1": "org/good"}')
    await selector(chat, *CLOSE).choose(Plan((SUMMARY,)), REQUEST)
    assert chat.schemas[0] is not None
    assert chat.schemas[0]["properties"]["s1"]["enum"] == ["org/better", "org/good"]


async def test_only_so_many_candidates_are_put_to_the_llm() -> None:
    chat = ScriptedChat("{}")
    await selector(chat, *(a_card(f"m{n}", Task.SUMMARIZATION, 0.5) for n in range(50)), max_candidates=3).choose(Plan((SUMMARY,)), REQUEST)
    assert json.dumps(chat.asked[0]).count("org/m") == 3


@pytest.mark.parametrize(
    "reply",
    [
        "",
        "{rubbish",
        "[]",
        "null",
        '"org/good"',
        '{"s1": "org/invented"}',
        '{"s1": "org/poor"}',
        '{"s1": ["org/good"]}',
        '{"s9": "org/good"}',
    ]
    + [LanguageModelError("down")],
)
async def test_when_the_llm_gives_no_usable_pick_the_ranking_decides(reply: str | LanguageModelError) -> None:
    chosen = await selector(ScriptedChat(reply), *CLOSE).choose(Plan((SUMMARY,)), REQUEST)
    assert chosen["s1"].models == ("org/better", "org/good", "org/poor")


async def test_a_model_that_the_person_named_is_taken_alone() -> None:
    named = Request("r", "Sum it up.", (ENGLISH,), models={Task.SUMMARIZATION: "org/poor"})
    chosen = await selector(ScriptedChat(), *CLOSE).choose(Plan((SUMMARY,)), named)
    assert chosen["s1"].models == ("org/poor",)


async def test_a_named_model_that_cannot_do_the_task_is_refused() -> None:
    named = Request("r", "Sum it up.", (ENGLISH,), models={Task.SUMMARIZATION: "org/whisper"})
    with pytest.raises(BadRequest, match="org/whisper is not deployed for summarization"):
        await selector(ScriptedChat(), *CLOSE).choose(Plan((SUMMARY,)), named)


async def test_the_fallbacks_of_a_step_live_in_the_family_of_its_best_model() -> None:
    cards = (a_card("here", Task.SUMMARIZATION, 0.9), a_card("there", Task.SUMMARIZATION, 0.5, family="speech"))
    chosen = await selector(ScriptedChat(), *cards).choose(Plan((SUMMARY,)), REQUEST)
    assert chosen["s1"].models == ("org/here",)


def test_tasks_are_those_that_a_deployed_family_can_do() -> None:
    cards = (a_card("here", Task.SUMMARIZATION, 0.9), a_card("away", Task.IMAGE_TO_TEXT, 0.9, family="vision"))
    assert selector(ScriptedChat(), *cards).tasks == (Task.SUMMARIZATION,)
