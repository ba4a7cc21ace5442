"""The cluster as GET /v1/cluster tells it: plain data in, JSON out. What is not known is null, and the rest is told all the same."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from cluster.state import ClusterState, ModelState, ReplicaState
from controller.watching.ray_facts import (
    CPU_PERCENT,
    MEMORY_TOTAL,
    MEMORY_USED,
    PROCESSING,
    QUEUED,
    DeploymentFacts,
    NodeFacts,
    Page,
)

RUNNING = "RUNNING"  # the state of a replica that Serve sends requests to


def cluster_view(
    state: ClusterState | None,
    families: Iterable[str],
    nodes: Sequence[NodeFacts] | None,
    deployments: Sequence[DeploymentFacts] | None,
    pages: Mapping[str, Page] | None,
    **more: Any,
) -> dict[str, Any]:
    """`state`: None where the board does not tell; `families`: those that are deployed, also where no replica has told its state yet.

    `more`: fields that are JSON already.
    """
    return {
        "object": "cluster",
        "nodes": None if nodes is None else [_node(node, (pages or {}).get(node.page or "", {})) for node in nodes],
        "families": None if state is None else _families(state, families),
        "deployments": None if deployments is None else [_deployment(one, pages) for one in deployments],
        **more,
    }


def _families(state: ClusterState, families: Iterable[str]) -> list[dict[str, Any]]:
    every = dict.fromkeys((*families, *(replica.family for replica in state.replicas)))
    return [{"family": name, "replicas": [_replica(replica) for replica in state.replicas if replica.family == name]} for name in every]


def _node(node: NodeFacts, page: Page) -> dict[str, Any]:
    cpu_percent = _total(page, CPU_PERCENT)
    return {
        "id": node.id,
        "name": node.name,
        "address": node.address,
        "is_alive": node.is_alive,
        "cpus": node.resources.get("CPU", 0.0) if node.is_alive else None,
        "cpus_allocated": _allocated(node, "CPU"),
        "cpu_utilization": None if cpu_percent is None else round(cpu_percent / 100, 3),
        "gpus": node.resources.get("GPU", 0.0) if node.is_alive else None,
        "gpus_allocated": _allocated(node, "GPU"),
        "memory_bytes": _bytes(_total(page, MEMORY_TOTAL)),
        "memory_used_bytes": _bytes(_total(page, MEMORY_USED)),
    }


def _allocated(node: NodeFacts, resource: str) -> float | None:
    """What Ray has promised to actors and tasks, which need not use it."""
    if node.free is None or not node.is_alive:
        return None
    return round(node.resources.get(resource, 0.0) - node.free.get(resource, 0.0), 4)


def _replica(replica: ReplicaState) -> dict[str, Any]:
    return {
        "replica": replica.replica,
        "node": replica.node,
        "memory_budget_bytes": replica.budget_bytes,
        "memory_used_bytes": replica.used_bytes,
        "models": [_model(model) for model in replica.models],
    }


def _model(model: ModelState) -> dict[str, Any]:
    return {
        "model": model.model,
        "is_loaded": model.is_loaded,
        "in_flight": model.in_flight,
        "mean_run_s": _rounded(model.run_s),
        "mean_load_s": _rounded(model.load_s),
        "is_set_aside": model.is_set_aside,
    }


def _deployment(one: DeploymentFacts, pages: Mapping[str, Page] | None) -> dict[str, Any]:
    every = (pages or {}).values()
    labels = {"application": one.application, "deployment": one.name}
    return {
        "application": one.application,
        "deployment": one.name,
        "status": one.status,
        "replicas": {"running": one.replicas.get(RUNNING, 0), "other": sum(one.replicas.values()) - one.replicas.get(RUNNING, 0)},
        "queued_requests": _count(_total(page, QUEUED, labels) for page in every),
        "ongoing_requests": _count(_total(page, PROCESSING, labels) for page in every),
    }


def _total(page: Page, metric: str, labels: Mapping[str, str] | None = None) -> float | None:
    """Over the samples that have these labels; None where there is none."""
    wanted = (labels or {}).items()
    values = [value for its_labels, value in page.get(metric, ()) if wanted <= its_labels.items()]
    return sum(values) if values else None


def _count(values: Iterable[float | None]) -> int | None:
    known = [value for value in values if value is not None]
    return int(sum(known)) if known else None


def _bytes(value: float | None) -> int | None:
    return None if value is None else int(value)


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 4)
