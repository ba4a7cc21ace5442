"""Who may run a task: the cluster's own cards, and models of the hub that may and can run here."""

from typing import Any

import pytest

from cluster.catalogue import BUILT_IN, Catalogue, ModelCard
from cluster.errors import BadRequest, NotFound
from cluster.hub_models import HubModel
from cluster.settings import FamilySettings, HubSettings
from cluster.tasks import Family, Task
from controller.choosing.candidates import Candidates

EVERY_FAMILY = {family.value: FamilySettings(memory_bytes=4_000_000_000) for family in Family}


class SmallHub:
    """Knows the models it was given."""

    def __init__(self, *models: HubModel) -> None:
        self._models = models

    async def search(self, task: Task, limit: int, language: str | None = None) -> list[HubModel]:
        return [model for model in self._models if model.task is task][:limit]

    async def card(self, model_id: str, task: Task | None = None) -> ModelCard:
        found = next((model for model in self._models if model.id == model_id), None)
        if found is None:
            raise NotFound(f"the hub has no model {model_id}")
        return ModelCard(
            id=found.id, revision="abc", family="text", loader="seq2seq", tasks=(found.task,), licence="mit", origin="hub",
            memory_bytes=1, quality=0.5, description="",
        )  # fmt: skip


def a_model(name: str, task: Task = Task.SUMMARIZATION, **facts: Any) -> HubModel:
    return HubModel(**{"id": f"org/{name}", "task": task, "downloads": 1000, "likes": 10, "library": "transformers", **facts})


def candidates(*models: HubModel, **settings: Any) -> Candidates:
    return Candidates(Catalogue.read(BUILT_IN), EVERY_FAMILY, SmallHub(*models), HubSettings(enabled=True, **settings))


async def offered(found: Candidates, task: Task = Task.SUMMARIZATION) -> list[str]:
    return [each.id for each in (await found.for_tasks([task]))[task] if each.card is None]


async def test_models_of_the_hub_stand_beside_the_cards_of_this_cluster() -> None:
    found = (await candidates(a_model("bart")).for_tasks([Task.SUMMARIZATION]))[Task.SUMMARIZATION]
    assert {"Qwen/Qwen2.5-Coder-1.5B-Instruct-GGUF", "org/bart"} == {each.id for each in found}
    assert next(each for each in found if each.id == "org/bart").family == "text"


@pytest.mark.parametrize(
    ("facts", "why"),
    [
        ({"licence": "cc-by-nc-4.0"}, "its licence is not on the list"),
        ({"library": "speechbrain"}, "no library here runs it"),
        ({"has_safetensors": False}, "its weights are pickles"),
        ({"is_gated": True}, "there is no token"),
        ({"size_bytes": 3_500_000_000}, "it needs more memory than a replica has"),
    ],
)
async def test_a_model_that_may_not_or_cannot_run_here_is_never_offered(
    facts: dict[str, Any], why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HF_TOKEN", raising=False)
    right = a_model("right", licence="mit")
    found = candidates(right, a_model("wrong", **{"licence": "mit", **facts}), licences=("mit",))
    assert await offered(found) == ["org/right"], why


async def test_a_gated_model_is_offered_to_who_has_a_token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "secret")
    assert await offered(candidates(a_model("gated", is_gated=True))) == ["org/gated"]


async def test_with_the_hub_every_task_of_a_deployed_family_can_be_planned() -> None:
    assert set(candidates().tasks) == set(Task)
    text_only = Candidates(Catalogue(()), {"text": FamilySettings()}, SmallHub(), HubSettings(enabled=True))
    assert Task.SUMMARIZATION in text_only.tasks
    assert Task.TEXT_TO_IMAGE not in text_only.tasks


async def test_without_the_hub_a_card_that_does_less_than_its_task_says_what_it_does() -> None:
    own = Candidates(Catalogue.read(BUILT_IN), EVERY_FAMILY, None, HubSettings())
    assert own.narrower()[Task.IMAGE_TO_TEXT] == "read the text in a picture (OCR)"
    assert candidates().narrower() == {}


async def test_any_model_of_the_hub_can_be_named_and_an_unknown_one_is_told() -> None:
    found = candidates(a_model("bart"))
    assert (await found.named("org/bart")).tasks == (Task.SUMMARIZATION,)
    with pytest.raises(NotFound, match="the hub has no model org/brat"):
        await found.named("org/brat")


async def test_where_the_hub_is_switched_off_a_hub_model_cannot_be_named() -> None:
    own = Candidates(Catalogue.read(BUILT_IN), EVERY_FAMILY, None, HubSettings())
    with pytest.raises(BadRequest, match="org/bart is not among the models of this cluster, and models of the hub are switched off"):
        await own.named("org/bart")


@pytest.mark.parametrize(("source", "target", "fits"), [("en", "zh", True), ("zh", "en", False), (None, "zh", True), ("en", "de", False)])
async def test_a_model_named_for_a_language_pair_translates_in_that_direction_only(source: str | None, target: str, fits: bool) -> None:
    pair = a_model("opus-mt-en-zh", Task.TRANSLATION, languages=("en", "zh"))
    (found,) = [each for each in (await candidates(pair).for_tasks([Task.TRANSLATION]))[Task.TRANSLATION] if each.card is None]
    assert found.translates(source, target) is fits


@pytest.mark.parametrize(
    ("name", "task", "languages", "reads"),
    [
        ("mms-tts-deu", Task.TEXT_TO_SPEECH, (), ("de",)),
        ("some-voice", Task.TEXT_TO_SPEECH, (), ("en",)),
        ("whisper", Task.AUTOMATIC_SPEECH_RECOGNITION, ("de", "en"), ("de", "en")),
        ("mt5", Task.SUMMARIZATION, ("multilingual", "en"), ("*",)),
        ("vit", Task.IMAGE_SEGMENTATION, (), ("*",)),
    ],
)
async def test_a_model_without_a_word_about_languages_is_counted_on_for_english(
    name: str, task: Task, languages: tuple[str, ...], reads: tuple[str, ...]
) -> None:
    found = (await candidates(a_model(name, task, languages=languages)).for_tasks([task]))[task]
    assert next(each for each in found if each.id == f"org/{name}").languages == reads


async def test_a_named_model_of_a_family_that_is_not_deployed_is_told() -> None:
    found = Candidates(Catalogue(()), {"vision": FamilySettings()}, SmallHub(a_model("bart")), HubSettings(enabled=True))
    with pytest.raises(BadRequest, match="org/bart does summarization, for which this cluster has no family text"):
        await found.named("org/bart")
