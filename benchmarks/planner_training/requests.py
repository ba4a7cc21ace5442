"""Synthetic requests with their right plans, made from the task table's type graph, to fine-tune the planner on.

Nobody ever sent them: words and plans are put together by chance from phrases.yaml, situations.yaml and talk.yaml.
"""

import random
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from benchmarks.planner_training.chains import MOST_STEPS, Draft, chain
from benchmarks.planner_training.situations import declined, situation, talk
from benchmarks.planner_training.wording import LANGUAGES, MadeFile, Words, lower_first, read
from cluster.tasks import TASKS, Media, Option, Task
from controller.asking.quotes import quotes_in
from controller.planning.plan_language import HUB_TASKS, Kind

SHARES = {Kind.TASKS: 76, Kind.CHAT: 7, Kind.KNOWLEDGE: 7, Kind.CANNOT: 10}  # of all requests, in per cent
ENGLISH_SHARE = 0.78
MOST_FILES = 3
AIMED = {Task.IMAGE_CLASSIFICATION: 3, Task.OBJECT_DETECTION: 3, Task.TEXT_CLASSIFICATION: 2}  # more often than other tasks: 1
EDITS = frozenset({Task.IMAGE_EDITING, Task.IMAGE_SEGMENTATION})  # what people ask of a photograph, and are declined
CHAIN_SHARE = 0.38  # of the English requests with steps; the others are situations, and requests of two parts
TWO_PART_SHARE = 0.17
# A laptop's tasks. Where no other is deployed, image-to-text reads what is written in a picture and does not describe it.
LAPTOP = (
    *(Task.SUMMARIZATION, Task.TRANSLATION, Task.QUESTION_ANSWERING, Task.TEXT_GENERATION, Task.TEXT_CLASSIFICATION),
    *(Task.ZERO_SHOT_CLASSIFICATION, Task.TOKEN_CLASSIFICATION, Task.SENTENCE_SIMILARITY, Task.IMAGE_TO_TEXT),
    *(Task.IMAGE_CLASSIFICATION, Task.OBJECT_DETECTION, Task.AUTOMATIC_SPEECH_RECOGNITION, Task.TEXT_TO_SPEECH),
)
# What other tasks can stand in for, so that their lack is no reason to decline.
_REPLACEABLE = frozenset(
    {
        *(Task.CONVERSATIONAL, Task.TEXT2TEXT_GENERATION, Task.IMAGE_TEXT_TO_TEXT, Task.DOCUMENT_QUESTION_ANSWERING, Task.TEXT_GENERATION),
        *(Task.TABLE_QUESTION_ANSWERING, Task.TABULAR_CLASSIFICATION, Task.ZERO_SHOT_OBJECT_DETECTION, Task.IMAGE_CLASSIFICATION),
        *(Task.ZERO_SHOT_IMAGE_CLASSIFICATION, Task.TEXT_CLASSIFICATION, Task.FILL_MASK, Task.TEXT_RANKING),
    }
)
_HELD_OUT = frozenset(text.casefold() for text in read("talk")["held_out"])
_REFERENCE = re.compile(r"[fsq][1-9]\d*")


@dataclass(frozen=True, slots=True)
class Example:
    """A request as a person would send it, and the plan that is right for it."""

    text: str
    files: tuple[tuple[str, Media, str | None], ...]  # name, medium, language of a text
    plan: dict[str, Any]  # the plan language's JSON
    tasks: frozenset[Task]  # those that must be deployed


def examples(seed: int, count: int, tasks: Collection[Task], *, has_captions: bool | None = None) -> Iterator[Example]:
    """`count` examples over `tasks`, those that are deployed; the same for the same arguments.

    `has_captions`: whether image-to-text describes a picture too; left out, it does where more than a laptop's tasks are deployed.
    Raises ValueError when `tasks` holds no task.
    """
    deployed = frozenset(tasks)
    if not deployed:
        raise ValueError("examples need at least one deployed task")
    describes = bool(deployed - frozenset(LAPTOP)) if has_captions is None else has_captions
    maker = _Maker(random.Random(seed), deployed, describes)  # noqa: S311 - no secret hangs on it
    for _ in range(count):
        yield maker.example()


class _Maker:
    def __init__(self, chance: random.Random, tasks: frozenset[Task], has_captions: bool) -> None:
        self._chance, self._tasks, self._has_captions = chance, tasks, has_captions
        self._ordered = [task for task in Task if task in tasks]

    def example(self) -> Example:
        kind = self._chance.choices(list(SHARES), list(SHARES.values()))[0]
        while True:
            example = self._drawn(kind)
            if example and example.text.strip(" .!?").casefold() not in _HELD_OUT:
                return example
            if self._chance.random() < 0.05:  # nothing to decline, or hardly a task to plan
                kind = self._chance.choice([Kind.TASKS, Kind.KNOWLEDGE])

    def _drawn(self, kind: Kind) -> Example | None:
        words = self._words()
        match kind:
            case Kind.CHAT | Kind.KNOWLEDGE:
                return Example(talk(words, kind.value), (), {"kind": kind.value}, frozenset())
            case Kind.CANNOT:
                return self._cannot(words)
        draft = self._draft(words, self._tasks)
        return _example(self._shuffled(draft)) if draft else None

    def _words(self) -> Words:
        language = "en" if self._chance.random() < ENGLISH_SHARE else self._chance.choice(LANGUAGES[1:])
        return Words(language, self._chance)

    def _draft(self, words: Words, tasks: frozenset[Task]) -> Draft | None:
        drawn = self._chance.random()
        if drawn < CHAIN_SHARE:
            return chain(words, tasks)
        if drawn < CHAIN_SHARE + TWO_PART_SHARE and words.language == "en":
            return self._two_parts(words, tasks)
        aim = self._aim(tasks) if words.language == "en" else None
        return situation(words, tasks, self._has_captions, aim=aim)

    def _aim(self, tasks: frozenset[Task]) -> Task:
        weights = {task: AIMED.get(task, 1) for task in Task if task in tasks}
        return self._chance.choices(list(weights), list(weights.values()))[0]

    def _two_parts(self, words: Words, tasks: frozenset[Task]) -> Draft | None:
        """Two requests in one message; the files come in any order."""
        parts = [
            chain(words, tasks, is_alone=False)
            if self._chance.random() < 0.5
            else situation(words, tasks, self._has_captions, aim=self._aim(tasks), is_alone=False)
            for _ in range(2)
        ]
        first, second = parts
        if first is None or second is None or _clash(first.files, second.files) or len(first.steps) + len(second.steps) > MOST_STEPS:
            return None
        aside = words.pick(words.block["aside"])
        end = "" if first.text.endswith((".", "?", "!")) else "."
        begin = second.text if not aside or aside.endswith(". ") else lower_first(second.text)
        moved = {**{f"f{n}": f"f{n + len(first.files)}" for n in range(1, 4)}, **{f"s{n}": f"s{n + len(first.steps)}" for n in range(1, 6)}}
        return Draft(f"{first.text}{end} {aside}{begin}", [*first.files, *second.files], [*first.steps, *_renamed(second.steps, moved)])

    def _shuffled(self, draft: Draft) -> Draft:
        """People attach files in another order than they speak of them; where the words tell them apart by order, it stays."""
        if len(draft.files) < 2 or not all(file.name in draft.text for file in draft.files) or self._chance.random() < 0.6:
            return draft
        order = self._chance.sample(range(len(draft.files)), len(draft.files))
        moved = {f"f{old + 1}": f"f{new + 1}" for new, old in enumerate(order)}
        return Draft(draft.text, [draft.files[old] for old in order], _renamed(draft.steps, moved))

    def _cannot(self, words: Words) -> Example | None:
        """One whose plan would need exactly one task that is not deployed."""
        if self._chance.random() < 0.45:
            if (found := declined(words, self._tasks)) is None:
                return None
            text, file, name = found
            files = ((file.name, file.media, file.language),) if file else ()
            return Example(text, files, {"kind": Kind.CANNOT.value, "task": name}, frozenset())
        lacking = [task for task in Task if task not in self._tasks and task not in _REPLACEABLE and task.value in HUB_TASKS]
        if not lacking:
            return None
        missing = self._chance.choices(lacking, [5 if task in EDITS else 1 for task in lacking])[0]
        draft = self._draft(words, self._tasks | {missing})
        if draft is None or missing.value not in {step[0] for step in draft.steps} or not (made := _example(draft)):
            return None
        return Example(made.text, made.files, {"kind": Kind.CANNOT.value, "task": missing.value}, frozenset())


def _example(draft: Draft) -> Example | None:
    """None when its quotes cannot be told: a text that a step works on must stand in the request as a quote."""
    quotes = {quote.text: quote.id for quote in quotes_in(draft.text, {file.name for file in draft.files})}
    forms = [_form(step, quotes) for step in draft.steps]
    if None in forms:
        return None
    plan = {"kind": Kind.TASKS.value, **{f"s{n}": form for n, form in enumerate(forms, 1)}}
    files = tuple((file.name, file.media, file.language) for file in draft.files)
    return Example(draft.text, files, plan, frozenset(Task(step[0]) for step in draft.steps))


def _form(step: list[Any], quotes: Mapping[str, str]) -> list[Any] | None:
    spec = TASKS[Task(step[0])]
    form = list(step)
    for place, part in enumerate(step[1:], 1):
        is_input = place <= len(spec.inputs)
        if is_input and isinstance(part, dict) and part["text"] in quotes:
            form[place] = quotes[part["text"]]
        if not isinstance(part, str) or _REFERENCE.fullmatch(part):
            continue
        if is_input:
            if part not in quotes:
                return None
            form[place] = quotes[part]
        elif spec.options[place - 1 - len(spec.inputs)] in {Option.QUESTION, Option.PROMPT}:
            form[place] = quotes.get(part, part)
    return form


def _renamed(steps: list[list[Any]], moved: Mapping[str, str]) -> list[list[Any]]:
    def of(part: Any) -> Any:
        if isinstance(part, list):
            return [of(each) for each in part]
        return moved.get(part, part) if isinstance(part, str) else part

    return [of(step) for step in steps]


def _clash(first: list[MadeFile], second: list[MadeFile]) -> bool:
    """Whether the words for their files could mean either."""
    both = [*first, *second]
    return len(both) > MOST_FILES or len({f.name for f in both}) < len(both) or len({f.noun for f in both}) < len(both)
