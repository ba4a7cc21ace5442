"""The same graphs, in turns: by the service, as bare Ray Serve handle calls, and as asyncio tasks. Every result is compared."""

import asyncio
import json
import time
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import httpx

from benchmarks.bare import ROUTE
from benchmarks.graphs import Graph, Node, as_bare, as_plan, chain, diamonds, drawn, fan_out, texts

HEADERS = {"Cache-Control": "no-store"}  # every run is to run
STEPS = (1, 3, 10, 30, 100)
STEPS_DRAWN = (10, 100, 300, 1000)
LEVELS = (1, 6, 20)
RECENT = 20  # of a drawn graph: 1,000 steps are about 180 deep, and 6 run side by side
STAGES = ("select", "execute", "answer")  # of the service's own record
TIMEOUT_S = 120.0

SHAPES: dict[str, Graph] = {
    **{f"chain_{steps}": chain(steps, 10) for steps in STEPS},
    **{f"fanout_{steps}": fan_out(steps, 20) for steps in STEPS},
    **{f"diamonds_{len(graph)}": graph for graph in (diamonds(levels, 10) for levels in LEVELS)},
    **{f"dag_{steps}": drawn(steps, RECENT, seed=steps) for steps in STEPS_DRAWN},
}


@dataclass(frozen=True, slots=True)
class Ran:
    took_s: float
    texts: Mapping[str, str]
    stages_s: Mapping[str, float] = field(default_factory=dict)


class Runner(Protocol):
    def __call__(self, graph: Graph) -> Ran: ...


@dataclass(frozen=True, slots=True)
class Timings:
    """Seconds of every round: by shape, and then by who ran it, or by the service's stage."""

    whole_s: dict[str, dict[str, list[float]]] = field(default_factory=lambda: defaultdict(lambda: defaultdict(list)))
    stages_s: dict[str, dict[str, list[float]]] = field(default_factory=lambda: defaultdict(lambda: defaultdict(list)))


def measured_in_turns(url: str, rounds: int, shapes: Mapping[str, Graph] = SHAPES) -> Timings:
    """After one round to warm up; a busy moment of the machine touches all three of them. Raises RuntimeError for a wrong result."""
    timings = Timings()
    with httpx.Client(base_url=url, timeout=TIMEOUT_S, headers=HEADERS) as client:
        runners: dict[str, Runner] = {
            "app": lambda graph: by_the_service(client, graph),
            "bare": lambda graph: by_bare_calls(client, graph),
            "asyncio": by_asyncio,
        }
        for number in range(-1, rounds):
            for shape, graph in shapes.items():
                for kind, runner in runners.items():
                    ran = runner(graph)
                    if ran.texts != texts(graph):
                        raise RuntimeError(f"{shape} by {kind}: wrong results, such as {_wrong(ran.texts, graph)}")
                    if number >= 0:
                        timings.whole_s[shape][kind].append(ran.took_s)
                        for stage, took_s in ran.stages_s.items():
                            timings.stages_s[shape][stage].append(took_s)
    return timings


def by_the_service(client: httpx.Client, graph: Graph) -> Ran:
    took_s, run = _posted(client, "/v1/runs", {"plan": as_plan(graph), "reuse": False})
    given = {result["step"]: str(result.get("text", result["status"])) for result in run["results"]}
    return Ran(took_s, given, {stage: run["seconds"][stage] for stage in STAGES})


def by_bare_calls(client: httpx.Client, graph: Graph) -> Ran:
    took_s, ran = _posted(client, f"{ROUTE}/graph", as_bare(graph))
    return Ran(took_s, ran["texts"], {"bare_execute": ran["execute_s"]})


def by_asyncio(graph: Graph) -> Ran:
    started = time.perf_counter()
    given = asyncio.run(_slept(graph))
    return Ran(time.perf_counter() - started, given)


def _posted(client: httpx.Client, path: str, body: Mapping[str, Any]) -> tuple[float, dict[str, Any]]:
    """Reading and writing the JSON is not the machinery's time."""
    content = json.dumps(body)
    started = time.perf_counter()
    reply = client.post(path, content=content, headers={"Content-Type": "application/json"})
    took_s = time.perf_counter() - started
    if not reply.is_success:
        raise RuntimeError(f"{path} answered HTTP {reply.status_code}: {reply.text[:200]}")
    read: dict[str, Any] = reply.json()
    return took_s, read


async def _slept(graph: Graph) -> dict[str, str]:
    tasks: dict[str, asyncio.Task[str]] = {}

    async def step(node: Node) -> str:
        upstream = [await tasks[need] for need in node.needs]
        await asyncio.sleep(node.sleep_ms / 1000)
        return f"{upstream[0] if upstream else 'go'}+"

    async with asyncio.TaskGroup() as group:
        for node in graph:
            tasks[node.id] = group.create_task(step(node))
    return {step_id: task.result() for step_id, task in tasks.items()}


def _wrong(given: Mapping[str, str], graph: Graph) -> str:
    return next(
        (f"{step_id}: {given.get(step_id)}" for step_id, text in texts(graph).items() if given.get(step_id) != text), "one too many"
    )
