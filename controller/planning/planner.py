"""Planner: prompt → draft → Plan, with one repair. Knows the task table and the LLM, no models and no Ray."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from cluster.chat import ChatModel, Message, Reply, ReplyTiming
from cluster.errors import LanguageModelError, LanguageModelTimeout, PlanError
from cluster.settings import Planning
from cluster.tasks import TASKS, Option, Task, TaskSpec
from controller.asking.request import Request
from controller.planning.plan import Plan
from controller.planning.plan_choice import most_agreed
from controller.planning.plan_gaps import with_forgotten
from controller.planning.plan_language import UnservedTask, read_plan
from controller.planning.plan_schema import plan_schema
from controller.planning.plan_stream import PlanStream

PROMPT = Path(__file__).parents[1] / "prompts" / "planner.yaml"

_OPTION_FORMS = {
    Option.LANGUAGE: "LANG",
    Option.QUESTION: '"question"',
    Option.LABELS: '["label", "label"]',
    Option.PROMPT: '"what to write"',
    Option.WANTED: '"text" or "scene"',
}

Tell = Callable[[Plan | None], None]


@dataclass(frozen=True, slots=True)
class Planned:
    """A plan and what it cost."""

    plan: Plan
    tokens_in: int
    tokens_out: int
    was_repaired: bool
    timing: ReplyTiming = ReplyTiming()


class Planner:
    """Plans over `tasks`, those that some deployed model can do; `narrower` says of some that less is deployed than the table says."""

    def __init__(self, chat: ChatModel, tasks: Sequence[Task], settings: Planning, narrower: Mapping[Task, str] | None = None) -> None:
        self._chat = chat
        self._narrower = narrower or {}
        self._tasks = tuple(task for task in Task if task in tasks)
        self._settings = settings

    @property
    def streams(self) -> bool:
        """Whether steps are told while they are written."""
        return self._settings.streams and self._settings.samples == 1

    async def plan(self, request: Request, tell: Tell | None = None) -> Planned:
        """`tell` gets the plan so far each time that a step of it is written, and None when what was told no longer holds.

        Raises PlanError when the reply is still invalid after one repair, LanguageModelError when none came.
        """
        messages: list[Message] = [*self.constant_messages, {"role": "user", "content": request.for_planner()}]
        schema = plan_schema(self._tasks, request, self._settings.max_steps)
        drafts = await self._drafts(messages, schema, request, tell)
        tokens_in, tokens_out = drafts[0].tokens_in, drafts[0].tokens_out
        try:
            return Planned(self._agreed(drafts, request), tokens_in, tokens_out, was_repaired=False, timing=drafts[0].timing)
        except UnservedTask:
            raise
        except PlanError as exc:
            if tell:
                tell(None)
            messages += [
                {"role": "assistant", "content": drafts[0].text},
                {"role": "user", "content": f"That plan is wrong: {exc.message}. Reply with the corrected plan only."},
            ]
        second = await self._draft(messages, schema)
        try:
            plan = self._read(second, request, is_last=True)
            tokens_in, tokens_out = tokens_in + second.tokens_in, tokens_out + second.tokens_out
            return Planned(plan, tokens_in, tokens_out, was_repaired=True, timing=drafts[0].timing + second.timing)
        except UnservedTask:
            raise
        except PlanError as exc:
            raise PlanError(f"no valid plan was found for this request: {exc.message}") from exc

    async def prime(self) -> None:
        """Has the engine read the constant part of the prompt before the first request comes. Raises LanguageModelError."""
        messages: list[Message] = [*self.constant_messages, {"role": "user", "content": "Hello"}]
        await self._chat.prime(messages, timeout_s=self._settings.timeout_s)

    @cached_property
    def constant_messages(self) -> tuple[Message, ...]:
        """Instructions, task table and demonstrations; a demonstration whose tasks are not deployed is left out."""
        prompt = yaml.safe_load(PROMPT.read_text(encoding="utf-8"))
        table = "\n".join(_row(TASKS[task], self._narrower.get(task)) for task in self._tasks)
        messages: list[Message] = [{"role": "system", "content": prompt["system"].format(tasks=table).strip()}]
        for demonstration in prompt["demonstrations"] if self._settings.demonstrations else ():
            if self._is_deployed(json.loads(demonstration["plan"])):
                messages += [
                    {"role": "user", "content": demonstration["request"]},
                    {"role": "assistant", "content": demonstration["plan"]},
                ]
        return tuple(messages)

    async def _draft(self, messages: Sequence[Message], schema: dict[str, Any]) -> Reply:
        settings = self._settings
        return await self._chat.reply(messages, max_tokens=settings.max_tokens, timeout_s=settings.timeout_s, schema=schema)

    async def _streamed(self, messages: Sequence[Message], schema: dict[str, Any], request: Request, tell: Tell) -> Reply:
        """A stream that breaks off is asked for again as a whole: of a reply that is not streamed the client repeats what failed."""
        stream = PlanStream(self._tasks, request, self._settings.max_steps)

        def read(piece: str) -> None:
            if plan := stream.feed(piece):
                tell(plan)

        settings = self._settings
        try:
            return await self._chat.written(messages, read, max_tokens=settings.max_tokens, timeout_s=settings.timeout_s, schema=schema)
        except LanguageModelTimeout:
            raise
        except LanguageModelError:
            tell(None)
            return await self._draft(messages, schema)

    async def _drafts(self, messages: Sequence[Message], schema: dict[str, Any], request: Request, tell: Tell | None) -> Sequence[Reply]:
        settings = self._settings
        if settings.samples == 1:
            return [await self._draft(messages, schema) if tell is None else await self._streamed(messages, schema, request, tell)]
        limits: dict[str, Any] = {"max_tokens": settings.max_tokens, "timeout_s": settings.timeout_s}
        return await self._chat.samples(messages, count=settings.samples, temperature=settings.temperature, schema=schema, **limits)

    def _agreed(self, drafts: Sequence[Reply], request: Request) -> Plan:
        """The plan that the readable drafts agree on. Raises what is wrong with the first when none can be read."""
        plans, faults = [], []
        for draft in drafts:
            try:
                plans.append(self._read(draft, request))
            except PlanError as exc:
                faults.append(exc)
        if len(plans) <= len(faults) and (unserved := [fault for fault in faults if isinstance(fault, UnservedTask)]):
            raise unserved[0]
        if not plans:
            raise faults[0]
        return most_agreed(plans)

    def _read(self, reply: Reply, request: Request, *, is_last: bool = False) -> Plan:
        if reply.is_cut:
            raise PlanError(f"the plan is longer than {self._settings.max_tokens} tokens")
        if not reply.text.strip():
            raise LanguageModelError("the language model replied with nothing")
        plan = self._completed(read_plan(reply.text, self._tasks, request, is_last=is_last), request)
        if len(plan.steps) > self._settings.max_steps:
            raise PlanError(f"the plan has {len(plan.steps)} steps; at most {self._settings.max_steps} are allowed")
        return plan

    def _completed(self, plan: Plan, request: Request) -> Plan:
        whole = with_forgotten(plan, request, self._tasks)
        return whole if len(whole.steps) <= self._settings.max_steps else plan

    def _is_deployed(self, plan: dict[str, Any]) -> bool:
        """Whether a demonstration speaks of this cluster: it uses only what is here, or declines what is not."""
        if task := plan.get("task"):
            return task not in self._tasks
        return all(form[0] in self._tasks for form in plan.values() if isinstance(form, list))


def _row(spec: TaskSpec, narrower: str | None) -> str:
    """`["translation", TEXT, LANG] translate a text -> TEXT`"""
    inputs = [media.value.upper() for media in spec.inputs]
    if spec.takes_many:
        inputs[-1] += " or [...]"
    required = [_OPTION_FORMS[option] for option in spec.required]
    optional = [f"{_OPTION_FORMS[option]}?" for option in spec.optional if not (narrower and option is Option.WANTED)]
    arguments = ", ".join([f'"{spec.task}"', *inputs, *required, *optional])
    return f"[{arguments}] {narrower or spec.does} -> {spec.output.upper()}"
