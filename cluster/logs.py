"""Logs: a line is a sentence and fixed fields, on standard error."""

import logging

FIELDS = ("request_id", "step", "task", "model", "reason")

logger = logging.getLogger("hugginggpt")


class _WithFields(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        fields = "".join(f" {name}={getattr(record, name)}" for name in FIELDS if hasattr(record, name))
        return super().format(record) + fields


def log_to_stderr() -> None:
    """Once per process; later calls change nothing."""
    if not logger.handlers:
        handler = logging.StreamHandler()
        handler.setFormatter(_WithFields("%(asctime)s %(levelname)s %(message)s"))
        logger.addHandler(handler)
        logger.setLevel(logging.INFO)
        logger.propagate = False
