"""The LLM as an expert: long texts in pieces that lose nothing, and failures as data."""

import asyncio
import re
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from cluster.chat import Message, Reply
from cluster.errors import LanguageModelError, ModelError
from cluster.language import detect_language
from cluster.tasks import Task
from deployments.llm_expert import PIECE_CHARACTERS, WINDOW_CHARACTERS, LanguageExpert, pieces, relevant, weight
from deployments.model import Call, Output
from deployments.translation import EXAMPLE

quick = settings(
    max_examples=60,
    deadline=None,  # a core is shared: no example, and no drawing of one, is too slow
    suppress_health_check=[HealthCheck.too_slow],
    database=None,
    phases=[Phase.explicit, Phase.generate],
)
SENTENCE = "The oceans have taken up most of the heat of the last fifty years. "


class Obeying:
    """A ChatModel that answers the user's text with a function of it. Several may be asked at once."""

    def __init__(self, answer: Callable[[str], str], later_s: float = 0.001) -> None:
        self._answer = answer
        self._later_s = later_s  # what every call but the first takes
        self.asked: list[str] = []
        self.at_once = 0
        self.most_at_once = 0

    async def reply(self, messages: Sequence[Message], *, max_tokens: int, timeout_s: float, schema: dict[str, Any] | None = None) -> Reply:
        text = messages[-1]["content"]
        wait_s = self._later_s if self.asked else 0.001
        self.asked.append(text)
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            await asyncio.sleep(wait_s)
            return Reply(self._answer(text), 1, 1, is_cut=False)
        finally:
            self.at_once -= 1

    async def prime(self, messages: Sequence[Message], *, timeout_s: float) -> None:
        raise NotImplementedError

    def stream(self, messages: Sequence[Message], *, max_tokens: int, timeout_s: float) -> AsyncIterator[str]:
        raise NotImplementedError


async def ran(chat: Obeying, task: Task, text: str, **options: str) -> Output | ModelError:
    (result,) = await LanguageExpert(chat, timeout_s=5).run([Call(task, (text,), options)])
    return result


class Remembering(Obeying):
    """Keeps all that was said before."""

    def __init__(self) -> None:
        super().__init__(lambda _asked: "Guten Tag.")
        self.turns: list[list[str]] = []

    async def reply(self, messages: Sequence[Message], **limits: Any) -> Reply:
        self.turns.append([message["content"] for message in messages])
        return await super().reply(messages, **limits)


def to_translate(asked: str) -> str:
    """The text in a request to translate: the instruction stands before it."""
    return asked.partition("\n\n")[2]


def to_summarize(asked: str) -> str:
    """The text in a request to summarize: the instruction stands after it."""
    return asked.rpartition("\n\n")[0]


def squeezed(text: str) -> str:
    return re.sub(r"\s", "", text)


@quick
@given(st.text(st.sampled_from("abcdefg .!?\n。！？气候変화"), max_size=400), st.integers(3, 60))
def test_pieces_lose_nothing_and_keep_the_limit(text: str, limit: int) -> None:
    cut = pieces(text, limit)
    assert squeezed("".join(cut)) == squeezed(text)
    assert all(0 < weight(piece) <= limit for piece in cut)


def test_pieces_end_where_sentences_end() -> None:
    assert all(piece.strip().endswith("years.") for piece in pieces(SENTENCE * 40, 300))


def test_a_sentence_longer_than_a_piece_is_cut_between_words() -> None:
    words = "heat " * 100
    assert {word for piece in pieces(words, 60) for word in piece.split()} == {"heat"}


def test_a_chinese_character_weighs_three_letters() -> None:
    assert (weight("heat"), weight("气候"), weight("기후")) == (4, 6, 6)


def test_the_relevant_part_of_a_long_text_holds_the_answer_and_fits() -> None:
    text = SENTENCE * 200 + "The invoice of Northwind costs 840 dollars. " + SENTENCE * 200
    part = relevant(text, "What does the Northwind invoice cost?", WINDOW_CHARACTERS)
    assert "840 dollars" in part
    assert weight(part) <= WINDOW_CHARACTERS + 3  # the line breaks between four pieces


def test_a_text_that_fits_is_read_whole() -> None:
    assert relevant(SENTENCE, "What?", WINDOW_CHARACTERS) == SENTENCE


async def test_a_long_translation_is_done_side_by_side_and_joined_in_order() -> None:
    chat = Obeying(lambda asked: to_translate(asked).upper())
    text = "".join(f"Sentence {n} of the speech is this one. " for n in range(60)).strip()
    result = await ran(chat, Task.TRANSLATION, text, language="de")
    assert isinstance(result, Output) and isinstance(result.value, str)
    assert result.value.split() == text.upper().split()
    assert chat.most_at_once > 1
    assert all(weight(to_translate(asked)) <= PIECE_CHARACTERS for asked in chat.asked)


async def test_paragraphs_stay_paragraphs_in_a_translation() -> None:
    chat = Obeying(lambda asked: to_translate(asked).upper())
    result = await ran(chat, Task.TRANSLATION, SENTENCE * 8 + "\n\n" + SENTENCE * 8, language="de")
    assert isinstance(result, Output) and "\n" in str(result.value)


@pytest.mark.parametrize(("language", "turns"), [("de", 4), ("sv", 2)])
async def test_a_translation_is_asked_for_after_an_example_in_its_language_where_there_is_one(language: str, turns: int) -> None:
    chat = Remembering()
    assert await ran(chat, Task.TRANSLATION, "Good day.", language=language) == Output("Guten Tag.")
    (said,) = chat.turns
    assert len(said) == turns and to_translate(said[-1]) == "Good day."
    if turns > 2:
        assert to_translate(said[1]) == EXAMPLE and detect_language(said[2]) == language


async def test_a_long_text_is_summarised_by_summarising_the_summaries_of_its_pieces() -> None:
    chat = Obeying(lambda asked: f"Summary of {len(to_summarize(asked))}.")
    result = await ran(chat, Task.SUMMARIZATION, SENTENCE * 300)
    *parts, last = map(to_summarize, chat.asked)
    assert len(parts) >= 3
    assert squeezed("".join(parts)) == squeezed(SENTENCE * 300)
    assert last == "\n".join(f"Summary of {len(part)}." for part in parts)
    assert result == Output(f"Summary of {len(last)}.")


async def test_a_summary_that_is_hardly_shorter_than_its_text_is_asked_for_again() -> None:
    chat = Obeying(lambda asked: "Short." if "too long" in asked else to_summarize(asked))
    assert await ran(chat, Task.SUMMARIZATION, SENTENCE * 5) == Output("Short.")


async def test_a_summary_of_two_sentences_that_is_as_long_as_its_text_keeps_the_first() -> None:
    text = SENTENCE * 6
    first, second = f"{text[:150]}.", f" {text[:150]}."
    assert await ran(Obeying(lambda _asked: first + second), Task.SUMMARIZATION, text) == Output(first)


async def test_a_summary_that_stays_long_ends_after_the_sentences_that_were_asked_for() -> None:
    text = " ".join(f"Number {n} says something of its own." for n in range(1, 20))
    assert await ran(Obeying(to_summarize), Task.SUMMARIZATION, text) == Output(
        "Number 1 says something of its own. Number 2 says something of its own. Number 3 says something of its own."
    )


async def test_a_summary_in_another_language_is_a_translated_summary() -> None:
    chat = Obeying(lambda asked: "Kurz." if asked.startswith("Translate into German") else "Short.")
    assert await ran(chat, Task.SUMMARIZATION, SENTENCE * 5, language="de") == Output("Kurz.")


async def test_words_left_in_the_source_language_are_translated_by_themselves() -> None:
    def answer(asked: str) -> str:
        return '{"forests": "森林"}' if asked.startswith("Translate each of these words") else "保护 forests 。"

    assert await ran(Obeying(answer), Task.TRANSLATION, "Protect the forests.", language="zh") == Output("保护森林。")


async def test_names_are_translated_first_and_stand_in_the_text_that_is_translated() -> None:
    def answer(asked: str) -> str:
        if asked.startswith("Translate each of these words"):
            return '{"Congo": "刚果"}'
        return "保护刚果的森林。" if asked.endswith("Protect the forests of the 刚果.") else "保护孔戈的森林。"

    result = await ran(Obeying(answer), Task.TRANSLATION, "Protect the forests of the Congo.", language="zh")
    assert result == Output("保护刚果的森林。")


async def test_a_language_model_that_only_copies_ends_a_summary_instead_of_going_on_for_ever() -> None:
    async with asyncio.timeout(5):
        result = await ran(Obeying(to_summarize), Task.SUMMARIZATION, "word after word " * 600)
    assert isinstance(result, ModelError) and "no shorter" in result.message


@pytest.mark.parametrize("task", [Task.TRANSLATION, Task.SUMMARIZATION])
async def test_a_piece_that_fails_fails_the_call_and_ends_its_neighbours(task: Task) -> None:
    def breaks(_text: str) -> str:
        raise LanguageModelError("the language model cannot be reached")

    chat = Obeying(breaks, later_s=60)
    async with asyncio.timeout(5):
        result = await ran(chat, task, SENTENCE * 300, language="de")
    assert isinstance(result, ModelError) and "cannot be reached" in result.message
    assert chat.at_once == 0


async def test_one_call_that_fails_leaves_the_next_alone() -> None:
    calls = [Call(Task.SUMMARIZATION, (" ",)), Call(Task.SUMMARIZATION, ("A text.",)), Call(Task.TEXT_TO_SPEECH, ("A text.",))]
    empty, good, unknown = await LanguageExpert(Obeying(lambda asked: to_summarize(asked).upper()), timeout_s=5).run(calls)
    assert isinstance(empty, ModelError) and "empty text" in empty.message
    assert good == Output("A TEXT.")
    assert isinstance(unknown, ModelError) and "text-to-speech" in unknown.message


async def test_a_language_model_that_says_nothing_has_failed() -> None:
    assert isinstance(await ran(Obeying(lambda _text: " \n"), Task.SUMMARIZATION, "A text."), ModelError)


async def test_a_question_goes_with_the_text() -> None:
    chat = Obeying(lambda _text: "840")
    assert await ran(chat, Task.QUESTION_ANSWERING, "It costs 840.", question="How much?") == Output("840")
    assert "It costs 840." in chat.asked[0] and "How much?" in chat.asked[0]
