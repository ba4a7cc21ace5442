"""What a person sees of a run, a line per event: also of steps that start while the plan is still being written. And when it is live."""

import io
import os
import pty
import time
from collections.abc import Iterator
from typing import Any, TextIO

import pytest
from rich.console import Console

from controller.terminal.live_progress import LiveProgress, progress_on
from controller.terminal.progress import Progress


def shown(*events: dict[str, Any]) -> list[str]:
    stream = io.StringIO()
    progress = Progress(stream)
    for event in events:
        progress.show(event)
    return stream.getvalue().splitlines()


def step(name: str) -> dict[str, Any]:
    return {"id": name, "task": "summarization", "inputs": [{"file": "f1"}], "options": {}, "model": "org/m", "reason": "the only one; 1.0"}


def test_a_step_that_started_early_is_shown_once() -> None:
    lines = shown({"event": "step_planned", **step("s1")}, {"event": "plan", "plan": [step("s1"), step("s2")]})
    assert [sum(f"{name}  summarization(f1)  org/m, the only one" in line for line in lines) for name in ("s1", "s2")] == [1, 1]


def test_a_plan_that_was_taken_back_says_what_it_stopped_and_shows_its_steps_anew() -> None:
    withdrawn = {"event": "plan_withdrawn", "steps": ["s1"], "why": "the plan was not valid"}
    lines = shown({"event": "step_planned", **step("s1")}, withdrawn, {"event": "plan", "plan": [step("s1")]})
    assert any("stopped s1: the plan was not valid" in line for line in lines)
    assert sum("s1  summarization(f1)" in line for line in lines) == 2


def test_no_line_steers_the_terminal() -> None:
    nasty = {**step("s1"), "model": "org/[red]m\x1b[2J", "inputs": [{"text": "a\x1b]0;title\x07b"}]}
    failed = {"event": "step_ended", "step": "s1", "task": "summarization", "status": "failed", "reason": "no\x1b[1m [bold]way"}
    lines = shown({"event": "plan", "plan": [nasty]}, failed)
    assert not {"\x1b", "\x07"} & set("".join(lines))
    assert any("org/[red]m" in line and "ab" in line for line in lines) and any("no [bold]way" in line for line in lines)


@pytest.fixture
def terminal() -> Iterator[tuple[int, TextIO]]:
    """Both ends of one: where it is read, and where a program writes."""
    master, slave = pty.openpty()
    with os.fdopen(slave, "w", encoding="utf-8") as written:
        yield master, written
    os.close(master)


def test_a_file_a_dumb_terminal_and_ci_get_a_line_per_event(terminal: tuple[int, TextIO], monkeypatch: pytest.MonkeyPatch) -> None:
    _, stream = terminal
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("CI", raising=False)
    assert isinstance(progress_on(stream), LiveProgress)
    assert isinstance(progress_on(io.StringIO()), Progress)
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert isinstance(progress_on(io.StringIO()), Progress)
    monkeypatch.setenv("CI", "true")
    assert isinstance(progress_on(stream), Progress)
    monkeypatch.delenv("CI")
    monkeypatch.setenv("TERM", "dumb")
    assert isinstance(progress_on(stream), Progress)


def test_the_graph_is_drawn_ten_times_a_second_at_most_however_much_is_told(
    terminal: tuple[int, TextIO], monkeypatch: pytest.MonkeyPatch
) -> None:
    master, stream = terminal
    monkeypatch.setenv("TERM", "xterm")
    console = Console(file=stream, force_terminal=True, width=80)
    started_s = time.monotonic()
    with LiveProgress(console) as progress:
        for _ in range(2000):
            progress.show({"event": "plan", "plan": [step("s1")]})
    took_s = time.monotonic() - started_s
    stream.flush()
    assert os.read(master, 1_000_000).count(b"summarization") <= 2 + 10 * took_s
