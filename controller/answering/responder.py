"""Responder: results → one answer. The LLM words it, every sentence is checked before it goes out, and the results follow.

What the person gets is words, then the results that the words do not hold, then every file of the run by name and link.
A plan that ends in one text written for the person is answered with that text. When the LLM's words name what no step made, or it
gives none, the words are left out and the results speak alone.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing
from functools import cache
from math import inf
from pathlib import Path

import yaml

from cluster.chat import ChatModel, Message
from cluster.errors import LanguageModelError
from cluster.language import detect_language, language_name
from cluster.messages import ArtifactRef, Done, Failed, Skipped, TaskResult
from cluster.settings import Answering, LanguageModelClient
from cluster.tasks import Task
from controller.answering.grounding import Evidence, sentences
from controller.asking.request import HISTORY_MESSAGES, Request
from controller.execution.events import AnswerText, Emit, artifact_url
from controller.planning.plan import Plan

PROMPT = Path(__file__).parents[1] / "prompts" / "responder.yaml"
# Texts that people ask for themselves, also when another step goes on to use them.
_WANTED_WHOLE = frozenset({Task.TRANSLATION, Task.SUMMARIZATION, Task.AUTOMATIC_SPEECH_RECOGNITION})
_WRITTEN_FOR_A_PERSON = _WANTED_WHOLE | {Task.TEXT_GENERATION, Task.QUESTION_ANSWERING}

Results = Mapping[str, TaskResult]


class Answer:
    """Collects what went out."""

    def __init__(self, emit: Emit) -> None:
        self._emit = emit
        self.text = ""
        self.was_composed = False

    def say(self, text: str) -> None:
        self.text += text
        self._emit(AnswerText(text))


class Responder:
    def __init__(self, chat: ChatModel, tasks: tuple[Task, ...], settings: Answering, llm: LanguageModelClient) -> None:
        self._chat = chat
        self._tasks = tasks
        self._settings = settings
        self._timeout_s = llm.timeout_s

    async def answer(self, request: Request, plan: Plan, results: Results, emit: Emit, *, within_s: float = inf) -> Answer:
        """Streams the answer through `emit`. With no plan the LLM's failure is raised; with results it is made up for.

        With results the LLM's words may take `within_s`; then they end, or are left out, and the rest goes out.
        """
        answer = Answer(emit)
        if not plan.steps:
            await self._directly(request, answer)
            return answer
        if (text := the_answer_itself(plan, results)) is not None:
            answer.say(text)
            return answer
        try:
            async with asyncio.timeout(None if within_s == inf else within_s):
                complete = await self._in_words(request, plan, results, answer)
        except (LanguageModelError, TimeoutError):
            complete = False
        answer.was_composed = not complete
        if rest := composed(plan, results, answer.text):
            answer.say(("\n\n" if answer.text else "") + rest)
        return answer

    async def _directly(self, request: Request, answer: Answer) -> None:
        system = _prompts()["without_results"].format(tasks=", ".join(self._tasks))
        history = request.history[-HISTORY_MESSAGES:]
        messages: list[Message] = [{"role": "system", "content": system}, *history, {"role": "user", "content": request.text}]
        texts = [request.text, *(m["content"] for m in request.history)]
        evidence = Evidence(texts, [file.artifact.name for file in request.files], [])
        if not await self._grounded(messages, evidence, answer, check_numbers=False) and not answer.text:
            answer.was_composed = True
            answer.say("I cannot answer that without naming files or links that do not exist.")

    async def _in_words(self, request: Request, plan: Plan, results: Results, answer: Answer) -> bool:
        language = language_name(detect_language(request.text)) or "the language of the request"
        shown = "\n".join(f"{line}" for line in self._shown(plan, results))
        messages: list[Message] = [
            {"role": "system", "content": _prompts()["with_results"].format(language=language)},
            {"role": "user", "content": f"Request: {request.text}\n\nResults:\n{shown}\n\nAnswer in {language}."},
        ]
        return await self._grounded(messages, evidence_of(request, results), answer)

    def _shown(self, plan: Plan, results: Results) -> list[str]:
        limit = self._settings.shown_characters
        lines = []
        for step in plan.steps:
            match results[step.id]:
                case Done(value=ArtifactRef(name=name)):
                    lines.append(f"- {step.task}: the file {name} was made")
                case Done(value=str(text)) if len(text) > limit:
                    lines.append(f"- {step.task}: {text[: limit // 2]}… (long; it is shown in full after your words)")
                case Done(value=str(text)):
                    lines.append(f"- {step.task}: {text}")
                case Failed(reason=reason):
                    lines.append(f"- {step.task}: failed, {reason}")
                case Skipped(because=because):
                    lines.append(f"- {step.task}: not done, because {plan.step(because).task} gave nothing")
        return lines

    async def _grounded(self, messages: list[Message], evidence: Evidence, answer: Answer, *, check_numbers: bool = True) -> bool:
        """Says sentence after sentence while each is backed; False when one was not, or when nothing was said."""
        stream = self._chat.stream(messages, max_tokens=self._settings.max_tokens, timeout_s=self._timeout_s)
        async with aclosing(_by_sentence(stream)) as said:
            async for sentence in said:
                if evidence.objection(sentence, check_numbers=check_numbers):
                    return False
                answer.say(sentence if answer.text else sentence.lstrip())
        return bool(answer.text.strip())


def the_answer_itself(plan: Plan, results: Results) -> str | None:
    """The text of a plan that ends in one text written for the person: the LLM's words about it would only blur it."""
    if len(plan.last_steps) != 1 or not all(isinstance(result, Done) for result in results.values()):
        return None
    last = results[plan.last_steps[0].id]
    if any(step.task in _WANTED_WHOLE and step.id != last.step_id for step in plan.steps):
        return None
    if isinstance(last, Done) and last.task in _WRITTEN_FOR_A_PERSON and isinstance(last.value, str):
        return last.value
    return None


def evidence_of(request: Request, results: Results) -> Evidence:
    """Everything that an answer to this request may speak of."""
    done = [result for result in results.values() if isinstance(result, Done)]
    refs = [result.value for result in done if isinstance(result.value, ArtifactRef)]
    files = [file.artifact for file in request.files]
    texts = [
        request.text,
        *(result.value for result in done if isinstance(result.value, str)),
        *(file.text for file in request.files if file.text),
        *(result.reason for result in results.values() if isinstance(result, Failed)),
    ]
    return Evidence(texts, [ref.name for ref in (*refs, *files)], [artifact_url(ref) for ref in refs])


def composed(plan: Plan, results: Results, said: str) -> str:
    """The results that the words do not hold yet, the failures, and every file by name and link."""
    last = {step.id for step in plan.last_steps}
    parts, files = [], []
    for step in plan.steps:
        match results[step.id]:
            case Done(value=ArtifactRef() as ref):
                files.append(f"- [{ref.name}]({artifact_url(ref)})")
            case Done(value=str(text)) if (step.id in last or step.task in _WANTED_WHOLE) and text not in said:
                parts.append(f"**{step.task}**\n{text}")
            case Failed(reason=reason):
                parts.append(f"**{step.task}** failed: {reason}")
            case Skipped(because=because):
                parts.append(f"**{step.task}** was not done: {plan.step(because).task} gave nothing to work on.")
    if files:
        parts.append("\n".join(files))
    return "\n\n".join(parts)


async def _by_sentence(stream: AsyncIterator[str]) -> AsyncGenerator[str]:
    waiting = ""
    async for piece in stream:
        whole, waiting = sentences(waiting + piece)
        for sentence in whole:
            yield sentence
    if waiting:
        yield waiting


@cache
def _prompts() -> dict[str, str]:
    prompts: dict[str, str] = yaml.safe_load(PROMPT.read_text(encoding="utf-8"))
    return prompts
