"""The real experts, each loaded once a session; their weights come from the model store."""

import os
from collections.abc import Callable
from functools import cache

import pytest

from cluster.catalogue import BUILT_IN, Catalogue
from cluster.settings import models_folder
from deployments.model import Model
from deployments.registry import LOADERS
from deployments.store import ModelStore

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
