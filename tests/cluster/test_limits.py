"""A service with little room: who is let in is answered, who is not is told when to come, and time that was given is kept to."""

import json
import threading
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest
import yaml
from openai import OpenAI

from benchmarks.fakes import CONFIG, message, wait
from tests.cluster.serving import served

pytestmark = pytest.mark.cluster

PLACES = 4
READERS = 12
FAMILY = {"num_replicas": 1, "max_ongoing_requests": 2, "max_queued_requests": 2, "ray_actor_options": {"num_cpus": 0.1}}


@pytest.fixture(scope="module")
def narrow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """Four runs at a time, whose steps share a family that lets two in and two wait."""
    folder = tmp_path_factory.mktemp("narrow")
    config = yaml.safe_load(CONFIG.read_text(encoding="utf-8"))
    args = config["applications"][1]["args"]
    args["limits"] |= {"max_runs_in_flight": PLACES, "max_body_bytes_in_flight": 3_000_000}
    args["families"]["fake"]["deployment"] = FAMILY
    args["runs"] = {"max_readers": READERS}
    args |= {"artifacts": f"file://{folder}/artifacts", "models": str(folder / "models")}
    with served(config, folder) as url, httpx.Client(base_url=url, timeout=60) as client:
        yield client


def ask(plan: Mapping[str, Any], **more: Any) -> dict[str, Any]:
    return {"model": "hugginggpt", "messages": [{"role": "user", "content": message(plan)}], **more}


def test_overload_is_429_with_a_time_and_every_run_that_was_let_in_is_whole(narrow: httpx.Client) -> None:
    def fan_out(number: int) -> httpx.Response:
        """Eight steps for a family that takes four: the others are asked again until there is room."""
        return narrow.post("/v1/chat/completions", json=ask({f"s{n}": wait(f"{number} {n}", "50 ms") for n in range(1, 9)}))

    with ThreadPoolExecutor(30) as clients:
        replies = list(clients.map(fan_out, range(30)))
    let_in = [reply for reply in replies if reply.status_code == 200]
    refused = [reply for reply in replies if reply.status_code == 429]
    assert len(let_in) >= PLACES and len(let_in) + len(refused) == 30 and refused
    for reply in let_in:
        assert [result["status"] for result in reply.json()["run"]["results"]] == ["done"] * 8
    for reply in refused:
        assert reply.json()["error"]["code"] == "overloaded" and int(reply.headers["retry-after"]) >= 1
    waits = sorted(int(reply.headers["retry-after"]) for reply in refused)
    assert waits[-1] > waits[0], "those who are refused together must not come back together"


def test_a_run_in_the_background_that_finds_no_place_is_refused_and_one_that_was_accepted_is_run(narrow: httpx.Client) -> None:
    def started(number: int) -> httpx.Response:
        return narrow.post("/v1/runs", json=ask({"s1": wait(f"background {number}", "600 ms")}, background=True))

    with ThreadPoolExecutor(3 * PLACES) as clients:
        replies = list(clients.map(started, range(3 * PLACES)))
    accepted = [reply.json()["id"] for reply in replies if reply.status_code == 202]
    refused = [reply for reply in replies if reply.status_code == 429]
    assert len(accepted) >= PLACES and refused and len(accepted) + len(refused) == 3 * PLACES
    assert all(int(reply.headers["retry-after"]) >= 1 for reply in refused)
    for run_id in accepted:
        events = narrow.get(f"/v1/runs/{run_id}/events").text
        assert '"status":"completed"' in events.strip().split("data: ")[-1]


def test_readers_of_events_beyond_the_limit_are_refused_and_the_service_answers(narrow: httpx.Client) -> None:
    run_id = narrow.post("/v1/runs", json=ask({"s1": wait("much read", "4000 ms")}, background=True)).json()["id"]
    reading = threading.Barrier(READERS + 1, timeout=20)

    def read(_number: int) -> str:
        with narrow.stream("GET", f"/v1/runs/{run_id}/events") as reply:
            lines = reply.iter_lines()
            next(lines)
            reading.wait()
            return "\n".join(lines)

    with ThreadPoolExecutor(READERS) as readers:
        streams = [readers.submit(read, number) for number in range(READERS)]
        reading.wait()
        refused = narrow.get(f"/v1/runs/{run_id}/events")
        assert (refused.status_code, refused.json()["error"]["code"]) == (429, "overloaded") and int(refused.headers["retry-after"]) >= 1
        assert narrow.get("/healthz").is_success and narrow.get(f"/v1/runs/{run_id}").json()["status"] == "in_progress"
        assert all('"status":"completed"' in stream.result() for stream in streams)
    assert narrow.get(f"/v1/runs/{run_id}/events").is_success


def test_the_openai_client_comes_again_by_itself_and_is_answered(narrow: httpx.Client) -> None:
    def answered(number: int) -> str | None:
        with OpenAI(base_url=f"{narrow.base_url}/v1", api_key="none", max_retries=8) as client:
            asked: Any = ask({"s1": wait(f"client {number}", "100 ms")})
            return str(client.chat.completions.create(**asked).choices[0].message.content)

    with ThreadPoolExecutor(8) as clients:
        assert list(clients.map(answered, range(8))) == [f"client {number}+" for number in range(8)]


def test_bodies_that_would_be_too_much_together_are_refused_and_none_is_lost(narrow: httpx.Client) -> None:
    def upload(number: int) -> int:
        return narrow.post("/v1/files", files={"file": (f"{number}.txt", f"{number} ".encode() * 500_000)}).status_code

    with ThreadPoolExecutor(8) as clients:
        statuses = set(clients.map(upload, range(8)))
    assert 200 in statuses and statuses <= {200, 429}
    assert upload(9) == 200


@pytest.mark.parametrize("where", ["field", "header"])
def test_a_run_ends_in_its_time_with_what_was_done_and_says_what_was_not(narrow: httpx.Client, where: str) -> None:
    plan = {"s1": wait(f"quick {where}", "1 ms"), "s2": wait("slow", "20000 ms"), "s3": wait("s2", "1 ms")}
    body = ask(plan, **({"timeout_s": 3} if where == "field" else {}))
    started_s = time.monotonic()
    reply = narrow.post("/v1/chat/completions", json=body, headers={"x-timeout-s": "3"} if where == "header" else {})
    assert time.monotonic() - started_s < 20
    assert reply.status_code == 200, reply.text
    results = reply.json()["run"]["results"]
    assert [result["status"] for result in results] == ["done", "failed", "skipped"]
    assert results[1]["kind"] == "out_of_time"
    answer = reply.json()["choices"][0]["message"]["content"]
    assert f"quick {where}+" in answer and "**text-generation** failed: fakes/obedient (run): not done within" in answer


@pytest.mark.parametrize("timeout_s", [0, -1, "soon", 1e400])
def test_a_time_that_is_none_is_refused_in_a_sentence(narrow: httpx.Client, timeout_s: Any) -> None:
    body = json.dumps(ask({"s1": wait("go", "1 ms")}, timeout_s=timeout_s))
    reply = narrow.post("/v1/chat/completions", content=body, headers={"content-type": "application/json"})
    assert reply.status_code == 400 and "timeout_s" in reply.json()["error"]["message"]


def test_where_the_time_went_is_in_the_record_and_in_a_header(narrow: httpx.Client) -> None:
    plan = {"s1": wait("where", "101 ms"), "s2": wait("s1", "101 ms")}  # each may end one early: the event loop counts milliseconds
    reply = narrow.post("/v1/chat/completions", json=ask(plan))
    run = reply.json()["run"]
    timings, seconds = run["timings"], run["seconds"]
    assert sum(timings.values()) == pytest.approx(seconds["total"], abs=0.002)
    ran_s = sum(result["span"]["finished_s"] - result["span"]["started_s"] - result["span"]["load_s"] for result in run["results"])
    assert timings["run"] == pytest.approx(ran_s, abs=0.002)
    assert 0.2 <= timings["run"] < seconds["total"]
    header = dict(part.strip().split(";dur=") for part in reply.headers["server-timing"].split(","))
    assert {part: float(took_ms) for part, took_ms in header.items()} == pytest.approx(
        {part: 1000 * took_s for part, took_s in timings.items()}, abs=0.2
    )
    kept = narrow.get(f"/v1/runs/{reply.headers['x-run-id']}").json()
    assert kept["timings"] == timings
