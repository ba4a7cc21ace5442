"""`hgpt top`: nodes, replicas, warm models, queues, latencies and memory of a running service, as they change."""

import argparse
import json
import os
import select
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

from rich.console import Console
from rich.live import Live

from cluster.errors import HuggingGPTError
from controller.terminal.client import Client, add_url_option
from controller.terminal.top_view import TopView

LEAST_INTERVAL_S, MOST_INTERVAL_S = 0.2, 3600.0
PLAIN_CELLS = 120  # of a line that no terminal is shown on


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = subparsers.add_parser("top", help="show nodes, replicas, warm models, queues, latencies and memory")
    parser.add_argument("--interval", type=_interval, default=1.0, metavar="S", help="seconds between two looks (default: 1)")
    parser.add_argument("--once", action="store_true", help="print one look as plain text; so it does where no terminal is")
    parser.add_argument("--json", action="store_true", help="print one look as JSON")
    add_url_option(parser)
    parser.set_defaults(run=top_command)


def top_command(args: argparse.Namespace) -> int:
    client = Client(args.url)
    cluster = client.cluster()
    console = Console(highlight=False, width=None if sys.stdout.isatty() else PLAIN_CELLS)
    if args.json:
        print(json.dumps(cluster, ensure_ascii=False, indent=2))
    elif args.once or not (sys.stdout.isatty() and console.is_interactive):
        console.print(TopView(cluster, args.url))
    else:
        follow(client, cluster, args.url, console, args.interval)
    return 0


def follow(client: Client, cluster: Mapping[str, Any], url: str, console: Console, interval_s: float) -> None:
    """Until q or Ctrl-C. A service that goes away is asked again, and what it told last stays with a line that says so."""
    view, told_s = TopView(cluster, url), time.monotonic()
    with _keys() as pressed, Live(console=console, screen=True, auto_refresh=False, redirect_stdout=False, redirect_stderr=False) as live:
        try:
            while True:
                live.update(view, refresh=True)
                if pressed(interval_s) in ("q", "Q"):
                    return
                try:
                    cluster, told_s = client.cluster(), time.monotonic()
                    view = TopView(cluster, url)
                except HuggingGPTError as exc:
                    view = TopView(cluster, url, f"no news for {time.monotonic() - told_s:.0f} s, trying again: {exc.message}")
        except KeyboardInterrupt:
            return


@contextmanager
def _keys() -> Iterator[Callable[[float], str]]:
    """Waits for so many seconds, or for a key, which it gives. Without a keyboard it only waits."""
    if not sys.stdin.isatty():
        yield _no_key
        return
    import termios
    import tty

    keyboard = sys.stdin.fileno()
    before = termios.tcgetattr(keyboard)
    try:
        tty.setcbreak(keyboard)
        yield lambda wait_s: os.read(keyboard, 1).decode("ascii", "ignore") if select.select([keyboard], [], [], wait_s)[0] else ""
    finally:
        termios.tcsetattr(keyboard, termios.TCSADRAIN, before)


def _no_key(wait_s: float) -> str:
    time.sleep(wait_s)
    return ""


def _interval(text: str) -> float:
    with suppress(ValueError):
        if LEAST_INTERVAL_S <= (seconds := float(text)) <= MOST_INTERVAL_S:
            return seconds
    raise argparse.ArgumentTypeError(f"{text} is no number of seconds from {LEAST_INTERVAL_S:g} to {MOST_INTERVAL_S:g}")
