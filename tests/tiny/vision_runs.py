"""What the tests of the vision runners share: a tiny checkpoint opened as a model, pictures to show it, and its replies."""

import asyncio
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cluster.catalogue import ModelCard
from cluster.errors import ModelError
from cluster.tasks import TASKS, Task
from deployments.model import Call, MediaOutput, Model, Output
from deployments.registry import LOADERS
from tests.tiny.vision import CHECKPOINTS

if TYPE_CHECKING:
    import numpy.typing as npt


def task_of(name: str) -> Task:
    return Task(name.partition("/")[0])


def built(name: str, folder: Path) -> Path:
    """The checkpoint's folder."""
    place = folder / name.replace("/", "_")
    CHECKPOINTS[name](place)
    return place


def opened(task: Task, place: Path, model_id: str = "tiny/x") -> Model:
    spec = TASKS[task]
    card = ModelCard(
        **{"id": model_id, "family": spec.family, "loader": spec.runner, "tasks": (task,), "licence": "mit"},
        **{"origin": "test", "memory_bytes": 1, "quality": 0.5, "description": ""},
    )
    return LOADERS[spec.runner](card, place)


def loaded(name: str, folder: Path, model_id: str = "tiny/x") -> Model:
    return opened(task_of(name), built(name, folder), model_id)


def blots(folder: Path, size: tuple[int, int] = (90, 60), seed: int = 0) -> Path:
    """A picture of soft coloured spots."""
    from PIL import Image

    path = folder / f"blots-{seed}-{size[0]}x{size[1]}.png"
    spots = np.random.default_rng(seed).integers(0, 255, (6, 6, 3), dtype=np.uint8)
    Image.fromarray(spots).resize(size, Image.Resampling.BICUBIC).save(path)
    return path


def run(model: Model, task: Task, *paths: Path) -> list[Output | ModelError]:
    return asyncio.run(model.run([Call(task, (path,)) for path in paths]))


def give(model: Model, task: Task, path: Path) -> Output:
    (reply,) = run(model, task, path)
    assert isinstance(reply, Output), reply
    return reply


def pixels(reply: Any) -> "npt.NDArray[np.int64]":
    """(height, width) of a grey picture, (height, width, 3) of a coloured one."""
    from PIL import Image

    assert isinstance(reply, Output), reply
    assert isinstance(reply.value, MediaOutput)
    assert reply.value.media_type == "image/png"
    picture = Image.open(BytesIO(reply.value.content))
    assert picture.size == (reply.data["width_px"], reply.data["height_px"])
    return np.asarray(picture).astype(np.int64)
