"""JSON as every reader takes it, whatever a model's library put into its results."""

import json
import math

import numpy as np
import pytest

from controller.runs.json_text import as_json


@pytest.mark.parametrize(
    ("value", "read"),
    [
        ({"score": math.nan, "most": [math.inf, 1.5]}, {"score": None, "most": [None, 1.5]}),
        ({"score": np.float32(0.5), "label": np.int64(3)}, {"score": 0.5, "label": 3}),
        ({"score": np.float32("nan")}, {"score": None}),
        ({"score": np.float64("nan"), "pair": (np.float32("inf"), 2)}, {"score": None, "pair": [None, 2]}),
        ({"raw": b"bytes"}, {"raw": "b'bytes'"}),
        ("Schöne Grüße, 你好 🎈", "Schöne Grüße, 你好 🎈"),
    ],
)
def test_what_json_has_not_is_said_another_way(value: object, read: object) -> None:
    assert json.loads(as_json(value)) == read


def test_it_is_one_line_also_for_readers_of_unicodes_lines() -> None:
    text = "one\u2028two\u2029three\u0085four\nfive"
    assert as_json(text).splitlines() == [as_json(text)]
    assert json.loads(as_json(text)) == text
