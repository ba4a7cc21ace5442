"""Runs on a pipeline of plain asyncio families and a scripted language model, and how to read what they tell."""

import asyncio
import json
import pickle
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from cluster.run_ids import new_run_id
from cluster.settings import Limits
from controller.asking.request import Request
from controller.asking.terms import Terms
from controller.runs.peers import Ask, Peers
from controller.runs.run_store import RunStore
from controller.runs.runs import Runs
from tests.fakes_chat import ScriptedChat
from tests.fakes_pipeline import a_pipeline


def runs_of(
    tmp_path: Path,
    *script: str,
    limits: Limits | None = None,
    ran: list[str] | None = None,
    peers: Ask | None = None,
    max_readers: int = 10,
    lost_after_s: float = 60,
) -> Runs:
    """What the language model says after the script is an answer."""
    pipeline = a_pipeline(ScriptedChat(*script, "It is done."), [] if ran is None else ran, limits or Limits(), max_replans=0)
    return Runs(pipeline, RunStore(f"file://{tmp_path}/runs", 1000), Peers(peers or ask_nobody), max_readers, lost_after_s)


async def ask_nobody(_method: str, *_arguments: Any, timeout_s: float) -> list[Any]:
    return []


def the_peer(runs: Runs) -> Ask:
    """Asks one replica, as controller.door.ingress.Ingress answers it, beside one that does not know."""

    async def ask(method: str, *arguments: Any, timeout_s: float) -> list[Any]:
        if method == "told_here":
            answer: Any = await runs.told_here(*arguments)
        else:
            run_id, cancels = arguments
            answer = await runs.cancel_here(run_id) if cancels else runs.record_here(run_id)
        return pickle.loads(pickle.dumps([None, answer]))  # noqa: S301 - its own

    return ask


def a_request(**terms: Any) -> Request:
    return Request(new_run_id(), "go", terms=Terms(**terms))


def a_plan(*tasks: str) -> str:
    return json.dumps({f"s{n}": [task, {"text": "go"}] for n, task in enumerate(tasks, 1)})


async def told(stream: AsyncIterator[str]) -> list[tuple[str, str, dict[str, Any]]]:
    """Id, name and data of every event."""
    found = []
    async for text in stream:
        fields = dict(line.split(": ", 1) for line in text.strip().split("\n") if not line.startswith(":"))
        if "data" in fields:
            found.append((fields["id"], fields["event"], json.loads(fields["data"])))
    return found


async def until(condition: Any) -> None:
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110 - what others see is a file, or a record, that tells nobody
            await asyncio.sleep(0.005)
