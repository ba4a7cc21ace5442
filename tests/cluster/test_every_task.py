"""Every row of the task table, the whole way: HTTP, plan, a model of the hub, its download, its family's replica, the result.

The hub is the tests' own; it has tiny checkpoints of the real architectures, under the ids of the table's default models.
"""

import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from benchmarks import samples
from benchmarks.fakes import message
from cluster.tasks import TASKS, Media, Option, Task
from tests.tiny.hub import WITHOUT_A_CHECKPOINT, model_of

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(900)]

TEXTS = {Task.FILL_MASK: "The cat sat on the [MASK].", Task.SENTENCE_SIMILARITY: "A cat sleeps"}
FILES = {
    Task.TABLE_QUESTION_ANSWERING: ("cities.csv", b"City,People\nLisbon,545000\nPorto,231000\n"),
    Task.TEXT_RANKING: ("lines.txt", b"The cat sat on the mat.\nLisbon is in Portugal.\n"),
}
OPTIONS = {Option.LANGUAGE: "de", Option.QUESTION: "Where is the cat?", Option.LABELS: ["a cat", "a dog"], Option.PROMPT: "a red sky"}


def upload(http: httpx.Client, name: str, content: bytes) -> dict[str, Any]:
    reply = http.post("/v1/files", files={"file": (name, content)}, data={"purpose": "user_data"})
    assert reply.status_code == 200, reply.text
    return {"type": "file", "file": {"file_id": reply.json()["id"]}}


def of_media(media: Media, folder: Path) -> tuple[str, bytes]:
    match media:
        case Media.IMAGE:
            return "cat.png", samples.photograph("chelsea.png").read_bytes()
        case Media.AUDIO:
            return "speech.wav", samples.recording("beckett.wav").read_bytes()
        case _:
            return "clip.mp4", samples.clip(folder).read_bytes()


def a_step(task: Task, http: httpx.Client, folder: Path) -> tuple[list[Any], list[dict[str, Any]]]:
    """A step of the task as a plan has it, and the files that it eats."""
    inputs: list[Any] = []
    files: list[dict[str, Any]] = []
    for media in TASKS[task].inputs:
        if media is Media.TEXT and task not in FILES:
            inputs.append({"text": TEXTS.get(task, "The cat sat on the mat in Lisbon.")})
        else:
            files.append(upload(http, *(FILES[task] if media is Media.TEXT else of_media(media, folder))))
            inputs.append(f"f{len(files)}")
    return [task.value, *inputs, *(OPTIONS[option] for option in TASKS[task].required)], files


def ran(http: httpx.Client, plan: dict[str, Any], files: list[dict[str, Any]], **more: Any) -> dict[str, Any]:
    content = [*files, {"type": "text", "text": message({"kind": "tasks", **plan})}]
    reply = http.post("/v1/chat/completions", json={"messages": [{"role": "user", "content": content}], **more})
    assert reply.status_code == 200, reply.text
    run: dict[str, Any] = reply.json()["run"]
    return run


@pytest.mark.parametrize("task", list(TASKS))
def test_a_model_of_the_hub_does_the_task(hub_http: httpx.Client, tmp_path: Path, task: Task) -> None:
    step, files = a_step(task, hub_http, tmp_path)
    model = TASKS[task].default_model if task in WITHOUT_A_CHECKPOINT else model_of(task)
    (result,) = ran(hub_http, {"s1": step}, files, models={task: model})["results"]
    assert result["status"] == "done", json.dumps(result)
    assert result["model"] == model
    if TASKS[task].output is Media.TEXT:
        assert isinstance(result["text"], str)
    else:
        assert result["artifact"]["media_type"].startswith(f"{TASKS[task].output}/")
        assert hub_http.get(result["artifact"]["url"]).content
