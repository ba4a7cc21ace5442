"""A hub on this machine, with a home folder of the test's own."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.hub.server import HubServer, running_hub


@pytest.fixture
def hub_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    """Nothing is published yet; no token is set."""
    monkeypatch.setenv("HGPT_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("HF_TOKEN", raising=False)
    with running_hub() as server:
        yield server
