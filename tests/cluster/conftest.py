"""One Ray for the session: the whole service on fake models, and clients of it."""

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import yaml
from openai import OpenAI

from benchmarks.fakes import fake_service as started
from tests.cluster.serving import free_port, served
from tests.hub.server import HubServer, running_hub


@pytest.fixture(scope="session")
def fake_service() -> Iterator[str]:
    """The address of the running service on fake models."""
    with started(free_port()) as url:
        yield url


@pytest.fixture(scope="session")
def hub() -> Iterator[HubServer]:
    with running_hub() as hub:
        yield hub


@pytest.fixture(scope="module")
def hub_service(hub: HubServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The whole service, the echo engine for an LLM, with every family and the tests' own hub full of tiny models."""
    from tests.tiny.hub import publish_every_task  # here: it imports torch and all that runs on it

    folder = tmp_path_factory.mktemp("hub")
    publish_every_task(hub, folder)
    config = yaml.safe_load(Path("serve_config.yaml").read_text(encoding="utf-8"))
    llm, _, app = config["applications"]
    config["applications"] = [llm, app]
    del app["args"]["planner_llm"]
    llm["args"] = {"engine": "echo", "deployment": {"ray_actor_options": {"num_cpus": 0.1}}}
    app["args"]["hub"] = {"enabled": True, "endpoint": hub.endpoint, "cache_s": 0, "timeout_s": 3}
    app["args"]["models"] = str(folder / "models")
    app["args"]["limits"] = {"step_timeout_s": 60}
    for family in app["args"]["families"].values():
        family["deployment"] = {"num_replicas": 1, "ray_actor_options": {"num_cpus": 0.1}}
    with served(config, folder, HGPT_HOME=str(folder / "home")) as url:
        yield url


@pytest.fixture
def hub_http(hub_service: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=hub_service, timeout=300) as client:
        yield client


@pytest.fixture
def http(fake_service: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=fake_service, timeout=30) as client:
        yield client


@pytest.fixture
def openai(fake_service: str) -> Iterator[OpenAI]:
    with OpenAI(base_url=f"{fake_service}/v1", api_key="none", max_retries=0, timeout=30) as client:
        yield client


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Services that end with their module first: they must not share the cores with that of the fakes, which lives to the end."""
    first = [
        "test_real_inputs.py",
        "test_hub_models.py",
        "test_runs.py",
        "test_traces.py",
        "test_ingress_replicas.py",
        "test_prometheus.py",
    ]
    items.sort(
        key=lambda item: (item.path.parent.name == "cluster", first.index(item.path.name) if item.path.name in first else len(first))
    )
