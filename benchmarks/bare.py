"""What Ray Serve does with nothing of this project around it: a door and a step, for the benchmarks to stand beside the service.

The door composes handle calls exactly as the service does, futures as arguments. The forms it reads are benchmarks/graphs.py's.
"""

import asyncio
from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response
from ray import serve
from ray.serve import Application
from ray.serve.handle import DeploymentHandle

ROUTE = "/bare"
BARE = {  # as a Serve config has it, with what benchmarks/fakes/serve_config.yaml gives the door and the family of the fakes
    "name": "bare",
    "route_prefix": ROUTE,
    "import_path": "benchmarks.bare:build",
    "args": {
        "door": {"max_ongoing_requests": 200, "ray_actor_options": {"num_cpus": 0.1}},
        "step": {"num_replicas": 2, "max_ongoing_requests": 100, "ray_actor_options": {"num_cpus": 0.1}},
    },
}

door = FastAPI()


@serve.deployment(name="bare_step")
class BareStep:
    async def run(self, sleep_s: float, *upstream: str) -> str:
        if sleep_s:
            await asyncio.sleep(sleep_s)
        return f"{upstream[0] if upstream else 'go'}+"


# Last but for `build`: serve.ingress pickles the door with what the module holds at this line.
@serve.deployment(name="bare_door")
@serve.ingress(door)
class BareDoor:
    def __init__(self, step: DeploymentHandle[Any]) -> None:
        self._step = step

    @door.post("/graph")
    async def graph(self, request: Request) -> Response:
        futures: dict[str, Any] = {}
        for step in (await request.json())["steps"]:
            futures[step["id"]] = self._step.run.remote(step["sleep_s"], *(futures[need] for need in step["needs"]))
        texts = await asyncio.gather(*futures.values())
        return JSONResponse(dict(zip(futures, texts, strict=True)))


def build(args: Mapping[str, Any]) -> Application:
    """`door` and `step` are deployment options."""
    door_deployment: Any = BareDoor  # serve.deployment is untyped
    step: Any = BareStep
    application: Application = door_deployment.options(**args["door"]).bind(step.options(**args["step"]).bind())
    return application
