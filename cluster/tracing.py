"""Spans: what a run did, where and for how long, over all its processes. Off unless the settings name a backend.

While they are off nothing of OpenTelemetry's is imported and a span is a constant that does nothing. Names and attributes are those of
the GenAI semantic conventions (open-telemetry/semantic-conventions-genai, v0.1.0); what they have no word for begins with `hugginggpt.`.
Nothing that a person or a model wrote is in any of them: no texts, no names of files, no messages of errors.

A span's parent is the one that the code runs in, or comes as a carrier: the headers of W3C Trace Context, over HTTP and in TaskRequest.
"""

import asyncio
import atexit
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from enum import StrEnum
from typing import Protocol

from cluster.errors import HuggingGPTError
from cluster.settings import Tracing

CARRIER_HEADERS = ("traceparent", "tracestate")
OUTCOME = "hugginggpt.outcome"
CANCELLED, FAILED = "cancelled", "failed"

Carrier = Mapping[str, str]
Attributes = Mapping[str, str | bool | int | float | Sequence[str] | None]  # None: left out
NO_ATTRIBUTES: Attributes = {}


class Kind(StrEnum):
    """Where a span stands in a call between processes: OpenTelemetry's SpanKind."""

    INTERNAL = "INTERNAL"
    SERVER = "SERVER"
    CLIENT = "CLIENT"


class Span(Protocol):
    """One piece of work, timed."""

    @property
    def carrier(self) -> dict[str, str]:
        """What another process needs to make its spans children of this one; empty where nothing is traced."""
        ...

    def describe(self, attributes: Attributes) -> None: ...

    def note(self, event: str, attributes: Attributes) -> None:
        """Something that happened now."""
        ...

    def fail(self, code: str) -> None:
        """`code`: of cluster.errors, or a kind of a failed step."""
        ...

    def end(self) -> None: ...


class Tracer(Protocol):
    """Makes spans, and brings them to a backend."""

    def begin(self, name: str, kind: Kind, attributes: Attributes, parent: Span | Carrier | None) -> Span: ...

    def close(self) -> None: ...


class _Nothing:
    """The Span where nothing is traced."""

    @property
    def carrier(self) -> dict[str, str]:
        return {}

    def describe(self, attributes: Attributes) -> None: ...

    def note(self, event: str, attributes: Attributes) -> None: ...

    def fail(self, code: str) -> None: ...

    def end(self) -> None: ...


NOTHING: Span = _Nothing()
_current: ContextVar[Span | None] = ContextVar("span", default=None)


class _Process:
    """What this process traces with."""

    tracer: Tracer | None = None


def start(settings: Tracing, service: str) -> None:
    """Once per process, before it serves: importing OpenTelemetry takes a good part of a second. Later calls change nothing.

    `service` is what this process is in the backend, after `service_name`. What waits to be sent goes out when the process ends.
    """
    if settings.otlp_endpoint is None or _Process.tracer is not None:
        return
    from cluster.span_export import OtlpTracer

    _Process.tracer = OtlpTracer(settings, service)
    atexit.register(stop)


def stop() -> None:
    """Sends what waits, within a few seconds, and traces nothing from now on."""
    tracer, _Process.tracer = _Process.tracer, None
    atexit.unregister(stop)
    if tracer is not None:
        tracer.close()


@contextmanager
def span(name: str, attributes: Attributes = NO_ATTRIBUTES, *, kind: Kind = Kind.INTERNAL, parent: Carrier | None = None) -> Iterator[Span]:
    """A span of what is done inside, by way of which nothing becomes its child but what gets its carrier.

    `parent` goes before the span around; an empty or unreadable one begins a trace. What is thrown is the span's error, by its code.
    """
    if (tracer := _Process.tracer) is None:
        yield NOTHING
        return
    made = tracer.begin(name, kind, attributes, _current.get() if parent is None else parent)
    try:
        yield made
    except (asyncio.CancelledError, GeneratorExit):
        made.describe({OUTCOME: CANCELLED})
        raise
    except BaseException as exc:
        made.fail(exc.code if isinstance(exc, HuggingGPTError) else type(exc).__name__)
        raise
    finally:
        made.end()


@contextmanager
def span_around(
    name: str, attributes: Attributes = NO_ATTRIBUTES, *, kind: Kind = Kind.INTERNAL, parent: Carrier | None = None
) -> Iterator[Span]:
    """As `span`; those that are made inside, also in tasks that begin there, are its children. Not for a generator that others drive."""
    with span(name, attributes, kind=kind, parent=parent) as made:
        around = _current.get()
        _current.set(made)
        try:
            yield made
        finally:
            _current.set(around)  # no token: one that is thrown away half-way may be closed in another context


def read_carrier(headers: Mapping[str, str]) -> dict[str, str]:
    """What a request's headers say of the trace that it belongs to."""
    return {name: headers[name] for name in CARRIER_HEADERS if name in headers}
