"""The answer: every file is named, nothing invented goes out, failures are told, and all of it is streamed."""

import pytest

from cluster.errors import LanguageModelError
from cluster.messages import ArtifactRef, Done, Failed, Skipped, Span, TaskResult
from cluster.settings import Answering, LanguageModelClient
from cluster.tasks import Option, Task
from controller.answering.responder import Answer, Responder
from controller.asking.request import Request
from controller.execution.events import AnswerText, Event, artifact_url
from controller.planning.plan import OutputOf, Plan, Step
from tests.fakes_chat import ScriptedChat

SPAN = Span(0, 0, 0, 0, "here")
AUDIO = ArtifactRef("ab" * 32, "audio/wav", 9, "summary.wav")
PLAN = Plan(
    (
        Step("s1", Task.TRANSLATION, ("x",), {Option.LANGUAGE: "zh"}),
        Step("s2", Task.TEXT_TO_SPEECH, (OutputOf("s1"),)),
    )
)
RESULTS: dict[str, TaskResult] = {
    "s1": Done("s1", Task.TRANSLATION, "org/m", "气候在2024年变化", SPAN),
    "s2": Done("s2", Task.TEXT_TO_SPEECH, "org/v", AUDIO, SPAN),
}
REQUEST = Request("r", "Translate the speech into Chinese and read it aloud, please.")
LINK = f"[summary.wav]({artifact_url(AUDIO)})"


async def answered(
    chat: ScriptedChat, plan: Plan = PLAN, results: dict[str, TaskResult] | None = None, request: Request = REQUEST
) -> tuple[Answer, list[str]]:
    told: list[Event] = []
    responder = Responder(chat, tuple(Task), Answering(), LanguageModelClient())
    answer = await responder.answer(request, plan, RESULTS if results is None else results, told.append)
    return answer, [event.text for event in told if isinstance(event, AnswerText)]


@pytest.mark.parametrize(
    "words", ["Here is your translation.", "It is in summary.wav.", "", "See cat.png.", LanguageModelError("down")], ids=str
)
async def test_every_file_and_every_wanted_text_is_in_the_answer_whatever_the_llm_says(words: str | LanguageModelError) -> None:
    answer, _ = await answered(ScriptedChat(words))
    assert LINK in answer.text
    assert "气候在2024年变化" in answer.text


async def test_backed_words_go_out_first() -> None:
    answer, _ = await answered(ScriptedChat("Here is the translation from 2024. I read it into summary.wav."))
    assert answer.text.startswith("Here is the translation from 2024. I read it into summary.wav.")
    assert not answer.was_composed


async def test_what_is_streamed_is_the_answer() -> None:
    answer, pieces = await answered(ScriptedChat("It is done. Listen to it.", piece=1))
    assert "".join(pieces) == answer.text
    assert pieces[0] == "It is done. "


@pytest.mark.parametrize(
    "invention",
    ["cat.png", "https://example.com/cat", "4711", "sandbox:/mnt/summary.wav", f"/v1/artifacts/{'cd' * 32}", "做了fake.wav给你"],
)
@pytest.mark.parametrize("piece", [1, 1000])
async def test_an_invention_never_goes_out_and_the_results_speak_alone(invention: str, piece: int) -> None:
    answer, pieces = await answered(ScriptedChat(f"Done. The result is {invention}. Enjoy it.", piece=piece))
    assert invention not in "".join(pieces)
    assert "Enjoy" not in answer.text
    assert answer.was_composed
    assert LINK in answer.text


async def test_an_llm_that_breaks_in_the_middle_leaves_whole_sentences_and_all_results() -> None:
    answer, pieces = await answered(ScriptedChat("Here it is. The rest of it goes on and on.", breaks_after=20))
    assert answer.text.startswith("Here it is. \n\n")
    assert "The rest" not in answer.text
    assert LINK in answer.text
    assert answer.was_composed
    assert "".join(pieces) == answer.text


async def test_a_text_that_the_words_hold_already_is_not_said_twice() -> None:
    answer, _ = await answered(ScriptedChat("It reads 气候在2024年变化."))
    assert answer.text.count("气候在2024年变化") == 1


async def test_failed_and_skipped_steps_are_told() -> None:
    results: dict[str, TaskResult] = {
        "s1": Failed("s1", Task.TRANSLATION, "the text is empty"),
        "s2": Skipped("s2", Task.TEXT_TO_SPEECH, "s1"),
    }
    answer, _ = await answered(ScriptedChat("All went well."), results=results)
    assert "**translation** failed: the text is empty" in answer.text
    assert "**text-to-speech** was not done: translation gave nothing" in answer.text


async def test_the_llm_sees_the_results_cut_to_what_its_prompt_may_hold() -> None:
    results = dict(RESULTS, s1=Done("s1", Task.TRANSLATION, "org/m", "长" * 9000, SPAN))
    chat = ScriptedChat("Done.")
    answer, _ = await answered(chat, results=results)
    assert len(chat.asked[0][-1]["content"]) < 1500
    assert "长" * 9000 in answer.text


async def test_without_a_plan_the_llm_answers_from_the_conversation() -> None:
    history = ({"role": "user", "content": "I am Ann."}, {"role": "assistant", "content": "Hello Ann."})
    chat = ScriptedChat("You are Ann. Everest is 8849 m high.")
    answer, _ = await answered(chat, Plan(), {}, Request("r", "Who am I?", history=history))
    assert answer.text == "You are Ann. Everest is 8849 m high."
    assert [message["content"] for message in chat.asked[0][1:]] == ["I am Ann.", "Hello Ann.", "Who am I?"]


async def test_without_a_plan_an_invented_file_does_not_go_out_either() -> None:
    answer, pieces = await answered(ScriptedChat("I made cat.png for you."), Plan(), {})
    assert "cat.png" not in "".join(pieces)
    assert answer.was_composed and answer.text


async def test_without_a_plan_a_silent_llm_is_the_failure_of_the_run() -> None:
    with pytest.raises(LanguageModelError, match="down"):
        await answered(ScriptedChat(LanguageModelError("down")), Plan(), {})


async def test_one_text_written_for_the_person_is_the_answer_and_the_llm_is_not_asked() -> None:
    plan = Plan((Step("s1", Task.TEXT_GENERATION, ("x",), {Option.PROMPT: "a sentence"}),))
    results: dict[str, TaskResult] = {"s1": Done("s1", Task.TEXT_GENERATION, "org/m", "A cup stands on a table.", SPAN)}
    answer, _ = await answered(ScriptedChat(), plan, results)
    assert answer.text == "A cup stands on a table."


async def test_an_answer_that_has_two_wanted_texts_shows_both() -> None:
    plan = Plan(
        (
            Step("s1", Task.AUTOMATIC_SPEECH_RECOGNITION, ("x",)),
            Step("s2", Task.TRANSLATION, (OutputOf("s1"),), {Option.LANGUAGE: "de"}),
        )
    )
    results: dict[str, TaskResult] = {
        "s1": Done("s1", Task.AUTOMATIC_SPEECH_RECOGNITION, "org/a", "Good morning.", SPAN),
        "s2": Done("s2", Task.TRANSLATION, "org/m", "Guten Morgen.", SPAN),
    }
    answer, _ = await answered(ScriptedChat("Here it is."), plan, results)
    assert "Good morning." in answer.text
    assert "Guten Morgen." in answer.text
