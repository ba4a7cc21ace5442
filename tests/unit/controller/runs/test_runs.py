"""Runs as tasks: followed from anywhere, cancelled, remembered. The pipeline is the real one, on families that are plain asyncio."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from ray.serve.exceptions import RayServeException

from cluster.errors import BadRequest, NotFound, Overloaded, RunCancelled, RunEnded, Unavailable
from cluster.run_ids import new_run_id
from cluster.settings import Limits
from controller.runs.peers import Peers
from controller.runs.run_log import RunLog, last_number
from controller.runs.run_store import RunStore
from controller.runs.run_stream import events
from controller.runs.runs import Runs
from tests.fakes_pipeline import FAILS, HANGS, WORKS
from tests.fakes_runs import a_plan, a_request, ask_nobody, runs_of, the_peer, told, until

# Following


async def test_a_reader_gets_every_event_and_the_record_in_the_end(tmp_path: Path) -> None:
    runs = runs_of(tmp_path, a_plan(WORKS))
    live = runs.start(a_request(request_id="asked-1"))
    found = await told(events(live.log, 0, 10))
    assert [event_id for event_id, _, _ in found] == [f"{live.request.id}-{n}" for n in range(1, len(found) + 1)]
    names = [name for _, name, _ in found]
    assert names[0] == "plan" and {"step_started", "step_ended", "answer"} < set(names) and names[-1] == "run"
    record = found[-1][2]
    assert (record["status"], record["request"], record["request_id"], record["answer"]) == ("completed", "go", "asked-1", live.run.answer)
    assert record["plan"][0]["reason"] and record["results"][0]["span"] and record["last_event_id"] == found[-1][0]
    assert json.loads(await runs.record(live.request.id)) == record


async def test_a_reader_that_comes_again_gets_what_it_has_not_seen(tmp_path: Path) -> None:
    runs = runs_of(tmp_path, a_plan(WORKS))
    live = runs.start(a_request())
    await live.answered()
    whole = await told(events(live.log, 0, 10))
    for seen, (event_id, _, _) in enumerate(whole, 1):
        rest = await runs.events(live.request.id, event_id, 10)
        assert await told(rest or nothing()) == whole[seen:]
        assert (rest is None) == (seen == len(whole))


async def test_readers_at_their_own_pace_see_the_same_while_one_never_reads(tmp_path: Path) -> None:
    runs = runs_of(tmp_path, a_plan(WORKS, WORKS))
    live = runs.start(a_request())
    idle = events(live.log, 0, 10)
    await anext(idle)
    first, second = await asyncio.gather(told(events(live.log, 0, 10)), told(events(live.log, 0, 10)))
    assert first == second
    assert await told(idle) == first


async def test_silence_is_filled_with_heartbeats(tmp_path: Path) -> None:
    runs = runs_of(tmp_path, a_plan(HANGS))
    live = runs.start(a_request())
    stream = events(live.log, 0, 0.01)
    beats = 0
    async for text in stream:
        if text.startswith(":") and (beats := beats + 1) == 3:
            break
    live.cancel()


async def test_a_last_event_id_of_another_run_or_of_no_event_is_refused(tmp_path: Path) -> None:
    live = runs_of(tmp_path, a_plan(WORKS)).start(a_request())
    await live.answered()
    log = live.log
    for wrong, sentence in (
        (f"{new_run_id()}-1", "is of another run"),
        ("7", "is of another run"),
        (f"{log.run_id}-x", "has told no event"),
        (f"{log.run_id}-", "has told no event"),
        (f"{log.run_id}-{log.count + 2}", "has told no event"),
        (f"{log.run_id}-" + "9" * 5000, "has told no event"),
        (f"{log.run_id}-²", "has told no event"),
    ):
        with pytest.raises(BadRequest, match=sentence):
            last_number(log.run_id, log.last_number, wrong)
    assert [last_number(log.run_id, log.last_number, right) for right in (None, "", log.event_id(2))] == [0, 0, 2]


# Ending


async def test_a_cancelled_run_frees_its_steps_and_is_remembered_with_what_was_done(tmp_path: Path) -> None:
    ran: list[str] = []
    runs = runs_of(tmp_path, a_plan(WORKS, HANGS), ran=ran)
    live = runs.start(a_request())
    await until(lambda: "s2" in ran and "s1" in live.run.results)
    record = json.loads(await runs.cancel(live.request.id))
    assert (record["status"], record["error"]["code"]) == ("cancelled", "run_cancelled")
    assert [result["step"] for result in record["results"]] == ["s1"] and record["seconds"]["total"] > 0
    with pytest.raises(RunCancelled):
        await live.answered()
    assert runs._pipeline._flights._board == {}  # type: ignore[attr-defined]
    assert json.loads(await runs.cancel(live.request.id)) == record


async def test_a_run_that_has_ended_cannot_be_cancelled(tmp_path: Path) -> None:
    runs = runs_of(tmp_path, a_plan(WORKS))
    live = runs.start(a_request())
    await live.answered()
    with pytest.raises(RunEnded, match=r"has ended \(completed\)"):
        await runs.cancel(live.request.id)


async def test_a_run_that_is_cancelled_before_it_began_ends_too(tmp_path: Path) -> None:
    live = runs_of(tmp_path, a_plan(WORKS)).start(a_request())
    live.cancel()
    with pytest.raises(RunCancelled):
        await live.answered()


async def test_whoever_waits_for_a_run_and_goes_away_cancels_it(tmp_path: Path) -> None:
    live = runs_of(tmp_path, a_plan(HANGS)).start(a_request())
    waiting = asyncio.create_task(live.answered())
    await asyncio.sleep(0.02)
    waiting.cancel()
    await asyncio.wait([waiting])
    await live.log.ended()
    assert live.status == "cancelled"


async def test_a_run_without_an_answer_is_remembered_with_its_error(tmp_path: Path) -> None:
    runs = runs_of(tmp_path, '{"cannot":"text-to-image"}')
    live = runs.start(a_request())
    await live.log.ended()
    record = json.loads(await runs.record(live.request.id))
    assert (record["status"], record["error"]["code"], record["answer"]) == ("failed", "no_plan", "")


async def test_a_run_in_which_a_step_failed_has_completed(tmp_path: Path) -> None:
    runs = runs_of(tmp_path, a_plan(FAILS, WORKS))
    await runs.start(request := a_request()).answered()
    record = json.loads(await runs.record(request.id))
    assert (record["status"], [result["status"] for result in record["results"]]) == ("completed", ["failed", "done"])


# Remembering


async def test_a_run_that_goes_on_has_a_record_as_far_as_it_came(tmp_path: Path) -> None:
    ran: list[str] = []
    runs = runs_of(tmp_path, a_plan(WORKS, HANGS), ran=ran)
    live = runs.start(a_request())
    await until(lambda: "s1" in live.run.results)
    record = json.loads(await runs.record(f"chatcmpl-{live.request.id}"))
    assert (record["status"], record["ended_at"], [result["step"] for result in record["results"]]) == ("in_progress", None, ["s1"])
    assert record["last_event_id"] == live.log.event_id(live.log.count)
    live.cancel()


async def test_another_process_knows_the_end_of_a_run_from_the_store(tmp_path: Path) -> None:
    runs = runs_of(tmp_path, a_plan(WORKS))
    live = runs.start(a_request())
    await live.answered()
    await until(lambda: any(tmp_path.rglob(f"{live.request.id}.json")))
    other = runs_of(tmp_path)
    assert await other.record(live.request.id) == live.log.record
    last = (await told(events(live.log, 0, 10)))[-1:]
    assert await told(await other.events(live.request.id, None, 10) or nothing()) == last
    assert await other.events(live.request.id, last[0][0], 10) is None
    with pytest.raises(RunEnded):
        await other.cancel(live.request.id)


async def test_a_request_that_forbids_it_leaves_no_record_in_the_store(tmp_path: Path) -> None:
    runs = runs_of(tmp_path, a_plan(WORKS), "It is done.", a_plan(WORKS))
    secret, other = runs.start(a_request(keeps_results=False)), a_request()
    await secret.answered()
    await runs.start(other).answered()
    await until(lambda: any(tmp_path.rglob(f"{other.id}.json")))
    assert {path.stem for path in tmp_path.rglob("*.json")} == {other.id}  # noqa: ASYNC240 - a test's own folder
    assert await runs.record(secret.request.id)


async def test_a_run_that_was_refused_never_was(tmp_path: Path) -> None:
    runs = runs_of(tmp_path, a_plan(HANGS), limits=Limits(max_runs_in_flight=1))
    live = runs.start(a_request())
    await asyncio.sleep(0.02)
    refused = runs.start(a_request())
    with pytest.raises(Overloaded):
        await refused.answered()
    await asyncio.sleep(0)
    with pytest.raises(NotFound):
        await runs.record(refused.request.id)
    live.cancel()


async def test_an_unknown_run_is_not_found(tmp_path: Path) -> None:
    runs = runs_of(tmp_path)
    for ask in (runs.record(new_run_id()), runs.events(new_run_id(), None, 1), runs.cancel(new_run_id())):
        with pytest.raises(NotFound, match="no run has the id"):
            await ask


# Several replicas


async def test_a_run_is_followed_and_read_and_cancelled_from_another_replica(tmp_path: Path) -> None:
    ran: list[str] = []
    runs = runs_of(tmp_path, a_plan(WORKS, HANGS), ran=ran)
    other = runs_of(tmp_path, peers=the_peer(runs))
    live = runs.start(a_request())
    reading = asyncio.create_task(told(await other.events(live.request.id, None, 0.05) or nothing()))
    await until(lambda: "s2" in ran and "s1" in live.run.results)
    assert json.loads(await other.record(f"chatcmpl-{live.request.id}"))["status"] == "in_progress"
    with pytest.raises(BadRequest):
        await other.events(live.request.id, f"{live.request.id}-99", 1)
    record = json.loads(await other.cancel(live.request.id))
    assert record["status"] == "cancelled" == live.status
    assert await reading == await told(events(live.log, 0, 10))
    rest = await other.events(live.request.id, live.log.event_id(2), 1)
    assert await told(rest or nothing()) == (await reading)[2:]
    assert await other.events(live.request.id, record["last_event_id"], 1) is None


@pytest.mark.parametrize("answers", [RayServeException("the controller is gone"), TimeoutError(), [None, RuntimeError("it died")]])
async def test_a_run_that_may_be_with_a_replica_that_does_not_answer_is_not_said_to_be_unknown(answers: Any, tmp_path: Path) -> None:
    async def ask(*_arguments: Any, timeout_s: float) -> list[Any]:
        if isinstance(answers, Exception):
            raise answers
        return list(answers)

    runs = runs_of(tmp_path, peers=ask)
    for asked in (runs.record(new_run_id()), runs.events(new_run_id(), None, 1), runs.cancel(new_run_id())):
        with pytest.raises(Unavailable, match="try again"):
            await asked


# What is too much, or odd


async def test_readers_beyond_the_limit_are_told_when_to_come_again_and_those_that_leave_make_room(tmp_path: Path) -> None:
    runs = runs_of(tmp_path, a_plan(HANGS), max_readers=2)
    live = runs.start(a_request())
    readers = [await runs.events(live.request.id, None, 10) or nothing() for _ in range(2)]
    for reader in readers:
        await anext(reader)
    with pytest.raises(Overloaded) as refused:
        await runs.events(live.request.id, None, 10)
    assert refused.value.retry_after_s > 0
    await readers[0].aclose()  # type: ignore[attr-defined]
    assert await runs.events(live.request.id, None, 10) is not None
    live.cancel()


async def test_a_record_that_json_cannot_say_ends_its_run_all_the_same(tmp_path: Path) -> None:
    runs = runs_of(tmp_path, a_plan(WORKS))
    live = runs.start(a_request())
    live.run.seconds["odd"] = float("nan")
    await live.log.ended()
    assert json.loads(await runs.record(live.request.id))["seconds"]["odd"] is None


async def test_a_step_that_cancels_itself_is_a_failure_and_no_wish_of_anybody(tmp_path: Path) -> None:
    class Broken:
        async def answer(self, *_arguments: Any) -> Any:
            raise asyncio.CancelledError

    runs = Runs(Broken(), RunStore(f"file://{tmp_path}/runs", 1000), Peers(ask_nobody), 10, 60)
    live = runs.start(a_request())
    await live.log.ended()
    assert (live.status, live.error.code if live.error else "") == ("failed", "internal_error")


async def nothing() -> AsyncIterator[str]:
    for text in ():
        yield text


def test_a_log_that_forgot_its_events_counts_them_still() -> None:
    log = RunLog("r", forgotten=4)
    log.end(b"{}")
    assert (log.count, log.last_number, log.event_id(log.last_number), log.since(0)) == (4, 5, "r-5", [])
