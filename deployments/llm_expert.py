"""Text tasks done by the controller's LLM: summarization, translation, question answering, text generation.

A text longer than the model's window is worked on in pieces, the pieces side by side. Sources: the prompts below; the idea of
the LLM as an expert among others is HuggingGPT's.
"""

import asyncio
import re
from collections.abc import Sequence

from cluster.chat import ChatModel, Message
from cluster.errors import LanguageModelError, ModelError
from cluster.language import detect_language, language_name
from cluster.tasks import Task
from deployments.model import Call, Output

PIECE_CHARACTERS = 500  # of a translation: a few sentences, so that a small model leaves none out and pieces run together
WINDOW_CHARACTERS = 6000  # of a text read at once; about 1,500 tokens of English
DENSE = 3  # a Chinese, Japanese or Korean character says about as much as three Latin ones
TOKENS_PER_CHARACTER = 1.0  # room for the reply; generous also for scripts the tokenizer splits finely
LEAST_TOKENS = 64

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
                    return Output(await self._written(text, str(call.options["prompt"])))
                case _:
                    return ModelError(f"the language model does not do {call.task}")
        except LanguageModelError as exc:
            return ModelError(exc.message)

    async def _translated(self, text: str, language: str) -> str:
        target = language_name(language) or language
        system = (
            f"Translate the text into {target}. Reply with the translation only, all of it in {target}. "
            "Leave nothing out. Keep every number as it stands, in digits."
        )
        parts = pieces(text, PIECE_CHARACTERS)
        done = await self._said_of_each(system, parts)
        joint = "" if language in {"zh", "ja", "th"} else " "
        return "".join(translated + ("\n" if part.endswith("\n") else joint) for part, translated in zip(parts, done, strict=True)).strip()

    async def _summarized(self, text: str, wanted: object) -> str:
        language = language_name(str(wanted) if wanted else detect_language(text)) or "the language of the text"
        system = (
            f"Summarize the main points of the text in {language}, in two or three short sentences. "
            "Reply with the summary only. Keep the important numbers and names."
        )
        while len(parts := pieces(text, WINDOW_CHARACTERS)) > 1:
            shorter = "\n".join(await self._said_of_each(system, parts))
            if weight(shorter) >= weight(text):
                raise LanguageModelError("the language model made the text no shorter")
            text = shorter
        return await self._said(system, text)

    async def _answered(self, text: str, question: str) -> str:
        language = language_name(detect_language(question)) or "the language of the question"
        system = (
            f"Answer the question from the text, in {language}, as briefly as possible. Copy numbers, amounts and names exactly. "
            "If the text does not say it, reply: The text does not say."
        )
        return await self._said(system, f"{relevant(text, question, WINDOW_CHARACTERS)}\n\nQuestion: {question}")

    async def _written(self, text: str, prompt: str) -> str:
        system = "Do what is asked with the given material. Use no facts beyond it. Reply with the text only."
        return await self._said(system, f"Material: {text[:WINDOW_CHARACTERS]}\n\nTask: {prompt}", least=300)

    async def _said_of_each(self, system: str, parts: Sequence[str]) -> list[str]:
        """Side by side; the first failure ends the others."""
        try:
            async with asyncio.TaskGroup() as tasks:
                replies = [tasks.create_task(self._said(system, part)) for part in parts]
        except* LanguageModelError as failures:
            raise LanguageModelError(str(failures.exceptions[0])) from failures
        return [reply.result() for reply in replies]

    async def _said(self, system: str, user: str, least: int = LEAST_TOKENS) -> str:
        messages: list[Message] = [{"role": "system", "content": system}, {"role": "user", "content": user}]
        room = max(least, int(weight(user) * TOKENS_PER_CHARACTER))
        reply = await self._chat.reply(messages, max_tokens=room, timeout_s=self._timeout_s)
        if not (said := reply.text.strip()):
            raise LanguageModelError("the language model replied with nothing")
        return said


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
