"""Terms: what a request asks beside its words, of the cache, of time and of chance, and for whom. Pure data, from headers and body."""

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from cluster.errors import BadRequest
from cluster.logs import REQUEST_ID_HEADER, as_request_id
from cluster.tracing import read_carrier

TIMEOUT_HEADER = "x-timeout-s"
LEAST_TIMEOUT_S = 0.1
SHOWN_CHARACTERS = 40  # of a wrong value


@dataclass(frozen=True, slots=True)
class Terms:
    """`user` separates what is kept of private inputs; "" where nobody is named. `timeout_s`: None where the service's own limit holds."""

    user: str = ""
    reads_cache: bool = True  # results of earlier steps, and of those on their way, may stand in
    keeps_results: bool = True
    timeout_s: float | None = None
    request_id: str = ""  # what its log lines have, in every process
    seed: int | None = None  # of tasks that draw; None: the same inputs give the same result
    trace: Mapping[str, str] = field(default_factory=dict)  # the caller's, which the run's spans go on with: cluster.tracing


def read_terms(headers: Mapping[str, str], *, user: str | None = None, timeout_s: float | None = None, seed: int | None = None) -> Terms:
    """`user`, `timeout_s` and `seed` are the body's fields; a field goes before its header. Raises BadRequest.

    Cache-Control as in RFC 9111, section 5.2.1: no-store neither reads nor keeps, no-cache only keeps. Who asks is the key of the
    Authorization header together with `user`.
    """
    asked = {word.strip().lower() for word in headers.get("cache-control", "").split(",")}
    if timeout_s is None and TIMEOUT_HEADER in headers:
        timeout_s = _seconds(headers[TIMEOUT_HEADER])
    if timeout_s is not None and not (math.isfinite(timeout_s) and timeout_s >= LEAST_TIMEOUT_S):
        raise BadRequest(f"timeout_s is a number of seconds, {LEAST_TIMEOUT_S:g} or more, not {timeout_s:g}")
    return Terms(
        user=_identity(headers.get("authorization", ""), user or ""),
        reads_cache=not asked & {"no-store", "no-cache"},
        keeps_results="no-store" not in asked,
        timeout_s=timeout_s,
        request_id=as_request_id(headers.get(REQUEST_ID_HEADER, "")),
        seed=seed,
        trace=read_carrier(headers),
    )


def _identity(key: str, user: str) -> str:
    """A hash, since the key is a secret; "" where there is neither."""
    return hashlib.sha256(f"{len(key)}:{key}{user}".encode("utf-8", "surrogatepass")).hexdigest() if key or user else ""


def _seconds(text: str) -> float:
    try:
        return float(text)
    except ValueError as exc:
        raise BadRequest(f"the header {TIMEOUT_HEADER} is a number of seconds, not {text[:SHOWN_CHARACTERS]!r}") from exc
