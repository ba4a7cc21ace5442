"""Results of finished steps, kept by what they were made of, so that nothing is computed twice. No Ray, no network.

The key of a step: for whom it was done, its task, the model that did it with its revision, its options, and the content of its inputs, an
earlier step's output by the sha256 of what it gave. A task that draws has its seed among the options; without one the same is drawn again.
A model of the cluster's own cards counts by its id, since those cards stay what they are while the process lives.

A step whose inputs are still being made has no such key yet. It has a recipe: the same, with the recipes of the steps it needs in the
place of what they give. Two steps on their way are the same when their recipes are.
"""

import asyncio
import hashlib
import json
import pickle
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

from cluster.messages import ArtifactRef, Done, TaskResult, Value
from cluster.tasks import TASKS
from controller.asking.request import Request
from controller.choosing.selector import Choice
from controller.planning.plan import InputFile, OutputOf, Plan, Step, StepInput, StepOption

MOST_RUNS = 256
MOST_BYTES = 64_000_000  # of all values together, pickled where nobody says their size

T = TypeVar("T")


class Kept(Generic[T]):
    """The values used last, bounded by number and size. A value larger than all may be is not kept."""

    def __init__(self, most: int, most_bytes: int = MOST_BYTES) -> None:
        self._most = most
        self._most_bytes = most_bytes
        self._values: OrderedDict[str, tuple[T, int]] = OrderedDict()
        self._size_bytes = 0

    def keep(self, key: str, value: T, size_bytes: int | None = None) -> None:
        """`size_bytes`: None where it is to be measured."""
        size_bytes = len(pickle.dumps(value)) if size_bytes is None else size_bytes
        if size_bytes > self._most_bytes:
            return
        self.drop(key)
        self._values[key] = value, size_bytes
        self._size_bytes += size_bytes
        while len(self._values) > self._most or self._size_bytes > self._most_bytes:
            self.drop(next(iter(self._values)))

    def get(self, key: str) -> T | None:
        if key not in self._values:
            return None
        self._values.move_to_end(key)
        return self._values[key][0]

    def drop(self, key: str) -> None:
        if key in self._values:
            self._size_bytes -= self._values.pop(key)[1]

    def any(self, fits: Callable[[T], bool]) -> bool:
        return any(fits(value) for value, _ in self._values.values())


@dataclass(frozen=True, slots=True)
class Recall:
    """The kept results from the view of one run. `is_stored` blocks: whether an artifact is still there.

    With `shares` what one user made is another's too.
    """

    kept: Kept[Done]
    request: Request
    choices: Mapping[str, Choice]
    is_stored: Callable[[ArtifactRef], bool]
    shares: bool = False

    def keep(self, step: Step, result: Done, results: Mapping[str, TaskResult]) -> None:
        """Under the model that did it, which may be a fallback. `results` are those of the steps it needs."""
        if self.request.terms.keeps_results and (key := self._key(step, result.model, results)) is not None:
            self.kept.keep(key, result)

    def may_know(self, step: Step) -> bool:
        """False only where no result could be this step's, whatever it is given."""
        model = self.choices[step.id].models[0]
        return self._reads and self.kept.any(lambda result: (result.task, result.model) == (step.task, model))

    async def known(self, plan: Plan) -> dict[str, Done]:
        """By step id: the steps at the plan's beginnings that were made before, of the request's files and of each other."""
        found: dict[str, Done] = {}
        for step in plan.steps:
            if (result := await self.found(step, found)) is not None:
                found[step.id] = result
        return found

    async def found(self, step: Step, results: Mapping[str, TaskResult]) -> Done | None:
        """The step's result, where its first model made it before of what the steps it needs gave; None where one is not known."""
        result = self.kept_of(step, results)
        if result is not None and isinstance(result.value, ArtifactRef) and not await asyncio.to_thread(self.is_stored, result.value):
            self._drop(step, results)
            return None
        return result

    def kept_of(self, step: Step, results: Mapping[str, TaskResult]) -> Done | None:
        """As `found`, at once: the artifact may have been deleted meanwhile."""
        key = self._key(step, self.choices[step.id].models[0], results) if self._reads else None
        result = self.kept.get(key) if key is not None else None
        return None if result is None else replace(result, step_id=step.id)

    def recipe(self, step: Step, recipes: Mapping[str, str]) -> str | None:
        """What the step is, before its inputs are made. `recipes`: of the steps it needs. None where the run shares with no other."""
        if not self._reads or not self.request.terms.keeps_results or not recipes.keys() >= set(step.needs):
            return None
        first, *fallbacks = self.choices[step.id].models
        made_of = self._hash(step, first, lambda need: recipes[need])
        return hashlib.sha256("\n".join([made_of, *fallbacks]).encode()).hexdigest()  # any of them may do it in the end

    @property
    def _reads(self) -> bool:
        return self.request.terms.reads_cache

    def _drop(self, step: Step, results: Mapping[str, TaskResult]) -> None:
        if (key := self._key(step, self.choices[step.id].models[0], results)) is not None:
            self.kept.drop(key)

    def _key(self, step: Step, model: str, results: Mapping[str, TaskResult]) -> str | None:
        gave = {need: result.value for need in step.needs if isinstance(result := results.get(need), Done)}
        if len(gave) < len(step.needs):
            return None
        return self._hash(step, model, lambda need: _sha256(gave[need]))

    def _hash(self, step: Step, model: str, made: Callable[[str], str]) -> str:
        """`made`: what stands for the output of a step that is needed."""
        card = self.choices[step.id].cards.get(model)
        made_of = {
            "for": None if self.shares else self.request.terms.user,
            "task": step.task,
            "model": [model, card.revision if card else None],
            "inputs": [self._content(source, made) for source in step.inputs],
            "options": {option: self._content(value, made) for option, value in step.options.items()},
            "seed": self.request.terms.seed if TASKS[step.task].draws else None,
        }
        return hashlib.sha256(json.dumps(made_of, sort_keys=True).encode()).hexdigest()

    def _content(self, source: StepInput | StepOption, made: Callable[[str], str]) -> str | list[str]:
        """sha256 of the bytes, the same for a text and for a file that holds it."""
        match source:
            case InputFile(id=file_id):
                return self.request.file(file_id).artifact.sha256
            case OutputOf(step=step_id):
                return made(step_id)
            case str():
                return _sha256(source)
            case tuple():
                return [_sha256(label) for label in source]


def _sha256(value: Value) -> str:
    if isinstance(value, ArtifactRef):
        return value.sha256
    return hashlib.sha256(value.encode("utf-8", "surrogatepass")).hexdigest()
