"""What goes on inside the family of fakes, as Ray sees it."""

import time
from typing import Any


def replicas() -> list[str]:
    """Names of the actors of the family's replicas."""
    import ray
    from ray.util.state import list_actors

    address = ray.get_runtime_context().gcs_address  # without it Ray refuses when another Ray runs on this machine
    actors = list_actors(address, filters=[("state", "=", "ALIVE")], limit=1000)
    return [actor.name for actor in actors if "#fake#" in (actor.name or "")]


def await_steps_going(count: int) -> None:
    import ray

    deadline = time.monotonic() + 5
    while (going := sum(ray.get([actor(name).get_num_ongoing_requests.remote() for name in replicas()]))) != count:
        assert time.monotonic() < deadline, f"{going} steps are going, not {count}"
        time.sleep(0.1)


def actor(name: str) -> Any:
    import ray

    return ray.get_actor(name, namespace="serve")
