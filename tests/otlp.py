"""A backend for traces: takes OTLP over HTTP, and refuses, hangs or goes away when a test wants it."""

import gzip
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, TypeVar

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest, ExportTraceServiceResponse
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.trace.v1 import trace_pb2

WAIT_S = 20.0
T = TypeVar("T")


class Mood(StrEnum):
    TAKES = "takes"
    REFUSES = "refuses"  # 503
    HANGS = "hangs"  # takes the request, and says nothing


@dataclass(frozen=True)
class Seen:
    """A span as it arrived. Ids in hexadecimal; no parent: ""."""

    name: str
    kind: str
    trace_id: str
    id: str
    parent_id: str
    attributes: Mapping[str, Any]
    events: Sequence[tuple[str, Mapping[str, Any]]]
    is_error: bool
    says: str  # of the error
    started_s: float
    ended_s: float
    resource: Mapping[str, Any]


@dataclass
class Backend:
    """Bodies as they arrived, unpacked."""

    port: int
    mood: Mood = Mood.TAKES
    bodies: list[bytes] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    requests: int = 0  # also those that were not taken
    released: threading.Event = field(default_factory=threading.Event)
    _news: threading.Condition = field(default_factory=threading.Condition)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def spans(self) -> list[Seen]:
        return [span for body in self.bodies for span in _read(body)]

    def await_spans(self, enough: Callable[[list[Seen]], bool]) -> list[Seen]:
        return self._await(lambda: self.spans, enough)

    def await_requests(self, count: int) -> None:
        self._await(lambda: self.requests, lambda seen: seen >= count)

    def forget(self) -> None:
        self.bodies.clear()
        self.headers.clear()

    def asked(self) -> None:
        with self._news:
            self.requests += 1
            self._news.notify_all()

    def take(self, body: bytes, headers: Mapping[str, str]) -> None:
        with self._news:
            self.bodies.append(body)
            self.headers.append({name.lower(): value for name, value in headers.items()})
            self._news.notify_all()

    def _await(self, look: Callable[[], T], enough: Callable[[T], bool]) -> T:
        deadline_s = time.monotonic() + WAIT_S
        with self._news:
            while not enough(seen := look()):
                left_s = deadline_s - time.monotonic()
                assert left_s > 0, f"after {WAIT_S:g} s there is only {sorted({span.name for span in self.spans})}"
                self._news.wait(left_s)
        return seen


@contextmanager
def running(backend: Backend) -> Iterator[Backend]:
    """Listens inside the block."""

    class Door(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            content = self.rfile.read(int(self.headers["content-length"]))
            mood = backend.mood
            if mood is Mood.TAKES:
                packed = self.headers.get("content-encoding") == "gzip"
                backend.take(gzip.decompress(content) if packed else content, dict(self.headers))
            backend.asked()
            if mood is Mood.HANGS:
                backend.released.wait(60)
                return
            reply = ExportTraceServiceResponse().SerializeToString()
            self.send_response(200 if mood is Mood.TAKES else 503)
            self.send_header("content-type", "application/x-protobuf")
            self.send_header("content-length", str(len(reply)))
            self.end_headers()
            self.wfile.write(reply)

        def log_message(self, *_: object) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", backend.port), Door) as server:
        backend.port = server.server_port
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield backend
        finally:
            backend.released.set()
            server.shutdown()
            thread.join()
            backend.released.clear()


def _read(body: bytes) -> Iterator[Seen]:
    request = ExportTraceServiceRequest.FromString(body)
    for group in request.resource_spans:
        resource = _attributes(group.resource.attributes)
        for scope in group.scope_spans:
            for span in scope.spans:
                yield Seen(
                    name=span.name,
                    kind=trace_pb2.Span.SpanKind.Name(span.kind).removeprefix("SPAN_KIND_"),
                    trace_id=span.trace_id.hex(),
                    id=span.span_id.hex(),
                    parent_id=span.parent_span_id.hex(),
                    attributes=_attributes(span.attributes),
                    events=[(event.name, _attributes(event.attributes)) for event in span.events],
                    is_error=span.status.code == trace_pb2.Status.STATUS_CODE_ERROR,
                    says=span.status.message,
                    started_s=span.start_time_unix_nano / 1e9,
                    ended_s=span.end_time_unix_nano / 1e9,
                    resource=resource,
                )


def _attributes(attributes: Sequence[KeyValue]) -> dict[str, Any]:
    return {attribute.key: _value(attribute.value) for attribute in attributes}


def _value(value: AnyValue) -> Any:
    kind = value.WhichOneof("value")
    return [_value(one) for one in value.array_value.values] if kind == "array_value" else getattr(value, str(kind))
