"""Model cards: the built-in ones, and what a card may not say."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from cluster.catalogue import BUILT_IN, Catalogue, ModelCard, ModelFile
from cluster.errors import HuggingGPTError, NotFound
from cluster.tasks import TASKS, Task

FAMILIES = {"text", "vision", "speech"}
LOADERS = {"llm", "minilm", "spacy_ner", "whisper", "hibari", "espeak", "rapidocr", "efficientnet", "tfjs_detector"}


def a_file(path: str) -> dict[str, Any]:
    return {"path": path, "sha256": "0" * 64, "size_bytes": 1}


def a_card(**changes: Any) -> dict[str, Any]:
    card = {
        "id": "org/name",
        "family": "text",
        "loader": "llm",
        "licence": "MIT",
        "origin": "a test",
        "memory_bytes": 1,
        "quality": 0.5,
        "description": "a test",
    }
    return card | changes


@pytest.fixture(scope="module")
def built_in() -> Catalogue:
    return Catalogue.read(BUILT_IN)


def test_every_built_in_card_names_a_known_family_and_loader(built_in: Catalogue) -> None:
    for card in built_in.cards.values():
        assert card.family in FAMILIES, card.id
        assert card.loader in LOADERS, card.id


def test_every_built_in_file_can_be_had_without_the_hub(built_in: Catalogue) -> None:
    assert all(file.wheels or (file.local and file.local.is_file()) for card in built_in.cards.values() for file in card.files)


def test_the_first_thirteen_tasks_work_without_the_hub(built_in: Catalogue) -> None:
    """Nothing that a laptop could do before there was a hub may get lost."""
    names = """summarization translation question-answering text-generation text-classification zero-shot-classification
        token-classification sentence-similarity image-to-text image-classification object-detection automatic-speech-recognition
        text-to-speech"""
    assert {task for task in map(Task, names.split()) if not built_in.for_task(task)} == set()


def test_english_speech_is_read_by_the_natural_voice_and_chinese_by_the_robot(built_in: Catalogue) -> None:
    voices = sorted(built_in.for_task(Task.TEXT_TO_SPEECH), key=lambda card: -card.quality)
    assert next(card.loader for card in voices if card.speaks("en")) == "hibari"
    assert next(card.loader for card in voices if card.speaks("zh")) == "espeak"


def test_one_wheel_has_one_hash_in_all_cards(built_in: Catalogue) -> None:
    members = [member for card in built_in.cards.values() for file in card.files for member in file.wheels]
    assert len({m.package for m in members}) == len({(m.package, m.wheel_sha256) for m in members})


def test_a_card_speaks_its_languages_and_any_when_it_says_so() -> None:
    assert ModelCard(**a_card(languages=["en"])).speaks("en")
    assert not ModelCard(**a_card(languages=["en"])).speaks("de")
    assert ModelCard(**a_card(languages=["*"])).speaks("de")
    assert ModelCard(**a_card(languages=["en"])).speaks(None)


@pytest.mark.parametrize(
    "path",
    ["model.pkl", "model.PICKLE", "modeling.py", "native.so", "trees.joblib", "array.npy", "pytorch_model.bin", "script.pt", "a.tar.gz"],
)
def test_a_file_that_may_run_code_is_refused(path: str) -> None:
    with pytest.raises(ValidationError, match="may run code when it is loaded"):
        ModelFile(**a_file(path))


@pytest.mark.parametrize(
    "path", ["model.safetensors", "a.gguf", "a.onnx", "model.bin", "net.pth", "config.json", "vocab.txt", "ner/model", "config.cfg"]
)
def test_weights_and_plain_data_are_accepted(path: str) -> None:
    assert ModelFile(**a_file(path)).path == path


@pytest.mark.parametrize("path", ["/etc/x.json", "../x.json", "a/../x.json", "a//x.json", ".complete", "a/.x.json", "a\\x.json", ""])
def test_a_file_outside_the_folder_or_hidden_is_refused(path: str) -> None:
    with pytest.raises(ValidationError, match="relative path"):
        ModelFile(**a_file(path))


@pytest.mark.parametrize("package", ["name", "name==1\n--index-url x", "name==1 --hash=x", "name>=1", "-r==1"])
def test_a_wheel_is_pinned_by_name_and_version_alone(package: str) -> None:
    wheels = [{"package": package, "wheel_sha256": "0" * 64, "member": "a"}]
    with pytest.raises(ValidationError, match="package"):
        ModelFile.model_validate(a_file("a.json") | {"wheels": wheels})


@pytest.mark.parametrize("changes", [{"id": "../name"}, {"id": "name"}, {"id": "a/b/c"}, {"revision": "../x"}])
def test_an_id_or_revision_that_would_leave_the_store_is_refused(changes: dict[str, str]) -> None:
    with pytest.raises(ValidationError):
        ModelCard(**a_card(**changes))


def test_two_files_cannot_share_a_path() -> None:
    with pytest.raises(ValidationError, match="share a path"):
        ModelCard(**a_card(files=[a_file("a.json"), a_file("a.json")]))


def test_two_cards_cannot_share_an_id() -> None:
    card = ModelCard(**a_card())
    with pytest.raises(HuggingGPTError, match="share an id"):
        Catalogue((card, card))


def test_a_wrong_card_is_reported_with_its_file_and_field(tmp_path: Path) -> None:
    path = tmp_path / "cards.yaml"
    path.write_text(yaml.safe_dump([a_card(quality=7)]))
    with pytest.raises(HuggingGPTError, match=r"cards\.yaml: the card org/name is wrong: quality: Input should be [^\n]+$"):
        Catalogue.read(path)


def test_cards_of_several_files_make_one_catalogue(tmp_path: Path) -> None:
    (tmp_path / "more.yaml").write_text(yaml.safe_dump([a_card()]))
    assert Catalogue.read(BUILT_IN, tmp_path / "more.yaml").card("org/name").loader == "llm"


def test_an_unknown_id_is_not_found(built_in: Catalogue) -> None:
    with pytest.raises(NotFound, match="no model card has id nobody/knows"):
        built_in.card("nobody/knows")


def written(folder: Path, *cards: dict[str, Any]) -> Path:
    path = folder / "own.yaml"
    path.write_text(yaml.safe_dump(list(cards)))
    return path


def test_an_own_card_is_an_id_its_tasks_and_a_folder_beside_the_yaml(tmp_path: Path) -> None:
    checkpoint = tmp_path / "captioner"
    checkpoint.mkdir()
    (checkpoint / "model.safetensors").write_bytes(b"w" * 1000)
    (checkpoint / "config.json").write_bytes(b"{}" * 1000)
    path = written(tmp_path, {"id": "me/captioner", "tasks": ["image-to-text"], "local": "captioner"})
    card = Catalogue.read(path).card("me/captioner")
    spec = TASKS[Task.IMAGE_TO_TEXT]
    assert (card.family, card.loader, card.quality, card.licence) == (spec.family, spec.runner, 0.5, "unknown")
    assert card.memory_bytes == 1200
    assert card.local == checkpoint
    assert card.has_files


def test_the_defaults_give_way_to_what_the_entry_says(tmp_path: Path) -> None:
    files = [a_file("config.json"), a_file("model.safetensors") | {"size_bytes": 1000}]
    short = {"id": "me/mine", "tasks": ["summarization"], "files": files}
    assert Catalogue.read(written(tmp_path, short)).card("me/mine").memory_bytes == 1200
    card = Catalogue.read(written(tmp_path, short | {"loader": "causal_lm", "memory_bytes": 7})).card("me/mine")
    assert (card.family, card.loader, card.memory_bytes) == ("text", "causal_lm", 7)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"tasks": ["image-to-text"], "local": "absent"}, "absent is not a folder"),
        ({"tasks": ["image-to-text"], "local": "."}, "has no weights that are read here"),
        ({"tasks": ["juggling"]}, "no task is called juggling"),
        ({"tasks": 5}, "tasks must be a list"),
        ({"local": 5}, "local must be the path of a folder"),
        ({"local": "~nobody-of-this-name/x"}, "local names no folder"),
        ({"files": 5}, "files must be a list"),
        ({"tasks": [], "local": "."}, "family"),
    ],
)
def test_an_own_card_that_lacks_too_much_is_refused(tmp_path: Path, changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(HuggingGPTError, match=reason):
        Catalogue.read(written(tmp_path, {"id": "me/mine"} | changes))


def test_a_file_is_pinned_by_one_hash() -> None:
    assert ModelFile.model_validate({"path": "a.json", "git_blob": "0" * 40, "size_bytes": 1}).digest == "0" * 40
    for hashes in ({}, {"git_blob": "0" * 40, "sha256": "0" * 64}):
        with pytest.raises(ValidationError, match="needs a sha256 or a git_blob"):
            ModelFile.model_validate({"path": "a.json", "size_bytes": 1, **hashes})
    with pytest.raises(ValidationError, match="both hub_id and hub_revision"):
        ModelFile.model_validate(a_file("a.json") | {"hub_id": "org/base"})


@pytest.mark.parametrize("content", [b"5", b"a: b", b"\xff\xfe"])
def test_a_file_that_holds_no_list_of_cards_is_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "own.yaml"
    path.write_bytes(content)
    with pytest.raises(HuggingGPTError, match=r"own\.yaml (is no list of model cards|cannot be read)"):
        Catalogue.read(path)
