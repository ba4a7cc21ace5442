"""Results of finished steps, kept by what they were made of, so that a re-run computes only what changed. No Ray, no network.

The key of a step: its task, the model that did it with its revision, its options, and the content of its inputs, an earlier step's
output by the sha256 of what it gave. How often a model would give the same is not asked: a drawn picture is reused like a translation.
A model of the cluster's own cards counts by its id, since those cards stay what they are while the process lives.
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
from controller.plan import InputFile, OutputOf, Plan, Step, StepInput, StepOption
from controller.request import Request
from controller.selector import Choice

MOST_RESULTS, MOST_RUNS = 512, 256
MOST_BYTES = 64_000_000  # of each, pickled

T = TypeVar("T")


class Kept(Generic[T]):
    """The values used last, bounded by number and size. A value larger than all may be is not kept."""

    def __init__(self, most: int, most_bytes: int = MOST_BYTES) -> None:
        self._most = most
        self._most_bytes = most_bytes
        self._values: OrderedDict[str, tuple[T, int]] = OrderedDict()
        self._size_bytes = 0

    def keep(self, key: str, value: T) -> None:
        size_bytes = len(pickle.dumps(value))
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
    """The kept results from the view of one run. `is_stored` blocks: whether an artifact is still there."""

    kept: Kept[Done]
    request: Request
    choices: Mapping[str, Choice]
    is_stored: Callable[[ArtifactRef], bool]

    def keep(self, step: Step, result: Done, results: Mapping[str, TaskResult]) -> None:
        """Under the model that did it, which may be a fallback. `results` are those of the steps it needs."""
        if (key := self._key(step, result.model, results)) is not None:
            self.kept.keep(key, result)

    def may_know(self, step: Step) -> bool:
        """False only where no result could be this step's, whatever it is given."""
        model = self.choices[step.id].models[0]
        return self.kept.any(lambda result: (result.task, result.model) == (step.task, model))

    async def known(self, plan: Plan) -> dict[str, Done]:
        """By step id: the steps at the plan's beginnings that were made before, of the request's files and of each other."""
        found: dict[str, Done] = {}
        for step in plan.steps:
            if (result := await self.found(step, found)) is not None:
                found[step.id] = result
        return found

    async def found(self, step: Step, results: Mapping[str, TaskResult]) -> Done | None:
        """The step's result, where its first model made it before of what the steps it needs gave; None where one is not known."""
        key = self._key(step, self.choices[step.id].models[0], results)
        result = self.kept.get(key) if key is not None else None
        if key is None or result is None:
            return None
        if isinstance(result.value, ArtifactRef) and not await asyncio.to_thread(self.is_stored, result.value):
            self.kept.drop(key)
            return None
        return replace(result, step_id=step.id)

    def _key(self, step: Step, model: str, results: Mapping[str, TaskResult]) -> str | None:
        if not all(isinstance(results.get(need), Done) for need in step.needs):
            return None
        card = self.choices[step.id].cards.get(model)
        made_of = {
            "task": step.task,
            "model": [model, card.revision if card else None],
            "inputs": [self._content(source, results) for source in step.inputs],
            "options": {option: self._content(value, results) for option, value in step.options.items()},
        }
        return hashlib.sha256(json.dumps(made_of, sort_keys=True).encode()).hexdigest()

    def _content(self, source: StepInput | StepOption, results: Mapping[str, TaskResult]) -> str | list[str]:
        """sha256 of the bytes, the same for a text and for a file that holds it."""
        match source:
            case InputFile(id=file_id):
                return self.request.file(file_id).artifact.sha256
            case OutputOf(step=step_id):
                result = results[step_id]
                return _sha256(result.value) if isinstance(result, Done) else ""
            case str():
                return _sha256(source)
            case tuple():
                return [_sha256(label) for label in source]


def _sha256(value: Value) -> str:
    if isinstance(value, ArtifactRef):
        return value.sha256
    return hashlib.sha256(value.encode("utf-8", "surrogatepass")).hexdigest()
