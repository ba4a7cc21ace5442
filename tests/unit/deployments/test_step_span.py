"""The span of a step in its replica: under its run's, with the models that gave way, and an error when there is no result."""

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from cluster import tracing
from cluster.messages import Failed
from cluster.settings import AppSettings, FamilySettings, Tracing
from cluster.tasks import Task
from deployments.replica import FamilyReplica
from tests.otlp import Backend, Seen, running
from tests.unit.deployments.test_replica import Shelf, a_request

RUN = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.fixture
def backend() -> Iterator[Backend]:
    with running(Backend(0)) as backend:
        yield backend
        tracing.stop()


@pytest.fixture
def shelf() -> Iterator[Shelf]:
    shelf = Shelf()
    yield shelf
    shelf.hangs.set()


@pytest.fixture
def replica(backend: Backend, shelf: Shelf, tmp_path: Path) -> FamilyReplica:
    """Which starts to trace by itself."""
    traced = Tracing(otlp_endpoint=backend.url, interval_s=0.01)
    family = FamilySettings(memory_bytes=10, failures_in_a_row=1)
    settings = AppSettings(artifacts=f"file://{tmp_path}", models=tmp_path, families={"text": family}, tracing=traced)
    return FamilyReplica("text", settings, source=shelf)


def only(backend: Backend) -> Seen:
    (seen,) = backend.await_spans(bool)
    return seen


async def test_a_step_is_the_execution_of_a_tool_under_its_run(replica: FamilyReplica, backend: Backend) -> None:
    await replica.run(replace(a_request("good"), trace={"traceparent": RUN}))
    seen = only(backend)
    assert (seen.name, seen.kind, seen.is_error) == (f"execute_tool {Task.SUMMARIZATION}", "INTERNAL", False)
    assert (seen.trace_id, seen.parent_id) == tuple(RUN.split("-")[1:3])
    assert seen.resource["service.name"] == "hugginggpt-text"
    attributes = dict(seen.attributes)
    assert attributes.pop("hugginggpt.load_seconds") >= 0 and attributes.pop("hugginggpt.queue_seconds") >= 0
    assert attributes == {
        "gen_ai.operation.name": "execute_tool",
        "gen_ai.tool.name": "summarization",
        "gen_ai.tool.call.id": "s1",
        "hugginggpt.run.id": "r",
        "hugginggpt.family": "text",
        "hugginggpt.model": "org/good",
        "hugginggpt.node": "local",
    }


async def test_a_model_that_gives_way_is_an_event_and_its_words_are_not_in_it(replica: FamilyReplica, backend: Backend) -> None:
    await replica.run(a_request("crashing", "picky", "good"))
    seen = only(backend)
    assert not seen.is_error and seen.attributes["hugginggpt.model"] == "org/good"
    assert seen.events == [
        ("model gave way", {"hugginggpt.model": "org/crashing", "error.type": "model_error"}),
        ("model gave way", {"hugginggpt.model": "org/picky", "error.type": "model_error"}),
    ]
    assert not any(words in body for body in backend.bodies for words in (b"index out of range", b"text is empty"))


async def test_a_model_that_was_set_aside_is_an_event_of_the_steps_after(replica: FamilyReplica, backend: Backend) -> None:
    await replica.run(a_request("crashing", "good"))
    await replica.run(replace(a_request("crashing", "good"), step_id="s2"))
    spans = backend.await_spans(lambda spans: len(spans) == 2)
    second = next(span for span in spans if span.attributes["gen_ai.tool.call.id"] == "s2")
    assert second.events == [("model gave way", {"hugginggpt.model": "org/crashing", "error.type": "set_aside"})]


@pytest.mark.parametrize(("name", "kind"), [("picky", "model_error"), ("hanging-run", "timeout")])
async def test_a_step_without_a_result_is_an_error_by_its_kind(replica: FamilyReplica, backend: Backend, name: str, kind: str) -> None:
    assert isinstance(await replica.run(a_request(name, timeout_s=0.2)), Failed)
    seen = only(backend)
    assert seen.is_error and seen.says == "" and seen.attributes["error.type"] == kind


async def test_a_step_that_is_cancelled_is_marked(replica: FamilyReplica, backend: Backend) -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.1):
            await replica.run(a_request("hanging-run"))
    seen = only(backend)
    assert seen.attributes["hugginggpt.outcome"] == "cancelled" and not seen.is_error


async def test_a_step_that_is_skipped_makes_none(replica: FamilyReplica, backend: Backend) -> None:
    await replica.run(replace(a_request("good"), step_id="skipped"), Failed("s0", Task.SUMMARIZATION, "no"))
    await replica.run(a_request("good"))
    assert only(backend).attributes["gen_ai.tool.call.id"] == "s1"
