"""RayFacts: what Ray and Serve say of nodes and deployments, asked in a thread and seldom. What they do not tell in time is None.

Memory, processor use and queues are read where Prometheus reads them, from the nodes' own metric pages, which renew every few seconds.
"""

import asyncio
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from math import isfinite
from typing import Generic, TypeVar

import httpx
from prometheus_client.parser import text_string_to_metric_families

FRESH_S = 1.0
DEPLOYMENTS_FRESH_S = 2.0
PAGES_FRESH_S = 3.0  # a page is a megabyte of text, which a node renews every five to ten seconds
WAIT_S = 1.0  # that a request gives an answer; then the last one stands
STALE_S = 15.0  # after which the last answer is worth nothing
PAGE_TIMEOUT_S = 2.0
PAGES_AT_ONCE = 8
NODE_ID_CHARACTERS = 12  # as replicas name their node, see deployments.identity

T = TypeVar("T")
Page = Mapping[str, Sequence[tuple[Mapping[str, str], float]]]  # samples by metric: labels and value

MEMORY_USED, MEMORY_TOTAL, CPU_PERCENT = "ray_node_mem_used", "ray_node_mem_total", "ray_node_cpu_utilization"
QUEUED, PROCESSING = "ray_serve_deployment_queued_queries", "ray_serve_replica_processing_queries"
_WANTED = (MEMORY_USED, MEMORY_TOTAL, CPU_PERCENT, QUEUED, PROCESSING)


@dataclass(frozen=True, slots=True)
class NodeFacts:
    """`page`: where its metrics are, as host:port; None where it has none."""

    id: str
    name: str
    address: str
    is_alive: bool
    resources: Mapping[str, float]
    free: Mapping[str, float] | None
    page: str | None


@dataclass(frozen=True, slots=True)
class DeploymentFacts:
    application: str
    name: str
    status: str
    replicas: Mapping[str, int]  # by state


class Asked(Generic[T]):
    """What a blocking call gives, made in a thread, at most every `fresh_s` and once at a time. One that hangs leaves the last answer."""

    def __init__(self, ask: Callable[[], T], fresh_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._ask = ask
        self._fresh_s = fresh_s
        self._clock = clock
        self._asking: asyncio.Task[T] | None = None
        self._asked_s: float | None = None
        self._told: tuple[float, T] | None = None

    async def latest(self) -> T | None:
        now_s = self._clock()
        if self._asking is None and (self._asked_s is None or now_s - self._asked_s >= self._fresh_s):
            self._asked_s = now_s
            self._asking = asyncio.create_task(asyncio.to_thread(self._ask))
            self._asking.add_done_callback(self._answered)
        if self._asking is not None:
            await asyncio.wait({self._asking}, timeout=WAIT_S)
        if self._told is None or self._clock() - self._told[0] > STALE_S:
            return None
        return self._told[1]

    def _answered(self, asking: "asyncio.Task[T]") -> None:
        self._asking = None
        if not asking.cancelled() and asking.exception() is None:  # whatever Ray throws: the view does without it
            self._told = self._clock(), asking.result()


class RayFacts:
    def __init__(self) -> None:
        self._nodes = Asked(ray_nodes, FRESH_S)
        self._deployments = Asked(serve_deployments, DEPLOYMENTS_FRESH_S)
        self._pages = Asked(lambda: read_pages(node.page for node in ray_nodes() if node.is_alive and node.page), PAGES_FRESH_S)

    async def latest(self) -> tuple[list[NodeFacts] | None, list[DeploymentFacts] | None, Mapping[str, Page] | None]:
        """Nodes, deployments, and the nodes' metrics by the address of their page."""
        return await asyncio.gather(self._nodes.latest(), self._deployments.latest(), self._pages.latest())


def ray_nodes() -> list[NodeFacts]:
    import ray
    from ray._private.state import available_resources_per_node

    free = available_resources_per_node()  # type: ignore[no-untyped-call]
    return [
        NodeFacts(
            id=str(node["NodeID"])[:NODE_ID_CHARACTERS],
            name=str(node["NodeManagerHostname"]),
            address=str(node["NodeManagerAddress"]),
            is_alive=bool(node["Alive"]),
            resources=node["Resources"],
            free=free.get(node["NodeID"]),
            page=f"{node['NodeManagerAddress']}:{port}" if (port := node.get("MetricsExportPort")) else None,
        )
        for node in ray.nodes()  # type: ignore[no-untyped-call]
    ]


def serve_deployments() -> list[DeploymentFacts]:
    from ray import serve

    return [
        DeploymentFacts(
            application, name, str(deployment.status.value), {str(state): count for state, count in deployment.replica_states.items()}
        )
        for application, overview in serve.status().applications.items()
        for name, deployment in overview.deployments.items()
    ]


def read_pages(pages: Iterable[str]) -> Mapping[str, Page]:
    """Those that answer in time."""
    wanted = list(pages)
    with httpx.Client(timeout=PAGE_TIMEOUT_S, trust_env=False) as client, ThreadPoolExecutor(PAGES_AT_ONCE) as pool:
        read = pool.map(lambda page: _page(client, page), wanted)
        return {page: samples for page, samples in zip(wanted, read, strict=True) if samples is not None}


def _page(client: httpx.Client, page: str) -> Page | None:
    try:
        return wanted_samples(client.get(f"http://{page}/metrics").raise_for_status().text)
    except httpx.HTTPError:
        return None


def wanted_samples(text: str) -> Page:
    """Only the metrics that are shown: a page in the text format of Prometheus holds thousands of lines, and parsing them all is slow."""
    found: dict[str, list[tuple[Mapping[str, str], float]]] = defaultdict(list)
    lines = "".join(f"{line}\n" for line in text.splitlines() if line.startswith(_WANTED))
    for family in text_string_to_metric_families(lines):
        for sample in family.samples:
            if sample.name in _WANTED and isfinite(sample.value):
                found[sample.name].append((sample.labels, sample.value))
    return found
