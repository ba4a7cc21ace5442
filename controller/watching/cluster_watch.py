"""ClusterWatch: gathers what GET /v1/cluster tells. Asks the board and Ray at once, each for as long as its answer may take."""

import asyncio
import time
from typing import Any

from ray import serve
from ray.exceptions import RayError
from ray.serve.exceptions import RayServeException

from cluster.settings import AppSettings
from controller.choosing.live_state import LiveState
from controller.pipeline import Pipeline
from controller.watching.cluster_view import cluster_view
from controller.watching.ray_facts import RayFacts


class ClusterWatch:
    """As an ingress replica sees it; runs and latencies are its own."""

    def __init__(self, live: LiveState, settings: AppSettings, pipeline: Pipeline) -> None:
        self._live = live
        self._settings = settings
        self._pipeline = pipeline
        self._ray = RayFacts()

    async def as_json(self) -> dict[str, Any]:
        state, (nodes, deployments, pages) = await asyncio.gather(self._live.cluster_state(), self._ray.latest())
        told = state if self._live.is_told or state.replicas else None
        ingress = {
            "replica": _this_replica(),
            "runs_in_flight": self._pipeline.runs_in_flight,
            "max_runs_in_flight": self._settings.limits.max_runs_in_flight,
            "stage_latencies": self._pipeline.latencies.as_json(),
        }
        return cluster_view(told, self._settings.families, nodes, deployments, pages, time_s=round(time.time(), 3), ingress=ingress)


def _this_replica() -> str | None:
    try:
        return str(serve.get_replica_context().replica_id.unique_id)
    except (RayError, RayServeException):
        return None
