"""One Ray for the session: the whole service on fake models, and clients of it."""

import os
import socket
from collections.abc import Iterator

import httpx
import pytest
from openai import OpenAI

from benchmarks.fakes import fake_service as started

# Here, because Ray reads some of them when it is imported, and the test modules import it.
os.environ["RAY_AUTH_MODE"] = "disabled"  # Ray 2.60 would make and want a token
os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"  # else Ray 2.60 replaces 127.0.0.1 by the machine's address
os.environ["RAY_metrics_report_interval_ms"] = "1000"  # noqa: SIM112 - Ray's spelling; its own 10 s is long to wait for


@pytest.fixture(scope="session")
def fake_service() -> Iterator[str]:
    """The address of the running service on fake models."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with started(port) as url:
        yield url


@pytest.fixture
def http(fake_service: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=fake_service, timeout=30) as client:
        yield client


@pytest.fixture
def openai(fake_service: str) -> Iterator[OpenAI]:
    with OpenAI(base_url=f"{fake_service}/v1", api_key="none", max_retries=0, timeout=30) as client:
        yield client


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The real models first: their service must not share the cores with that of the fakes, which lives to the end."""
    items.sort(key=lambda item: (item.path.parent.name == "cluster", item.path.name != "test_real_inputs.py"))
