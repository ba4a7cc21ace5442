"""What the hub says about its models: the facts that a choice needs, live, from a cache on disk, or from the snapshot shipped here."""

from dataclasses import dataclass
from pathlib import Path

from cluster.catalogue import ModelCard
from cluster.settings import HubSettings
from cluster.tasks import Task


@dataclass(frozen=True, slots=True)
class HubModel:
    """A model as a search of the hub shows it. Unknown facts are None."""

    id: str
    task: Task
    downloads: int  # in the last 30 days
    likes: int
    library: str | None = None  # "transformers", "diffusers", …
    languages: tuple[str, ...] = ()  # ISO 639-1; empty when the card names none
    licence: str | None = None  # the hub's licence tag, "apache-2.0"
    is_gated: bool = False
    has_safetensors: bool | None = None
    size_bytes: int | None = None  # of the weights
    trending: float | None = None
    sha: str | None = None  # of the revision that was seen
    tags: tuple[str, ...] = ()
    description: str = ""


class Hub:
    """Searches the hub and pins models of it. Safe to share between coroutines of one process; nothing is asked before the first call."""

    def __init__(self, settings: HubSettings, folder: Path | None = None) -> None:
        """`folder` keeps searches and pinned cards; None: `hub` in the home folder."""
        self._settings = settings
        self._folder = folder

    async def search(self, task: Task, limit: int | None = None, language: str | None = None) -> list[HubModel]:
        """Models for a task, most downloaded first: live, else from the cache, else from the snapshot. Never fails.

        `limit` None: the settings' `max_results`. With `language` (ISO 639-1) a model that names other languages only is left out.
        """
        raise NotImplementedError

    async def card(self, model_id: str, task: Task | None = None) -> ModelCard:
        """The model, pinned to the commit that was main when it was first asked for. `task` None: what the hub says it is for.

        Raises ModelUnavailable with one sentence: unknown id, gated, no safetensors, custom code, another task, another library,
        hub not reachable.
        """
        raise NotImplementedError
