"""`hgpt models` with small real cards whose files lie on this machine."""

import argparse
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from cluster.catalogue import BUILT_IN, Catalogue
from cluster.settings import models_folder
from cluster.tasks import TASKS, Task
from controller.terminal.models_command import add_parser, default_cards
from tests.hub.server import Fault, HubServer, Kind, running_hub


def entry(model_id: str, local: Path | None, tasks: list[str]) -> dict[str, object]:
    content = b"weights"
    file = {"path": "model.bin", "sha256": hashlib.sha256(content).hexdigest(), "size_bytes": len(content)}
    files = [file | {"local": str(local), "on_hub": False}] if local else []
    return {
        "id": model_id,
        "family": "text",
        "loader": "llm",
        "tasks": tasks,
        "licence": "MIT",
        "origin": "a test",
        "memory_bytes": 1,
        "quality": 0.5,
        "description": "a test",
        "files": files,
    }


@pytest.fixture
def catalogue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two models that a task uses (one of them without files), one planner, one whose file is gone."""
    monkeypatch.setenv("HGPT_MODELS", str(tmp_path / "models"))
    monkeypatch.setenv("HGPT_HOME", str(tmp_path / "home"))
    (tmp_path / "weights").write_bytes(b"weights")
    cards = [
        entry("org/expert", tmp_path / "weights", ["translation"]),
        entry("org/engine", None, ["text-to-speech"]),
        entry("org/planner", tmp_path / "weights", []),
        entry("org/gone", tmp_path / "gone", []),
    ]
    path = tmp_path / "cards.yaml"
    path.write_text(yaml.safe_dump(cards))
    return path


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[HubServer]:
    """Two models of the hub: one with its task's tag, one without any."""
    checkpoint = tmp_path / "checkpoint"
    checkpoint.mkdir()
    (checkpoint / "config.json").write_text('{"model_type": "bert"}')
    (checkpoint / "model.safetensors").write_bytes(b"weights")
    with running_hub() as server:
        card = {"language": ["en"], "license": "mit"}
        server.publish("org/masked", checkpoint, pipeline_tag="fill-mask", downloads=1200, likes=3, cardData=card)
        server.publish("org/untagged", checkpoint)
        yield server


def hgpt(*words: str) -> int:
    parser = argparse.ArgumentParser(prog="hgpt")
    add_parser(parser.add_subparsers())
    args = parser.parse_args(words)
    code: int = args.run(args)
    return code


def states(catalogue: Path, capsys: pytest.CaptureFixture[str]) -> dict[str, str]:
    capsys.readouterr()
    assert hgpt("models", "list", "--json", "--catalogue", str(catalogue)) == 0
    return {row["id"]: row["state"] for row in json.loads(capsys.readouterr().out)}


def test_pull_without_ids_takes_the_models_that_a_task_uses(catalogue: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert states(catalogue, capsys)["org/expert"] == "absent"
    assert hgpt("models", "pull", "--catalogue", str(catalogue)) == 0
    shown = states(catalogue, capsys)
    assert shown == {"org/expert": "complete", "org/engine": "complete", "org/planner": "absent", "org/gone": "absent"}


def test_pull_takes_the_named_models_only(catalogue: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert hgpt("models", "pull", "org/planner", "--catalogue", str(catalogue)) == 0
    shown = states(catalogue, capsys)
    assert (shown["org/planner"], shown["org/expert"]) == ("complete", "absent")


def test_one_model_that_cannot_be_had_does_not_keep_the_rest_away(catalogue: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert hgpt("models", "pull", "--all", "--catalogue", str(catalogue)) == 1
    assert "no source can deliver model.bin of org/gone" in capsys.readouterr().err
    assert states(catalogue, capsys)["org/planner"] == "complete"


def test_an_id_that_neither_a_card_nor_the_hub_knows_is_one_sentence_and_exit_code_2(
    catalogue: Path, hub: HubServer, capsys: pytest.CaptureFixture[str]
) -> None:
    wanted = ("nobody/knows", "--catalogue", str(catalogue))
    for words in (("pull", *wanted, "--endpoint", hub.endpoint), ("verify", *wanted)):
        assert hgpt("models", *words) == 2
        err = capsys.readouterr().err
        assert "nobody/knows" in err
        assert err.count("\n") == 1


def test_verify_finds_a_changed_file_and_pull_again_repairs_it(catalogue: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ("--catalogue", str(catalogue))
    assert hgpt("models", "pull", "org/expert", *options) == 0
    assert hgpt("models", "verify", *options) == 0
    next((tmp_path / "models").rglob("model.bin")).write_bytes(b"Weights")
    assert hgpt("models", "verify", *options) == 1
    assert "model.bin of org/expert has sha256" in capsys.readouterr().err
    assert hgpt("models", "pull", "--again", "org/expert", *options) == 0
    assert hgpt("models", "verify", "org/expert", *options) == 0


def test_verify_with_nothing_pulled_says_so(catalogue: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert hgpt("models", "verify", "--catalogue", str(catalogue)) == 1
    err = capsys.readouterr().err
    assert err.startswith("no model has been pulled") and err.count("\n") == 1


def test_verify_of_a_model_that_is_not_here_fails(catalogue: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert hgpt("models", "verify", "org/expert", "--catalogue", str(catalogue)) == 1
    assert "has not been pulled" in capsys.readouterr().err


def test_the_table_shows_every_built_in_id_whole(catalogue: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert hgpt("models", "list") == 0
    shown = capsys.readouterr().out
    assert all(model_id in shown for model_id in Catalogue.read(BUILT_IN).cards)


def test_the_default_set_is_every_built_in_card_the_planner_too() -> None:
    catalogue = Catalogue.read(BUILT_IN)
    assert set(catalogue.cards) == {card.id for card in default_cards(catalogue)}


def test_a_wrong_catalogue_is_exit_code_1(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert hgpt("models", "list", "--catalogue", str(tmp_path / "absent.yaml")) == 1
    assert "absent.yaml cannot be read: No such file or directory" in capsys.readouterr().err


def test_the_folder_comes_from_the_environment_or_the_users_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HGPT_MODELS", str(tmp_path))
    assert models_folder() == tmp_path
    monkeypatch.delenv("HGPT_MODELS")
    monkeypatch.delenv("HGPT_HOME", raising=False)
    assert models_folder() == Path.home() / ".cache" / "hugginggpt" / "models"


# Models of the hub


def test_pull_brings_a_model_of_the_hub_which_list_and_verify_then_know(
    catalogue: Path, hub: HubServer, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert hgpt("models", "pull", "org/masked", "--endpoint", hub.endpoint, "--catalogue", str(catalogue)) == 0
    folder = tmp_path / "models" / "org--masked" / hub.repositories["org/masked"].refs["main"][:12]
    assert (folder / "model.safetensors").read_bytes() == b"weights"
    assert states(catalogue, capsys)["org/masked"] == "complete"
    assert hgpt("models", "verify", "org/masked", "--catalogue", str(catalogue)) == 0
    (folder / "config.json").write_text('{"model_type": "evil"}')
    assert hgpt("models", "verify", "org/masked", "--catalogue", str(catalogue)) == 1
    assert "config.json of org/masked has git hash" in capsys.readouterr().err


def test_pull_takes_the_task_from_the_person_where_the_hub_has_none(
    catalogue: Path, hub: HubServer, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("models", "pull", "org/untagged", "--endpoint", hub.endpoint, "--catalogue", str(catalogue))
    assert hgpt(*words) == 1
    assert "name the task that it is to do" in capsys.readouterr().err
    assert hgpt(*words, "--task", "feature-extraction") == 0
    assert hgpt(*words, "--task", "feature-subtraction") == 2
    assert "no task is called feature-subtraction; do you mean feature-extraction" in capsys.readouterr().err


def test_tasks_shows_the_whole_table(capsys: pytest.CaptureFixture[str]) -> None:
    assert hgpt("models", "tasks") == 0
    shown = capsys.readouterr().out
    assert all(spec.task in shown and spec.default_model in shown and spec.runner in shown for spec in TASKS.values())
    assert hgpt("models", "tasks", "--json") == 0
    rows = {row["task"]: row for row in json.loads(capsys.readouterr().out)}
    assert list(rows) == list(TASKS)
    translation = rows[Task.TRANSLATION]
    assert (translation["inputs"], translation["output"], translation["required"]) == (["text"], "text", ["language"])
    assert translation["built_in_cards"] > 0
    assert rows[Task.TEXT_TO_VIDEO]["built_in_cards"] == 0


def test_search_shows_models_and_facts(catalogue: Path, hub: HubServer, capsys: pytest.CaptureFixture[str]) -> None:
    assert hgpt("models", "search", "fill-mask", "--endpoint", hub.endpoint) == 0
    shown = capsys.readouterr()
    assert "org/masked" in shown.out and "1,200" in shown.out and "mit" in shown.out
    assert shown.err == ""
    assert hgpt("models", "search", "Fill Mask", "--endpoint", hub.endpoint, "--json", "--language", "en", "--limit", "1") == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert (row["id"], row["downloads"], row["licence"]) == ("org/masked", 1200, "mit")


def test_search_says_when_the_numbers_are_old(catalogue: Path, hub: HubServer, capsys: pytest.CaptureFixture[str]) -> None:
    hub.faults["/api/models"] = Fault(Kind.BUSY)
    assert hgpt("models", "search", "summarization", "--endpoint", hub.endpoint, "--limit", "3") == 0
    shown = capsys.readouterr()
    assert shown.out.count("\n") == 4
    assert "numbers of April 2023" in shown.err


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("sumarization", "no task is called sumarization; do you mean summarization?"),
        ("zzz", "no task is called zzz; `hgpt models tasks` shows those there are"),
    ],
)
def test_a_misspelt_task_is_one_sentence_with_what_is_near(name: str, sentence: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert hgpt("models", "search", name) == 2
    assert capsys.readouterr().err == f"{sentence}\n"


@pytest.mark.parametrize("wrong", [["--limit", "abc"], ["--limit", "0"], ["--language", "../x"], ["--language", "d" * 5000]])
def test_a_search_says_which_value_is_wrong(wrong: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        hgpt("models", "search", "summarization", *wrong)
    assert f"argument {wrong[0]}: must be a" in capsys.readouterr().err
