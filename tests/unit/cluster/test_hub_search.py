"""Searching the hub: live through the real client library, from the cache, from the snapshot; never an error."""

import time
from pathlib import Path

import pytest

from cluster.hub import Hub, HubModel
from cluster.hub_models import hub_tags, task_of
from cluster.settings import HubSettings
from cluster.tasks import TASKS, Task
from tests.hub.server import Fault, HubServer, Kind

NOBODY = "http://127.0.0.1:9"  # the discard port: refused at once


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A checkpoint as small as can be."""
    path = tmp_path / "checkpoint"
    path.mkdir()
    (path / "config.json").write_text('{"model_type": "bart"}')
    (path / "model.safetensors").write_bytes(b"w" * 100)
    return path


def hub_at(endpoint: str, tmp_path: Path, **settings: object) -> Hub:
    return Hub(HubSettings.model_validate({"endpoint": endpoint, "timeout_s": 2, **settings}), tmp_path / "hub")


def ids(models: list[HubModel]) -> list[str]:
    return [model.id for model in models]


async def test_a_search_is_live_most_downloaded_first_with_the_facts(hub_server: HubServer, tmp_path: Path, folder: Path) -> None:
    small = hub_server.publish("org/small", folder, pipeline_tag="summarization", downloads=5)
    card = {"language": ["en", "multilingual"], "license": "mit"}
    facts = {"downloads": 700, "likes": 8, "trendingScore": 3, "gated": "auto", "cardData": card}
    safetensors = {"parameters": {"F32": 10, "F16": 3}, "total": 13}
    big = hub_server.publish("org/big", folder, pipeline_tag="summarization", safetensors=safetensors, tags=["bart"], **facts)
    hub_server.publish("org/other", folder, pipeline_tag="translation", downloads=9000)
    found = await hub_at(hub_server.endpoint, tmp_path).search(Task.SUMMARIZATION)
    assert [(model.id, model.sha) for model in found] == [("org/big", big), ("org/small", small)]
    assert found[0] == HubModel(
        id="org/big",
        task=Task.SUMMARIZATION,
        downloads=700,
        likes=8,
        library="transformers",
        languages=("en", "multilingual"),
        licence="mit",
        is_gated=True,
        has_safetensors=True,
        size_bytes=46,
        trending=3,
        sha=big,
        tags=("bart", "safetensors"),
    )


async def test_what_cannot_run_here_is_left_out_before_the_limit(hub_server: HubServer, tmp_path: Path, folder: Path) -> None:
    unfit = {"org/speech": {"library_name": "speechbrain"}, "org/own": {"tags": ["custom_code"]}, "org/packed": {"tags": ["awq", "4-bit"]}}
    for model_id, facts in unfit.items():
        hub_server.publish(model_id, folder, pipeline_tag="text-classification", downloads=1000, **facts)
    for number in range(3):
        hub_server.publish(f"org/fit{number}", folder, pipeline_tag="text-classification", downloads=number, tags=["gguf", "openvino"])
    found = await hub_at(hub_server.endpoint, tmp_path).search(Task.TEXT_CLASSIFICATION, limit=2)
    assert ids(found) == ["org/fit2", "org/fit1"]


async def test_a_language_leaves_out_models_that_name_others(hub_server: HubServer, tmp_path: Path, folder: Path) -> None:
    for model_id, languages, downloads in (
        ("org/fi", "fi", 1),
        ("org/en", ["en"], 9),
        ("org/any", [], 5),
        ("org/mul", ["multilingual"], 7),
    ):
        facts = {"cardData": {"language": languages}, "downloads": downloads}
        hub_server.publish(model_id, folder, pipeline_tag="automatic-speech-recognition", **facts)
    hub = hub_at(hub_server.endpoint, tmp_path)
    assert ids(await hub.search(Task.AUTOMATIC_SPEECH_RECOGNITION, language="fi")) == ["org/mul", "org/any", "org/fi"]
    assert any("filter=fi" in asked.query for asked in hub_server.asked)


async def test_licences_that_are_not_allowed_are_left_out(hub_server: HubServer, tmp_path: Path, folder: Path) -> None:
    for name, licence in (("a", "mit"), ("b", "cc-by-nc-4.0"), ("c", None)):
        hub_server.publish(f"org/{name}", folder, pipeline_tag="fill-mask", cardData={"license": licence} if licence else {})
    hub = hub_at(hub_server.endpoint, tmp_path, licences=["mit", "apache-2.0"])
    assert ids(await hub.search(Task.FILL_MASK)) == ["org/a"]


async def test_a_task_whose_tag_the_hub_does_not_have_gives_the_noted_models_with_live_facts(
    hub_server: HubServer, tmp_path: Path, folder: Path
) -> None:
    hub_server.publish("timbrooks/instruct-pix2pix", folder, pipeline_tag="image-to-image", downloads=77)
    hub_server.publish("org/edit", folder, pipeline_tag="image-to-image", downloads=7000)
    hub = hub_at(hub_server.endpoint, tmp_path)
    (found,) = await hub.search(Task.IMAGE_EDITING)
    assert (found.id, found.task, found.downloads) == ("timbrooks/instruct-pix2pix", Task.IMAGE_EDITING, 77)
    assert ids(await hub.search(Task.CANNY_CONTROL)) == ["opencv/canny"]


async def test_the_tables_own_model_is_found_however_few_take_it(hub_server: HubServer, tmp_path: Path, folder: Path) -> None:
    default = TASKS[Task.FEATURE_EXTRACTION].default_model
    hub_server.publish(default, folder, pipeline_tag="sentence-similarity", downloads=3)
    hub_server.publish("org/popular", folder, pipeline_tag="feature-extraction", downloads=9)
    found = await hub_at(hub_server.endpoint, tmp_path).search(Task.FEATURE_EXTRACTION)
    assert ids(found) == ["org/popular", default]


async def test_words_of_another_time_are_searched_for_by_tag(hub_server: HubServer, tmp_path: Path, folder: Path) -> None:
    hub_server.publish("org/t5", folder, pipeline_tag="summarization", tags=["text2text-generation"])
    hub_server.publish("org/chat", folder, pipeline_tag="text-generation", tags=["conversational"])
    hub_server.publish("org/base", folder, pipeline_tag="text-generation")
    hub = hub_at(hub_server.endpoint, tmp_path)
    assert ids(await hub.search(Task.TEXT2TEXT_GENERATION)) == ["org/t5"]
    assert ids(await hub.search(Task.CONVERSATIONAL)) == ["org/chat"]


async def test_a_search_is_kept_for_a_while(hub_server: HubServer, tmp_path: Path, folder: Path) -> None:
    hub_server.publish("org/one", folder, pipeline_tag="fill-mask")
    hub = hub_at(hub_server.endpoint, tmp_path)
    first = await hub.search(Task.FILL_MASK)
    hub_server.publish("org/two", folder, pipeline_tag="fill-mask")
    assert await hub.search(Task.FILL_MASK) == first
    assert await hub_at(hub_server.endpoint, tmp_path).search(Task.FILL_MASK) == first  # another process
    assert [asked.path for asked in hub_server.asked].count("/api/models") == 1
    eager = hub_at(hub_server.endpoint, tmp_path, cache_s=0)
    assert set(ids(await eager.search(Task.FILL_MASK))) == {"org/one", "org/two"}


@pytest.mark.parametrize(
    "fault", [Fault(Kind.SLOW), Fault(Kind.BUSY), Fault(Kind.TOO_MANY), Fault(Kind.NONSENSE), Fault(Kind.ENTRY_MISSING)]
)
async def test_when_the_hub_does_not_answer_the_old_search_is_used(
    hub_server: HubServer, tmp_path: Path, folder: Path, fault: Fault
) -> None:
    hub_server.publish("org/one", folder, pipeline_tag="fill-mask", downloads=3)
    hub = hub_at(hub_server.endpoint, tmp_path, cache_s=0, timeout_s=0.5)
    first = await hub.search(Task.FILL_MASK)
    hub_server.faults["/api/models"] = fault
    started_s = time.monotonic()
    assert await hub.search(Task.FILL_MASK) == first
    assert time.monotonic() - started_s < 3


async def test_a_hub_that_never_answered_leaves_the_snapshot_and_is_asked_once(hub_server: HubServer, tmp_path: Path) -> None:
    hub_server.faults["*"] = Fault(Kind.SLOW)
    hub = hub_at(hub_server.endpoint, tmp_path, timeout_s=0.3)
    found = {task: await hub.search(task, limit=1000) for task in Task}
    assert all(found.values())
    assert all(TASKS[task].default_model in ids(models) for task, models in found.items())
    assert len(hub_server.asked) == 1


async def test_nobody_at_the_address_is_no_error(tmp_path: Path) -> None:
    hub = hub_at(NOBODY, tmp_path)
    assert "facebook/bart-large-cnn" in ids(await hub.search(Task.SUMMARIZATION))
    assert "Helsinki-NLP/opus-mt-en-zh" in ids(await hub.search(Task.TRANSLATION, limit=100))


async def test_a_cache_that_cannot_be_read_or_written_is_no_error(hub_server: HubServer, tmp_path: Path, folder: Path) -> None:
    hub_server.publish("org/one", folder, pipeline_tag="fill-mask")
    hub = hub_at(hub_server.endpoint, tmp_path)
    await hub.search(Task.FILL_MASK)
    (kept,) = (tmp_path / "hub" / "searches").iterdir()
    kept.write_text("half a li")
    assert ids(await hub.search(Task.FILL_MASK)) == ["org/one"]
    (tmp_path / "file").write_text("")
    blocked = Hub(HubSettings(endpoint=hub_server.endpoint), tmp_path / "file")
    assert ids(await blocked.search(Task.FILL_MASK)) == ["org/one"]


def test_the_tags_of_the_table_of_rows_are_not_those_of_pictures_of_tables() -> None:
    assert hub_tags(Task.TABULAR_CLASSIFICATION) == ()
    assert task_of("tabular-classification") is None
    assert task_of("fill-mask") == Task.FILL_MASK
    assert task_of("reinforcement-learning") is None
