"""What the tests of the text runners share: tiny checkpoints opened as models, and their replies."""

import asyncio
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from cluster.catalogue import ModelCard
from cluster.errors import ModelError
from cluster.messages import OptionValue
from cluster.tasks import TASKS, Task
from deployments.model import Call, Model, Output
from deployments.registry import LOADERS
from tests.tiny.text import CHECKPOINTS

WEIGHTS = "model.safetensors"
OPTIONS: dict[str, OptionValue] = {"question": "Where?", "prompt": "Go on.", "labels": ("city", "food"), "language": "de"}
SHORT = "The text is about Berlin."
LONG = "Angela Merkel was born in Hamburg. She studied physics in Leipzig, and then went to Berlin!"  # longer than a window
TABLE = "name,city,age\nAnn,Berlin,31\nBob,Paris,45\nCy,Rome,7"


def task_of(key: str) -> Task:
    return Task(key.partition("/")[0])


def opened(task: Task, folder: Path, model_id: str = "tiny/x") -> Any:
    spec = TASKS[task]
    card = ModelCard(
        **{"id": model_id, "family": spec.family, "loader": spec.runner, "tasks": (task,), "licence": "mit"},
        **{"origin": "test", "memory_bytes": 1, "quality": 0.5, "description": ""},
    )
    return LOADERS[spec.runner](card, folder)


def call(task: Task, *texts: str, **options: OptionValue) -> Call:
    known = TASKS[task].options
    return Call(task, texts, {name: value for name, value in (OPTIONS | options).items() if name in known and value})


class Bench:
    """Builds each checkpoint once and opens it once."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._models: dict[str, Model] = {}

    def place(self, key: str) -> Path:
        place = self.folder / key.replace("/", "--")
        if not place.exists():
            place.mkdir()
            CHECKPOINTS[key](place)
        return place

    def model(self, key: str) -> Any:
        if key not in self._models:
            self._models[key] = opened(task_of(key), self.place(key))
        return self._models[key]

    def replies(self, key: str, *calls: Call) -> list[Output | ModelError]:
        return asyncio.run(self.model(key).run(calls))

    def give(self, key: str, *texts: str, **options: OptionValue) -> Output:
        (reply,) = self.replies(key, call(task_of(key), *texts, **options))
        assert isinstance(reply, Output), reply
        return reply

    def refusal(self, key: str, *texts: str, **options: OptionValue) -> str:
        (reply,) = self.replies(key, call(task_of(key), *texts, **options))
        assert isinstance(reply, ModelError), reply
        assert_one_sentence(reply.message)
        return reply.message

    def copy(self, key: str) -> Path:
        copied = self.folder / f"copy-{len(list(self.folder.glob('copy-*')))}"
        shutil.copytree(self.place(key), copied)
        return copied

    def changed(self, key: str, name: str, **settings: Any) -> Path:
        """A copy in which a JSON file says something else."""
        copied = self.copy(key)
        path = copied / name
        path.write_text(json.dumps(json.loads(path.read_text()) | settings))
        return copied

    def refused(self, task: Task, place: Path) -> str:
        """Why the folder cannot be opened for the task."""
        with pytest.raises(ModelError) as caught:
            opened(task, place)
        assert_one_sentence(caught.value.message)
        return caught.value.message

    def assert_a_batch_is_as_single_calls(self, key: str, *calls: Call) -> None:
        together, alone = self.replies(key, *calls), [self.replies(key, each)[0] for each in calls]
        for one, other in zip(together, alone, strict=True):
            assert isinstance(one, Output), one
            assert isinstance(other, Output), other
            assert one.value == other.value
            assert_alike(dict(one.data), dict(other.data))
        assert len({str(reply) for reply in together}) == len(calls), "the texts make no difference"

    def assert_damage_and_lies_are_refused(self, key: str, liar: str) -> None:
        """A file cut short, and a folder whose weights are those of another head."""
        task, cut = task_of(key), self.copy(key)
        whole = (cut / WEIGHTS).read_bytes()
        (cut / WEIGHTS).write_bytes(whole[: len(whole) // 2])
        assert "could not be loaded" in self.refused(task, cut)
        lying = self.copy(liar)
        shutil.copy(self.place(key) / "config.json", lying / "config.json")
        assert "tiny/x" in self.refused(task, lying)


def assert_alike(one: Any, other: Any) -> None:
    """The same shape; numbers equal to the last digit that is shown."""
    assert type(one) is type(other)
    if isinstance(one, dict):
        assert one.keys() == other.keys()
        for name in one:
            assert_alike(one[name], other[name])
    elif isinstance(one, list):
        for mine, its in zip(one, other, strict=True):
            assert_alike(mine, its)
    elif isinstance(one, float):
        assert one == pytest.approx(other, abs=2e-4)
    else:
        assert one == other


def assert_one_sentence(message: str) -> None:
    assert message
    assert "\n" not in message
    assert len(message) < 320
