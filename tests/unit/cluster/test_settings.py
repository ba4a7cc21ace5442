"""Settings: a wrong configuration stops the start with one sentence that names the key."""

from pathlib import Path

import pytest

from cluster.errors import HuggingGPTError
from cluster.settings import AppSettings, EngineSettings, home_folder, models_folder, parse
from cluster.tasks import Family


def test_no_settings_at_all_give_the_defaults() -> None:
    assert parse(AppSettings, {}).limits.max_files == 10


def test_what_the_yaml_says_arrives() -> None:
    settings = parse(AppSettings, {"llm": {"timeout_s": 7}, "families": {"text": {"memory_bytes": 2_000}}})
    assert (settings.llm.timeout_s, settings.families["text"].memory_bytes) == (7, 2_000)


def test_every_family_of_the_task_table_is_deployed_unless_told_otherwise() -> None:
    assert set(parse(AppSettings, {}).families) == set(Family)


def test_an_own_family_may_be_named_and_a_name_that_serve_could_not_bear_may_not() -> None:
    assert "law_texts" in parse(AppSettings, {"families": {"law_texts": {}}}).families
    with pytest.raises(HuggingGPTError, match="families"):
        parse(AppSettings, {"families": {"Law texts": {}}})


@pytest.mark.parametrize(
    ("args", "place"),
    [
        ({"plannning": {}}, "plannning"),
        ({"planning": {"max_step": 3}}, "planning.max_step"),
        ({"families": {"text": {"replicas": 3}}}, "families.text.replicas"),
        ({"families": {"text": {"max_models": 3}}}, "families.text.max_models"),
    ],
)
def test_an_unknown_key_is_one_sentence_with_its_place(args: dict[str, object], place: str) -> None:
    with pytest.raises(HuggingGPTError) as refused:
        parse(AppSettings, args)
    assert f"{place}: " in refused.value.message
    assert "\n" not in refused.value.message


def test_all_wrong_keys_are_told_at_once() -> None:
    with pytest.raises(HuggingGPTError) as refused:
        parse(AppSettings, {"limits": {"max_files": 0}, "llm": {"max_retries": -1}})
    assert "limits.max_files" in refused.value.message
    assert "llm.max_retries" in refused.value.message


def test_an_unknown_engine_is_refused_with_those_there_are() -> None:
    with pytest.raises(HuggingGPTError, match=r"engine: .*llama_cpp"):
        parse(EngineSettings, {"engine": "tgi"})


def test_models_lie_in_the_home_folder_unless_told_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HGPT_HOME", "/srv/hgpt")
    monkeypatch.delenv("HGPT_MODELS", raising=False)
    assert (home_folder(), models_folder()) == (Path("/srv/hgpt"), Path("/srv/hgpt/models"))
    monkeypatch.setenv("HGPT_MODELS", "/mnt/models")
    assert models_folder() == Path("/mnt/models")
