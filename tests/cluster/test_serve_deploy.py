"""A Serve config file deployed on a Ray cluster that is up, by Ray's own command line: how a platform engineer starts the service."""

import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from benchmarks.fakes import CONFIG, PORT

pytestmark = [pytest.mark.cluster, pytest.mark.slow, pytest.mark.timeout(300)]

BIN = Path(sys.executable).parent
ENVIRONMENT = {**os.environ, "RAY_AUTH_MODE": "disabled", "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0", "RAY_USAGE_STATS_ENABLED": "0"}
READY_TIMEOUT_S = 120


def free_port() -> int:
    """Outside 10002 to 19999, where Ray's workers listen."""
    while True:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = int(free.getsockname()[1])
        if port > 20000:
            return port


@pytest.fixture
def dashboard() -> Iterator[str]:
    """The dashboard's address of a Ray head node of its own, in a folder of its own."""
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="hgpt-ray-", ignore_cleanup_errors=True) as folder:
        place = ["--node-ip-address", "127.0.0.1", "--port", str(free_port()), "--dashboard-port", str(port), "--temp-dir", folder]
        head = subprocess.Popen(
            [BIN / "ray", "start", "--head", "--block", "--num-cpus", "4", *place],
            env=ENVIRONMENT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        timer = threading.Timer(READY_TIMEOUT_S, head.kill)
        timer.start()
        assert head.stdout is not None
        assert any("Ray runtime started" in line for line in head.stdout)
        timer.cancel()
        yield f"http://127.0.0.1:{port}"
        head.terminate()
        head.communicate(timeout=60)


def test_serve_deploy_starts_the_whole_service(dashboard: str, tmp_path: Path) -> None:
    port = free_port()
    config = tmp_path / "serve_config.yaml"
    cards = CONFIG.parent / "cards.yaml"
    text = CONFIG.read_text(encoding="utf-8").replace(str(PORT), str(port)).replace("benchmarks/fakes/cards.yaml", str(cards))
    config.write_text(text, encoding="utf-8")
    subprocess.run([BIN / "serve", "deploy", "-a", dashboard, config], env=ENVIRONMENT, check=True, capture_output=True)
    deadline = time.monotonic() + READY_TIMEOUT_S
    health: object = None
    while health != {"status": "ok"} and time.monotonic() < deadline:
        time.sleep(1)
        try:
            reply = httpx.get(f"http://127.0.0.1:{port}/healthz", timeout=10)
            health = reply.json() if reply.is_success else reply.text
        except httpx.HTTPError as exc:
            health = str(exc)
    assert health == {"status": "ok"}
