"""A command on a terminal of its own: what a person would see of it, by an emulation that reads what it wrote."""

import fcntl
import os
import pty
import select
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pyte

TIMEOUT_S = 60.0


class Terminal:
    """`screen` are its lines, from the first one on that ever was written: it is tall enough to keep them all."""

    def __init__(self, columns: int, lines: int) -> None:
        self._master, self.slave = pty.openpty()
        fcntl.ioctl(self.slave, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
        self._screen = pyte.Screen(columns, lines)
        self._stream = pyte.ByteStream(self._screen)
        self.process: subprocess.Popen[bytes]

    @property
    def screen(self) -> list[str]:
        return [line.rstrip() for line in self._screen.display]

    @property
    def hides_the_cursor(self) -> bool:
        return self._screen.cursor.hidden

    @property
    def echoes_keys(self) -> bool:
        return bool(termios.tcgetattr(self.slave)[3] & termios.ECHO)

    def press(self, keys: bytes) -> None:
        os.write(self._master, keys)

    def until(self, seen: Callable[[list[str]], bool]) -> list[str]:
        """Reads on until the screen is as wanted."""
        deadline = time.monotonic() + TIMEOUT_S
        while not seen(self.screen):
            self._read(deadline, "\n".join(self.screen))
        return self.screen

    def ended(self) -> int:
        """Reads to the end; gives the exit status."""
        deadline = time.monotonic() + TIMEOUT_S
        while self.process.poll() is None:
            self._read(deadline, "\n".join(self.screen))
        while select.select([self._master], [], [], 0)[0]:
            self._stream.feed(os.read(self._master, 65536))
        return self.process.returncode

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.terminate()
            self.process.wait(TIMEOUT_S)
        os.close(self._master)
        os.close(self.slave)

    def _read(self, deadline: float, so_far: str) -> None:
        assert time.monotonic() < deadline, f"the screen is still\n{so_far}"
        if select.select([self._master], [], [], 0.05)[0]:
            self._stream.feed(os.read(self._master, 65536))


@contextmanager
def terminal(*arguments: str, columns: int = 100, lines: int = 50, output: int | None = None) -> Iterator[Terminal]:
    """`hgpt` with these arguments; `output`: where its standard output goes instead."""
    shown = Terminal(columns, lines)
    environment = {name: value for name, value in os.environ.items() if name not in ("CI", "NO_COLOR", "COLUMNS", "LINES")}

    def take_terminal() -> None:
        os.setsid()
        fcntl.ioctl(shown.slave, termios.TIOCSCTTY, 0)  # so that Ctrl-C reaches it

    shown.process = subprocess.Popen(
        [sys.executable, "-m", "controller.cli", *arguments],
        stdin=shown.slave,
        stdout=shown.slave if output is None else output,
        stderr=shown.slave,
        env={**environment, "TERM": "xterm-256color"},
        preexec_fn=take_terminal,  # noqa: PLW1509 - it calls nothing that another thread may hold
    )
    try:
        yield shown
    finally:
        shown.close()
