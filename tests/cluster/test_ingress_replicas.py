"""Two replicas of the ingress: a run lives in one of them, and Serve sends a look-up to either."""

import json
import os
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from benchmarks.fakes import CONFIG, message, wait
from tests.cluster.serving import served

pytestmark = pytest.mark.cluster

LOST_AFTER_S = 9
LOOKUPS = 16  # all of them at the replica that has the run: once in 30,000 times


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("replicas")


@pytest.fixture(scope="module")
def service(folder: Path) -> Iterator[str]:
    config = yaml.safe_load(CONFIG.read_text(encoding="utf-8").replace(":8010/", ":the-port/"))
    config["http_options"]["port"] = "the-port"
    config["applications"][1]["args"]["ingress"]["num_replicas"] = 2
    config["applications"][1]["args"]["runs"] = {"lost_after_s": LOST_AFTER_S}
    with served(config, folder, HGPT_HOME=str(folder / "home")) as url:
        yield url


def asking(text: str, wait_for: str) -> dict[str, object]:
    content = message({"s1": wait(text, "1 ms"), "s2": wait("s1", wait_for)})
    return {"model": "hugginggpt", "messages": [{"role": "user", "content": content}], "background": True}


def by_each(service: str, path: str, verb: str = "GET") -> list[httpx.Response]:
    """Every look-up on a connection of its own, all at once."""
    with ThreadPoolExecutor(LOOKUPS) as clients:
        return list(clients.map(lambda _: httpx.request(verb, f"{service}{path}", timeout=60), range(LOOKUPS)))


def test_a_run_is_read_and_followed_through_any_replica(service: str) -> None:
    run_id = httpx.post(f"{service}/v1/runs", json=asking("two replicas", "2500 ms")).json()["id"]
    assert {reply.json()["status"] for reply in by_each(service, f"/v1/runs/{run_id}")} == {"in_progress"}
    streams = {reply.text.replace(": still here\n\n", "") for reply in by_each(service, f"/v1/runs/{run_id}/events")}
    assert len(streams) == 1
    last = json.loads(streams.pop().strip().split("data: ")[-1])
    assert {reply.text for reply in by_each(service, f"/v1/runs/{run_id}")} == {json.dumps(last, ensure_ascii=False, separators=(",", ":"))}
    assert last["status"] == "completed"
    assert {reply.status_code for reply in by_each(service, f"/v1/runs/{run_id}/cancel", "POST")} == {409}


def test_a_run_is_cancelled_through_any_replica(service: str) -> None:
    run_id = httpx.post(f"{service}/v1/runs", json=asking("cancel anywhere", "20000 ms")).json()["id"]
    replies = by_each(service, f"/v1/runs/{run_id}/cancel", "POST")
    assert {(reply.status_code, reply.json()["status"]) for reply in replies} == {(200, "cancelled")}
    assert len({reply.json()["last_event_id"] for reply in replies}) == 1


def test_a_run_in_the_background_is_lost_with_its_process_and_that_is_said(service: str, folder: Path) -> None:
    run_id = httpx.post(f"{service}/v1/runs", json=asking("lost", "30000 ms")).json()["id"]
    await_file(folder / "home", f"{run_id}.json")
    for pid in ingress_processes(folder):
        os.kill(pid, signal.SIGKILL)
    record = await_record(f"{service}/v1/runs/{run_id}")
    assert (record["status"], record["error"]["code"]) == ("failed", "run_lost")
    assert {reply.status_code for reply in by_each(service, f"/v1/runs/{run_id}/cancel", "POST")} == {409}
    assert httpx.post(f"{service}/v1/runs", json=asking("after it", "1 ms"), timeout=60).status_code == 202


def ingress_processes(folder: Path) -> list[int]:
    """Of the service whose home is in the folder."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            name, environment = (process / "cmdline").read_bytes(), (process / "environ").read_bytes()
        except OSError:
            continue
        if name.startswith(b"ray::ServeReplica:hugginggpt:ingress") and f"HGPT_HOME={folder}/home".encode() in environment:
            found.append(int(process.name))
    assert len(found) == 2
    return found


def await_file(folder: Path, name: str) -> None:
    deadline = time.monotonic() + 10
    while not list(folder.rglob(name)):
        assert time.monotonic() < deadline, f"{name} is not in {folder}"
        time.sleep(0.1)


def await_record(url: str) -> dict[str, Any]:
    """That of a run which goes on nowhere; until Serve has new replicas there is none."""
    deadline = time.monotonic() + 60
    while True:
        try:
            reply = httpx.get(url, timeout=10)
            if reply.is_success and reply.json()["status"] != "in_progress":
                record: dict[str, Any] = reply.json()
                return record
            said = reply.text
        except httpx.HTTPError as exc:
            said = repr(exc)
        assert time.monotonic() < deadline, f"the service still says {said}"
        time.sleep(0.2)
