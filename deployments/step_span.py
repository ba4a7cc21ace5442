"""The span of one step in its replica: the execution of a tool, by the GenAI semantic conventions. Knows no input and no output."""

from contextlib import AbstractContextManager

from cluster.messages import Done, Failed, TaskRequest, TaskResult
from cluster.tracing import Span, span_around

SET_ASIDE = "set_aside"  # not tried, because it kept failing


def step_span(request: TaskRequest, family: str) -> AbstractContextManager[Span]:
    """A child of the run's span; calls to the language model inside are its children."""
    attributes = {
        "gen_ai.operation.name": "execute_tool",
        "gen_ai.tool.name": request.task.value,
        "gen_ai.tool.call.id": request.step_id,
        "hugginggpt.run.id": request.run_id,
        "hugginggpt.family": family,
    }
    return span_around(f"execute_tool {request.task}", attributes, parent=request.trace)


def note_gave_way(span: Span, model_id: str, kind: str) -> None:
    """A candidate that gave nothing; the next one is tried, if there is one. `kind`: an error code, or SET_ASIDE."""
    span.note("model gave way", {"hugginggpt.model": model_id, "error.type": kind})


def describe_result(span: Span, result: TaskResult) -> None:
    match result:
        case Done(model=model, span=times):
            span.describe(
                {
                    "hugginggpt.model": model,
                    "hugginggpt.node": times.node,
                    "hugginggpt.queue_seconds": max(0.0, times.started_s - times.arrived_s),
                    "hugginggpt.load_seconds": times.load_s,
                }
            )
        case Failed(kind=kind):
            span.fail(kind)
