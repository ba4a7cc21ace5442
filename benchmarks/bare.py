"""What Ray Serve does with nothing of this project around it: a door and a step, for the benchmarks to stand beside the service.

The door composes handle calls exactly as the service does, futures as arguments, and asks the LLM's application over HTTP with the
service's client library. What is to be done stands in the request: nothing is planned, checked, chosen or recorded.
"""

import asyncio
from collections.abc import Mapping, Sequence
from time import perf_counter
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response
from openai import AsyncOpenAI
from ray import serve
from ray.serve import Application
from ray.serve.handle import DeploymentHandle

ROUTE = "/bare"

door = FastAPI()


@serve.deployment(name="bare_step")
class BareStep:
    async def run(self, sleep_s: float, *upstream: str) -> str:
        if sleep_s:
            await asyncio.sleep(sleep_s)
        return f"{upstream[0] if upstream else 'go'}+"


# Last but for what builds it: serve.ingress pickles the door with what the module holds at this line.
@serve.deployment(name="bare_door")
@serve.ingress(door)
class BareDoor:
    def __init__(self, step: DeploymentHandle[Any], llm_url: str) -> None:
        self._step = step
        self._llm = AsyncOpenAI(base_url=llm_url, api_key="none")

    @door.post("/graph")
    async def graph(self, request: Request) -> Response:
        """`steps`, as benchmarks/graphs.py writes them; gives their texts, and the seconds from the first call to the last result."""
        steps = (await request.json())["steps"]
        started_s = perf_counter()
        texts = await self._ran(steps)
        return JSONResponse({"texts": texts, "execute_s": perf_counter() - started_s})

    @door.post("/chat")
    async def chat(self, request: Request) -> Response:
        """`asks`, how often the LLM is asked what `content` says, and `steps`."""
        body = await request.json()
        said = [await self._asked(body["content"]) for _ in range(body["asks"])]
        return JSONResponse({"said": said, "texts": await self._ran(body["steps"])})

    async def _ran(self, steps: Sequence[Mapping[str, Any]]) -> dict[str, str]:
        futures: dict[str, Any] = {}
        for step in steps:
            futures[step["id"]] = self._step.run.remote(step["sleep_s"], *(futures[need] for need in step["needs"]))
        texts = await asyncio.gather(*futures.values())
        return dict(zip(futures, texts, strict=True))

    async def _asked(self, content: str) -> str:
        """Streamed, as the service asks."""
        stream = await self._llm.chat.completions.create(model="controller", messages=[{"role": "user", "content": content}], stream=True)
        async with stream:
            return "".join([chunk.choices[0].delta.content or "" async for chunk in stream])


def build(args: Mapping[str, Any]) -> Application:
    """`door` and `step` are deployment options, `llm_url` is the base of an OpenAI-compatible server."""
    door_deployment: Any = BareDoor  # serve.deployment is untyped
    step: Any = BareStep
    application: Application = door_deployment.options(**args["door"]).bind(step.options(**args["step"]).bind(), args["llm_url"])
    return application


def bare_application(port: int) -> dict[str, Any]:
    """As a Serve config has it, with what benchmarks/fakes/serve_config.yaml gives the service's door and the family of the fakes."""
    share = {"ray_actor_options": {"num_cpus": 0.1}}
    return {
        "name": "bare",
        "route_prefix": ROUTE,
        "import_path": "benchmarks.bare:build",
        "args": {
            "door": {"max_ongoing_requests": 200, **share},
            "step": {"num_replicas": 2, "max_ongoing_requests": 100, **share},
            "llm_url": f"http://127.0.0.1:{port}/llm/v1",
        },
    }
