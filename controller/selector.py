"""Which model runs a step: cards filtered by task, family and language, ranked, and put to the LLM only when several are close."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from cluster.catalogue import ANY_LANGUAGE, Catalogue, ModelCard
from cluster.chat import ChatModel, Message
from cluster.errors import BadRequest, LanguageModelError, PlanError
from cluster.language import detect_language
from cluster.metrics import count_tokens
from cluster.settings import LanguageModelClient, Selecting
from cluster.tasks import Media, Option, Task
from controller.plan import InputFile, OutputOf, Plan, Step
from controller.request import Request

KEEPS_LANGUAGE = frozenset({Task.SUMMARIZATION, Task.QUESTION_ANSWERING})  # their output is in their input's language


@dataclass(frozen=True, slots=True)
class Choice:
    """Candidates for a step, best first: the rest are fallbacks. `reason` goes into the run's record."""

    models: tuple[str, ...]
    reason: str


class Selector:
    def __init__(
        self, catalogue: Catalogue, families: Sequence[str], chat: ChatModel, settings: Selecting, llm: LanguageModelClient
    ) -> None:
        self._cards = [card for card in catalogue.cards.values() if card.family in families]
        self._chat = chat
        self._settings = settings
        self._timeout_s = llm.timeout_s

    @property
    def tasks(self) -> tuple[Task, ...]:
        """Those that at least one deployed model can do."""
        return tuple(task for task in Task if any(task in card.tasks for card in self._cards))

    def families(self, task: Task) -> tuple[str, ...]:
        return tuple(dict.fromkeys(card.family for card in self._cards if task in card.tasks))

    def family(self, model_id: str) -> str:
        return next(card.family for card in self._cards if card.id == model_id)

    async def choose(self, plan: Plan, request: Request) -> dict[str, Choice]:
        """Candidates by step id. Raises PlanError when no model fits a step, BadRequest when a named model cannot do it."""
        languages = languages_of(plan, request)
        ranked = {step.id: self._ranked(step, languages[step.id], request.models or {}) for step in plan.steps}
        close = {step_id: self._close(cards) for step_id, cards in ranked.items()}
        open_steps = [step for step in plan.steps if len(close[step.id]) > 1]
        picks = await self._asked(open_steps, close, request) if open_steps else {}
        return {step_id: _choice(cards, close[step_id], picks.get(step_id)) for step_id, cards in ranked.items()}

    def _ranked(self, step: Step, language: str | None, named: Mapping[str, str]) -> list[ModelCard]:
        cards = [card for card in self._cards if step.task in card.tasks]
        if wanted := named.get(step.task):
            if not (cards := [card for card in cards if card.id == wanted]):
                raise BadRequest(f"the model {wanted} is not deployed for {step.task}")
            return cards
        if not (fitting := [card for card in cards if card.speaks(language)]):
            raise PlanError(f"no deployed model does {step.task} in the language {language!r}")
        if language is None:  # nobody knows yet what a recording speaks: a model of one language would write nonsense
            fitting = [card for card in fitting if ANY_LANGUAGE in card.languages] or fitting
        family = max(fitting, key=lambda card: card.quality).family  # a step's candidates live in one deployment
        return sorted((c for c in fitting if c.family == family), key=lambda c: (-c.quality, c.memory_bytes, c.id))

    def _close(self, ranked: list[ModelCard]) -> list[ModelCard]:
        best = ranked[0].quality
        return [card for card in ranked if best - card.quality <= self._settings.margin][: self._settings.max_candidates]

    async def _asked(self, steps: list[Step], close: Mapping[str, list[ModelCard]], request: Request) -> dict[str, str]:
        """The LLM's picks by step id, decoded from a closed enum; none when it fails, so that the ranking decides."""
        lines = [f"{step.id} {step.task}:" + "".join(f"\n- {c.id}: {c.description}" for c in close[step.id]) for step in steps]
        messages: list[Message] = [
            {"role": "system", "content": "Choose the model that serves each step of the request best. Reply with JSON."},
            {"role": "user", "content": "\n".join([*lines, f"Request: {request.text[:500]}"])},
        ]
        schema = {
            "type": "object",
            "properties": {step.id: {"enum": [card.id for card in close[step.id]]} for step in steps},
            "required": [step.id for step in steps],
            "additionalProperties": False,
        }
        try:
            reply = await self._chat.reply(messages, max_tokens=60 * len(steps), timeout_s=self._timeout_s, schema=schema)
            count_tokens(reply.tokens_in, reply.tokens_out)
            return {str(step_id): str(model) for step_id, model in json.loads(reply.text).items()}
        except (LanguageModelError, json.JSONDecodeError, AttributeError):
            return {}


def languages_of(plan: Plan, request: Request) -> dict[str, str | None]:
    """For each step the language its model must speak; None where only the running step can tell."""
    spoken: dict[str, str | None] = {}  # language of each step's text output
    needed: dict[str, str | None] = {}
    for step in plan.steps:
        read = next((_language_of(source, request, spoken) for source in step.inputs), None)
        given = step.options.get(Option.LANGUAGE)
        language = given if isinstance(given, str) else None
        needed[step.id] = language or read
        spoken[step.id] = language or (read if step.task in KEEPS_LANGUAGE else None)
    return needed


def _language_of(source: str | InputFile | OutputOf, request: Request, spoken: Mapping[str, str | None]) -> str | None:
    match source:
        case str():
            return detect_language(source)
        case InputFile(id=file_id):
            file = request.file(file_id)
            return file.language if file.artifact.media == Media.TEXT else None
        case OutputOf(step=step_id):
            return spoken[step_id]


def _choice(ranked: list[ModelCard], close: list[ModelCard], pick: str | None) -> Choice:
    models = [card.id for card in ranked]
    if pick in {card.id for card in close}:
        models.sort(key=lambda model: model != pick)
        return Choice(tuple(models), f"the language model chose among {len(close)}")
    if len(ranked) == 1:
        return Choice(tuple(models), "the only fitting model")
    return Choice(tuple(models), f"best of {len(ranked)} by quality")
