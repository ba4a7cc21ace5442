"""Ids of runs, which tell when the run began. No clock but the one that makes an id."""

import re
import secrets
import time
from datetime import UTC, date, datetime

_RUN_ID = re.compile(r"[0-9a-f]{12}7[0-9a-f]{3}[89ab][0-9a-f]{15}")
_LATEST_MS = 253_402_300_799_999  # the end of the year 9999, after which `date` has no days


def new_run_id() -> str:
    """A UUID of version 7 (RFC 9562, section 5.7) in 32 hex digits: 48 bits of Unix milliseconds, 74 bits of chance."""
    milliseconds = time.time_ns() // 1_000_000
    return f"{milliseconds << 80 | 7 << 76 | secrets.randbits(12) << 64 | 2 << 62 | secrets.randbits(62):032x}"


def began_s(run_id: str) -> float | None:
    """Unix seconds. None for a text that is no run's id."""
    if not _RUN_ID.fullmatch(run_id) or (milliseconds := int(run_id[:12], 16)) > _LATEST_MS:
        return None
    return milliseconds / 1000


def day(unix_s: float) -> date:
    """In UTC."""
    return datetime.fromtimestamp(unix_s, UTC).date()
