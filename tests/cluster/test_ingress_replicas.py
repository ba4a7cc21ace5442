"""Two replicas of the ingress: a run lives in one of them, and Serve sends a look-up to either."""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
import yaml

from benchmarks.fakes import CONFIG, message, wait
from tests.cluster.serving import served

pytestmark = pytest.mark.cluster

LOOKUPS = 16  # all of them at the replica that has the run: once in 30,000 times


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("replicas")
    config = yaml.safe_load(CONFIG.read_text(encoding="utf-8").replace(":8010/", ":the-port/"))
    config["http_options"]["port"] = "the-port"
    config["applications"][1]["args"]["ingress"]["num_replicas"] = 2
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
