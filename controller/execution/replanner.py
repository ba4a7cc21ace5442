"""Replanner: what failed for good is planned again in another way, from what the other steps gave. Knows plans and the LLM, no Ray.

A follow-up request shows the planner the finished steps' outputs as files and says what failed; a task for which no model worked
cannot be planned any more. In the plan that comes back each step that the run had before is dropped: a finished one is what it gave,
a failed one fails again.
"""

import hashlib
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from cluster.chat import ChatModel, Message, ReplyTiming
from cluster.errors import LanguageModelError, LanguageModelTimeout, NotFound, Overloaded, PlanError, RunTimeout
from cluster.messages import OUT_OF_TIME, ArtifactRef, Done, Failed, TaskResult, Value
from cluster.settings import Planning
from cluster.tasks import TASKS, Media, Task
from controller.asking.request import Request, RequestFile
from controller.choosing.selector import Choice
from controller.planning.plan import InputFile, OutputOf, Plan, Step, StepInput, StepOption
from controller.planning.planner import Planner

# Failures that no other plan would be spared.
BEYOND_HELP = frozenset(
    {OUT_OF_TIME, *(error.code for error in (Overloaded, RunTimeout, NotFound, LanguageModelError, LanguageModelTimeout))}
)
REASON_CHARACTERS = 160  # of each failure, in the planner's prompt
NAME_CHARACTERS = 80
NOUNS = {
    Task.AUTOMATIC_SPEECH_RECOGNITION: "transcript",
    Task.SUMMARIZATION: "summary",
    Task.TRANSLATION: "translation",
    Task.QUESTION_ANSWERING: "answer",
    Task.TOKEN_CLASSIFICATION: "named entities",
    Task.TEXT_TO_SPEECH: "recording",
}

# What the planner would take for the beginning of a quoted text.
_QUOTING = re.compile(r"[\"'`“”„«»「」『』\[\]{}\s:：]+")


@dataclass(frozen=True, slots=True)
class Loss:
    """What a run lacks that another plan might give: the failures, the tasks that no model could do, the media that did not come."""

    failed: tuple[Failed, ...]
    tasks: frozenset[Task]
    media: frozenset[Media]


@dataclass(frozen=True, slots=True)
class Addition:
    """More steps for a run. `plan` speaks of the files of `request`, and `steps` says the same of the run's own steps."""

    plan: Plan
    request: Request
    steps: tuple[Step, ...]
    tokens_in: int
    tokens_out: int
    timing: ReplyTiming


def lost(latest: Sequence[Step], plan: Plan, results: Mapping[str, TaskResult]) -> Loss | None:
    """None when each of the `latest` steps was done, or failed in a way that planning again would not mend."""
    every = [result for step in plan.steps if isinstance(result := results[step.id], Failed) and result.kind not in BEYOND_HELP]
    if not {result.step_id for result in every} & {step.id for step in latest}:
        return None
    worked = {result.task for result in results.values() if isinstance(result, Done)}
    missing = {TASKS[step.task].output for step in Plan(tuple(latest)).last_steps if not isinstance(results[step.id], Done)}
    return Loss(tuple(every), frozenset(result.task for result in every) - worked, frozenset(missing))


def can_be_made(media: Collection[Media], tasks: Collection[Task], given: Collection[Media]) -> bool:
    """Whether a chain of these tasks leads from the given media to any of those wanted. A request's own words are text."""
    reached, made = {Media.TEXT, *given}, set[Media]()
    for _ in Media:
        made |= {TASKS[task].output for task in tasks if reached.issuperset(TASKS[task].inputs)}
        reached |= made
    return not made.isdisjoint(media)


class Replanner:
    """Plans over fewer of the `tasks` of `planner`, under its prompt."""

    def __init__(self, chat: ChatModel, tasks: Sequence[Task], settings: Planning, planner: Planner) -> None:
        self._chat = chat
        self._tasks = tasks
        self._settings = settings
        self._planner = planner
        self.max_replans = settings.max_replans

    async def plan(
        self, request: Request, plan: Plan, results: Mapping[str, TaskResult], choices: Mapping[str, Choice], loss: Loss
    ) -> Addition:
        """Raises PlanError when no task is left that could help, or no valid plan with anything new comes of it, and LanguageModelError."""
        made = _made(request, plan, results)
        later = follow_up(request, plan, results, choices, loss)
        if not can_be_made(loss.media, self._tasks_without(loss), later.media.values()):
            raise PlanError(f"no task that works here could give the {' or '.join(sorted(loss.media))} that is missing")
        planned = await _Narrowed(self._planner, self._chat, self._tasks_without(loss), self._settings).plan(later)
        if not (steps := _new_steps(planned.plan, plan, made, {later.text: request.text})):
            raise PlanError("the new plan holds no step that the run has not had")
        said = tuple(_moved(step, {InputFile(file_id): OutputOf(step_id) for step_id, file_id in made.items()}) for step in steps)
        Plan.checked([*plan.steps, *said], request.media)
        return Addition(Plan(steps), later, said, planned.tokens_in, planned.tokens_out, planned.timing)

    def _tasks_without(self, loss: Loss) -> tuple[Task, ...]:
        return tuple(task for task in self._tasks if task not in loss.tasks)


class _Narrowed(Planner):
    """Plans over fewer tasks under the whole planner's prompt: the engine has read that one, and another takes a CPU most of a minute."""

    def __init__(self, whole: Planner, chat: ChatModel, tasks: Sequence[Task], settings: Planning) -> None:
        super().__init__(chat, tasks, settings)
        self._whole = whole

    @cached_property
    def constant_messages(self) -> tuple[Message, ...]:
        return self._whole.constant_messages

    def _completed(self, plan: Plan, request: Request) -> Plan:
        return plan  # the request's words name what succeeded too


def follow_up(request: Request, plan: Plan, results: Mapping[str, TaskResult], choices: Mapping[str, Choice], loss: Loss) -> Request:
    """The request, led by one line on what failed, with the finished steps' outputs as further files that are named for what they are."""
    made = _made(request, plan, results)
    called = _names(request, plan)
    files = [_file(made[step_id], results[step_id], called[step_id]) for step_id in made]
    named = {s.task: choices[s.id].models[0] for s in plan.steps if s.id in choices and choices[s.id].models[0] in request.named}
    return replace(
        request,
        text=f"{_line(list(made.values()), loss, choices)}\n{request.text}",
        files=(*request.files, *files),
        models={**(request.models or {}), **named},
        named=(),
    )


def why(loss: Loss, choices: Mapping[str, Choice]) -> str:
    """One sentence for the record: task, model and reason of each failure."""
    return "; ".join(f"{f.step_id} {f.task} failed: {_with_model(f, choices)}" for f in loss.failed)


def _line(file_ids: Sequence[str], loss: Loss, choices: Mapping[str, Choice]) -> str:
    """Without what would read as a quote: the planner counts the request's quotes."""
    failures = ", and ".join(f"{f.task} failed ({_plain(_with_model(f, choices))})" for f in loss.failed)
    exists = f" What the other steps gave is in {', '.join(file_ids)}." if file_ids else ""
    return f"In a first plan {failures}.{exists} Plan only what is still missing of the request, in another way than the one that failed."


def _with_model(failed: Failed, choices: Mapping[str, Choice]) -> str:
    """A replica's reason begins with the model that was tried last; other reasons name none."""
    model = choices[failed.step_id].models[0] if failed.step_id in choices else ""
    return failed.reason if not model or "/" in failed.reason.partition(" (")[0] else f"{model}: {failed.reason}"


def _plain(text: str) -> str:
    return _QUOTING.sub(" ", text)[:REASON_CHARACTERS].strip()


def _made(request: Request, plan: Plan, results: Mapping[str, TaskResult]) -> dict[str, str]:
    """File ids of the finished steps' outputs, by step id: they go on after those of the request."""
    done = [step.id for step in plan.steps if isinstance(results[step.id], Done)]
    return {step_id: f"f{number}" for number, step_id in enumerate(done, len(request.files) + 1)}


def _file(file_id: str, result: TaskResult, name: str) -> RequestFile:
    """A text's bytes are not stored: the step that is to eat it gets them from the result, as from any step."""
    value: Value = result.value if isinstance(result, Done) else ""
    if isinstance(value, ArtifactRef):
        return RequestFile(file_id, replace(value, name=name))
    content = value.encode("utf-8", "surrogatepass")
    return RequestFile(file_id, ArtifactRef(hashlib.sha256(content).hexdigest(), "text/plain", len(content), name), value)


def _names(request: Request, plan: Plan) -> dict[str, str]:
    """What the planner is told each step's output is: "summary of transcript of talk.wav"."""
    names: dict[str, str] = {}
    for step in plan.steps:
        of = [_name(source, request, names) for source in step.inputs]
        whole = f"{NOUNS.get(step.task, f'result of {step.task}')}{' of ' if of else ''}{' and '.join(of)}"
        names[step.id] = whole if len(whole) <= NAME_CHARACTERS else f"{whole[: NAME_CHARACTERS - 1]}…"
    return names


def _name(source: StepInput, request: Request, names: Mapping[str, str]) -> str:
    match source:
        case str():
            return "the text"
        case InputFile(id=file_id):
            return request.file(file_id).artifact.name
        case OutputOf(step=step_id):
            return names[step_id]


def _new_steps(planned: Plan, plan: Plan, made: Mapping[str, str], texts: Mapping[StepInput, StepInput]) -> tuple[Step, ...]:
    """Of the new plan what the run has not had, in terms of the follow-up's files, with ids that go on.

    `texts`: what is to stand for texts of the follow-up, which the person has not written.
    """
    output: dict[StepInput, StepInput] = {OutputOf(step_id): InputFile(file_id) for step_id, file_id in made.items()}
    before = {_what(_moved(step, output)): step.id for step in plan.steps}
    number = max([int(step.id[1:]) for step in plan.steps if re.fullmatch(r"s\d+", step.id)], default=0)
    stands_for = dict(texts)  # and for each planned step; nothing for one that would fail again
    new: dict[str, Step] = {}
    for step in planned.steps:
        if any(OutputOf(need) not in stands_for for need in step.needs):
            continue
        moved = _moved(step, stands_for)
        had = before.get(_what(moved))
        if had is None:
            number += 1
            had = before[_what(moved)] = f"s{number}"
            new[had] = replace(moved, id=had)
        if had in new or had in made:
            stands_for[OutputOf(step.id)] = OutputOf(had) if had in new else InputFile(made[had])
    return tuple(new.values())


def _what(step: Step) -> tuple[object, ...]:
    """Equal for steps that do the same."""
    return step.task, step.inputs, frozenset(step.options.items())


def _moved(step: Step, to: Mapping[StepInput, StepInput]) -> Step:
    """The step with its references, and its texts, replaced."""

    def other(value: StepOption) -> StepOption:
        return value if isinstance(value, tuple) else to.get(value, value)

    inputs = tuple(to.get(source, source) for source in step.inputs)
    return replace(step, inputs=inputs, options={name: other(value) for name, value in step.options.items()})
