"""One Ray, one Serve and one vLLM engine on the CPU for the whole run. Nothing here knows what the tests ask of them."""

import os
import secrets
import shutil
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.otlp import Backend, running

LOOPBACK = "127.0.0.1"
NAMESPACE = "hgpt-vllm-test"
APPLICATION = "llm"
ROUTE_PREFIX = "/llm"
MODEL_ID = "tiny/random-llama"
LOGICAL_CPUS = 8  # what Ray may promise, not what the machine has: the engine's bundles are small and mostly idle

# Read by Ray and vLLM while they are imported, here and in every process that they start.
os.environ |= {
    "RAY_AUTH_MODE": "token",
    "RAY_AUTH_TOKEN": secrets.token_hex(32),  # given, so that Ray writes none into the home folder
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # elsewhere too, this is what keeps a local Ray on the loopback
    "RAY_USAGE_STATS_ENABLED": "0",
    "VLLM_NO_USAGE_STATS": "1",
    "HF_HUB_OFFLINE": "1",
    "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "http/protobuf",  # vLLM's own choice is gRPC
    "OTEL_BSP_SCHEDULE_DELAY": "200",  # milliseconds between two deliveries of spans
    "OMP_NUM_THREADS": "1",
    "OMP_WAIT_POLICY": "PASSIVE",  # two spinning threads on two shared cores stall each other
}


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "vllm: starts a real vLLM engine; needs the pins of cluster/constraints-vllm.txt")


@pytest.fixture(scope="session")
def vllm_model_id() -> str:
    return MODEL_ID


@pytest.fixture(scope="session")
def vllm_model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from tiny_llama import save_tiny_llama

    folder = tmp_path_factory.mktemp("tiny-llama")
    save_tiny_llama(folder)
    return folder


@pytest.fixture(scope="session")
def local_ray() -> Iterator[None]:
    import ray

    # Not pytest's folder: Ray's sockets lie in it, and a Unix socket's path may have 107 bytes at most.
    folder = tempfile.mkdtemp(prefix="hgpt-vllm-")
    ray.init(
        address="local",
        namespace=NAMESPACE,
        num_cpus=LOGICAL_CPUS,
        num_gpus=0,
        object_store_memory=100 << 20,
        include_dashboard=False,
        _node_ip_address=LOOPBACK,
        _temp_dir=folder,
    )
    yield
    ray.shutdown()
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def traces() -> Iterator[Backend]:
    """Where the engine tells its spans."""
    with running(Backend(port=0)) as backend:
        yield backend


@pytest.fixture(scope="session")
def vllm_base_url(local_ray: None, vllm_model_folder: Path, vllm_model_id: str, traces: Backend) -> Iterator[str]:
    """The address for an OpenAI client's `base_url`, once the engine is ready."""
    from ray import serve

    from deployments.vllm_engine import VllmSettings, build_vllm

    port = free_port()
    serve.start(http_options={"host": LOOPBACK, "port": port})
    settings = VllmSettings(
        model_id=vllm_model_id,
        model_source=str(vllm_model_folder),
        accelerator="cpu",
        engine_kwargs={"otlp_traces_endpoint": f"{traces.url}/v1/traces"},
    )
    serve.run(build_vllm(settings), name=APPLICATION, route_prefix=ROUTE_PREFIX)
    yield f"http://{LOOPBACK}:{port}{ROUTE_PREFIX}/v1"
    serve.shutdown()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        return int(probe.getsockname()[1])
