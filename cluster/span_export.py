"""Spans through OpenTelemetry's SDK to a backend that speaks OTLP over HTTP. Imported only where traces are on.

Spans wait in a bounded queue for a thread that sends them. A backend that is gone costs them and one line in the log, never a request.
The provider is this module's own: neither Ray's spans nor its metrics go through it, and the global one stays as it is.
"""

import logging
import os
import socket
import time
from collections.abc import Mapping, Sequence
from typing import Any

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
from opentelemetry.trace import SpanKind, Status, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from cluster.logs import logger
from cluster.settings import Tracing
from cluster.tracing import FAILED, OUTCOME, Attributes, Carrier, Kind, Span

PATH = "/v1/traces"
MOST_IN_A_BATCH = 512
CLOSE_S = 2.0  # after which no further batch is begun when the process ends; one that is on its way has `timeout_s`
LONGEST_REASON = 300  # characters
# Who tells of batches that fail and of a full queue.
_LIBRARY_LOGGERS = ("opentelemetry.exporter.otlp", "opentelemetry.sdk._shared_internal")

_PROPAGATOR = TraceContextTextMapPropagator()


class OtlpTracer:
    """The Tracer of a process. `service` is its name in the backend, after that of the settings."""

    def __init__(self, settings: Tracing, service: str) -> None:
        endpoint = (settings.otlp_endpoint or "").rstrip("/").removesuffix(PATH) + PATH
        self._exporter = _Exporter(endpoint, settings.timeout_s)
        self._provider = TracerProvider(
            sampler=ParentBased(TraceIdRatioBased(settings.sampling_ratio)),
            resource=Resource.create(
                {"service.name": f"{settings.service_name}-{service}", "host.name": socket.gethostname(), "process.pid": os.getpid()}
            ),
            shutdown_on_exit=False,
        )
        self._provider.add_span_processor(
            BatchSpanProcessor(
                self._exporter,
                max_queue_size=settings.max_queued_spans,
                schedule_delay_millis=1000 * settings.interval_s,
                max_export_batch_size=min(MOST_IN_A_BATCH, settings.max_queued_spans),
            )
        )
        self._tracer = self._provider.get_tracer("hugginggpt")

    def begin(self, name: str, kind: Kind, attributes: Attributes, parent: Span | Carrier | None) -> Span:
        return _OtlpSpan(self._tracer.start_span(name, _context(parent), SpanKind[kind], _given(attributes)))

    def close(self) -> None:
        self._exporter.hurry()
        self._provider.shutdown()


class _OtlpSpan:
    """A Span by OpenTelemetry; also one that is not sampled, which still hands its trace on."""

    def __init__(self, inner: trace.Span) -> None:
        self.inner = inner

    @property
    def carrier(self) -> dict[str, str]:
        carrier: dict[str, str] = {}
        _PROPAGATOR.inject(carrier, trace.set_span_in_context(self.inner, Context()))
        return carrier

    def describe(self, attributes: Attributes) -> None:
        self.inner.set_attributes(_given(attributes))

    def note(self, event: str, attributes: Attributes) -> None:
        self.inner.add_event(event, _given(attributes))

    def fail(self, code: str) -> None:
        self.inner.set_attributes({"error.type": code, OUTCOME: FAILED})
        self.inner.set_status(Status(StatusCode.ERROR))

    def end(self) -> None:
        self.inner.end()


class _Exporter(SpanExporter):
    """OTLPSpanExporter, whose failures are one line in the log for as long as they last. Headers come from OTEL_EXPORTER_OTLP_HEADERS."""

    def __init__(self, endpoint: str, timeout_s: float) -> None:
        self._inner = OTLPSpanExporter(endpoint=endpoint, timeout=timeout_s)
        self._outage = _Outage(endpoint)
        self._until_s: float | None = None  # of the monotonic clock
        for name in _LIBRARY_LOGGERS:
            logging.getLogger(name).addHandler(self._outage)
            logging.getLogger(name).propagate = False

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        if self._until_s is not None and time.monotonic() > self._until_s:
            return SpanExportResult.FAILURE
        result = self._inner.export(spans)
        if result is SpanExportResult.SUCCESS:
            self._outage.is_over()
        return result

    def hurry(self) -> None:
        """The process ends: what is not sent soon is lost."""
        self._until_s = time.monotonic() + CLOSE_S

    def shutdown(self) -> None:
        self._inner.shutdown()  # type: ignore[no-untyped-call]
        for name in _LIBRARY_LOGGERS:
            logging.getLogger(name).removeHandler(self._outage)
            logging.getLogger(name).propagate = True

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        return self._inner.force_flush(timeout_millis)


class _Outage(logging.Handler):
    """Takes what the library logs of every batch and every try, and tells of the first."""

    def __init__(self, endpoint: str) -> None:
        super().__init__(logging.WARNING)
        self._endpoint = endpoint
        self._is_on = False

    def emit(self, record: logging.LogRecord) -> None:
        if not self._is_on:
            self._is_on = True
            reason = " ".join(record.getMessage().split())[:LONGEST_REASON]
            logger.warning("traces are lost on their way to %s", self._endpoint, extra={"reason": reason})

    def is_over(self) -> None:
        if self._is_on:
            self._is_on = False
            logger.info("traces reach %s again", self._endpoint)


def _context(parent: Span | Carrier | None) -> Context:
    """An empty one has no parent: what is current for others in this process is none of ours."""
    match parent:
        case _OtlpSpan(inner=inner):
            return trace.set_span_in_context(inner, Context())
        case Mapping():
            return _PROPAGATOR.extract(parent, Context())
        case _:
            return Context()


def _given(attributes: Attributes) -> dict[str, Any]:
    return {name: value for name, value in attributes.items() if value is not None}
