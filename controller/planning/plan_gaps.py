"""What a request names in so many words and its plan forgot: a small model drops one of several results that a sentence lists. Pure.

Only words that mean one task and no other, outside of quotes; only over a text that the plan works on already.
"""

import re
from collections.abc import Collection
from typing import Final

from cluster.tasks import TASKS, Media, Task
from controller.asking.request import Request
from controller.planning.plan import InputFile, OutputOf, Plan, Step

_NAMED: Final = {
    Task.TEXT_CLASSIFICATION: re.compile(
        r"\b(?:sentiments?|mood|stimmung|estado de ánimo|sentimiento|sentimento|stato d'animo|umore)\b|情绪|情感", re.IGNORECASE
    ),
    Task.TOKEN_CLASSIFICATION: re.compile(
        r"\b(?:named entit(?:y|ies)|entités nommées|entidades (?:nombradas|nomeadas)|entità nominate|benannten? entitäten)\b|命名实体",
        re.IGNORECASE,
    ),
}
_SAME = {Task.TEXT_CLASSIFICATION: {Task.ZERO_SHOT_CLASSIFICATION}}  # what does it too
_TEXT_GIVING = frozenset({Task.AUTOMATIC_SPEECH_RECOGNITION, Task.IMAGE_TO_TEXT, Task.TRANSLATION})


def with_forgotten(plan: Plan, request: Request, tasks: Collection[Task]) -> Plan:
    """The plan with a step more for each such task; a plan of one step or none is what it is."""
    if len(plan.steps) < 2 or (text := _worked_on(plan, request)) is None:
        return plan
    said = request.text
    for quote in request.quotes:
        said = said.replace(quote.text, " ")
    planned = {step.task for step in plan.steps}
    steps = list(plan.steps)
    for task, words in _NAMED.items():
        if task in tasks and not planned & {task, *_SAME.get(task, ())} and words.search(said):
            steps.append(Step(_free_id(steps), task, (text,)))
    return Plan(tuple(steps))


def _worked_on(plan: Plan, request: Request) -> InputFile | OutputOf | None:
    """The first text that the plan works on: a file, or what was heard, read or translated."""
    for step in plan.steps:
        source = step.inputs[0] if step.inputs and TASKS[step.task].inputs[:1] == (Media.TEXT,) else None
        if isinstance(source, InputFile) or (isinstance(source, OutputOf) and plan.step(source.step).task in _TEXT_GIVING):
            return source
    return None


def _free_id(steps: Collection[Step]) -> str:
    return f"s{max(int(step.id[1:]) for step in steps) + 1}"
