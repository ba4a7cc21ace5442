"""How a pull shows its progress: bars on a terminal, plain lines elsewhere, or nothing. Knows nothing of sources or files."""

import time
from typing import Protocol, TextIO

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.progress import Progress as RichProgress

LINE_INTERVAL_S = 10.0
LINE_SHARE = 0.1  # a line at least for every tenth of the bytes
MEGABYTE = 1_000_000


class Progress(Protocol):
    """What a pull tells: one `start` and `finish` per model, between them the bytes that are there, and sentences."""

    def start(self, model: str, total_bytes: int) -> None: ...

    def at(self, done_bytes: int) -> None: ...

    def say(self, sentence: str) -> None: ...

    def finish(self) -> None: ...


class Silent:
    """Tells nobody."""

    def start(self, model: str, total_bytes: int) -> None: ...

    def at(self, done_bytes: int) -> None: ...

    def say(self, sentence: str) -> None: ...

    def finish(self) -> None: ...


class Lines:
    """For logs: a line every 10 s or every tenth, whichever comes first."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._model = ""
        self._total_bytes = 0
        self._told_bytes = 0
        self._told_s = 0.0

    def start(self, model: str, total_bytes: int) -> None:
        self._model, self._total_bytes = model, total_bytes
        self._told_bytes, self._told_s = 0, time.monotonic()
        self.say(f"{model}: pulling {total_bytes / MEGABYTE:,.0f} MB")

    def at(self, done_bytes: int) -> None:
        waited_s = time.monotonic() - self._told_s
        if waited_s < LINE_INTERVAL_S and done_bytes - self._told_bytes < LINE_SHARE * self._total_bytes:
            return
        self._told_bytes, self._told_s = done_bytes, time.monotonic()
        share = done_bytes / max(self._total_bytes, 1)
        self.say(f"{self._model}: {done_bytes / MEGABYTE:,.0f} of {self._total_bytes / MEGABYTE:,.0f} MB ({share:.0%})")

    def say(self, sentence: str) -> None:
        print(sentence, file=self._stream, flush=True)

    def finish(self) -> None: ...


class Bar:
    """For a terminal: one bar per model."""

    def __init__(self, stream: TextIO) -> None:
        self._console = Console(file=stream)
        self._bar: RichProgress | None = None
        self._task = TaskID(0)

    def start(self, model: str, total_bytes: int) -> None:
        columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
        self._bar = RichProgress(*columns, console=self._console)
        self._bar.start()
        self._task = self._bar.add_task(model, total=total_bytes)

    def at(self, done_bytes: int) -> None:
        if self._bar:
            self._bar.update(self._task, completed=done_bytes)

    def say(self, sentence: str) -> None:
        self._console.print(sentence, markup=False, highlight=False)

    def finish(self) -> None:
        if self._bar:
            self._bar.stop()
            self._bar = None


def progress_on(stream: TextIO) -> Progress:
    """A bar when a person watches, lines when a file does."""
    return Bar(stream) if stream.isatty() else Lines(stream)
