"""Runs in the background: refused before they are promised, told of in the store while they go on, lost with their process."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from ray.serve.exceptions import RayServeException

from cluster.errors import NotFound, Overloaded, RunEnded, Unavailable
from cluster.settings import Limits
from tests.fakes_pipeline import HANGS, WORKS
from tests.fakes_runs import a_plan, a_request, runs_of, the_peer, told, until


async def test_a_run_in_the_background_is_refused_before_it_is_promised(tmp_path: Path) -> None:
    runs = runs_of(tmp_path, a_plan(HANGS), limits=Limits(max_runs_in_flight=1))
    first, second = runs.start(a_request(), in_background=True), runs.start(a_request(), in_background=True)
    await runs.promise(first)
    with pytest.raises(Overloaded):
        await runs.promise(second)
    await until(lambda: not runs._store._unwritten)
    with pytest.raises(NotFound):
        await runs_of(tmp_path).record(second.request.id)
    first.cancel()


async def test_a_run_in_the_background_of_which_nobody_tells_any_more_is_lost(tmp_path: Path) -> None:
    runs = runs_of(tmp_path, a_plan(HANGS), lost_after_s=0.6)
    live = runs.start(a_request(), in_background=True)
    await runs.promise(live)
    run_id = live.request.id
    await until(lambda: list(tmp_path.rglob(f"{run_id}.json")))
    elsewhere = runs_of(tmp_path, lost_after_s=0.6)  # of the same store, and no peer: another cluster, or this one after a new start
    for _ in range(4):
        assert json.loads(await elsewhere.record(run_id))["status"] == "in_progress"
        await asyncio.sleep(0.25)
    for ask in (elsewhere.cancel(run_id), elsewhere.events(run_id, None, 10)):
        with pytest.raises(Unavailable, match="try again; if it has ended, that is known in 0.6 s"):
            await ask
    for telling in runs._telling:  # as when its process ends
        telling.cancel()
    await asyncio.sleep(0.8)
    assert json.loads(await runs_of(tmp_path, peers=the_peer(runs), lost_after_s=0.6).record(run_id))["status"] == "in_progress"
    record = json.loads(await elsewhere.record(run_id))
    assert (record["status"], record["error"]["code"], record["request"]) == ("failed", "run_lost", "go")
    assert "send the request again" in record["error"]["message"]
    for seen in (None, f"{run_id}-3"):
        stream = await elsewhere.events(run_id, seen, 10)
        assert stream is not None and await told(stream) == [(record["last_event_id"], "run", record)]
    assert await elsewhere.events(run_id, record["last_event_id"], 10) is None
    with pytest.raises(RunEnded, match="failed"):
        await elsewhere.cancel(run_id)
    live.cancel()


async def test_the_end_of_a_run_in_the_background_takes_the_place_of_its_beginning_in_the_store(tmp_path: Path) -> None:
    runs = runs_of(tmp_path, a_plan(WORKS), lost_after_s=0.03)
    live = runs.start(a_request(), in_background=True)
    await runs.promise(live)
    await live.answered()
    await asyncio.sleep(0.1)
    await until(lambda: not runs._store._unwritten)
    record = json.loads(await runs_of(tmp_path, lost_after_s=0.03).record(live.request.id))
    assert record["status"] == "completed" and "told_at" not in record and not runs._telling


async def test_a_run_in_the_background_may_forbid_a_record_in_the_store(tmp_path: Path) -> None:
    runs = runs_of(tmp_path, a_plan(HANGS))
    live = runs.start(a_request(keeps_results=False), in_background=True)
    await runs.promise(live)
    await asyncio.sleep(0.05)
    assert not runs._telling and not list(tmp_path.rglob("*.json"))  # noqa: ASYNC240 - a test's own folder
    live.cancel()


async def test_a_run_is_not_said_to_be_lost_while_a_replica_does_not_answer(tmp_path: Path) -> None:
    async def ask(_method: str, *_arguments: Any, timeout_s: float) -> list[Any]:
        return [None, RayServeException("gone")]

    runs = runs_of(tmp_path, a_plan(HANGS))
    live = runs.start(a_request(), in_background=True)
    await runs.promise(live)
    await until(lambda: list(tmp_path.rglob("*.json")))
    other = runs_of(tmp_path, peers=ask)
    with pytest.raises(Unavailable):
        await other.record(live.request.id)
    with pytest.raises(Unavailable):
        await other.events(live.request.id, None, 10)
    live.cancel()
