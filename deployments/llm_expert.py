"""Text tasks done by the controller's LLM: summarization, translation, question answering, text generation.

A text longer than the model's window is worked on in pieces, the pieces side by side. Sources: the prompts below; the idea of
the LLM as an expert among others is HuggingGPT's.
"""

import asyncio
import json
import re
from collections.abc import Coroutine, Iterable, Sequence
from typing import Any

from cluster.chat import ChatModel, Message
from cluster.errors import LanguageModelError, ModelError
from cluster.language import detect_language, language_name
from cluster.tasks import Task
from deployments.model import Call, Output
from deployments.translation import EXAMPLE, EXAMPLE_IN, SCRIPT_PATTERNS, leftovers, names, with_large_numbers, with_words

PIECE_CHARACTERS = 250  # of a translation: two or three sentences, so that a small model leaves none out; pieces run together
WINDOW_CHARACTERS = 6000  # of a text read at once; about 1,500 tokens of English
DENSE = 3  # a Chinese, Japanese or Korean character says about as much as three Latin ones
TOKENS_PER_CHARACTER = 1.0  # room for the reply; generous also for scripts the tokenizer splits finely
LEAST_TOKENS = 64
SHORT_TEXT = 200  # weight below which a summary may be about as long as its text
MOST_OF_IT = 0.6
MOST_SENTENCES = 3  # of a summary, as SUMMARY_REQUEST says
SUMMARY_REQUEST = "Summarize the text above in {language}, in two or three short sentences, with its most important numbers and names."
SUMMARY_REQUESTS = {"zh": "用两三句话概括上文要点，保留最重要的数字和名称。只输出概括。"}
WRITE_ABOUT_IT = "Write a short text about it."
TOO_LONG = "That was too long: one short sentence in {language}."

_SENTENCE = re.compile(r"[^.!?。！？\n]*(?:[.!?]+(?=\s|\Z)|[。！？]+|\n+|\Z)|[^.!?。！？\n]*[.!?]", re.DOTALL)


class LanguageExpert:
    """A Model whose weights are the controller LLM's engine."""

    max_batch = 1  # the engine batches by itself

    def __init__(self, chat: ChatModel, timeout_s: float) -> None:
        self._chat = chat
        self._timeout_s = timeout_s

    async def run(self, calls: Sequence[Call]) -> list[Output | ModelError]:
        return [await self._run_one(call) for call in calls]

    async def _run_one(self, call: Call) -> Output | ModelError:
        text = "\n".join(str(source) for source in call.inputs).strip()
        if not text:
            return ModelError(f"{call.task} was given an empty text")
        try:
            match call.task:
                case Task.TRANSLATION:
                    return Output(await self._translated(text, str(call.options["language"])))
                case Task.SUMMARIZATION:
                    return Output(await self._summarized(text, call.options.get("language")))
                case Task.QUESTION_ANSWERING:
                    return Output(await self._answered(text, str(call.options["question"])))
                case Task.TEXT_GENERATION:
                    return Output(await self._written(text, str(call.options.get("prompt") or WRITE_ABOUT_IT)))
                case _:
                    return ModelError(f"the language model does not do {call.task}")
        except LanguageModelError as exc:
            return ModelError(exc.message)

    async def _translated(self, text: str, language: str) -> str:
        """Names first, all in one call: a small model knows them alone, and loses some while it translates a sentence around them."""
        if language in SCRIPT_PATTERNS:
            text = with_words(text, await self._words_in(language, names(text)))
        parts = pieces(with_large_numbers(text, language), PIECE_CHARACTERS)
        done = await self._each(self._translated_piece(part, language) for part in parts)
        joint = "" if language in {"zh", "ja", "th"} else " "
        return "".join(translated + ("\n" if part.endswith("\n") else joint) for part, translated in zip(parts, done, strict=True)).strip()

    async def _translated_piece(self, part: str, language: str) -> str:
        target = language_name(language) or language

        def ask(text: str) -> str:
            return f"Translate into {target}, completely and exactly, names too, and reply with the translation only:\n\n{text}"

        example = (ask(EXAMPLE), EXAMPLE_IN[language]) if language in EXAMPLE_IN else None
        translated = await self._said("You are a professional translator.", ask(part), example=example)
        for word, replacement in (await self._words_in(language, leftovers(part, translated, language))).items():
            translated = re.sub(rf" ?\b{re.escape(word)}\b ?", replacement, translated)
        return translated

    async def _words_in(self, language: str, words: Sequence[str]) -> dict[str, str]:
        """Translations of single words, decoded under a schema that names them."""
        if not words:
            return {}
        target = language_name(language) or language
        ask = f"Translate each of these words or names into {target}: {', '.join(words)}. Reply with JSON."
        script = {"pattern": SCRIPT_PATTERNS[language]} if language in SCRIPT_PATTERNS else {}
        properties = {word: {"type": "string", **script} for word in words}
        schema = {"type": "object", "properties": properties, "required": list(words), "additionalProperties": False}
        try:
            found = json.loads(await self._said("You are a professional translator.", ask, schema=schema))
            return {word: found[word] for word in words if found[word].strip() and found[word] != word}
        except (json.JSONDecodeError, KeyError, TypeError, AttributeError):
            return {}  # the words stay as they are: a translation with a foreign word is better than none

    async def _summarized(self, text: str, wanted: object) -> str:
        """In another language it is summarized first and translated then: a small model does one thing at a time."""
        language = detect_language(text)
        while len(parts := pieces(text, WINDOW_CHARACTERS)) > 1:
            shorter = "\n".join(await self._each(self._summary_of(part, language) for part in parts))
            if weight(shorter) >= weight(text):
                raise LanguageModelError("the language model made the text no shorter")
            text = shorter
        summary = await self._summary_of(text, language)
        return summary if not wanted or wanted == language else await self._translated(summary, str(wanted))

    async def _summary_of(self, text: str, language: str | None) -> str:
        """A small model copies a text that it should shorten, unless it is asked in the text's own words; then it is told again.

        Where that does not help either, what it wrote ends with the last sentence that leaves it short.
        """
        name = language_name(language) or "the language of the text"
        ask = SUMMARY_REQUESTS.get(language or "", SUMMARY_REQUEST.format(language=name))
        system = "You summarize texts."
        summary = await self._said(system, f"{text}\n\n{ask}")
        if _is_hardly_shorter(summary, text):
            summary = await self._said(system, f"{summary}\n\n{ask} {TOO_LONG.format(language=name)}")
        return _shortened(summary, text) if _is_hardly_shorter(summary, text) else summary

    async def _answered(self, text: str, question: str) -> str:
        language = language_name(detect_language(question)) or "the language of the question"
        system = (
            f"Answer the question from the text, in {language}, as briefly as possible. Copy numbers, amounts and names exactly. "
            "If the text does not say it, reply: The text does not say."
        )
        return await self._said(system, f"{relevant(text, question, WINDOW_CHARACTERS)}\n\nQuestion: {question}")

    async def _written(self, text: str, prompt: str) -> str:
        system = "Do what is asked with the given material, and use no facts beyond it. Reply with that text only, in whole sentences."
        return await self._said(system, f"Material: {text[:WINDOW_CHARACTERS]}\n\nTask: {prompt}", least=150)

    async def _each(self, asked: Iterable[Coroutine[Any, Any, str]]) -> list[str]:
        """Side by side; the first failure ends the others."""
        try:
            async with asyncio.TaskGroup() as tasks:
                replies = [tasks.create_task(each) for each in asked]
        except* LanguageModelError as failures:
            raise LanguageModelError(str(failures.exceptions[0])) from failures
        return [reply.result() for reply in replies]

    async def _said(
        self,
        system: str,
        user: str,
        least: int = LEAST_TOKENS,
        schema: dict[str, Any] | None = None,
        example: tuple[str, str] | None = None,
    ) -> str:
        """`example` is a turn that went before: what was asked, and the right reply."""
        messages: list[Message] = [{"role": "system", "content": system}]
        if example:
            messages += [{"role": "user", "content": example[0]}, {"role": "assistant", "content": example[1]}]
        messages.append({"role": "user", "content": user})
        room = max(least, int(weight(user) * TOKENS_PER_CHARACTER))
        reply = await self._chat.reply(messages, max_tokens=room, timeout_s=self._timeout_s, schema=schema)
        if not (said := reply.text.strip()):
            raise LanguageModelError("the language model replied with nothing")
        return said


def _is_hardly_shorter(summary: str, text: str) -> bool:
    return weight(text) > SHORT_TEXT and weight(summary) > MOST_OF_IT * weight(text)


def _shortened(summary: str, text: str) -> str:
    """Its first sentences, at least one."""
    kept = [sentence for sentence in _SENTENCE.findall(summary) if sentence][:MOST_SENTENCES]
    while len(kept) > 1 and _is_hardly_shorter("".join(kept), text):
        kept.pop()
    return "".join(kept).strip()


def weight(text: str) -> int:
    """Length in Latin characters: a CJK character counts for three."""
    return sum(DENSE if "\u3040" <= letter <= "\u9fff" or "\uac00" <= letter <= "\ud7af" else 1 for letter in text)


def pieces(text: str, limit: int) -> list[str]:
    """The text cut at sentence ends into pieces of at most `limit` weight; a longer sentence is cut at words. Nothing is lost."""
    done: list[str] = []
    for sentence in _SENTENCE.findall(text):
        for part in _cut(sentence, limit):
            if done and weight(done[-1]) + weight(part) <= limit and not done[-1].endswith("\n\n"):
                done[-1] += part
            else:
                done.append(part)
    return [piece for piece in done if piece.strip()]


def relevant(text: str, question: str, limit: int) -> str:
    """The text, or, when it is too long, the pieces that share most words with the question, in their order."""
    if weight(text) <= limit:
        return text
    asked = set(_words(question))
    parts = pieces(text, limit // 4)
    best = sorted(range(len(parts)), key=lambda i: (-len(asked & set(_words(parts[i]))), i))[:4]
    return "\n".join(parts[i] for i in sorted(best))


def _words(text: str) -> list[str]:
    return re.findall(r"[^\W_]+", text.casefold())


def _cut(sentence: str, limit: int) -> list[str]:
    if weight(sentence) <= limit:
        return [sentence]
    half = len(sentence) // 2
    at = sentence.rfind(" ", 1, half) + 1 or half
    return [*_cut(sentence[:at], limit), *_cut(sentence[at:], limit)]
