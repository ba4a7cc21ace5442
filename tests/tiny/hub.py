"""The hub of the tests, filled with tiny checkpoints under the ids of the task table's default models."""

import shutil
from pathlib import Path
from typing import Any

from cluster.hub_notes import notes
from cluster.tasks import TASKS, Task
from tests.hub.server import HubServer
from tests.tiny import image_generation, multimodal, speech, text, video, vision

CHECKPOINTS = {
    **text.CHECKPOINTS,
    **vision.CHECKPOINTS,
    **multimodal.CHECKPOINTS,
    **speech.CHECKPOINTS,
    **image_generation.CHECKPOINTS,
    **video.CHECKPOINTS,
}
WITHOUT_A_CHECKPOINT = frozenset({Task.CANNY_CONTROL, Task.MLSD_CONTROL})  # OpenCV's own
BUILT_IN_TOO = {Task.SENTENCE_SIMILARITY: "BAAI/bge-small-en-v1.5"}  # whose default model is embedded


def model_of(task: Task) -> str:
    """The hub id under which the task's tiny checkpoint is published."""
    return BUILT_IN_TOO.get(task, TASKS[task].default_model)


def publish_every_task(hub: HubServer, folder: Path) -> None:
    """Builds the checkpoints below `folder`. Parts that the real hub keeps in another repository are published there."""
    for task in TASKS:
        if task not in WITHOUT_A_CHECKPOINT and model_of(task) not in hub.repositories:
            publish(hub, model_of(task), task, folder)


def publish(hub: HubServer, model_id: str, key: str, folder: Path, **facts: Any) -> Path:
    """The checkpoint CHECKPOINTS[key] as the repository `model_id`; gives its folder."""
    place = folder / model_id.replace("/", "--")
    place.mkdir()
    CHECKPOINTS[key](place)
    note = notes().get(model_id)
    if (base := place / "base").is_dir() and note and note.base:
        moved = folder / note.base.replace("/", "--")
        if note.base in hub.repositories:
            shutil.rmtree(base)
        else:
            base.rename(moved)
            hub.publish(note.base, moved)
    hub.publish(model_id, place, **{"pipeline_tag": _tag(key), "downloads": 1000, "likes": 10, **facts})
    return place


def _tag(key: str) -> str | None:
    """What the hub would say; it has no tag for a control image."""
    task = Task(key.partition("/")[0])
    return None if task.endswith(("-control", "-text-to-image")) or task in (Task.IMAGE_EDITING, Task.TABULAR_CLASSIFICATION) else task
