"""Which model runs a step: candidates that speak its language, ranked by what they are worth now; the LLM decides among close ones."""

import asyncio
import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from math import inf
from types import MappingProxyType

from cluster.catalogue import ModelCard
from cluster.chat import ChatModel, Message
from cluster.errors import BadRequest, HuggingGPTError, LanguageModelError, ModelUnavailable, NotFound, PlanError
from cluster.language import detect_language
from cluster.settings import LanguageModelClient, Selecting
from cluster.state import ClusterState, ModelView
from cluster.tasks import TASKS, Media, Option, Task
from controller.asking.request import Request
from controller.choosing.candidates import Candidate, Candidates
from controller.choosing.scoring import RELAXED_S, Score, score
from controller.planning.plan import InputFile, OutputOf, Plan, Step

KEEPS_LANGUAGE = frozenset({Task.SUMMARIZATION, Task.QUESTION_ANSWERING})  # their output is in their input's language
ASKING_SHARE = 0.25  # of the time left, for the LLM to pick a model; then the ranking decides
PICTURED = frozenset({Media.IMAGE, Media.VIDEO})  # what speaks no language


@dataclass(frozen=True, slots=True)
class Choice:
    """Candidates for a step, best first: the rest are fallbacks. `reason` goes into the run's record.

    `cards` holds those that the replicas cannot read from their own files.
    """

    models: tuple[str, ...]
    reason: str
    family: str = ""
    cards: Mapping[str, ModelCard] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Ranked:
    candidate: Candidate
    score: Score
    is_set_aside: bool  # it kept failing on every replica that tried it


class Selector:
    def __init__(self, candidates: Candidates, chat: ChatModel, settings: Selecting, llm: LanguageModelClient) -> None:
        self._candidates = candidates
        self._chat = chat
        self._settings = settings
        self._timeout_s = llm.timeout_s

    async def choose(
        self,
        plan: Plan,
        request: Request,
        cluster: ClusterState,
        wanted: Mapping[str, Sequence[str]] = MappingProxyType({}),
        made: Mapping[str, Choice] = MappingProxyType({}),
        *,
        left_s: float = inf,
    ) -> dict[str, Choice]:
        """By step id; `wanted` are the models, best first, that a plan itself names for a step, `made` are choices that stand.

        `left_s`: until the steps must have ended; where that is soon, the LLM is not asked.

        Raises PlanError when no model fits a step, BadRequest when a named model cannot do it.
        """
        as_wanted = {step.id: await self._as_wanted(step, wanted[step.id]) for step in plan.steps if step.id in wanted}
        steps = [step for step in plan.steps if step.id not in as_wanted and step.id not in made]
        named = await self._named(steps, request)
        ranked = await self._rankings(plan, steps, named, request, cluster, left_s=left_s)
        close = {step.id: self._close(ranked[step.id], left_s) for step in steps}
        open_steps = [step for step in steps if len(close[step.id]) > 1]
        picks = await self._asked(open_steps, close, request, ASKING_SHARE * left_s) if open_steps else {}
        return {**made, **as_wanted, **await self._choices(steps, ranked, picks, named)}

    async def choose_at_once(
        self, plan: Plan, request: Request, cluster: ClusterState, steps: Collection[str], *, left_s: float = inf
    ) -> dict[str, Choice]:
        """What `choose` will choose for these steps of a plan's beginning, where it can be told without the whole plan and the LLM.

        Raises PlanError when no model fits a step, BadRequest when a named model cannot do it.
        """
        if request.named:  # which step is theirs only the whole plan can tell
            return {}
        new = [step for step in plan.steps if step.id in steps]
        named = await self._named(new, request)
        ranked = await self._rankings(plan, new, named, request, cluster, left_s=left_s)
        return await self._choices([step for step in new if len(self._close(ranked[step.id], left_s)) <= 1], ranked, {}, named)

    async def _rankings(
        self, plan: Plan, steps: Sequence[Step], named: Mapping[str, Candidate], request: Request, cluster: ClusterState, *, left_s: float
    ) -> dict[str, list[Ranked]]:
        """By step id; a named candidate is the only one of its step."""
        found = await self._candidates.for_tasks(dict.fromkeys(step.task for step in steps if step.id not in named))
        spoken = languages_of(plan, request)
        fitting = {step.id: [named[step.id]] if step.id in named else _fitting(step, found[step.task], spoken[step.id]) for step in steps}
        ranked: dict[tuple[str, ...], list[Ranked]] = {}  # by candidates, which steps of one task mostly share
        for step in steps:
            if (ids := _ids(fitting[step.id])) not in ranked:
                ranked[ids] = self._ranked(fitting[step.id], cluster, left_s)
        return {step.id: ranked[_ids(fitting[step.id])] for step in steps}

    async def _choices(
        self, steps: Sequence[Step], ranked: Mapping[str, list[Ranked]], picks: Mapping[str, str], named: Mapping[str, Candidate]
    ) -> dict[str, Choice]:
        """One for each that differs: steps of one task with the same candidates get the same."""
        alike = {
            step.id: (step.task, _ids(one.candidate for one in ranked[step.id]), picks.get(step.id), step.id in named) for step in steps
        }
        first = {alike[step.id]: step for step in reversed(steps)}
        made = await asyncio.gather(*(self._choice(step, ranked[step.id], picks.get(step.id), step.id in named) for step in first.values()))
        choices = dict(zip(first, made, strict=True))
        return {step.id: choices[alike[step.id]] for step in steps}

    async def _as_wanted(self, step: Step, models: Sequence[str]) -> Choice:
        """The first must do the step; of the others, fallbacks, only those stay that can, since a plan may have been edited since."""
        first, *others = dict.fromkeys(models)
        try:
            candidate = await self._candidates.named(first, step.task)
        except (BadRequest, NotFound) as exc:
            raise BadRequest(f"{step.id}: {exc.message}") from exc
        if step.task not in candidate.tasks:
            raise BadRequest(f"{step.id}: the model {first} does not do {step.task}; a step without `model` gets one that does")
        cards = {first: await self._candidates.pinned(candidate, step.task)}
        for other in others:
            with suppress(HuggingGPTError):
                fallback = await self._candidates.named(other, step.task)
                if step.task in fallback.tasks and fallback.family == candidate.family:
                    cards[other] = await self._candidates.pinned(fallback, step.task)
        hub_cards = {model: card for model, card in cards.items() if not self._candidates.is_own(model)}
        return Choice(tuple(cards), "named in the plan", candidate.family, hub_cards)

    async def _named(self, open_steps: Sequence[Step], request: Request) -> dict[str, Candidate]:
        """The candidate of each step whose model the person, or else the configuration, has named."""
        wanted = {**self._settings.models, **(request.models or {})}
        chosen = {step.id: await self._candidates.named(wanted[step.task], step.task) for step in open_steps if step.task in wanted}
        for step in open_steps:
            if step.id in chosen and step.task not in chosen[step.id].tasks:
                raise BadRequest(f"the model {chosen[step.id].id} does not do {step.task}")
        for model_id in request.named:
            candidate = await self._candidates.named(model_id)
            steps = [step.id for step in open_steps if step.task in candidate.tasks]
            if open_steps and not steps:
                raise BadRequest(f"the model {model_id} does {', '.join(candidate.tasks)}, and the plan for this request has no such step")
            chosen.update(dict.fromkeys(steps, candidate))
        return chosen

    def _ranked(self, fitting: Sequence[Candidate], cluster: ClusterState, left_s: float) -> list[Ranked]:
        """Best first, all in the family of the best: a step's candidates live in one deployment. Models set aside come last."""
        every = [self._weighed(each, cluster.view(each.id), left_s) for each in fitting]
        every.sort(key=lambda one: (one.is_set_aside, -one.score.total, one.candidate.size_bytes, one.candidate.id))
        return [one for one in every if one.candidate.family == every[0].candidate.family]

    def _weighed(self, candidate: Candidate, view: ModelView, left_s: float) -> Ranked:
        weight, fetch = self._settings.delay_weight, candidate.must_be_fetched
        return Ranked(candidate, score(candidate.quality, candidate.size_bytes, view, weight, fetch, left_s=left_s), view.is_set_aside)

    def _close(self, ranked: Sequence[Ranked], left_s: float) -> list[Ranked]:
        """Those that the LLM may choose among; it is not asked where little time is left."""
        if left_s < RELAXED_S:
            return []
        best = ranked[0].score.total
        close = [one for one in ranked if not one.is_set_aside and best - one.score.total <= self._settings.margin]
        return close[: self._settings.max_candidates]

    async def _asked(self, steps: list[Step], close: Mapping[str, list[Ranked]], request: Request, within_s: float) -> dict[str, str]:
        """The LLM's picks by step id, decoded from a closed enum in one call; none when it fails, so that the ranking decides."""
        choices = {step.id: {one.candidate.id: one.candidate.description for one in close[step.id]} for step in steps}
        lines = [f"{step.id} {step.task}:" + "".join(f"\n- {m}: {text}" for m, text in choices[step.id].items()) for step in steps]
        messages: list[Message] = [
            {"role": "system", "content": "Choose the model that serves each step of the request best. Reply with JSON."},
            {"role": "user", "content": "\n".join([*lines, f"Request: {request.text[:500]}"])},
        ]
        schema = {
            "type": "object",
            "properties": {step_id: {"enum": list(models)} for step_id, models in choices.items()},
            "required": list(choices),
            "additionalProperties": False,
        }
        try:
            timeout_s = min(self._timeout_s, within_s)
            reply = await self._chat.reply(messages, max_tokens=60 * len(steps), timeout_s=timeout_s, schema=schema)
            picked = json.loads(reply.text).items()
            return {step_id: model for step_id, model in picked if isinstance(model, str) and model in choices.get(step_id, ())}
        except (LanguageModelError, json.JSONDecodeError, AttributeError):
            return {}

    async def _choice(self, step: Step, ranked: list[Ranked], pick: str | None, is_named: bool) -> Choice:
        """The best that can be had, with up to `max_fallbacks` behind it; what cannot be had is left out, with the reason."""
        order = sorted(ranked, key=lambda one: one.candidate.id != pick)
        cards: dict[str, ModelCard] = {}
        refused: list[str] = []
        for one in order:
            if len(cards) > self._settings.max_fallbacks:
                break
            try:
                cards[one.candidate.id] = await self._candidates.pinned(one.candidate, step.task)
            except HuggingGPTError as exc:
                refused.append(exc.message)
        if not cards:
            raise ModelUnavailable(f"no model for {step.task} can be had: {'; '.join(refused[:3])}")
        first = next(one for one in order if one.candidate.id in cards)
        reason = "; ".join([_reason(first, len(ranked), pick, is_named), *refused])
        hub_cards = {model: card for model, card in cards.items() if not self._candidates.is_own(model)}
        return Choice(tuple(cards), reason, first.candidate.family, hub_cards)


@dataclass(frozen=True, slots=True)
class Languages:
    """ISO 639-1: of what a step reads, and the one its model must speak. None where only the running step can tell."""

    read: str | None
    needed: str | None


def languages_of(plan: Plan, request: Request) -> dict[str, Languages]:
    """By step id."""
    spoken: dict[str, str | None] = {}  # language of each step's text output
    languages: dict[str, Languages] = {}
    for step in plan.steps:
        read = next((_language_of(source, request, spoken) for source in step.inputs), None)
        given = step.options.get(Option.LANGUAGE)
        language = given if isinstance(given, str) else None
        languages[step.id] = Languages(read, language or read)
        spoken[step.id] = language or (read if step.task in KEEPS_LANGUAGE else None)
    return languages


def _language_of(source: str | InputFile | OutputOf, request: Request, spoken: Mapping[str, str | None]) -> str | None:
    match source:
        case str():
            return detect_language(source)
        case InputFile(id=file_id):
            file = request.file(file_id)
            return file.language if file.artifact.media == Media.TEXT else None
        case OutputOf(step=step_id):
            return spoken[step_id]


def _fitting(step: Step, candidates: Sequence[Candidate], language: Languages) -> list[Candidate]:
    """Raises PlanError when no candidate speaks the step's language."""
    if step.task is Task.TRANSLATION:
        fitting = [each for each in candidates if each.translates(language.read, language.needed)]
    else:
        fitting = [each for each in candidates if each.speaks(language.needed)]
    if step.task is Task.IMAGE_TO_TEXT:
        wants_text = step.options.get(Option.WANTED, "text" if isinstance(step.inputs[0], InputFile) else "scene") == "text"
        fitting = [each for each in fitting if each.reads_pictures is wants_text] or fitting
    if not fitting:
        raise PlanError(f"no deployed model does {step.task} in the language {language.needed!r}")
    if language.needed is None and not PICTURED & set(TASKS[step.task].inputs):
        # nobody knows yet what a recording speaks: a model of one language would write nonsense
        return [each for each in fitting if each.is_multilingual] or fitting
    return fitting


def _ids(candidates: Iterable[Candidate]) -> tuple[str, ...]:
    return tuple(each.id for each in candidates)


def _reason(first: Ranked, among: int, pick: str | None, is_named: bool) -> str:
    if is_named:
        return "named in the request or the configuration"
    if first.candidate.id == pick:
        return f"the language model chose it among the best of {among}; {first.score}"
    return f"the only fitting model; {first.score}" if among == 1 else f"the best of {among}; {first.score}"
