"""Which spans a run has here: one of the whole, one of each stage but the steps' own, whose spans are their replicas'.

Steps start while the plan is still being written, so that they are no stage's children but the run's.
"""

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from cluster.messages import Done, Failed, Skipped, TaskResult
from cluster.metrics import Stage
from cluster.tracing import OUTCOME, Attributes, Kind, Span, span_around
from controller.asking.request import Request
from controller.execution.events import StepEnded

NAME = "hugginggpt"  # of the workflow, and of the agent that plans
# Version 0.1.0 of the conventions has the name in gen_ai.agent.name; what knows the version before it looks for gen_ai.workflow.name.
_WORKFLOW: Attributes = {"gen_ai.operation.name": "invoke_workflow", "gen_ai.agent.name": NAME, "gen_ai.workflow.name": NAME}
_PLAN: Attributes = {"gen_ai.operation.name": "plan", "gen_ai.provider.name": "openai", "gen_ai.agent.name": NAME}
DONE: Attributes = {OUTCOME: "done"}
_STAGES: Mapping[Stage, tuple[str, Attributes]] = {
    Stage.PLAN: (f"plan {NAME}", _PLAN),
    Stage.SELECT: ("choose", {}),
    Stage.ANSWER: ("answer", {}),
}
_UNTRACED: AbstractContextManager[None] = nullcontext()


def run_span(request: Request) -> AbstractContextManager[Span]:
    """Of a whole run, in the trace that the request came with."""
    attributes = {**_WORKFLOW, **_ids(request)}
    return span_around(f"invoke_workflow {NAME}", attributes, kind=Kind.SERVER, parent=request.terms.trace)


def planning_span(request: Request) -> AbstractContextManager[Span]:
    """Of planning alone, whose plan somebody else may run."""
    return span_around("plan only", _ids(request), kind=Kind.SERVER, parent=request.terms.trace)


def stage_span(stage: Stage) -> AbstractContextManager[Any]:
    return span_around(*_STAGES[stage]) if stage in _STAGES else _UNTRACED


def describe_run(span: Span, results: Mapping[str, TaskResult], tokens_in: int, tokens_out: int) -> None:
    """At its end, whichever it is."""
    count = dict.fromkeys((Done, Failed, Skipped), 0)
    for result in results.values():
        count[type(result)] += 1
    span.describe(
        {
            "gen_ai.usage.input_tokens": tokens_in or None,
            "gen_ai.usage.output_tokens": tokens_out or None,
            "hugginggpt.steps.done": count[Done],
            "hugginggpt.steps.failed": count[Failed],
            "hugginggpt.steps.skipped": count[Skipped],
        }
    )


def note_step(span: Span, ended: StepEnded) -> None:
    """What no replica's span of this trace tells: a result that another run made, a step that gave nothing."""
    result = ended.result
    step: Attributes = {"gen_ai.tool.name": result.task, "gen_ai.tool.call.id": result.step_id}
    match result:
        case Done() if ended.reused:
            span.note("step reused", {**step, "hugginggpt.model": result.model})
        case Failed(kind=kind):
            span.note("step failed", {**step, "error.type": kind})
        case Skipped(because=because):
            span.note("step skipped", {**step, "hugginggpt.because": because})


def _ids(request: Request) -> Attributes:
    """Of the run and, as its log lines have it, of the request."""
    return {"hugginggpt.run.id": request.id, "hugginggpt.request.id": request.terms.request_id or None}
