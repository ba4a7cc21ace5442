"""The whole service over HTTP on fake models: what holds whatever the models are."""

import io
import json
import threading
import time
import zipfile
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import openai as sdk
import pytest
from openai import OpenAI
from PIL import Image

from benchmarks.fakes import message, wait
from controller.cli import main
from deployments.board import SILENCE_S
from tests.cluster.steps import actor, await_steps_going, replicas

pytestmark = pytest.mark.cluster


def ask(text: str, **more: Any) -> dict[str, Any]:
    return {"model": "hugginggpt", "messages": [{"role": "user", "content": text}], **more}


def run_of(http: httpx.Client, plan: Mapping[str, Any]) -> dict[str, Any]:
    reply = http.post("/v1/chat/completions", json=ask(message(plan)))
    assert reply.status_code == 200, reply.text
    run: dict[str, Any] = reply.json()["run"]
    return run


def results_of(run: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    return {result["step"]: result for result in run["results"]}


def assert_refused(reply: httpx.Response, status: int, code: str) -> str:
    """An OpenAI error object with one sentence; gives that sentence."""
    assert reply.status_code == status, reply.text
    error = reply.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["code"] == code
    sentence: str = error["message"]
    assert sentence.strip()
    assert "\n" not in sentence
    assert "Traceback" not in sentence
    return sentence


# Nothing twice


def test_of_fifty_equal_requests_at_once_every_step_runs_exactly_once(http: httpx.Client) -> None:
    plan = {"s1": wait("fifty ask for this", "300 ms"), "s2": wait("s1", "20 ms")}
    with ThreadPoolExecutor(50) as clients:
        runs = list(clients.map(lambda _: results_of(run_of(http, plan)), range(50)))
    for step in plan:
        assert len({json.dumps(run[step]["span"]) for run in runs}) == 1, "the fake would have run at another time"
        assert [run[step]["reused"] for run in runs].count(False) == 1
        assert len({run[step]["text"] for run in runs}) == 1


@pytest.mark.parametrize(
    "header", [{"authorization": "Bearer of another key"}, {"cache-control": "no-store"}, {"cache-control": "No-Cache"}]
)
def test_another_key_and_a_request_that_says_so_compute_anew(http: httpx.Client, header: dict[str, str]) -> None:
    asked = ask(message({"s1": wait(f"asked once more {header}", "1 ms")}))
    first, same, other = (
        http.post("/v1/chat/completions", json=asked, headers=headers).json()["run"]["results"][0] for headers in ({}, {}, header)
    )
    assert (first["reused"], same["reused"], other["reused"]) == (False, True, False)
    assert same["span"] == first["span"] != other["span"]


# The graph


def test_independent_steps_overlap(http: httpx.Client) -> None:
    results = results_of(run_of(http, {"s1": wait("one", "400 ms"), "s2": wait("two", "400 ms"), "s3": wait("three", "400 ms")}))
    spans = [result["span"] for result in results.values()]
    assert max(span["started_s"] for span in spans) < min(span["finished_s"] for span in spans)


def test_a_step_eats_what_the_steps_before_it_gave(http: httpx.Client) -> None:
    plan = {"s1": wait("go", "at once"), "s2": wait("s1", "at once"), "s3": ["sentence-similarity", "s2", "s1"]}
    results = results_of(run_of(http, plan))
    assert [results[step]["text"] for step in ("s1", "s2", "s3")] == ["go+", "go++", "go+++"]


def test_a_failed_step_skips_its_dependents_and_nothing_else(http: httpx.Client) -> None:
    plan = {"s1": wait("go", "fail"), "s2": wait("s1", "at once"), "s3": wait("s2", "at once"), "s4": wait("go", "at once")}
    run = run_of(http, plan)
    results = results_of(run)
    assert {step: result["status"] for step, result in results.items()} == {"s1": "failed", "s2": "skipped", "s3": "skipped", "s4": "done"}
    assert "told to fail" in results["s1"]["reason"]
    assert results["s2"]["because"] == "s1"


def test_a_long_step_does_not_hold_up_another_run(http: httpx.Client) -> None:
    slow_plan = {"s1": wait("go", "3000 ms"), "s2": wait("s1", "at once"), "s3": wait("s1", "at once")}
    with ThreadPoolExecutor() as pool:
        slow = pool.submit(run_of, http, slow_plan)
        time.sleep(0.3)
        started = time.perf_counter()
        for _ in range(4):  # both replicas
            run_of(http, {"s1": wait("go", "at once"), "s2": wait("s1", "at once")})
        assert time.perf_counter() - started < 2
        assert all(result["status"] == "done" for result in slow.result()["results"])


# Streaming


def test_the_stream_tells_progress_in_chunks_that_the_openai_client_passes_over(openai: OpenAI) -> None:
    plan = {"s1": wait("go", "20 ms"), "s2": wait("s1", "20 ms")}
    chunks = list(openai.chat.completions.create(model="hugginggpt", messages=[{"role": "user", "content": message(plan)}], stream=True))
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
    assert "go++" in text
    progress = [chunk.model_extra["progress"] for chunk in chunks if chunk.model_extra and "progress" in chunk.model_extra]
    assert next(note["event"] for note in progress) == "plan"
    assert [note["step"] for note in progress if note["event"] == "step_ended"] == ["s1", "s2"]
    assert chunks[-1].choices[0].finish_reason == "stop"


def test_a_streamed_answer_is_the_answer(openai: OpenAI) -> None:
    messages: Any = [{"role": "user", "content": message({"s1": wait("go", "at once")})}]
    whole = openai.chat.completions.create(model="hugginggpt", messages=messages).choices[0].message.content
    streamed = openai.chat.completions.create(model="hugginggpt", messages=messages, stream=True)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in streamed) == whole


def test_a_streamed_request_that_cannot_be_planned_gets_its_status(openai: OpenAI) -> None:
    messages: Any = [{"role": "user", "content": message({"kind": "cannot", "task": "text-to-image"})}]
    with pytest.raises(sdk.UnprocessableEntityError):
        openai.chat.completions.create(model="hugginggpt", messages=messages, stream=True)


# The other routes


def test_models_and_health(http: httpx.Client, openai: OpenAI) -> None:
    assert [model.id for model in openai.models.list()] == ["hugginggpt"]
    assert http.get("/healthz").json() == {"status": "ok"}


def test_an_upload_comes_back_byte_for_byte_and_can_be_named_in_a_request(http: httpx.Client, openai: OpenAI) -> None:
    picture = io.BytesIO()
    Image.new("RGB", (4, 4), "red").save(picture, "PNG")
    upload = openai.files.create(file=("red.png", picture.getvalue()), purpose="user_data")
    assert openai.files.retrieve(upload.id).bytes == len(picture.getvalue())
    assert openai.files.content(upload.id).content == picture.getvalue()
    parts = [
        {"type": "text", "text": message({"s1": ["image-classification", "f1"]})},
        {"type": "file", "file": {"file_id": upload.id}},
    ]
    body = {"model": "hugginggpt", "messages": [{"role": "user", "content": parts}]}
    reply = http.post("/v1/chat/completions", json=body).json()
    assert reply["run"]["results"][0]["status"] == "done"


def test_a_player_can_ask_for_the_size_and_for_a_part(http: httpx.Client) -> None:
    words = b"It was the best of times."
    link = f"/v1/artifacts/{http.post('/v1/files', files={'file': ('times.txt', words)}).json()['id']}"
    head = http.head(link)
    assert (head.status_code, head.content, head.headers["content-length"]) == (200, b"", str(len(words)))
    part = http.get(link, headers={"range": "bytes=11-14"})
    assert (part.status_code, part.content) == (206, b"best")
    assert part.headers["content-range"] == f"bytes 11-14/{len(words)}"
    assert head.headers["etag"] == part.headers["etag"]
    assert http.get(link, headers={"range": "bytes=99-"}).status_code == 416


def test_a_plan_can_be_seen_before_it_runs(http: httpx.Client) -> None:
    reply = http.post("/v1/plan", json=ask(message({"s1": wait("go", "5000 ms")}))).json()
    assert [(step["id"], step["model"]) for step in reply["steps"]] == [("s1", "fakes/obedient")]


def test_the_command_line_asks_with_a_file_and_prints_the_answer(
    fake_service: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "times.txt").write_text("the best of times")
    request = message({"s1": ["summarization", "f1"]})
    assert main(["ask", request, "--file", str(tmp_path / "times.txt"), "--url", fake_service, "--save", str(tmp_path / "made")]) == 0
    assert "the best of times+" in capsys.readouterr().out


def test_the_command_line_names_a_model(fake_service: str, capsys: pytest.CaptureFixture[str]) -> None:
    request = message({"s1": ["summarization", {"text": "go"}]})
    assert main(["ask", request, "--model", "fakes/obedient", "--url", fake_service, "--json"]) == 0
    (step,) = json.loads(capsys.readouterr().out)["plan"]
    assert (step["model"], step["reason"]) == ("fakes/obedient", "named in the request or the configuration")
    assert main(["ask", request, "--model", "nobody/nothing-1", "--url", fake_service]) == 1
    assert "nobody/nothing-1 is not among the models of this cluster" in capsys.readouterr().err


# What is refused


@pytest.mark.parametrize("artifact", ["0" * 64, "nonsense", "..%2F..%2Fetc%2Fpasswd"])
def test_an_unknown_artifact_is_404(http: httpx.Client, artifact: str) -> None:
    assert_refused(http.get(f"/v1/artifacts/{artifact}"), 404, "not_found")


@pytest.mark.parametrize(
    ("path", "body", "status"), [("chat/completions", {}, 400), ("chat/completions", {"messages": [3]}, 400), ("embeddings", {}, 404)]
)
def test_the_echo_engine_refuses_in_the_openai_form(http: httpx.Client, path: str, body: dict[str, Any], status: int) -> None:
    assert "the echo engine" in assert_refused(http.post(f"/llm/v1/{path}", json=body), status, "invalid_request")


def test_the_echo_engine_answers_a_message_of_no_words(http: httpx.Client) -> None:
    body = {"messages": [{"role": "user"}, {}], "response_format": {"type": "json_object"}}
    assert http.post("/llm/v1/chat/completions", json=body).json()["choices"][0]["message"]["content"] == "{}"


def test_an_unknown_route_is_404(http: httpx.Client) -> None:
    assert_refused(http.get("/v1/nothing"), 404, "not_found")


@pytest.mark.parametrize(
    "body", [b"{", b"", b"[]", b"null", b'{"messages": []}', b"\xff\xfe", b'{"messages": [{"role": "user", "content": 3}]}']
)
def test_a_body_that_cannot_be_read_is_400(http: httpx.Client, body: bytes) -> None:
    assert_refused(http.post("/v1/chat/completions", content=body, headers={"content-type": "application/json"}), 400, "invalid_request")


@pytest.mark.parametrize("text", ["", "  \n "])
def test_an_empty_message_is_400(http: httpx.Client, text: str) -> None:
    assert "empty" in assert_refused(http.post("/v1/chat/completions", json=ask(text)), 400, "invalid_request")


def test_an_unknown_model_is_404(http: httpx.Client) -> None:
    assert_refused(http.post("/v1/chat/completions", json=ask("hello") | {"model": "gpt-4o"}), 404, "not_found")


def test_a_model_that_no_family_serves_is_400(http: httpx.Client) -> None:
    body = ask(message({"s1": wait("go", "at once")}), models={"text-generation": "nobody/nothing"})
    assert_refused(http.post("/v1/chat/completions", json=body), 400, "invalid_request")


def test_a_request_for_an_unserved_task_is_422(http: httpx.Client) -> None:
    sentence = assert_refused(
        http.post("/v1/chat/completions", json=ask(message({"kind": "cannot", "task": "text-to-image"}))), 422, "no_plan"
    )
    assert "text-to-image" in sentence


@pytest.mark.parametrize(
    "plan",
    [
        {"s1": wait("s2", "x"), "s2": wait("s1", "x")},
        {"s1": wait("s9", "x")},
        {"s1": ["automatic-speech-recognition", "f1"]},
        {"s1": ["image-classification", {"text": "a cat"}]},
    ],
)
def test_a_plan_that_stays_wrong_is_422(http: httpx.Client, plan: dict[str, Any]) -> None:
    assert_refused(http.post("/v1/chat/completions", json=ask(message(plan))), 422, "no_plan")


def test_an_empty_upload_is_400(http: httpx.Client) -> None:
    assert "0 bytes" in assert_refused(http.post("/v1/files", files={"file": ("speech.txt", b"")}), 400, "invalid_file")


def test_an_upload_without_a_file_is_400(http: httpx.Client) -> None:
    assert_refused(http.post("/v1/files", data={"purpose": "user_data"}), 400, "invalid_request")


def test_two_files_in_one_upload_are_400(http: httpx.Client) -> None:
    files = [("file", (name, name.encode())) for name in ("a.txt", "b.txt")]
    assert "holds 2" in assert_refused(http.post("/v1/files", files=files), 400, "invalid_request")


def test_a_word_in_the_place_of_a_file_is_400(http: httpx.Client) -> None:
    sentence = assert_refused(http.post("/v1/files", data={"file": "a.txt"}), 400, "invalid_request")
    assert sentence == "the request cannot be read: file should be a file"


def test_a_zip_that_says_it_is_a_picture_is_400(http: httpx.Client) -> None:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("a.txt", "hello")
    assert "picture" in assert_refused(http.post("/v1/files", files={"file": ("cat.png", packed.getvalue())}), 400, "invalid_file")


def test_an_upload_over_the_limit_is_413(http: httpx.Client) -> None:
    assert_refused(http.post("/v1/files", files={"file": ("long.txt", b"a" * 100_000_000)}), 413, "file_too_large")


def test_good_requests_are_undisturbed_while_bad_ones_come_in(http: httpx.Client) -> None:
    stop = threading.Event()

    def misbehave() -> int:
        sent = 0
        while not stop.is_set():
            http.post("/v1/chat/completions", content=b"{", headers={"content-type": "application/json"})
            http.post("/v1/chat/completions", json=ask(message({"s1": wait("go", "fail")})))
            http.post("/v1/files", files={"file": ("cat.png", b"PK\x03\x04")})
            sent += 3
        return sent

    with ThreadPoolExecutor() as pool:
        bad = [pool.submit(misbehave) for _ in range(2)]
        try:
            good = [pool.submit(run_of, http, {"s1": wait(f"go {n}", "20 ms"), "s2": wait("s1", "20 ms")}) for n in range(20)]
            texts = [results_of(run.result())["s2"]["text"] for run in good]
        finally:
            stop.set()
        assert all(sent.result() > 0 for sent in bad)
    assert texts == [f"go {n}++" for n in range(20)]


# Going away and dying


def test_a_client_that_goes_away_cancels_the_steps_of_its_run(http: httpx.Client) -> None:
    plan = {"s1": wait("go", "20000 ms"), "s2": wait("s1", "at once")}
    with http.stream("POST", "/v1/chat/completions", json=ask(message(plan), stream=True)) as reply:
        lines = reply.iter_lines()
        while "step_started" not in next(lines):
            pass
        await_steps_going(1)
    await_steps_going(0)


@pytest.mark.parametrize("streams", [True, False])
def test_a_client_that_goes_away_leaves_the_steps_to_another_that_wants_the_same(http: httpx.Client, streams: bool) -> None:
    asked = message({"s1": wait(f"both {streams}", "2000 ms"), "s2": wait("s1", "10 ms"), "s3": wait("s2", "10 ms")})
    with ThreadPoolExecutor(1) as other:
        with http.stream("POST", "/v1/chat/completions", json=ask(asked, stream=True)) as reply:
            lines = reply.iter_lines()
            while "step_started" not in next(lines):
                pass
            staying = other.submit(http.post, "/v1/chat/completions", json=ask(asked, stream=streams), timeout=20)
            time.sleep(0.7)  # it rides along by now
        text = staying.result().text
    assert f"both {streams}+++" in text and "was cancelled" not in text


def test_a_client_that_waits_for_the_whole_and_goes_away_cancels_them_too(http: httpx.Client) -> None:
    with pytest.raises(httpx.ReadTimeout):
        http.post("/v1/chat/completions", json=ask(message({"s1": wait("go", "20000 ms")})), timeout=1)
    await_steps_going(0)


def test_a_run_outlives_the_replica_that_ran_its_step(http: httpx.Client) -> None:
    import ray

    plan = {"s1": wait("go", "1500 ms"), "s2": wait("s1", "at once"), "s3": wait("go", "1500 ms")}
    with ThreadPoolExecutor() as pool:
        run = pool.submit(run_of, http, plan)
        time.sleep(0.7)
        killed = replicas()
        for name in killed:
            ray.kill(actor(name), no_restart=True)
        await_none_told(http, {name.rpartition("#")[2] for name in killed})
        results = results_of(run.result(timeout=60))
    assert {step: result["status"] for step, result in results.items()} == {"s1": "done", "s2": "done", "s3": "done"}
    assert results["s2"]["text"] == "go++"


def await_none_told(http: httpx.Client, gone: set[str]) -> None:
    """Well before they would count as silent."""
    deadline = time.monotonic() + SILENCE_S / 3
    while (families := http.get("/v1/cluster").json()["families"]) is None or gone & {
        one["replica"] for family in families for one in family["replicas"]
    }:
        assert time.monotonic() < deadline, f"of {gone}, which have ended, is told in {families}"
        time.sleep(0.2)
