"""Pinning models of the hub: which files, which hashes, which revision, and one sentence for each reason why a model cannot run here."""

import json
import time
from collections.abc import Mapping
from pathlib import Path

import pytest

from cluster.catalogue import ModelCard
from cluster.errors import HuggingGPTError, ModelUnavailable, NotFound
from cluster.hub import Hub
from cluster.hub_files import diffusers_files, transformers_files
from cluster.settings import HubSettings
from cluster.tasks import TASKS, Task
from tests.hub.server import Fault, HubServer, Kind, blob

NOBODY = "http://127.0.0.1:9"  # the discard port: refused at once
BERT = {
    "config.json": '{"model_type": "bert"}',
    "tokenizer.json": "{}",
    "vocab.txt": "a b",
    "model.safetensors": "w" * 1000,
    "pytorch_model.bin": "p" * 1000,
    "tf_model.h5": "t",
    "onnx/model.onnx": "o",
    "README.md": "# me",
    ".gitattributes": "",
}


def folder_of(path: Path, files: Mapping[str, str]) -> Path:
    for name, content in files.items():
        place = path / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(content)
    return path


@pytest.fixture
def bert(tmp_path: Path) -> Path:
    return folder_of(tmp_path / "bert", BERT)


@pytest.fixture
def hub(hub_server: HubServer, tmp_path: Path) -> Hub:
    return Hub(HubSettings(endpoint=hub_server.endpoint, timeout_s=2), tmp_path / "hub")


def paths(card: ModelCard) -> list[str]:
    return [file.path for file in card.files]


async def refusal(hub: Hub, model_id: str, task: Task | None = None) -> str:
    with pytest.raises(HuggingGPTError) as caught:
        await hub.card(model_id, task)
    assert isinstance(caught.value, (ModelUnavailable, NotFound))
    assert "\n" not in caught.value.message
    return caught.value.message


# A card


async def test_a_model_is_pinned_with_the_files_that_its_runner_needs(hub_server: HubServer, hub: Hub, bert: Path) -> None:
    facts = {"language": ["en"], "license": "apache-2.0"}
    sha = hub_server.publish("org/bert", bert, pipeline_tag="text-classification", cardData=facts)
    card = await hub.card("org/bert", Task.TEXT_CLASSIFICATION)
    spec = TASKS[Task.TEXT_CLASSIFICATION]
    assert (card.id, card.revision, card.tasks) == ("org/bert", sha, (Task.TEXT_CLASSIFICATION,))
    assert (card.family, card.loader, card.languages, card.licence) == (spec.family, spec.runner, ("en",), "apache-2.0")
    assert (card.memory_bytes, card.quality) == (1200, 0.5)
    assert paths(card) == ["config.json", "model.safetensors", "tokenizer.json", "vocab.txt"]
    config, weights = card.files[0], card.files[1]
    assert (config.sha256, config.git_blob) == (None, blob(bert / "config.json")["blobId"])
    assert (weights.sha256, weights.git_blob) == (blob(bert / "model.safetensors")["lfs"]["sha256"], None)


async def test_a_pinned_model_stays_what_it_was_also_without_the_hub(hub_server: HubServer, hub: Hub, bert: Path, tmp_path: Path) -> None:
    hub_server.publish("org/bert", bert, pipeline_tag="fill-mask")
    first = await hub.card("org/bert")
    newer = folder_of(tmp_path / "newer", BERT | {"config.json": "{}"})
    assert hub_server.publish("org/bert", newer) != first.revision
    assert await hub.card("org/bert", Task.FILL_MASK) == first
    alone = Hub(HubSettings(endpoint=NOBODY), tmp_path / "hub")
    assert await alone.card("org/bert") == first
    hub_server.publish("org/bert", newer, pipeline_tag=None)
    again = await hub.card("org/bert", Task.FEATURE_EXTRACTION)  # for another task: the same revision
    assert (again.revision, again.files) == (first.revision, first.files)
    assert again.loader == TASKS[Task.FEATURE_EXTRACTION].runner


async def test_without_a_task_the_hubs_tag_decides(hub_server: HubServer, hub: Hub, bert: Path) -> None:
    hub_server.publish("org/bert", bert, pipeline_tag="fill-mask")
    hub_server.publish("org/rows", bert, pipeline_tag="tabular-classification")
    hub_server.publish("org/untagged", bert)
    assert (await hub.card("org/bert")).tasks == (Task.FILL_MASK,)
    assert await refusal(hub, "org/rows") == (
        "org/rows has the tag tabular-classification, which is no task here; name the task that it is to do"
    )
    assert "no task tag" in await refusal(hub, "org/untagged")
    assert (await hub.card("org/untagged", Task.FILL_MASK)).id == "org/untagged"


async def test_a_model_of_many_languages_speaks_any(hub_server: HubServer, hub: Hub, bert: Path) -> None:
    hub_server.publish("org/many", bert, pipeline_tag="fill-mask", cardData={"language": ["multilingual", "en"]})
    assert (await hub.card("org/many")).languages == ("*",)


async def test_the_other_parts_of_a_model_lie_under_base(hub_server: HubServer, hub: Hub, tmp_path: Path) -> None:
    voice = folder_of(tmp_path / "tts", {"config.json": "{}", "model.safetensors": "w" * 100, "spm_char.model": "s"})
    vocoder = folder_of(tmp_path / "hifigan", {"config.json": '{"a": 1}', "model.safetensors": "v" * 50})
    hub_server.publish("microsoft/speecht5_tts", voice, pipeline_tag="text-to-speech")
    sha = hub_server.publish("microsoft/speecht5_hifigan", vocoder)
    card = await hub.card("microsoft/speecht5_tts", Task.TEXT_TO_SPEECH)
    assert paths(card) == ["config.json", "model.safetensors", "spm_char.model", "base/config.json", "base/model.safetensors"]
    part = card.files[-1]
    assert (part.hub_id, part.hub_revision, part.hub_path) == ("microsoft/speecht5_hifigan", sha, "model.safetensors")
    assert card.memory_bytes == 180


async def test_a_pth_is_taken_where_the_notes_name_it(hub_server: HubServer, hub: Hub, tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "annotators", {"ControlNetHED.pth": "h", "ZoeD_M12_N.pt": "z", "sk_model.pth": "s"})
    hub_server.publish("lllyasviel/Annotators", folder, library_name=None)
    hub_server.publish("org/other", folder, library_name=None)
    assert paths(await hub.card("lllyasviel/Annotators", Task.HED_CONTROL)) == ["ControlNetHED.pth"]
    assert "nothing here knows how to open it" in await refusal(hub, "org/other", Task.HED_CONTROL)


async def test_edges_need_no_hub(tmp_path: Path) -> None:
    card = await Hub(HubSettings(endpoint=NOBODY), tmp_path).card("opencv/canny", Task.CANNY_CONTROL)
    assert (card.loader, card.has_files) == ("canny", False)


async def test_safetensors_that_the_hubs_bot_offers_are_taken_in_place_of_pickles(
    hub_server: HubServer, hub: Hub, bert: Path, tmp_path: Path
) -> None:
    pickled = folder_of(tmp_path / "pickled", {"config.json": "{}", "pytorch_model.bin": "p"})
    for owner, author in (("org", "SFconvertbot"), ("evil", "Mallory")):
        hub_server.publish(f"{owner}/bert", pickled, pipeline_tag="fill-mask")
        hub_server.publish(f"{owner}/bert", bert, ref="refs/pr/7")
        offer = {"num": 7, "title": "Adding `safetensors` variant of this model", "author": {"name": author}, "status": "open"}
        hub_server.repositories[f"{owner}/bert"].discussions = [offer]
    card = await hub.card("org/bert")
    assert card.revision == hub_server.repositories["org/bert"].refs["refs/pr/7"]
    assert "model.safetensors" in paths(card)
    assert "pickles" in await refusal(hub, "evil/bert")


# Refusals


async def test_an_unknown_id_is_named(hub: Hub) -> None:
    assert "the hub has no model org/nothing" in await refusal(hub, "org/nothing", Task.FILL_MASK)
    for nonsense in ("../../etc/passwd", "org/../x", "a b/c", "a/b/c", "", "a" * 10_000):
        assert "is no id of a model" in (told := await refusal(hub, nonsense))
        assert len(told) < 200


@pytest.mark.parametrize("endpoint", ["garbage", "file:///etc/passwd", "http://[::1", "https://"])
def test_an_endpoint_that_is_no_address_is_refused_at_once(tmp_path: Path, endpoint: str) -> None:
    with pytest.raises(HuggingGPTError, match="is no address of a hub"):
        Hub(HubSettings(endpoint=endpoint), tmp_path)


async def test_what_is_no_answer_of_a_hub_is_told_in_our_words(hub_server: HubServer, hub: Hub, bert: Path) -> None:
    hub_server.publish("org/bert", bert, pipeline_tag="fill-mask")
    hub_server.faults["/api/models/org/bert"] = Fault(Kind.NONSENSE, times=1)
    assert "is no answer of a hub" in await refusal(hub, "org/bert")
    hub_server.publish("org/odd", folder_of(bert.parent / "odd", BERT | {"config.json": '{"quantization_config": "x", "model_type": 5}'}))
    assert (await hub.card("org/odd", Task.FILL_MASK)).tasks == (Task.FILL_MASK,)


async def test_a_hub_that_drips_its_answer_is_left_in_time(hub_server: HubServer, tmp_path: Path) -> None:
    hub_server.faults["/api/*"] = Fault(Kind.DRIPPING, seconds=20)
    started = time.monotonic()
    assert "not done after 0.5 s" in await refusal(Hub(HubSettings(endpoint=hub_server.endpoint, timeout_s=0.5), tmp_path), "org/bert")
    assert time.monotonic() - started < 5


async def test_a_pinned_card_that_was_spoiled_is_pinned_again(hub_server: HubServer, tmp_path: Path, bert: Path) -> None:
    hub_server.publish("org/bert", bert, pipeline_tag="fill-mask")
    hub = Hub(HubSettings(endpoint=hub_server.endpoint), tmp_path / "kept")
    card = await hub.card("org/bert")
    (path,) = (tmp_path / "kept").rglob("fill-mask.json")
    for spoiled in (b"\xff\xfe", b"{", path.read_bytes().replace(b"org/bert", b"evil/other")):
        path.write_bytes(spoiled)
        assert (hub.pinned("org/bert"), hub.all_pinned()) == (None, [])
        assert await hub.card("org/bert") == card


async def test_a_gated_model_says_where_to_accept_and_which_token_to_set(
    hub_server: HubServer, hub: Hub, bert: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub_server.publish("org/gated", bert, pipeline_tag="fill-mask", gated="manual")
    place = f"{hub_server.endpoint}/org/gated"
    assert await refusal(hub, "org/gated") == (
        f"org/gated is gated: accept its terms at {place} and set HF_TOKEN to a token of your account"
    )
    monkeypatch.setenv("HF_TOKEN", "hf_mine")
    assert "the token in HF_TOKEN has no access" in await refusal(hub, "org/gated")
    hub_server.tokens.add("hf_mine")
    assert (await hub.card("org/gated")).id == "org/gated"


async def test_pickles_alone_are_refused(hub_server: HubServer, hub: Hub, tmp_path: Path) -> None:
    hub_server.publish("org/old", folder_of(tmp_path / "old", {"config.json": "{}", "pytorch_model.bin": "p"}), pipeline_tag="fill-mask")
    assert await refusal(hub, "org/old") == ("org/old has no safetensors; its weights are pickles, which may run code when they are loaded")


async def test_code_of_the_repository_is_refused_unless_the_library_has_the_architecture(
    hub_server: HubServer, hub: Hub, tmp_path: Path
) -> None:
    for model_type in ("chatglm", "phi3"):
        config = json.dumps({"model_type": model_type, "auto_map": {"AutoConfig": "configuration.Config"}})
        folder = folder_of(tmp_path / model_type, {"config.json": config, "model.safetensors": "w"})
        hub_server.publish(f"org/{model_type}", folder, pipeline_tag="text-generation")
    assert "needs code of its own repository (auto_map)" in await refusal(hub, "org/chatglm")
    assert (await hub.card("org/phi3")).loader == "causal_lm"


async def test_quantised_weights_are_refused_by_name(hub_server: HubServer, hub: Hub, tmp_path: Path) -> None:
    config = json.dumps({"model_type": "llama", "quantization_config": {"quant_method": "awq"}})
    folder = folder_of(tmp_path / "awq", {"config.json": config, "model.safetensors": "w"})
    hub_server.publish("org/awq", folder, pipeline_tag="text-generation")
    assert "org/awq is quantised with awq" in await refusal(hub, "org/awq")


async def test_a_model_of_another_task_is_refused_with_both(hub_server: HubServer, hub: Hub, bert: Path) -> None:
    hub_server.publish("org/mask", bert, pipeline_tag="fill-mask")
    assert await refusal(hub, "org/mask", Task.SUMMARIZATION) == "org/mask is a model for fill-mask, not for summarization"


async def test_a_model_of_another_library_is_refused_by_its_name(hub_server: HubServer, hub: Hub, bert: Path) -> None:
    hub_server.publish("org/brain", bert, pipeline_tag="audio-classification", library_name="speechbrain")
    assert "org/brain is made for the library speechbrain" in await refusal(hub, "org/brain")


async def test_a_licence_that_is_not_allowed_is_refused(hub_server: HubServer, tmp_path: Path, bert: Path) -> None:
    hub_server.publish("org/closed", bert, pipeline_tag="fill-mask", cardData={"license": "cc-by-nc-4.0"})
    hub = Hub(HubSettings(endpoint=hub_server.endpoint, licences=("mit",)), tmp_path / "hub")
    assert await refusal(hub, "org/closed") == "org/closed has the licence cc-by-nc-4.0; allowed here are mit"


@pytest.mark.parametrize("fault", [Fault(Kind.SLOW), Fault(Kind.BUSY)])
async def test_a_silent_hub_is_one_sentence(hub_server: HubServer, tmp_path: Path, bert: Path, fault: Fault) -> None:
    hub_server.publish("org/bert", bert, pipeline_tag="fill-mask")
    hub_server.faults["*"] = fault
    hub = Hub(HubSettings(endpoint=hub_server.endpoint, timeout_s=0.3), tmp_path / "hub")
    assert f"org/bert was never used here, and {hub_server.endpoint}" in await refusal(hub, "org/bert")


# Which files


def words(text: str) -> list[str]:
    return sorted(text.split())


def test_a_text_model_takes_whole_shards_templates_and_the_folders_of_sentence_transformers() -> None:
    names = words("""config.json generation_config.json model.safetensors.index.json
        model-00001-of-00002.safetensors model-00002-of-00002.safetensors
        model-00001-of-00009.safetensors consolidated.safetensors adapter_model.safetensors chat_template.jinja tokenizer.model merges.txt
        trainer_state.json pytorch_model.bin.index.json modules.json 1_Pooling/config.json 2_Dense/config.json 2_Dense/model.safetensors
        original/params.json LICENSE modeling_own.py runs/x.json""")
    assert transformers_files(names) == words("""config.json generation_config.json model.safetensors.index.json
        model-00001-of-00002.safetensors model-00002-of-00002.safetensors
        chat_template.jinja tokenizer.model merges.txt modules.json 1_Pooling/config.json 2_Dense/config.json
        2_Dense/model.safetensors""")
    assert transformers_files([*names, "model.safetensors"]).count("model.safetensors") == 1
    assert "model-00001-of-00002.safetensors" not in transformers_files([*names, "model.safetensors"])


def test_a_pipeline_takes_its_components_in_full_precision_and_no_single_file_checkpoint() -> None:
    index = {
        "_class_name": "StableDiffusionPipeline",
        "feature_extractor": ["transformers", "CLIPImageProcessor"],
        "safety_checker": [None, None],
        "text_encoder": ["transformers", "CLIPTextModel"],
        "unet": ["diffusers", "UNet2DConditionModel"],
        "vae": ["diffusers", "AutoencoderKL"],
    }
    names = words("""model_index.json v1-5-pruned.safetensors v1-5-pruned.ckpt README.md feature_extractor/preprocessor_config.json
        safety_checker/config.json safety_checker/model.safetensors text_encoder/config.json text_encoder/model.safetensors
        text_encoder/model.fp16.safetensors text_encoder/pytorch_model.bin unet/config.json unet/diffusion_pytorch_model.fp16.safetensors
        unet/diffusion_pytorch_model.non_ema.safetensors vae/config.json vae/diffusion_pytorch_model.bin images/a.json""")
    chosen, lacking = diffusers_files(names, index)
    assert chosen == words("""model_index.json feature_extractor/preprocessor_config.json text_encoder/config.json
        text_encoder/model.safetensors
        unet/config.json unet/diffusion_pytorch_model.fp16.safetensors vae/config.json""")
    assert lacking == ["vae"]


def test_a_pipelines_shards_come_with_the_index_of_their_kind() -> None:
    half = [f"unet/diffusion_pytorch_model-0000{part}-of-00002.fp16.safetensors" for part in (1, 2)]
    names = ["model_index.json", "unet/config.json", "unet/diffusion_pytorch_model.safetensors.index.fp16.json", *half]
    index = {"_class_name": "P", "unet": ["diffusers", "UNet"]}
    assert diffusers_files(names, index)[0] == sorted(names)
    whole = ["unet/diffusion_pytorch_model.safetensors.index.json", "unet/diffusion_pytorch_model-00001-of-00001.safetensors"]
    assert diffusers_files([*names, *whole], index)[0] == sorted(["model_index.json", "unet/config.json", *whole])


def test_the_first_pipelines_have_their_components_at_the_top() -> None:
    names = [
        "model_index.json",
        "config.json",
        "scheduler_config.json",
        "diffusion_pytorch_model.safetensors",
        "diffusion_pytorch_model.bin",
    ]
    index = {"_class_name": "DDPMPipeline", "scheduler": ["diffusers", "DDPMScheduler"], "unet": ["diffusers", "UNet2DModel"]}
    assert diffusers_files(names, index) == (sorted(names[:-1]), [])


async def test_a_pipeline_of_the_hub_is_pinned_and_one_with_own_code_refused(hub_server: HubServer, hub: Hub, tmp_path: Path) -> None:
    parts = {
        "unet/config.json": "{}",
        "unet/diffusion_pytorch_model.safetensors": "w",
        "unet/own.py": "import os",
        "sd.safetensors": "x" * 99,
    }
    for library, name in (("diffusers", "org/good"), ("own", "org/own")):
        index = json.dumps({"_class_name": "P", "unet": [library, "UNet"]})
        hub_server.publish(name, folder_of(tmp_path / library, {"model_index.json": index, **parts}), pipeline_tag="text-to-image")
    card = await hub.card("org/good", Task.TEXT_TO_IMAGE)
    assert paths(card) == ["model_index.json", "unet/config.json", "unet/diffusion_pytorch_model.safetensors"]
    assert "code of its own" in await refusal(hub, "org/own", Task.TEXT_TO_IMAGE)
