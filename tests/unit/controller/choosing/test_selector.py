"""Choosing models: filtered by task and language, ranked, and put to the LLM only where several are close."""

import json
from typing import Any

import pytest

from cluster.catalogue import Catalogue, ModelCard
from cluster.errors import BadRequest, HuggingGPTError, LanguageModelError, PlanError
from cluster.messages import ArtifactRef
from cluster.settings import FamilySettings, HubSettings, LanguageModelClient, Selecting
from cluster.state import ClusterState, ModelState, ReplicaState
from cluster.tasks import Option, Task
from controller.asking.request import Request, RequestFile
from controller.choosing.candidates import Candidates
from controller.choosing.selector import Choice, Selector
from controller.planning.plan import InputFile, OutputOf, Plan, Step
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


def candidates(*cards: ModelCard) -> Candidates:
    families = {name: FamilySettings() for name in ("text", "speech")}
    return Candidates(Catalogue(cards), families, None, HubSettings())


def selector(chat: ScriptedChat, *cards: ModelCard, **settings: Any) -> Selector:
    return Selector(candidates(*cards), chat, Selecting(**settings), LanguageModelClient())


async def chosen_by(chooser: Selector, plan: Plan, request: Request, *replicas: ReplicaState) -> dict[str, Choice]:
    return await chooser.choose(plan, request, ClusterState(replicas))


CLOSE = (a_card("good", Task.SUMMARIZATION, 0.8), a_card("better", Task.SUMMARIZATION, 0.85), a_card("poor", Task.SUMMARIZATION, 0.3))


async def test_the_only_fitting_model_is_taken_and_no_llm_is_asked() -> None:
    chosen = await chosen_by(selector(ScriptedChat(), a_card("good", Task.SUMMARIZATION, 0.8)), Plan((SUMMARY,)), REQUEST)
    assert chosen["s1"].models == ("org/good",)
    assert chosen["s1"].reason.startswith("the only fitting model; score 0.")


async def test_one_model_far_ahead_is_taken_with_the_others_as_fallbacks_and_no_llm_is_asked() -> None:
    cards = (a_card("poor", Task.SUMMARIZATION, 0.3), a_card("good", Task.SUMMARIZATION, 0.8))
    chosen = await chosen_by(selector(ScriptedChat(), *cards), Plan((SUMMARY,)), REQUEST)
    assert chosen["s1"].models == ("org/good", "org/poor")


async def test_a_model_that_does_not_speak_the_language_of_the_file_is_no_candidate() -> None:
    cards = (a_card("chinese", Task.SUMMARIZATION, 0.9, "zh"), a_card("english", Task.SUMMARIZATION, 0.5, "en"))
    chosen = await chosen_by(selector(ScriptedChat(), *cards), Plan((SUMMARY,)), REQUEST)
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
    chosen = await chosen_by(selector(ScriptedChat(), *cards), Plan(steps), REQUEST)
    assert [chosen[step].models[0] for step in ("s1", "s2", "s3")] == ["org/translator", "org/mei", "org/tom"]


async def test_a_language_that_no_model_speaks_is_said() -> None:
    with pytest.raises(PlanError, match="no deployed model does summarization in the language 'en'"):
        await chosen_by(selector(ScriptedChat(), a_card("chinese", Task.SUMMARIZATION, 0.9, "zh")), Plan((SUMMARY,)), REQUEST)


async def test_close_models_of_all_steps_are_put_to_the_llm_in_one_call_and_its_pick_leads() -> None:
    cards = (*CLOSE, a_card("a", Task.TRANSLATION, 0.5), a_card("b", Task.TRANSLATION, 0.5))
    steps = (SUMMARY, Step("s2", Task.TRANSLATION, (OutputOf("s1"),), {Option.LANGUAGE: "de"}))
    chat = ScriptedChat('{"s1": "org/good", "s2": "org/b"}')
    chosen = await chosen_by(selector(chat, *cards), Plan(steps), REQUEST)
    assert len(chat.asked) == 1
    assert chosen["s1"].models == ("org/good", "org/better", "org/poor")
    assert chosen["s1"].reason.startswith("the language model chose it among the best of 3")
    assert chosen["s2"].models == ("org/b", "org/a")


async def test_the_llm_can_name_only_candidates() -> None:
    chat = ScriptedChat('{"s1": "org/good"}')
    await chosen_by(selector(chat, *CLOSE), Plan((SUMMARY,)), REQUEST)
    assert chat.schemas[0] is not None
    assert chat.schemas[0]["properties"]["s1"]["enum"] == ["org/better", "org/good"]


async def test_only_so_many_candidates_are_put_to_the_llm() -> None:
    chat = ScriptedChat("{}")
    await chosen_by(
        selector(chat, *(a_card(f"m{n}", Task.SUMMARIZATION, 0.5) for n in range(50)), max_candidates=3), Plan((SUMMARY,)), REQUEST
    )
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
    chosen = await chosen_by(selector(ScriptedChat(reply), *CLOSE), Plan((SUMMARY,)), REQUEST)
    assert chosen["s1"].models == ("org/better", "org/good", "org/poor")


async def test_a_model_that_the_person_named_is_taken_alone() -> None:
    named = Request("r", "Sum it up.", (ENGLISH,), models={Task.SUMMARIZATION: "org/poor"})
    chosen = await chosen_by(selector(ScriptedChat(), *CLOSE), Plan((SUMMARY,)), named)
    assert chosen["s1"].models == ("org/poor",)


async def test_a_named_model_that_cannot_do_the_task_is_refused() -> None:
    named = Request("r", "Sum it up.", (ENGLISH,), models={Task.SUMMARIZATION: "org/whisper"})
    with pytest.raises(HuggingGPTError, match="org/whisper is not among the models of this cluster"):
        await chosen_by(selector(ScriptedChat(), *CLOSE), Plan((SUMMARY,)), named)


async def test_the_fallbacks_of_a_step_live_in_the_family_of_its_best_model() -> None:
    cards = (a_card("here", Task.SUMMARIZATION, 0.9), a_card("there", Task.SUMMARIZATION, 0.5, family="speech"))
    chosen = await chosen_by(selector(ScriptedChat(), *cards), Plan((SUMMARY,)), REQUEST)
    assert chosen["s1"].models == ("org/here",)


def test_tasks_are_those_that_a_deployed_family_can_do() -> None:
    cards = (a_card("here", Task.SUMMARIZATION, 0.9), a_card("away", Task.IMAGE_TO_TEXT, 0.9, family="vision"))
    assert candidates(*cards).tasks == (Task.SUMMARIZATION,)


def a_replica(*models: ModelState, family: str = "text") -> ReplicaState:
    return ReplicaState("r1", family, "n1", budget_bytes=1, used_bytes=1, models=models)


async def test_a_model_that_is_loaded_and_idle_is_preferred_to_a_slightly_better_one_that_must_be_loaded() -> None:
    cards = (a_card("cold", Task.SUMMARIZATION, 0.62), a_card("warm", Task.SUMMARIZATION, 0.6))
    warm = a_replica(ModelState("org/warm", is_loaded=True, run_s=0.1), ModelState("org/cold", is_loaded=False, run_s=0.1, load_s=30))
    both = selector(ScriptedChat("{}"), *cards)
    assert (await chosen_by(both, Plan((SUMMARY,)), REQUEST, warm))["s1"].models[0] == "org/warm"
    assert (await chosen_by(selector(ScriptedChat("{}"), *cards), Plan((SUMMARY,)), REQUEST))["s1"].models[0] == "org/cold"


async def test_a_long_queue_sends_the_step_to_the_other_model() -> None:
    cards = (a_card("busy", Task.SUMMARIZATION, 0.7), a_card("idle", Task.SUMMARIZATION, 0.6))
    busy = a_replica(ModelState("org/busy", True, in_flight=40, run_s=2), ModelState("org/idle", True, run_s=2))
    chosen = await chosen_by(selector(ScriptedChat("{}"), *cards), Plan((SUMMARY,)), REQUEST, busy)
    assert chosen["s1"].models[0] == "org/idle"


async def test_a_model_that_is_set_aside_everywhere_comes_last() -> None:
    cards = (a_card("broken", Task.SUMMARIZATION, 0.9), a_card("sound", Task.SUMMARIZATION, 0.3))
    broken = a_replica(ModelState("org/broken", False, is_set_aside=True))
    chosen = await chosen_by(selector(ScriptedChat(), *cards), Plan((SUMMARY,)), REQUEST, broken)
    assert chosen["s1"].models == ("org/sound", "org/broken")


async def test_the_configuration_can_name_a_model_and_the_person_overrules_it() -> None:
    chooser = selector(ScriptedChat(), *CLOSE, models={Task.SUMMARIZATION: "org/poor"})
    assert (await chosen_by(chooser, Plan((SUMMARY,)), REQUEST))["s1"].models == ("org/poor",)
    named = Request("r", "Sum it up.", (ENGLISH,), models={Task.SUMMARIZATION: "org/good"})
    assert (await chosen_by(chooser, Plan((SUMMARY,)), named))["s1"].models == ("org/good",)


async def test_a_model_named_without_a_task_runs_every_step_that_it_can_do_and_no_other() -> None:
    cards = (*CLOSE, a_card("t", Task.TRANSLATION, 0.5))
    steps = (SUMMARY, Step("s2", Task.TRANSLATION, (OutputOf("s1"),), {Option.LANGUAGE: "de"}))
    named = Request("r", "Sum it up.", (ENGLISH,), named=("org/poor",))
    chosen = await chosen_by(selector(ScriptedChat(), *cards), Plan(steps), named)
    assert [chosen[step].models for step in ("s1", "s2")] == [("org/poor",), ("org/t",)]
    assert chosen["s1"].reason == "named in the request or the configuration"


async def test_a_named_model_that_no_step_can_use_is_refused() -> None:
    cards = (*CLOSE, a_card("t", Task.TRANSLATION, 0.5))
    with pytest.raises(BadRequest, match="the model org/t does translation, and the plan for this request has no such step"):
        await chosen_by(selector(ScriptedChat(), *cards), Plan((SUMMARY,)), Request("r", "Sum it up.", (ENGLISH,), named=("org/t",)))


PICTURE = RequestFile("f1", ArtifactRef("0" * 64, "image/png", 9, "x.png"))
DRAWN = Step("s1", Task.TEXT_TO_IMAGE, ("a cat",))


@pytest.mark.parametrize(
    ("source", "options", "model"),
    [
        (InputFile("f1"), {Option.WANTED: "text"}, "org/reader"),
        (InputFile("f1"), {Option.WANTED: "scene"}, "org/teller"),
        (InputFile("f1"), {}, "org/reader"),
        (OutputOf("s1"), {}, "org/teller"),
    ],
    ids=["text wanted", "scene wanted", "a file is read", "a drawn picture is described"],
)
async def test_a_picture_is_read_or_described_as_the_step_wants(source: Any, options: dict[Option, str], model: str) -> None:
    kinds = {"reader": "rapidocr", "teller": "captioner"}
    cards = [a_card(name, Task.IMAGE_TO_TEXT, 0.5).model_copy(update={"loader": loader}) for name, loader in kinds.items()]
    steps = (DRAWN, Step("s2", Task.IMAGE_TO_TEXT, (source,), options))
    chooser = selector(ScriptedChat(), *cards, a_card("painter", Task.TEXT_TO_IMAGE, 0.5))
    chosen = await chosen_by(chooser, Plan(steps), Request("r", "Draw it.", (PICTURE,)))
    assert chosen["s2"].models == (model,)
