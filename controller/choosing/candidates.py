"""Which models could run a task: the cluster's own cards, and the hub's models that may and can run here. Decides nothing among them."""

import asyncio
import os
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Protocol

from cluster.catalogue import ANY_LANGUAGE, MEMORY_PER_WEIGHT, Catalogue, ModelCard, covers
from cluster.errors import BadRequest
from cluster.hub_models import HubModel
from cluster.settings import FamilySettings, HubSettings
from cluster.tasks import TASKS, Task
from controller.choosing.scoring import hub_quality

_READER = re.compile(r"ocr|donut|nougat", re.IGNORECASE)  # the hub's tag image-to-text stands for two things, and nothing else tells
_PAIR = re.compile(r"opus-mt(?:-tc-big)?-([a-z]{2,3})-([a-z]{2,3})$")


@dataclass(frozen=True, slots=True)
class Candidate:
    """A model that could run a step. `card` is None for a hub model that has not been pinned yet."""

    id: str
    family: str
    runner: str
    quality: float
    size_bytes: int
    languages: tuple[str, ...]
    description: str
    tasks: tuple[Task, ...]
    card: ModelCard | None = None

    @property
    def reads_pictures(self) -> bool:
        """Of models for image-to-text: those that give what is written, where the others say what is shown."""
        return self.runner != "captioner" or bool(_READER.search(self.id))

    @property
    def must_be_fetched(self) -> bool:
        """A model of the hub that was never used here."""
        return self.card is None

    @property
    def is_multilingual(self) -> bool:
        return ANY_LANGUAGE in self.languages

    def speaks(self, language: str | None) -> bool:
        return covers(self.languages, language)

    def translates(self, source: str | None, target: str | None) -> bool:
        """A model whose id names a pair, such as Helsinki-NLP/opus-mt-en-zh, translates in that direction only."""
        if pair := _PAIR.search(self.id):
            return source in (None, pair[1]) and target in (None, pair[2])
        return self.speaks(source) and self.speaks(target)


class HubLookup(Protocol):
    """What is asked of cluster.hub.Hub."""

    async def search(self, task: Task, limit: int, language: str | None = None) -> list[HubModel]: ...

    async def card(self, model_id: str, task: Task | None = None) -> ModelCard: ...


class Candidates:
    """`hub` is None where the configuration keeps to the cluster's own cards."""

    def __init__(self, catalogue: Catalogue, families: Mapping[str, FamilySettings], hub: HubLookup | None, settings: HubSettings) -> None:
        self._cards = {card.id: card for card in catalogue.cards.values() if card.family in families}
        self._families = families
        self._hub = hub
        self._settings = settings
        self._has_token = bool(os.environ.get(settings.token_env))

    @property
    def tasks(self) -> tuple[Task, ...]:
        """Those that a card can do, and with the hub all whose family is deployed."""
        from_hub = {task for task in Task if self._hub and TASKS[task].family in self._families}
        return tuple(task for task in Task if task in from_hub or any(task in card.tasks for card in self._cards.values()))

    def narrower(self) -> dict[Task, str]:
        """What tasks come to where one card alone serves them, and does only part of what the table says."""
        if self._hub:
            return {}
        serving = {task: [card for card in self._cards.values() if task in card.tasks] for task in self.tasks}
        return {task: cards[0].does[task] for task, cards in serving.items() if len(cards) == 1 and task in cards[0].does}

    async def for_tasks(self, tasks: Collection[Task]) -> dict[Task, list[Candidate]]:
        """The hub is asked for all of them at once; a hub that does not answer leaves what the cache or the snapshot knows."""
        found = await asyncio.gather(*(self._for_task(task) for task in tasks))
        return dict(zip(tasks, found, strict=True))

    async def named(self, model_id: str, task: Task | None = None) -> Candidate:
        """Any model that a person asks for. Raises HuggingGPTError with the reason when it is not known or must not run here."""
        if card := self._cards.get(model_id):
            return _from_card(card)
        card = await self._pinned(model_id, task)
        if card.family not in self._families:
            raise BadRequest(f"{model_id} does {', '.join(card.tasks)}, for which this cluster has no family {card.family}")
        return _from_card(card)

    async def pinned(self, candidate: Candidate, task: Task) -> ModelCard:
        """The card with its files and revision. Raises HuggingGPTError with the reason when the model cannot be had."""
        return candidate.card or await self._pinned(candidate.id, task)

    def is_own(self, model_id: str) -> bool:
        """Whether the replicas read this card from their own YAML files."""
        return model_id in self._cards

    async def _for_task(self, task: Task) -> list[Candidate]:
        cards = [_from_card(card) for card in self._cards.values() if task in card.tasks]
        if self._hub is None or TASKS[task].family not in self._families:
            return cards
        models = await self._hub.search(task, self._settings.max_results)
        return cards + [_from_hub(model) for model in models if model.id not in self._cards and self._may_run(model)]

    async def _pinned(self, model_id: str, task: Task | None) -> ModelCard:
        if self._hub is None:
            raise BadRequest(f"{model_id} is not among the models of this cluster, and models of the hub are switched off")
        return await self._hub.card(model_id, task)

    def _may_run(self, model: HubModel) -> bool:
        """By licence, library and memory. What only its files can tell is found when it is pinned."""
        if self._settings.licences and model.licence not in self._settings.licences:
            return False
        if not model.might_run or model.has_safetensors is False or (model.is_gated and not self._has_token):
            return False
        budget_bytes = self._families[TASKS[model.task].family].memory_bytes
        return (model.size_bytes or 0) * MEMORY_PER_WEIGHT <= budget_bytes


def _from_card(card: ModelCard) -> Candidate:
    size_bytes = card.size_bytes or card.memory_bytes
    return Candidate(card.id, card.family, card.loader, card.quality, size_bytes, card.languages, card.description, card.tasks, card)


def _from_hub(model: HubModel) -> Candidate:
    spec = TASKS[model.task]
    return Candidate(
        id=model.id,
        family=spec.family,
        runner=spec.runner,
        quality=hub_quality(model),
        size_bytes=model.size_bytes or 0,
        languages=model.reads,
        description=model.description or f"{model.downloads} downloads a month",
        tasks=(model.task,),
    )
