"""ModelOpener: from a card to files on this machine, and from the files to a model in memory. Blocks; knows no clock."""

from functools import partial
from pathlib import Path

from cluster.catalogue import ModelCard
from cluster.chat import OpenAIChat
from cluster.errors import ModelError
from cluster.metrics import Use, observe_reply
from cluster.settings import AppSettings
from deployments.llm_expert import LanguageExpert
from deployments.model import Model
from deployments.registry import LOADERS
from deployments.store import ModelStore

LANGUAGE_EXPERT = "llm"  # the loader of models that the LLM's own deployment runs: here they are only asked


class ModelOpener:
    """The Source of a family replica's cache."""

    def __init__(self, settings: AppSettings) -> None:
        self._settings = settings
        self._store = ModelStore(settings.models, hub_endpoint=settings.hub.endpoint, hub_token_env=settings.hub.token_env)

    def size_bytes(self, card: ModelCard) -> int:
        return 0 if card.loader == LANGUAGE_EXPERT else card.memory_bytes

    def fetch(self, card: ModelCard) -> Path | None:
        """The folder with the model's files, downloaded first if need be; None for a model without files. Raises ModelError."""
        if card.loader == LANGUAGE_EXPERT or not card.has_files:
            return None
        return self._store.ensure(card)

    def load(self, card: ModelCard, folder: Path | None) -> Model:
        """Raises ModelError, and whatever the model's library throws."""
        if card.loader == LANGUAGE_EXPERT:
            chat = OpenAIChat.from_settings(self._settings.llm, partial(observe_reply, Use.EXPERT))
            return LanguageExpert(chat, self._settings.llm.timeout_s)
        if card.loader not in LOADERS:
            raise ModelError(f"the card {card.id} names the loader {card.loader}, which is none of {', '.join(LOADERS)}")
        return LOADERS[card.loader](card, folder)
