"""JSON that every reader takes: no NaN, no half characters, no line ends but those of JSON. Pure text."""

import json
import math
from collections.abc import Mapping
from typing import Any

_LINE_ENDS = {"\u2028": "\\u2028", "\u2029": "\\u2029", "\u0085": "\\u0085"}  # to some readers of lines, though not to those of JSON


def as_json(data: Any) -> str:
    """In one line. A number that JSON has not is null, an object that it does not know a text."""
    try:
        text = _dumped(data)
    except ValueError:
        text = _dumped(_finite(data))
    for end, escaped in _LINE_ENDS.items():
        if end in text:
            text = text.replace(end, escaped)
    return text


def _dumped(data: Any) -> str:
    return json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":"), default=_known)


def _known(value: Any) -> Any:
    """What a library's numbers are in Python: NumPy's and torch's have `item`."""
    return _finite(value.item()) if callable(getattr(value, "item", None)) else str(value)


def _finite(data: Any) -> Any:
    match data:
        case float() if not math.isfinite(data):
            return None
        case Mapping():
            return {key: _finite(value) for key, value in data.items()}
        case list() | tuple():
            return [_finite(value) for value in data]
        case _:
            return data
