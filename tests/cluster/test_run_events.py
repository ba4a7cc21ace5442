"""Runs over HTTP: in the background, followed and taken up again, cancelled, read after the fact. The service runs on fake models."""

import json
import re
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest
from openai import OpenAI

from benchmarks.fakes import message, wait
from cluster.run_ids import new_run_id
from tests.cluster.steps import await_steps_going

pytestmark = pytest.mark.cluster


def asking(plan: Mapping[str, Any], *files: str, **more: Any) -> dict[str, Any]:
    parts = [{"type": "file", "file": {"file_id": file}} for file in files]
    content = [*parts, {"type": "text", "text": message(plan)}]
    return {"model": "hugginggpt", "messages": [{"role": "user", "content": content}], **more}


def started(http: httpx.Client, plan: Mapping[str, Any], *files: str) -> str:
    """The id of a run in the background."""
    reply = http.post("/v1/runs", json=asking(plan, *files, background=True), headers={"cache-control": "no-cache"})
    assert reply.status_code == 202, reply.text
    run: dict[str, Any] = reply.json()
    assert (run["object"], run["status"], reply.headers["location"]) == ("run", "in_progress", f"/v1/runs/{run['id']}")
    assert reply.headers["x-run-id"] == run["id"]
    run_id: str = run["id"]
    return run_id


def events_of(reply: httpx.Response) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Id, name and data of every event, as they come."""
    fields: dict[str, str] = {}
    for line in reply.iter_lines():
        if line and not line.startswith(":"):
            name, _, value = line.partition(": ")
            fields[name] = value
        elif fields:
            if "data" in fields:
                yield fields["id"], fields["event"], json.loads(fields["data"])
            fields = {}


def followed(http: httpx.Client, run_id: str, after: str | None = None) -> list[tuple[str, str, dict[str, Any]]]:
    headers = {"last-event-id": after} if after else {}
    with http.stream("GET", f"/v1/runs/{run_id}/events", headers=headers) as reply:
        assert reply.status_code == 200 and reply.headers["content-type"].startswith("text/event-stream")
        return list(events_of(reply))


def refusal(reply: httpx.Response, status: int, code: str) -> str:
    assert (reply.status_code, reply.json()["error"]["code"]) == (status, code), reply.text
    sentence: str = reply.json()["error"]["message"]
    assert "\n" not in sentence
    return sentence


# Followed


def test_a_run_in_the_background_is_followed_to_its_record(http: httpx.Client) -> None:
    run_id = started(http, {"s1": wait("background", "300 ms"), "s2": wait("s1", "10 ms")})
    assert http.get(f"/v1/runs/{run_id}").json()["status"] == "in_progress"
    events = followed(http, run_id)
    names = [name for _, name, _ in events]
    assert names[-1] == "run" and {"plan", "step_started", "step_ended", "answer"} < set(names)
    record = events[-1][2]
    assert record == http.get(f"/v1/runs/{run_id}").json() == http.get(f"/v1/runs/chatcmpl-{run_id}").json()
    assert (record["status"], record["answer"]) == ("completed", "".join(data["text"] for _, name, data in events if name == "answer"))
    assert [(step["model"], bool(step["reason"])) for step in record["plan"]] == [("fakes/obedient", True)] * 2
    assert [result["span"]["finished_s"] > result["span"]["started_s"] for result in record["results"]] == [True, True]
    assert record["ended_at"] > record["created_at"] and record["last_event_id"] == events[-1][0]


def test_a_reader_whose_connection_broke_goes_on_after_the_last_event_it_saw(http: httpx.Client) -> None:
    run_id = started(http, {"s1": wait("broken", "20 ms"), "s2": wait("s1", "600 ms")})
    seen = []
    with http.stream("GET", f"/v1/runs/{run_id}/events") as reply:
        for event in events_of(reply):
            seen.append(event)
            if event[1] == "step_ended":
                break
    rest = followed(http, run_id, after=seen[-1][0])
    assert [*seen, *rest] == followed(http, run_id)
    assert [name for _, name, _ in rest].count("step_ended") == 1


def test_whoever_has_the_last_event_is_told_that_there_is_no_more(http: httpx.Client) -> None:
    run_id = started(http, {"s1": wait("once", "1 ms")})
    last = followed(http, run_id)[-1][0]
    reply = http.get(f"/v1/runs/{run_id}/events", headers={"last-event-id": last})
    assert (reply.status_code, reply.content) == (204, b"")


def test_a_client_that_never_reads_its_events_holds_up_nobody(http: httpx.Client, fake_service: str) -> None:
    host, port = fake_service.removeprefix("http://").split(":")
    long = http.post("/v1/files", files={"file": ("long.txt", b"never read " * 15_000)}).json()["id"]
    run_id = started(http, {f"s{n}": ["text-generation", "f1", f"{300 + n} ms"] for n in range(1, 11)}, long)
    with socket.socket() as deaf:
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1024)
        deaf.connect((host, int(port)))
        deaf.sendall(f"GET /v1/runs/{run_id}/events HTTP/1.1\r\nhost: {host}\r\n\r\n".encode())
        assert followed(http, run_id)[-1][2]["status"] == "completed"
        assert http.get("/healthz").is_success


def test_a_chat_completion_is_a_run_too(http: httpx.Client, openai: OpenAI) -> None:
    plan = {"s1": wait("chat", "1 ms")}
    reply = http.post("/v1/chat/completions", json=asking(plan))
    record = http.get(f"/v1/runs/{reply.headers['x-run-id']}").json()
    assert record["answer"] == reply.json()["choices"][0]["message"]["content"]
    stream = openai.chat.completions.with_streaming_response.create(**asking(plan), stream=True)
    with stream as raw:
        run_id = raw.headers["x-run-id"]
        raw.read()
    assert http.get(f"/v1/runs/{run_id}").json()["answer"] == record["answer"]
    failed = http.post("/v1/chat/completions", json=asking({"cannot": "text-to-image"}))
    assert refusal(failed, 422, "no_plan")
    record = http.get(f"/v1/runs/{failed.headers['x-run-id']}").json()
    assert (record["status"], record["error"]) == ("failed", failed.json()["error"])


def test_a_run_in_the_background_outlives_a_client_that_streams_it(http: httpx.Client) -> None:
    with http.stream("POST", "/v1/runs", json=asking({"s1": wait("go on alone", "500 ms")}, background=True, stream=True)) as reply:
        run_id = reply.headers["x-run-id"]
        next(reply.iter_lines())
    assert followed(http, run_id)[-1][2]["status"] == "completed"


# Cancelled


def test_a_cancelled_run_frees_what_runs_for_it_and_who_waits_is_told(http: httpx.Client) -> None:
    plan = {"s1": wait("cancelled", "1 ms"), "s2": wait("s1", "20000 ms"), "s3": wait("s2", "1 ms")}
    run_id = started(http, plan)
    reader: list[Any] = []
    reading = threading.Thread(target=lambda: reader.extend(followed(http, run_id)))
    reading.start()
    await_steps_going(1)
    record = http.post(f"/v1/runs/{run_id}/cancel").json()
    assert (record["status"], record["error"]["code"], record["ended_at"] is not None) == ("cancelled", "run_cancelled", True)
    assert [(result["step"], result["status"]) for result in record["results"]] == [("s1", "done")]
    await_steps_going(0)
    reading.join(timeout=10)
    assert reader[-1][1:] == ("run", record)
    again = http.post(f"/v1/runs/{run_id}/cancel")
    assert (again.status_code, again.json()) == (200, record)


def test_a_chat_completion_that_somebody_cancels_ends_in_a_sentence(http: httpx.Client) -> None:
    with http.stream("POST", "/v1/chat/completions", json=asking({"s1": wait("stop me", "20000 ms")}, stream=True)) as reply:
        lines = reply.iter_lines()
        while "step_started" not in next(lines):
            pass
        assert http.post(f"/v1/runs/{reply.headers['x-run-id']}/cancel").json()["status"] == "cancelled"
        rest = [line for line in lines if line]
    assert "was cancelled" in json.loads(rest[-2].removeprefix("data: "))["error"]["message"]
    assert rest[-1] == "data: [DONE]"
    await_steps_going(0)


def test_cancelling_one_of_two_runs_leaves_the_step_that_both_want(http: httpx.Client) -> None:
    plan = {"s1": wait("wanted by two", "1500 ms")}
    bodies = [asking(plan, background=True) for _ in range(2)]
    first, second = (http.post("/v1/runs", json=body).json()["id"] for body in bodies)
    time.sleep(0.5)
    http.post(f"/v1/runs/{first}/cancel")
    assert followed(http, second)[-1][2]["results"][0]["text"] == "wanted by two+"


# Refused


def test_what_is_asked_of_runs_in_vain_is_refused_in_a_sentence(http: httpx.Client) -> None:
    run_id = started(http, {"s1": wait("to be refused", "1 ms")})
    followed(http, run_id)
    assert "has ended (completed)" in refusal(http.post(f"/v1/runs/{run_id}/cancel"), 409, "run_ended")
    for unknown in (new_run_id(), "nonsense", "chatcmpl-", "..%2f..%2fetc%2fpasswd", "%00", "x" * 3000):
        for reply in (
            http.get(f"/v1/runs/{unknown}"),
            http.get(f"/v1/runs/{unknown}/events"),
            http.post(f"/v1/runs/{unknown}/cancel"),
        ):
            assert len(refusal(reply, 404, "not_found")) < 300
    for wrong in (f"{new_run_id()}-1", "1", f"{run_id}-99", f"{run_id}-x"):
        refusal(http.get(f"/v1/runs/{run_id}/events", headers={"last-event-id": wrong}), 400, "invalid_request")
    both = {**asking({"s1": wait("go", "1 ms")}), "plan": {"steps": []}}
    assert "both" in refusal(http.post("/v1/runs", json=both), 400, "invalid_request")
    assert "plan is missing" in refusal(http.post("/v1/runs", json={"background": True}), 400, "invalid_request")


# Request ids


@pytest.mark.parametrize("path", ["/v1/models", "/v1/runs/nonsense", "/nothing"])
def test_every_reply_has_a_request_id_and_the_client_may_choose_it(http: httpx.Client, path: str) -> None:
    assert re.fullmatch(r"[\w-]{8,}", http.get(path).headers["x-request-id"])
    assert http.get(path, headers={"x-request-id": "mine-17"}).headers["x-request-id"] == "mine-17"


def test_the_record_of_a_run_tells_the_request_id(http: httpx.Client) -> None:
    reply = http.post("/v1/chat/completions", json=asking({"s1": wait("named", "1 ms")}), headers={"x-request-id": "mine-18"})
    assert http.get(f"/v1/runs/{reply.headers['x-run-id']}").json()["request_id"] == "mine-18"


def test_what_a_replica_logs_for_a_request_has_its_id(http: httpx.Client) -> None:
    import ray

    plan = {"s1": wait("go", "fail with a name")}
    reply = http.post("/v1/chat/completions", json=asking(plan), headers={"x-request-id": "mine-19"})
    logs = Path(ray._private.worker._global_node.get_logs_dir_path())
    deadline = time.monotonic() + 10
    while not (found := [line for log in logs.rglob("*.*") for line in lines_of(log) if "model gave way" in line and "mine-19" in line]):
        assert time.monotonic() < deadline
        time.sleep(0.2)
    assert f"run_id={reply.headers['x-run-id']}" in found[0] and "step=s1" in found[0]


def lines_of(path: Path) -> list[str]:
    return path.read_text(errors="replace").splitlines() if path.is_file() else []
