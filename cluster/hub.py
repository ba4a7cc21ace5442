"""What the hub says about its models: the facts that a choice needs, live, from a cache on disk, or from the snapshot shipped here.

HGPT_HOME/hub/searches/…jsonl           what a search found, for `cache_s`, and longer while the hub does not answer
HGPT_HOME/hub/cards/{org}--{name}/{task}.json   a pinned model: a later run, also without the hub, uses the same revision

The snapshot, hub_snapshot.jsonl, says what the hub said in April 2023: its models are those that HuggingGPT, the paper's system, chose
from (github.com/microsoft/JARVIS, MIT, hub_snapshot.LICENSE), with their downloads in 30 days and likes of then, good for an order only.
Left out are models of libraries that nothing here runs; ids that the hub has renamed are written the new way; the task table's own models
that were missing are added with 0 downloads.
"""

import asyncio
import hashlib
import os
import re
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from huggingface_hub.errors import HfHubHTTPError, RepositoryNotFoundError

from cluster.catalogue import ModelCard
from cluster.errors import ModelUnavailable, NotFound
from cluster.hub_cards import Pinner
from cluster.hub_line import HubLine, HubSilent, first_line
from cluster.hub_models import FACTS, HubModel, info_of, read_lines, searched, write_lines
from cluster.hub_notes import cards, noted_for, snapshot
from cluster.settings import HubSettings, home_folder
from cluster.tasks import Task

ASKED_FOR = 100  # models in one search: of the most downloaded ones many run in libraries that are not here
HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")  # the first models have no owner in their ids
ID_LONGEST = 96  # characters, the hub's own limit
UNUSABLE = (HfHubHTTPError, ValueError, KeyError, TypeError)  # the hub refuses, or answers with something else


class Source(StrEnum):
    """Where the facts of a search come from."""

    LIVE = "live"
    CACHE = "cache"  # what the hub said before
    SNAPSHOT = "snapshot"  # what it said in April 2023


@dataclass(frozen=True, slots=True)
class Found:
    models: tuple[HubModel, ...]  # most downloaded first
    source: Source


class Hub:
    """Searches the hub and pins models of it. Safe to share between coroutines of one process; nothing is asked before the first call."""

    def __init__(self, settings: HubSettings, folder: Path | None = None) -> None:
        """`folder` keeps searches and pinned cards; None: `hub` in the home folder."""
        self._settings = settings
        self._folder = folder or home_folder() / "hub"
        self._line = HubLine(settings.endpoint, settings.token_env, settings.timeout_s)
        self._turns: dict[str, asyncio.Lock] = {}

    async def search(self, task: Task, limit: int | None = None, language: str | None = None) -> list[HubModel]:
        """Models for a task, most downloaded first: live, else from the cache, else from the snapshot. Never fails.

        `limit` None: the settings' `max_results`. With `language` (ISO 639-1) a model that names other languages only is left out.
        """
        return list((await self.find(task, limit, language)).models)

    async def find(self, task: Task, limit: int | None = None, language: str | None = None) -> Found:
        """`search`, and where its facts come from."""
        found = await self._found(task, None)
        models = found.models if language is None else (*found.models, *(await self._found(task, language)).models)
        ranked = sorted(models, key=lambda model: -model.downloads)
        fit = {model.id: model for model in ranked if model.might_run and model.speaks(language) and self._is_licensed(model)}
        return Found(tuple(fit.values())[: limit or self._settings.max_results], found.source)

    async def card(self, model_id: str, task: Task | None = None) -> ModelCard:
        """The model, pinned to the commit that was main when it was first asked for. `task` None: what the hub says it is for.

        Raises NotFound for an unknown id, and ModelUnavailable with one sentence: gated, no safetensors, custom code, another task,
        another library, hub not reachable and the model not pinned before.
        """
        if not _is_hub_id(model_id):
            raise NotFound(f"{model_id[:ID_LONGEST].strip() or 'nothing'} is no id of a model of the hub; they read owner/name")
        if known := self.pinned(model_id, task):
            return known
        async with self._turns.setdefault(model_id, asyncio.Lock()):
            if known := self.pinned(model_id, task):
                return known
            try:
                card = await asyncio.to_thread(self._pin, model_id, task)
            except HubSilent as exc:
                raise ModelUnavailable(f"{model_id} was never used here, and {exc}") from exc
        return card

    def pinned(self, model_id: str, task: Task | None = None) -> ModelCard | None:
        """The card of a model that was used here before, or that needs no files; asks nobody."""
        if (ready := cards().cards.get(model_id)) and (task is None or task in ready.tasks):
            return ready
        return next((card for card in self._kept(model_id) if task is None or task in card.tasks), None)

    def all_pinned(self) -> list[ModelCard]:
        """Every model of the hub that was used here before, once, with all its tasks."""
        kept = [self._kept(folder.name) for folder in sorted((self._folder / "cards").glob("*"))]
        return [models[0].model_copy(update={"tasks": tuple(task for card in models for task in card.tasks)}) for models in kept if models]

    async def _found(self, task: Task, language: str | None) -> Found:
        """All that a search gave, of the first of live, cache and snapshot that knows."""
        path = self._search_path(task, language)
        async with self._turns.setdefault(path.name, asyncio.Lock()):
            if self._age_s(path) <= self._settings.cache_s and (kept := _read_search(path)) is not None:
                return Found(kept, Source.CACHE)
            try:
                async with asyncio.timeout(self._settings.timeout_s):
                    found = await asyncio.to_thread(self._ask, task, language)
            except TimeoutError:
                self._line.rest()
            except HubSilent:
                pass
            else:
                _write(path, write_lines(found))
                return Found(tuple(found), Source.LIVE)
        if (kept := _read_search(path)) is not None:
            return Found(kept, Source.CACHE)
        return Found(tuple(model for model in snapshot() if model.task == task), Source.SNAPSHOT)

    def _ask(self, task: Task, language: str | None) -> list[HubModel]:
        found: list[HubModel] = []
        if parameters := searched(task, language):
            query = {**parameters, "sort": "downloads", "limit": ASKED_FOR, "expand": list(FACTS)}
            found = self._listed(query, task)
        if language is None:
            there = {model.id for model in found}
            noted = [self._noted(model_id, task) for model_id in noted_for(task) if model_id not in there]
            found += [model for model in noted if model is not None]
        return found

    def _listed(self, query: Mapping[str, Any], task: Task) -> list[HubModel]:
        """Raises HubSilent also when the hub refuses the question: the cache or the snapshot knows more than nothing."""
        try:
            return [HubModel.of(info_of(entry), task) for entry in self._line.get("/api/models", query).json()]
        except UNUSABLE as exc:
            raise HubSilent(f"{self._line.endpoint} has no usable answer ({first_line(exc)})") from exc

    def _noted(self, model_id: str, task: Task) -> HubModel | None:
        """A model that the notes name, with what the hub says about it now; None when the hub does not have it."""
        known = next((model for model in snapshot() if (model.id, model.task) == (model_id, task)), HubModel(model_id, task, 0, 0))
        if model_id in cards().cards:
            return known
        try:
            answer = self._line.get(f"/api/models/{model_id}", {"expand": list(FACTS)})
            return HubModel.of(info_of(answer.json()), task)
        except RepositoryNotFoundError:
            return None
        except UNUSABLE:
            return known

    def _pin(self, model_id: str, task: Task | None) -> ModelCard:
        """A model that was pinned for another task keeps its revision."""
        earlier = next(iter(self._kept(model_id)), None)
        card = Pinner(self._line, self._settings.licences).card(model_id, task, earlier.revision if earlier else None)
        _write(self._card_folder(model_id) / f"{card.tasks[0]}.json", card.model_dump_json(indent=1))
        return card

    def _kept(self, model_id: str) -> list[ModelCard]:
        kept: list[ModelCard] = []
        if len(model_id) > ID_LONGEST:
            return kept  # no name of a folder
        for path in sorted(self._card_folder(model_id).glob("*.json")):
            try:
                card = ModelCard.model_validate_json(path.read_text(encoding="utf-8"))
            except (OSError, ValueError):
                continue  # of another version of this program, or spoiled by a power cut: pinned again
            if self._card_folder(card.id) == path.parent and card.local is None:
                kept.append(card)
        return kept

    def _is_licensed(self, model: HubModel) -> bool:
        return not self._settings.licences or model.licence in self._settings.licences

    def _search_path(self, task: Task, language: str | None) -> Path:
        place = hashlib.sha256(self._line.endpoint.encode()).hexdigest()[:8]  # a mirror may know other models
        return self._folder / "searches" / f"{'-'.join(filter(None, (task, language, place)))}.jsonl"

    def _card_folder(self, model_id: str) -> Path:
        return self._folder / "cards" / model_id.replace("/", "--")

    @staticmethod
    def _age_s(path: Path) -> float:
        try:
            return time.time() - path.stat().st_mtime
        except OSError:
            return float("inf")


def _is_hub_id(model_id: str) -> bool:
    return len(model_id) <= ID_LONGEST and HUB_ID.fullmatch(model_id) is not None


def _read_search(path: Path) -> tuple[HubModel, ...] | None:
    try:
        return tuple(read_lines(path))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _write(path: Path, text: str) -> None:
    """Whole or not at all, so that another process never reads half of it. A disk that is full or read-only costs only the memory of it."""
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        fresh.write_text(text, encoding="utf-8")
        os.replace(fresh, path)
    except OSError:
        with suppress(OSError):
            fresh.unlink()


__all__ = ["Found", "Hub", "HubModel", "Source"]
