"""What a person sees while a run goes on: a line per event, the answer as it is written. Knows the events' JSON, not the service."""

import sys
import time
from collections.abc import Mapping
from typing import Any, TextIO

from rich.console import Console
from rich.markup import escape

from controller.terminal.run_view import given
from controller.terminal.terminal_text import many_lines, one_line

TEXT_SHOWN = 70  # characters of a step's text


class Progress:
    """A context: while nothing has come yet it shows that planning goes on."""

    def __init__(self, stream: TextIO) -> None:
        self._console = Console(file=stream, highlight=False, soft_wrap=True)
        self._status = self._console.status("planning …")
        self._started = time.monotonic()
        self._planned: set[str] = set()  # steps that were shown before their plan was whole

    def __enter__(self) -> "Progress":
        self._status.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._status.stop()

    def show(self, event: Mapping[str, Any]) -> None:
        match event["event"]:
            case "plan":
                self._plan(event)
            case "step_planned":
                self._line(_step(event))
                self._planned.add(event["id"])
            case "plan_withdrawn":
                self._planned.clear()
                self._line(f"[yellow]stopped {', '.join(event['steps'])}[/]: {escape(_short(event['why']))}")
            case "step_started":
                self._line(f"[cyan]▸ {event['step']}[/] started")
            case "step_ended":
                self._ended(event)

    def answer(self, text: str) -> None:
        """See `print_answer`."""
        self._status.stop()
        print_answer(text)

    def ended(self, record: Mapping[str, Any]) -> None:
        """All was said."""

    def _plan(self, event: Mapping[str, Any]) -> None:
        steps = event["plan"]
        if event.get("replan"):
            self._line(f"[yellow]planned again[/], since {escape(_short(event['why']))}: {len(steps)} more steps")
        else:
            self._line("plan: " + ("no step needed" if not steps else f"{len(steps)} steps"))
        for step in steps:
            if step["id"] not in self._planned:
                self._console.print(f"  {_step(step)}")
        self._status.update("working …" if steps else "answering …")

    def _ended(self, event: Mapping[str, Any]) -> None:
        step, task = event["step"], event["task"]
        match event["status"]:
            case "done":
                span = event["span"]
                shown = event.get("text") or event["artifact"]["name"]
                took = "as before" if event.get("reused") else f"{span['finished_s'] - span['started_s']:.1f} s"
                self._line(f"[green]✓ {step}[/] {task} {took}  [dim]{escape(_short(shown))}[/]")
            case "failed":
                self._line(f"[red]✗ {step}[/] {task}: {escape(one_line(event['reason']))}")
            case "skipped":
                self._line(f"[yellow]- {step}[/] {task} skipped: {event['because']} gave nothing")

    def _line(self, text: str) -> None:
        self._console.print(f"[dim]{time.monotonic() - self._started:6.1f} s[/]  {text}")


def print_answer(text: str) -> None:
    """On standard output, so that it can be piped; on a terminal without what would steer it."""
    print(many_lines(text) if sys.stdout.isatty() else text, end="", flush=True)


def _step(step: Mapping[str, Any]) -> str:
    shown = escape(_short(", ".join(map(given, [*step["inputs"], *step["options"].values()]))))
    why = step["reason"].partition(";")[0]  # the score is for the record
    return f"{step['id']}  {step['task']}({shown})  [dim]{escape(one_line(step['model']))}, {escape(one_line(why))}[/]"


def _short(text: str) -> str:
    flat = one_line(text)
    return flat if len(flat) <= TEXT_SHOWN else flat[:TEXT_SHOWN] + "…"
