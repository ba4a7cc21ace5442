"""What the planner's adapter learns from: TaskBench's training plans, and synthetic requests over this project's task table.

Every sample is told exactly as the planner tells it at run time: the same prompt, the same marks, the same plan language.
"""

import json
import random
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.planner_training.packing import Pack, Sample, packed
from benchmarks.planner_training.requests import LAPTOP, Example, examples
from benchmarks.taskbench import TASKS23, gold_plan, read_records, request_of
from cluster.chat import OpenAIChat
from cluster.messages import ArtifactRef
from cluster.settings import Planning
from cluster.tasks import TASKS, Option, Task
from controller.asking.request import Request, RequestFile
from controller.planning.plan_language import write_plan
from controller.planning.planner import Planner

Tokens = list[int]
# What the embedded cards do of these tasks (Candidates.narrower): the prompt of a laptop says it, so the training's does.
LAPTOP_ROWS = {Task.TEXT_CLASSIFICATION: "sentiment of a text", Task.IMAGE_TO_TEXT: "read the text in a picture (OCR)"}


@dataclass(frozen=True, slots=True)
class Told:
    """A request as the planner shows it, and the plan that is wanted, under the prompt of a task table."""

    prompt: str
    request: str
    plan: str


class Teller:
    """Turns texts into tokens by the chat template of the model that is trained. The template closes each message, so pieces add up."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer

    def prompt(self, told: Told) -> Tokens:
        return self._ids(f"<|im_start|>system\n{told.prompt}<|im_end|>\n")

    def sample(self, told: Told) -> Sample:
        request = self._ids(f"<|im_start|>user\n{told.request}<|im_end|>\n<|im_start|>assistant\n")
        return Sample(tuple(request), tuple(self._ids(f"{told.plan}<|im_end|>")))

    def agrees(self, told: Told) -> bool:
        """Whether the template itself says the same."""
        messages = [{"role": "system", "content": told.prompt}, {"role": "user", "content": told.request}]
        whole = self._tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
        return self._ids(whole) == [*self.prompt(told), *self.sample(told).request]

    def _ids(self, text: str) -> Tokens:
        ids: Tokens = self._tokenizer.encode(text, add_special_tokens=False)
        return ids


def from_taskbench(path: Path) -> list[Told]:
    """Those of TaskBench's plans that can be said in this project's terms."""
    prompt = prompt_of(TASKS23)
    pairs = ((request, gold_plan(record, request)) for record in read_records(path) for request in [request_of(record)])
    return [Told(prompt, request.for_planner(), write_plan(plan, request)) for request, plan in pairs if plan]


def from_task_table(seed: int, count: int) -> list[Told]:
    """Synthetic requests: most over the laptop's tasks, the rest over the whole table and over random parts of it."""
    chosen = random.Random(seed)  # noqa: S311
    parts: list[tuple[Sequence[Task], Mapping[Task, str], float]] = [(LAPTOP, LAPTOP_ROWS, 0.75), (tuple(Task), {}, 0.1)]
    parts += [(tuple(chosen.sample(list(Task), chosen.randint(6, 30))), {}, 0.05) for _ in range(3)]
    told = []
    for part, (tasks, narrower, share) in enumerate(parts):
        prompt = prompt_of(tasks, narrower)
        told += [_told(prompt, example, narrower) for example in examples(seed + part, round(count * share), tasks)]
    return told


def prompt_of(tasks: Collection[Task], narrower: Mapping[Task, str] | None = None) -> str:
    """The planner's constant prompt for these tasks, without demonstrations."""
    nobody = OpenAIChat("http://127.0.0.1", "", "none", 0)  # it is never asked
    planner = Planner(nobody, tuple(tasks), Planning(demonstrations=False), narrower)
    return planner.constant_messages[0]["content"]


def packs(told: Sequence[Told], teller: Teller, size: int, shuffled: random.Random) -> Iterator[Pack]:
    """Once through all, in packs of one prompt and of like lengths, in random order."""
    by_prompt: dict[str, list[Told]] = {}
    for one in told:
        by_prompt.setdefault(one.prompt, []).append(one)
    batches: list[list[Told]] = []
    for group in by_prompt.values():
        ordered = sorted(group, key=lambda one: len(one.request) + 2 * len(one.plan) + shuffled.gauss(0, 40))
        batches += [ordered[start : start + size] for start in range(0, len(ordered), size)]
    shuffled.shuffle(batches)
    for batch in batches:
        yield packed(teller.prompt(batch[0]), [teller.sample(one) for one in batch])


def _told(prompt: str, example: Example, narrower: Mapping[Task, str]) -> Told:
    files = tuple(_file(n, *file) for n, file in enumerate(example.files, 1))
    request = Request("training", example.text, files)
    plan = {name: _narrowed(form, narrower) if isinstance(form, list) else form for name, form in example.plan.items()}
    return Told(prompt, request.for_planner(), json.dumps(plan, ensure_ascii=False, separators=(",", ":")))


def _narrowed(form: list[Any], narrower: Mapping[Task, str]) -> list[Any]:
    """Without the option that the prompt's row does not offer."""
    spec = TASKS[Task(form[0])]
    if spec.task in narrower and Option.WANTED in spec.options:
        return form[: 1 + len(spec.inputs)]
    return form


def _file(number: int, name: str, media: str, language: str | None) -> RequestFile:
    return LabelledFile(f"f{number}", ArtifactRef("0" * 64, f"{media}/x", 1, name), None, language)


@dataclass(frozen=True, slots=True)
class LabelledFile(RequestFile):
    """A file whose language is told and not read from its text."""

    told_language: str | None = None

    @property
    def language(self) -> str | None:
        return self.told_language
