"""Spans as a backend gets them, what a backend that is gone costs, and nothing at all while tracing is off."""

import asyncio
import logging
import os
import queue
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cluster import tracing
from cluster.errors import HuggingGPTError, PlanError
from cluster.logs import logger
from cluster.settings import AppSettings, Tracing, parse
from cluster.tracing import NOTHING, read_carrier, span, span_around
from tests.cluster.serving import free_port
from tests.otlp import Backend, Mood, Seen, running

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
NOT_SAMPLED = PARENT[:-2] + "00"
SECRET = "what a person wrote"
ROOT = Path(__file__).parents[3]


@pytest.fixture
def backend() -> Iterator[Backend]:
    with running(Backend(0)) as backend:
        yield backend


class Said(logging.Handler):
    """What the project's log says, as it comes."""

    def __init__(self) -> None:
        super().__init__()
        self.records: queue.Queue[logging.LogRecord] = queue.Queue()

    def emit(self, record: logging.LogRecord) -> None:
        self.records.put(record)

    def next(self) -> logging.LogRecord:
        return self.records.get(timeout=20)


@pytest.fixture
def said() -> Iterator[Said]:
    said, level = Said(), logger.level
    logger.addHandler(said)
    logger.setLevel(logging.INFO)
    yield said
    logger.setLevel(level)
    logger.removeHandler(said)


@pytest.fixture
def start() -> Iterator[Callable[..., None]]:
    """Starts tracing, which ends with the test."""

    def started(endpoint: str, **settings: float) -> None:
        tracing.start(Tracing(otlp_endpoint=endpoint, interval_s=0.01, **settings), "tests")

    yield started
    tracing.stop()


Start = Callable[..., None]


def arrived(backend: Backend, count: int) -> dict[str, Seen]:
    return {seen.name: seen for seen in backend.await_spans(lambda spans: len(spans) >= count)}


def test_a_span_is_the_child_of_the_one_around_it_and_says_how_long_it_took(backend: Backend, start: Start) -> None:
    start(backend.url)
    with span_around("outer", {"hugginggpt.run.id": "r1", "left.out": None}), span("inner") as inner:
        inner.describe({"gen_ai.usage.input_tokens": 7})
        inner.note("happened", {"at": "s1"})
    seen = arrived(backend, 2)
    assert seen["outer"].parent_id == "" and seen["outer"].attributes == {"hugginggpt.run.id": "r1"}
    assert (seen["inner"].parent_id, seen["inner"].trace_id) == (seen["outer"].id, seen["outer"].trace_id)
    assert seen["inner"].attributes == {"gen_ai.usage.input_tokens": 7} and seen["inner"].events == [("happened", {"at": "s1"})]
    assert seen["outer"].started_s <= seen["inner"].started_s <= seen["inner"].ended_s <= seen["outer"].ended_s
    assert seen["inner"].resource["service.name"] == "hugginggpt-tests"


def test_spans_in_the_backend_have_the_path_of_otlp_also_where_the_address_ends_with_it(backend: Backend, start: Start) -> None:
    start(f"{backend.url}/v1/traces")
    with span("one"):
        pass
    assert arrived(backend, 1)


async def test_tasks_that_begin_inside_a_span_make_its_children_and_those_beside_it_do_not(backend: Backend, start: Start) -> None:
    start(backend.url)

    async def work(name: str) -> None:
        await asyncio.sleep(0)
        with span_around(name), span(f"in {name}"):
            await asyncio.sleep(0.01)

    with span_around("run"):
        await asyncio.gather(work("a"), work("b"))
    await work("c")
    seen = arrived(backend, 7)
    assert seen["a"].parent_id == seen["b"].parent_id == seen["run"].id
    assert (seen["in a"].parent_id, seen["in b"].parent_id) == (seen["a"].id, seen["b"].id)
    assert seen["c"].parent_id == "" and seen["c"].trace_id != seen["run"].trace_id


def test_a_carrier_goes_on_with_a_trace_of_another_process(backend: Backend, start: Start) -> None:
    start(backend.url)
    headers = {"traceparent": PARENT, "tracestate": "vendor=1", "authorization": SECRET}
    with span("here", parent=read_carrier(headers)) as here:
        carrier = here.carrier
    seen = arrived(backend, 1)["here"]
    assert (seen.trace_id, seen.parent_id) == (PARENT.split("-")[1], PARENT.split("-")[2])
    assert carrier == {"traceparent": f"00-{seen.trace_id}-{seen.id}-01", "tracestate": "vendor=1"}


@pytest.mark.parametrize("traceparent", ["", "rubbish", "00-0-0-01", "ff" + PARENT[2:]])
def test_a_carrier_that_cannot_be_read_begins_a_trace(backend: Backend, start: Start, traceparent: str) -> None:
    start(backend.url)
    with span("outer"), span("here", parent={"traceparent": traceparent}):
        pass
    seen = arrived(backend, 2)["here"]
    assert seen.parent_id == "" and seen.trace_id != PARENT.split("-")[1]


def test_who_asks_decides_whether_a_run_is_sampled_and_the_ratio_about_the_others(backend: Backend, start: Start) -> None:
    start(backend.url, sampling_ratio=0)
    with span("mine"):
        pass
    with span("theirs", parent={"traceparent": PARENT}):
        pass
    with span("not theirs", parent={"traceparent": NOT_SAMPLED}) as unsampled:
        assert unsampled.carrier["traceparent"].endswith("-00")
    tracing.stop()
    assert [seen.name for seen in backend.spans] == ["theirs"]


def test_what_is_thrown_is_the_error_by_its_code_and_its_words_stay_here(backend: Backend, start: Start) -> None:
    start(backend.url)
    for thrown in (PlanError(SECRET), ValueError(SECRET)):
        with pytest.raises(type(thrown)), span(type(thrown).__name__):
            raise thrown
    seen = arrived(backend, 2)
    assert all(one.is_error and one.says == "" and one.events == [] for one in seen.values())
    assert [seen[name].attributes["error.type"] for name in ("PlanError", "ValueError")] == ["no_plan", "ValueError"]
    assert not any(SECRET.encode() in body for body in backend.bodies)


async def test_what_is_cancelled_is_marked_and_is_no_error(backend: Backend, start: Start) -> None:
    start(backend.url)

    async def work() -> None:
        with span_around("cut short"):
            await asyncio.sleep(60)

    task = asyncio.create_task(work())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    seen = arrived(backend, 1)["cut short"]
    assert seen.attributes["hugginggpt.outcome"] == "cancelled" and not seen.is_error


def test_the_key_of_a_backend_comes_from_the_environment(backend: Backend, start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "api-key=a key,x-scope=tests")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip")
    start(backend.url)
    with span("one"):
        pass
    assert arrived(backend, 1)
    assert (backend.headers[0]["api-key"], backend.headers[0]["x-scope"]) == ("a key", "tests")
    assert backend.headers[0]["content-encoding"] == "gzip"


def test_a_backend_that_is_gone_is_one_line_and_one_more_when_it_is_back(start: Start, said: Said) -> None:
    backend = Backend(free_port())
    start(backend.url, timeout_s=0.2)
    with span("lost"):
        pass
    first = said.next()
    assert first.levelname == "WARNING" and backend.url in first.getMessage()
    assert "\n" not in first.getMessage() + vars(first)["reason"]
    with running(backend):
        with span("found"):
            pass
        assert said.next().levelname == "INFO"
    assert [seen.name for seen in backend.spans][-1] == "found"


@pytest.mark.parametrize("mood", [Mood.REFUSES, Mood.HANGS])
def test_a_backend_that_refuses_or_hangs_is_one_line_for_all_batches(backend: Backend, start: Start, said: Said, mood: Mood) -> None:
    backend.mood = mood
    start(backend.url, timeout_s=0.2)
    for batch in range(1, 4):
        with span("lost"):
            pass
        backend.await_requests(batch)
    backend.mood = Mood.TAKES
    with span("found"):
        pass
    assert [said.next().levelname, said.next().levelname] == ["WARNING", "INFO"]


def test_more_spans_than_the_queue_holds_are_lost_and_nothing_waits(backend: Backend, start: Start, said: Said) -> None:
    backend.mood = Mood.HANGS
    start(backend.url, max_queued_spans=4)
    with span("first"):
        pass
    backend.await_requests(1)  # from now on the thread that sends is stuck
    for _ in range(20):
        with span("more"):
            pass
    assert "ueue full" in vars(said.next())["reason"]
    assert said.records.empty()


@pytest.mark.parametrize("mood", [Mood.REFUSES, Mood.HANGS, None])
def test_a_process_whose_backend_is_gone_ends_by_itself_and_says_one_line(backend: Backend, mood: Mood | None) -> None:
    backend.mood = mood or Mood.TAKES
    url = backend.url if mood else f"http://127.0.0.1:{free_port()}"
    program = f"""
from cluster import tracing
from cluster.logs import log_to_stderr
from cluster.settings import Tracing
log_to_stderr()
tracing.start(Tracing(otlp_endpoint="{url}", interval_s=60, max_queued_spans=8), "tests")
for _ in range(40):
    with tracing.span_around("one"):
        pass
"""
    ended = run(program)
    assert ended.returncode == 0 and ended.stdout == ""
    assert len(ended.stderr.splitlines()) == 1 and "traces are lost on their way" in ended.stderr


def test_what_waits_is_sent_when_the_process_ends(backend: Backend) -> None:
    program = f"""
from cluster import tracing
from cluster.settings import Tracing
tracing.start(Tracing(otlp_endpoint="{backend.url}", interval_s=60), "tests")
with tracing.span("last"):
    pass
"""
    assert run(program).returncode == 0
    assert [seen.name for seen in backend.spans] == ["last"]


def test_off_is_the_default_and_makes_no_span_asks_nobody_and_imports_nothing(backend: Backend) -> None:
    """Also where the environment names a backend for others."""
    program = """
import sys
from cluster import tracing
from cluster.settings import AppSettings
tracing.start(AppSettings().tracing, "tests")
with tracing.span_around("one", parent={"traceparent": "PARENT"}) as one, tracing.span("two") as two:
    assert one is two is tracing.NOTHING and one.carrier == {}
print([name for name in sys.modules if name.startswith("opentelemetry")])
""".replace("PARENT", PARENT)
    ended = run(program, OTEL_EXPORTER_OTLP_ENDPOINT=backend.url)
    assert (ended.stdout, ended.stderr) == ("[]\n", "")
    assert backend.requests == 0


def test_nothing_is_what_a_span_is_while_tracing_is_off() -> None:
    with span("one") as one:
        assert one is NOTHING
        one.describe({"a": 1})
        one.note("b", {})
        one.fail("c")


@pytest.mark.parametrize(
    ("endpoint", "sentence"),
    [
        ("collector:4318", "tracing.otlp_endpoint: the address of a backend reads http://host:4318"),
        ("ftp://collector", "tracing.otlp_endpoint: the address of a backend reads http://host:4318"),
        ("http://", "tracing.otlp_endpoint: the address of a backend reads http://host:4318"),
        ("https://user:key@collector", "secrets go into OTEL_EXPORTER_OTLP_HEADERS"),
        ("https://collector?key=1", "secrets go into OTEL_EXPORTER_OTLP_HEADERS"),
    ],
)
def test_an_address_that_is_none_stops_the_start_with_a_sentence(endpoint: str, sentence: str) -> None:
    with pytest.raises(HuggingGPTError, match=sentence):
        parse(AppSettings, {"tracing": {"otlp_endpoint": endpoint}})


def run(program: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-c", program]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **environment}
    return subprocess.run(command, check=False, capture_output=True, text=True, timeout=30, env=environment)
