"""Models of the hub, the whole way: HTTP, plan, choice, download, their family's replica, the result. And what can go wrong on it.

The hub is the tests' own; it has tiny checkpoints of the real architectures, under the ids of the table's default models.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
import transformers

from benchmarks import samples
from benchmarks.fakes import message
from cluster.tasks import TASKS, Media, Option, Task
from tests.hub.server import Fault, HubServer, Kind
from tests.tiny.hub import WITHOUT_A_CHECKPOINT, model_of, publish

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


def test_the_first_example_of_the_paper_draws_a_picture_and_says_what_it_shows(
    hub: HubServer, hub_http: httpx.Client, tmp_path: Path
) -> None:
    """Stable Diffusion 1.5 and ViT-GPT2 by their architectures; their weights are random, so only the way is right, not the words."""
    publish(hub, "nlpconnect/vit-gpt2-image-captioning", "image-to-text/vit-gpt2", tmp_path, downloads=2_000_000, likes=900)
    wish = {"text": "a cat wearing an astronaut helmet on the moon"}
    run = ran(hub_http, {"s1": ["text-to-image", wish], "s2": ["image-to-text", "s1"]}, [])
    picture, caption = run["results"]
    assert (picture["status"], picture["model"]) == ("done", "stable-diffusion-v1-5/stable-diffusion-v1-5")
    assert (caption["status"], caption["model"]) == ("done", "nlpconnect/vit-gpt2-image-captioning"), json.dumps(caption)
    assert [artifact["media_type"] for artifact in run["artifacts"]] == ["image/png"]
    assert {step["model"] for step in run["plan"]} == {picture["model"], caption["model"]}
    assert all("score 0." in step["reason"] for step in run["plan"])


MASKED: dict[str, Any] = {"s1": ["fill-mask", {"text": "The cat sat on the [MASK]."}]}
SOUND = "google-bert/bert-base-uncased"


def broken_in_download(hub: HubServer, folder: Path) -> str:
    publish(hub, "broken/download", "fill-mask", folder, downloads=10_000_000, likes=10_000)
    hub.faults["/broken/download/resolve/*/model.safetensors"] = Fault(Kind.CORRUPT)
    return "broken/download"


def broken_in_loading(hub: HubServer, folder: Path) -> str:
    """A sentiment classifier that says that it fills masks."""
    publish(hub, "broken/load", "text-classification", folder, pipeline_tag="fill-mask", downloads=10_000_000, likes=10_000)
    return "broken/load"


def broken_in_running(hub: HubServer, folder: Path) -> str:
    """Its tokenizer knows words that its network has no place for."""
    place = publish(hub, "broken/run", "fill-mask", folder)
    net = transformers.BertForMaskedLM.from_pretrained(place)
    net.resize_token_embeddings(8)
    net.save_pretrained(place)
    hub.publish("broken/run", place, downloads=10_000_000, likes=10_000)
    return "broken/run"


@pytest.mark.parametrize(("break_it", "stage"), [(broken_in_download, "download"), (broken_in_loading, "load"), (broken_in_running, "run")])
def test_a_first_candidate_that_fails_gives_way_to_the_second_and_the_reason_is_told(
    hub: HubServer, hub_http: httpx.Client, tmp_path: Path, break_it: Callable[[HubServer, Path], str], stage: str
) -> None:
    broken = break_it(hub, tmp_path)
    try:
        run = ran(hub_http, MASKED, [])
    finally:
        del hub.repositories[broken]
    (result,) = run["results"]
    assert run["plan"][0]["model"] == broken
    assert (result["status"], result["model"]) == ("done", SOUND), json.dumps(result)
    assert [reason.startswith(f"{broken} ({stage}): ") for reason in result["fallbacks"]] == [True], result["fallbacks"]


def told(http: httpx.Client, status: int, plan: dict[str, Any], files: list[dict[str, Any]], **more: Any) -> str:
    content = [*files, {"type": "text", "text": message({"kind": "tasks", **plan})}]
    reply = http.post("/v1/chat/completions", json={"messages": [{"role": "user", "content": content}], **more})
    assert reply.status_code == status, reply.text
    sentence: str = reply.json()["error"]["message"]
    assert "\n" not in sentence and len(sentence) < 400
    return sentence


def test_a_model_that_the_hub_does_not_have_is_told(hub_http: httpx.Client) -> None:
    assert "the hub has no model nobody/nothing-1" in told(hub_http, 404, MASKED, [], named_models=["nobody/nothing-1"])


def test_a_model_of_another_task_is_told(hub_http: httpx.Client) -> None:
    sentence = told(hub_http, 400, MASKED, [], named_models=["openai/whisper-small"])
    assert sentence == "the model openai/whisper-small does automatic-speech-recognition, and the plan for this request has no such step"


def test_a_gated_model_tells_what_token_it_needs(hub: HubServer, hub_http: httpx.Client, tmp_path: Path) -> None:
    publish(hub, "closed/model-1", "fill-mask", tmp_path, gated="manual")
    sentence = told(hub_http, 503, MASKED, [], named_models=["closed/model-1"])
    assert "closed/model-1 is gated: accept its terms at" in sentence and "HF_TOKEN" in sentence


def test_a_picture_where_a_recording_is_needed_is_told(hub_http: httpx.Client, tmp_path: Path) -> None:
    picture = upload(hub_http, *of_media(Media.IMAGE, tmp_path))
    assert "eats audio, but f1 is image" in told(hub_http, 422, {"s1": ["automatic-speech-recognition", "f1"]}, [picture])


def failed(http: httpx.Client, plan: dict[str, Any], **more: Any) -> str:
    (result,) = ran(http, plan, [], **more)["results"]
    assert result["status"] == "failed"
    assert ran(http, MASKED, [])["results"][0]["status"] == "done"  # the replica keeps serving
    reason: str = result["reason"]
    assert "\n" not in reason and len(reason) < 400
    return reason


def test_a_pair_of_languages_that_the_model_does_not_translate_is_told(hub: HubServer, hub_http: httpx.Client, tmp_path: Path) -> None:
    publish(hub, "Helsinki-NLP/opus-mt-en-de", "translation/marian", tmp_path)
    step = ["translation", {"text": "The cat sat on the mat in Lisbon."}, "zh"]
    reason = failed(hub_http, {"s1": step}, named_models=["Helsinki-NLP/opus-mt-en-de"])
    assert "opus-mt-en-de does not translate into Chinese; it does into German" in reason


def test_a_checkpoint_whose_config_lies_about_its_task_is_told(hub: HubServer, hub_http: httpx.Client, tmp_path: Path) -> None:
    publish(hub, "lying/model-1", "text-classification", tmp_path, pipeline_tag="fill-mask")
    assert "lying/model-1 (load): lying/model-1 " in failed(hub_http, MASKED, named_models=["lying/model-1"])


def test_weights_that_are_no_safetensors_are_told(hub: HubServer, hub_http: httpx.Client, tmp_path: Path) -> None:
    place = publish(hub, "torn/model-1", "fill-mask", tmp_path)
    (place / "model.safetensors").write_bytes((place / "model.safetensors").read_bytes()[:-1000])
    hub.publish("torn/model-1", place)
    assert "torn/model-1 (load): torn/model-1 could not be loaded" in failed(hub_http, MASKED, named_models=["torn/model-1"])


def test_a_hub_that_hangs_costs_a_named_model_three_seconds_and_the_others_nothing(hub: HubServer, hub_http: httpx.Client) -> None:
    hub.faults["*"] = Fault(Kind.SLOW, seconds=60)
    try:
        sentence = told(hub_http, 503, MASKED, [], named_models=["new/model-1"])
        run = ran(hub_http, MASKED, [])
    finally:
        del hub.faults["*"]
    assert hub.endpoint in sentence
    assert run["results"][0]["model"] == SOUND
    assert run["seconds"]["select"] < 10
