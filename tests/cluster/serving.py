"""`hgpt serve` in a process of its own, started and stopped as a person would."""

import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

START_TIMEOUT_S = 900  # a first start also downloads the models and reads the planner's prompt


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


@contextmanager
def served(config: Mapping[str, Any], folder: Path, **environment: str) -> Iterator[str]:
    """The address of the service with this configuration, moved to a free port. The file of it lies in `folder`."""
    port = free_port()
    text = yaml.safe_dump(dict(config)).replace(str(config["http_options"]["port"]), str(port))
    path = folder / "serve_config.yaml"
    path.write_text(text, encoding="utf-8")
    command = [sys.executable, "-m", "controller.cli", "serve", "--config", str(path)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=os.environ | environment)
    timer = threading.Timer(START_TIMEOUT_S, process.kill)
    timer.start()
    try:
        assert process.stdout is not None
        said = []
        for line in process.stdout:
            said.append(line)
            if line.startswith("ready at"):
                break
        else:
            raise AssertionError("hgpt serve ended before it was ready:\n" + "".join(said[-20:]))
        timer.cancel()
        yield f"http://127.0.0.1:{port}"
    finally:
        timer.cancel()
        process.send_signal(signal.SIGTERM)
        last_words, _ = process.communicate(timeout=60)
        assert "graceful_shutdown" not in last_words, last_words  # Ray's, of what is no failure
