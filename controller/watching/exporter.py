"""What GET /metrics says: the cluster's state as the board tells it, in Prometheus' text format: no clock, nothing of this process.

Any replica of the ingress says the same, so that a scrape is right whichever of them answers; cluster/metrics.py tells where all else comes
from. A family's replicas are numbered 0, 1, …, in the order of their ids: a replica that is replaced leaves its number to the next one.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector
from ray._private.worker import get_dashboard_url  # Ray 2.60 offers no public way

from cluster.state import ClusterState, ReplicaState

MEDIA_TYPE = "text/plain; version=0.0.4; charset=utf-8"
GAUGES: Mapping[str, tuple[str, tuple[str, ...]]] = {  # what it says, its labels
    "hgpt_board_up": ("1 where the board told the state below, 0 where it does not answer", ()),
    "hgpt_nodes": ("Nodes that have a replica of a family", ()),
    "hgpt_replicas": ("Replicas of a family that tell their state", ("family",)),
    "hgpt_models_loaded": ("Models in memory, each counted on every replica that has it", ("family",)),
    "hgpt_models_set_aside": ("Models that kept failing and are not tried for a while, likewise", ("family",)),
    "hgpt_steps_in_flight": ("Steps that wait for a model or are run by one", ("family",)),
    "hgpt_replica_memory_bytes": ("What the models of a replica take", ("family", "replica")),
    "hgpt_replica_memory_budget_bytes": ("What they may take", ("family", "replica")),
}


def exposition(state: ClusterState, families: Sequence[str], *, is_told: bool) -> bytes:
    """`families`: those that are deployed, so that one without a replica is seen as 0. `is_told`: whether the board answers."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_State(state, families, is_told))
    return generate_latest(registry)


def ray_service_discovery() -> str | None:
    """The address where Ray's dashboard lists the metrics agents of all nodes for Prometheus; None where there is no dashboard."""
    address = get_dashboard_url()  # type: ignore[no-untyped-call]
    return f"http://{address}/api/prometheus/sd" if address else None


class _State(Collector):
    def __init__(self, state: ClusterState, families: Sequence[str], is_told: bool) -> None:
        self._state = state
        self._families = families
        self._is_told = is_told

    def collect(self) -> list[Metric]:
        gauges = {name: GaugeMetricFamily(name, says, labels=labels) for name, (says, labels) in GAUGES.items()}
        gauges["hgpt_board_up"].add_metric([], float(self._is_told))
        if not self._is_told:
            return [gauges["hgpt_board_up"]]
        gauges["hgpt_nodes"].add_metric([], len({replica.node for replica in self._state.replicas}))
        replicas: dict[str, list[ReplicaState]] = defaultdict(list, {family: [] for family in self._families})
        for replica in sorted(self._state.replicas, key=lambda replica: replica.replica):
            replicas[replica.family].append(replica)
        for family, its_replicas in replicas.items():
            models = [model for replica in its_replicas for model in replica.models]
            gauges["hgpt_replicas"].add_metric([family], len(its_replicas))
            gauges["hgpt_models_loaded"].add_metric([family], sum(model.is_loaded for model in models))
            gauges["hgpt_models_set_aside"].add_metric([family], sum(model.is_set_aside for model in models))
            gauges["hgpt_steps_in_flight"].add_metric([family], sum(model.in_flight for model in models))
            for number, replica in enumerate(its_replicas):
                gauges["hgpt_replica_memory_bytes"].add_metric([family, str(number)], replica.used_bytes)
                gauges["hgpt_replica_memory_budget_bytes"].add_metric([family, str(number)], replica.budget_bytes)
        return list(gauges.values())
