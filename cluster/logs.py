"""Logs: a line is a sentence and fixed fields, on standard error. What is said for a request has its id, in every process."""

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

FIELDS = ("request_id", "run_id", "step", "task", "model", "reason")
REQUEST_ID_HEADER = "x-request-id"  # Ray Serve makes one where the client sends none, and answers with it
NOBODY = "-"  # what is said for no request
LONGEST_ID = 128  # characters of an id that a client gives

logger = logging.getLogger("hugginggpt")
_ids: ContextVar[tuple[str, str]] = ContextVar("ids", default=(NOBODY, ""))


@contextmanager
def said_for(request_id: str, run_id: str = "") -> Iterator[None]:
    """All that is logged inside, also in tasks and threads that begin there, has these ids."""
    token = _ids.set((request_id or NOBODY, run_id))
    try:
        yield
    finally:
        _ids.reset(token)


def request_id_now() -> str:
    """Of the request that this code works for; NOBODY outside one."""
    return _ids.get()[0]


def as_request_id(text: str) -> str:
    """A client's word for its request, fit for a log line and a header: printable ASCII without blanks, cut."""
    return "".join(character for character in text[:LONGEST_ID] if "!" <= character <= "~")


class _WithFields(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        request_id, run_id = _ids.get()
        known = {"request_id": request_id, **({"run_id": run_id} if run_id else {}), **vars(record)}
        return super().format(record) + "".join(f" {name}={known[name]}" for name in FIELDS if name in known)


def log_to_stderr() -> None:
    """Once per process; later calls change nothing.

    The process's own standard error: Ray Serve puts a writer to its log in the place of `sys.stderr`, which holds lines back for long.
    """
    if not logger.handlers:
        handler = logging.StreamHandler(sys.__stderr__)
        handler.setFormatter(_WithFields("%(asctime)s %(levelname)s %(message)s"))
        logger.addHandler(handler)
        logger.setLevel(logging.INFO)
        logger.propagate = False
