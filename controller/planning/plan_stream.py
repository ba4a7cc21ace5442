"""A plan while it is still being written: after each piece of the reply, the steps that stand there whole. Pure.

What is read of a beginning holds for the whole: a step refers to earlier ones only, and is checked and mended by what stands before it.
"""

import json
import re
from collections.abc import Collection
from typing import Any

from cluster.errors import PlanError
from cluster.tasks import Task
from controller.asking.request import Request
from controller.planning.plan import Plan
from controller.planning.plan_language import Kind, read_plan

_BETWEEN = re.compile(r"[\s,{]*")
_COLON = re.compile(r"\s*:\s*")
_DECODER = json.JSONDecoder()


class PlanStream:
    """Fed with the pieces of one reply."""

    def __init__(self, tasks: Collection[Task], request: Request, max_steps: int) -> None:
        self._tasks = tasks
        self._request = request
        self._max_steps = max_steps
        self._text = ""
        self._at = 0  # where the next member of the object begins
        self._members: dict[str, Any] = {}
        self._is_spoilt = False

    def feed(self, piece: str) -> Plan | None:
        """The plan so far, when the piece completed a step of it; None otherwise, and from the first fault on."""
        self._text += piece
        if self._is_spoilt or not self._has_more() or self._members.get("kind") != Kind.TASKS:
            return None
        try:
            plan = read_plan(json.dumps(self._members), self._tasks, self._request)
        except (PlanError, RecursionError):
            self._is_spoilt = True  # whoever reads the whole reply says what is wrong
            return None
        self._is_spoilt = len(plan.steps) > self._max_steps
        return None if self._is_spoilt or not plan.steps else plan

    def _has_more(self) -> bool:
        """Moves over the members that are whole by now, and says whether there were any."""
        start = self._at
        try:
            while True:
                name, end = _DECODER.raw_decode(self._text, _after(_BETWEEN, self._text, self._at))
                if (colon := _COLON.match(self._text, end)) is None:
                    break
                self._members[name], self._at = _DECODER.raw_decode(self._text, colon.end())
        except (ValueError, TypeError, RecursionError):
            pass  # the next member is not whole, or this is no JSON
        return self._at > start


def _after(pattern: re.Pattern[str], text: str, at: int) -> int:
    found = pattern.match(text, at)
    return found.end() if found else at
