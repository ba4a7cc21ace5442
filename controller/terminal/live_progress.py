"""What a person at a terminal sees while a run goes on: its graph, live. The answer is streamed below, where the graph stays."""

import os
import sys
import time
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, Protocol, Self, TextIO

from rich.console import Console
from rich.live import Live

from controller.terminal.graph_view import GraphView
from controller.terminal.progress import Progress, print_answer
from controller.terminal.run_view import RunView
from controller.terminal.terminal_text import seconds

REFRESHES_PER_S = 8.0
STAGES = {"plan": "plan", "select": "choose", "execute": "run", "answer": "answer"}  # of a run's record, as they are said


class Follower(Protocol):
    """A context that is told how a run goes on."""

    def __enter__(self) -> Self: ...

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None: ...

    def show(self, event: Mapping[str, Any]) -> None: ...

    def answer(self, text: str) -> None: ...

    def ended(self, record: Mapping[str, Any]) -> None: ...


def progress_on(stream: TextIO) -> Follower:
    """The live graph where a person sees it; else a line per event, as in a file or a log."""
    console = Console(file=stream, highlight=False)
    is_seen = stream.isatty() and console.is_interactive and console.encoding.startswith("utf") and not os.environ.get("CI")
    return LiveProgress(console) if is_seen else Progress(stream)


class LiveProgress:
    """A Follower. `clock`: seconds."""

    def __init__(self, console: Console, clock: Callable[[], float] = time.monotonic) -> None:
        self._console = console
        self._clock = clock
        self._view = RunView(clock())  # replaced as a whole, since another thread draws it
        self._live = Live(
            console=console, get_renderable=self._drawn, refresh_per_second=REFRESHES_PER_S, redirect_stdout=False, redirect_stderr=False
        )
        self._last_words = ""  # the last character of the answer, on a terminal

    def __enter__(self) -> Self:
        self._live.start(refresh=True)
        return self

    def __exit__(self, kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None) -> None:
        self._stop(broke_off=kind is not None)
        if kind is not None:
            self._end_line()

    def show(self, event: Mapping[str, Any]) -> None:
        self._view = self._view.after(event, self._clock())

    def answer(self, text: str) -> None:
        """See `print_answer`; below the graph."""
        self._stop()
        if sys.stdout.isatty():
            print("" if self._last_words else "\n", end="")
            self._last_words = text[-1:] or self._last_words
        print_answer(text)

    def ended(self, record: Mapping[str, Any]) -> None:
        """A line with the time of each stage, below all."""
        self._stop()
        self._end_line()
        took = record.get("seconds", {})
        stages = [(word, took[stage]) for stage, word in STAGES.items() if stage in took]
        if stages and "total" in took:
            told = ", ".join(f"{word} {seconds(took_s)}" for word, took_s in stages)
            self._console.print(f"{told}; {seconds(took['total'])} in all", style="dim", markup=False)

    def _end_line(self) -> None:
        if self._last_words not in ("", "\n"):
            print(flush=True)
        self._last_words = ""

    def _stop(self, *, broke_off: bool = False) -> None:
        self._view = self._view.ended(self._clock(), broke_off=broke_off)
        self._live.stop()

    def _drawn(self) -> GraphView:
        return GraphView(self._view, self._clock(), is_last=self._view.ended_s is not None)
