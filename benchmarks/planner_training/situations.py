"""Made-up requests of one mould: words with slots, and the plan with the same slots (situations.yaml, talk.yaml)."""

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import cache
from typing import Any

from benchmarks.planner_training.chains import Draft
from benchmarks.planner_training.wording import MadeFile, Words, read
from cluster.tasks import Task

_SLOT = re.compile(r"\{(f\d!?|[a-z]+\d?)(?:\.(\w+))?\}")
Situation = Mapping[str, Any]


def situation(words: Words, tasks: Collection[Task], has_captions: bool, *, aim: Task | None = None, is_alone: bool = True) -> Draft | None:
    """One over `tasks`; with `aim` one that uses this task. None when there is none."""
    fitting = [
        (one, plan, control)
        for one in _situations(words.language)
        for plan, control in _plans(one, tasks, has_captions)
        if aim is None or aim in {Task(_task_name(form[0], control)) for form in plan}
    ]
    if not fitting:
        return None
    one, plan, control = words.pick(fitting)
    return Filling(words, one, control, is_alone).draft(plan)


def talk(words: Words, kind: str) -> str:
    """What is said to a chat, or a question of general knowledge."""
    said = words.say(words.pick(read("talk")[kind][words.language])).strip()
    if words.chance.random() < 0.25:
        said = said.rstrip(".!。！")
    return said[:1].lower() + said[1:] if words.language == "en" and words.chance.random() < 0.2 else said


def declined(words: Words, tasks: Collection[Task]) -> tuple[str, MadeFile | None, str] | None:
    """A request of one task that is not deployed, the file that it speaks of, and the task's name."""
    kinds = [name for name in read("talk")["cannot"] if name not in tasks]
    if not kinds:
        return None
    name = words.pick(kinds)
    form = words.pick(read("talk")["cannot"][name])
    file = words.file(words.pick(["text", "text", "photo", "bill", "speech"])) if "{f1}" in form else None
    text = words.say(form)
    return text.replace("{f1}", file.name) if file else text, file, name


@cache
def _situations(language: str) -> tuple[Situation, ...]:
    own = read("situations").get(language, ())
    return tuple(one for one in (*own, *read("talk")["situations"].get(language, ())) if one["plans"])


def _plans(one: Situation, tasks: Collection[Task], has_captions: bool) -> Iterator[tuple[list[Any], str]]:
    """The first of its plans whose tasks are all deployed; for each control, where it is about one. "" stands for no control."""
    marked, plans = one.get("captions"), one["plans"]
    if not has_captions:
        plans = [] if marked == "all" else plans[:1] if marked else plans
    controls = list(read("situations")["controls"]) if plans and "{control" in plans[0][0][0] else [""]
    for control in controls:
        for plan in plans:
            if all(_task_name(form[0], control) in tasks for form in plan):
                yield plan, control
                break


def _task_name(name: str, control: str) -> str:
    if not name.startswith("{"):
        return name
    return f"{read('situations')['controls'][control]}-{'control' if 'task' in name else 'text-to-image'}"


class Filling:
    """One request of a mould. A slot has the same words wherever it stands; {slotb} and {slotc} are other words of the same kind."""

    def __init__(self, words: Words, one: Situation, control: str, is_alone: bool) -> None:
        self._words, self._one, self._control, self._is_alone = words, one, control, is_alone
        self._files = [words.file(kind) for kind in one.get("files", ())]
        self._is_named = not is_alone or len(self._files) > 1
        self._bound: dict[str, Any] = {}
        self._phrases: dict[str, str] = {}

    def draft(self, plan: Sequence[Sequence[Any]]) -> Draft | None:
        text = self._words.say(self._words.pick(self._one["say"]))
        if any(f"{{f{n}" not in text for n in range(1, len(self._files) + 1)) and not self._is_alone:
            return None  # beside another request, what it speaks of must be said
        if len({file.name for file in self._files}) < len(self._files):
            return None
        filled = self._words.finished(self._filled(text))
        steps = [[self._part(part) for part in form] for form in plan]
        return Draft(filled, self._files, steps)

    def _part(self, part: Any) -> Any:
        match part:
            case {"text": text}:
                return {"text": self._filled(text)}
            case [*parts]:
                return [self._part(each) for each in parts]
            case str() if part.startswith("{labels"):
                return list(self._bind(part.strip("{}").partition(".")[0]))
        return self._filled(part)

    def _filled(self, text: str) -> str:
        def words_for(slot: re.Match[str]) -> str:
            value = self._value(slot)
            return self._words.listed(value) if isinstance(value, list) else str(value)

        return _SLOT.sub(words_for, text)

    def _value(self, slot: re.Match[str]) -> Any:
        name, form = slot.group(1), slot.group(2)
        if re.fullmatch(r"f\d!?", name):
            return self._phrase(name)
        if name == "control":
            return _task_name(f"{{{form}}}", self._control) if form else self._control
        if name.startswith("code"):
            return self._bind(f"lang{name[4:]}")[1]
        value = self._bind(name)
        if isinstance(value, tuple):
            return value[0]
        return self._words.listed(value, self._words.block["and"]) if form == "and" else value

    def _bind(self, name: str) -> Any:
        if name == "spoken":
            _, code = self._bind("lang")
            return self._words.spoken(code)
        if name not in self._bound:
            kind = name if name in self._pools() or name == "lang" else name[:-1]
            self._bound[name] = self._drawn(kind)
        return self._bound[name]

    def _drawn(self, kind: str) -> Any:
        taken = list(self._bound.values())
        for _ in range(20):
            value = self._words.language_pair() if kind == "lang" else self._words.pick(self._pools()[kind])
            if value not in taken:
                break
        return value

    def _pools(self) -> Mapping[str, Sequence[Any]]:
        language, block = self._words.language, self._words.block
        pools = {"billq": block["questions"]["bill"], "sqq": block["questions"]["speech"], "product": block["products"]}
        if language == "en":
            return {**pools, **read("situations")["slots"]}
        return {**pools, "quote": read("talk")["quotes"][language]}

    def _phrase(self, name: str) -> str:
        """What stands for a file; "f1!" is its second case."""
        number = name.rstrip("!")
        if number not in self._phrases:
            file = self._files[int(number[1:]) - 1]
            alike = sum(other.kind == file.kind for other in self._files) > 1
            by_name = self._words.language != "en" or alike or self._words.chance.random() < 0.5
            named = file.name if by_name else f"the {file.noun}"
            self._phrases[number] = named if self._is_named else self._words.named(file)
        return self._words.put("{x!}" if name.endswith("!") else "{x}", self._phrases[number])
