"""Who this replica is to Ray and Serve, and how Serve's routers learn which models it has.

`@serve.multiplexed` counts models, and cannot weigh them; deployments/model_cache.py stands in its place. What is left of it is the
message that makes routers prefer a replica that has the model (ray/serve/multiplex.py of Ray 2.60, which pyproject.toml pins).
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import ray
from ray import serve
from ray.serve.exceptions import RayServeException


@dataclass(frozen=True, slots=True)
class Identity:
    replica: str
    node: str
    serve_id: Any | None = None  # Serve's own id; None outside Serve


def this_replica() -> Identity:
    try:
        context = serve.get_replica_context()
    except RayServeException:
        return Identity("local", "local")
    node = str(ray.get_runtime_context().get_node_id())[:12]
    return Identity(context.replica_id.unique_id, node, context.replica_id)


async def tell_router(identity: Identity, models: Sequence[str]) -> None:
    """Loaded and loading models, as `handle.options(multiplexed_model_id=…)` names them. A routing hint: without it all still works."""
    if identity.serve_id is not None:
        await asyncio.to_thread(_push, identity.serve_id, list(models))


def _push(serve_id: Any, models: list[str]) -> None:
    from ray.serve._private.common import RequestRoutingInfo
    from ray.serve.context import _get_global_client

    client: Any = _get_global_client()
    client.record_request_routing_info(RequestRoutingInfo(replica_id=serve_id, multiplexed_model_ids=models))
