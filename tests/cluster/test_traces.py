"""The trace of a run over its processes, as a backend gets it: ingress, language model, family replicas. And a backend that goes away."""

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import httpx
import pytest
import yaml

from benchmarks.fakes import CONFIG, wait
from tests.cluster.serving import served
from tests.otlp import Backend, Mood, Seen, running
from tests.scripted_llm import ScriptedLanguageModel, scripted_llm

pytestmark = pytest.mark.cluster
TRACE, CALLER = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
SECRET = "Zanzibar"  # in every text of a request
ROOT = "invoke_workflow hugginggpt"
DIAMOND = {
    "s1": ["text-generation", {"text": f"{SECRET} 30 ms"}, f"{SECRET} 30 ms"],
    "s2": ["summarization", "s1"],
    "s3": ["text-generation", "s1", f"{SECRET} 30 ms"],
    "s4": ["sentence-similarity", "s2", "s3"],
}


@pytest.fixture(scope="module")
def backend() -> Iterator[Backend]:
    with running(Backend(0)) as backend:
        yield backend


@pytest.fixture(scope="module")
def llm() -> ScriptedLanguageModel:
    return ScriptedLanguageModel()


@pytest.fixture(scope="module")
def service(backend: Backend, llm: ScriptedLanguageModel, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The whole service on fake models, traced; its planner asks the scripted language model."""
    folder = tmp_path_factory.mktemp("traces")
    config = yaml.safe_load(CONFIG.read_text(encoding="utf-8"))
    args = config["applications"][1]["args"]
    args |= {"artifacts": f"file://{folder}/artifacts", "models": str(folder / "models")}
    args["tracing"] = {"otlp_endpoint": backend.url, "interval_s": 0.1, "timeout_s": 1}
    with scripted_llm(llm) as port:
        args["planner_llm"] = {"base_url": f"http://127.0.0.1:{port}/v1", "timeout_s": 30}
        with served(config, folder, HGPT_HOME=str(folder / "home")) as url:
            yield url


@pytest.fixture
def http(service: str, backend: Backend) -> Iterator[httpx.Client]:
    backend.mood = Mood.TAKES
    backend.forget()
    with httpx.Client(base_url=service, timeout=60) as client:
        yield client


def ask(http: httpx.Client, script: str, **headers: str) -> dict[str, Any]:
    """The run of a request that is planned by its script. Nothing of it is kept."""
    body = {"model": "hugginggpt", "messages": [{"role": "user", "content": f"{script} {SECRET}"}]}
    reply = http.post("/v1/chat/completions", json=body, headers={"cache-control": "no-store", **headers})
    assert reply.status_code == 200, reply.text
    run: dict[str, Any] = reply.json()["run"]
    return run


def of_run(spans: Sequence[Seen], run_id: str) -> list[Seen]:
    """Those of its trace."""
    traces = {span.trace_id for span in spans if span.name == ROOT and span.attributes["hugginggpt.run.id"] == run_id}
    return [span for span in spans if span.trace_id in traces]


def ended(backend: Backend, run_id: str, step_ids: set[str]) -> list[Seen]:
    """The trace of a run, once those steps and the whole have ended."""
    spans = backend.await_spans(lambda spans: step_ids <= steps(of_run(spans, run_id)).keys())
    return of_run(spans, run_id)


def named(spans: Sequence[Seen], name: str) -> Seen:
    (span,) = [span for span in spans if span.name == name]
    return span


def steps(spans: Sequence[Seen]) -> dict[str, Seen]:
    return {span.attributes["gen_ai.tool.call.id"]: span for span in spans if span.name.startswith("execute_tool ")}


def test_a_run_is_one_trace_over_its_processes(http: httpx.Client, backend: Backend, llm: ScriptedLanguageModel) -> None:
    run = ask(http, llm.script("diamond", DIAMOND))
    spans = ended(backend, run["id"], set(DIAMOND))
    assert Counter(span.name for span in spans) == Counter(
        [
            ROOT,
            "plan hugginggpt",
            "chat controller",  # of planning
            "choose",
            "answer",
            "chat controller",  # of the answer
            "execute_tool text-generation",
            "execute_tool text-generation",
            "execute_tool summarization",
            "execute_tool sentence-similarity",
        ]
    )
    root, plan, answer = (named(spans, name) for name in (ROOT, "plan hugginggpt", "answer"))
    assert (root.kind, root.parent_id) == ("SERVER", "")
    assert all(span.parent_id == root.id for span in (plan, answer, named(spans, "choose"), *steps(spans).values()))
    assert sorted(span.parent_id for span in spans if span.name == "chat controller") == sorted([plan.id, answer.id])
    assert {span.resource["service.name"] for span in spans} == {"hugginggpt-ingress", "hugginggpt-fake"}
    assert {span.resource["service.name"] for span in steps(spans).values()} == {"hugginggpt-fake"}
    assert root.resource["process.pid"] not in {span.resource["process.pid"] for span in steps(spans).values()}


def test_its_spans_say_what_the_record_of_the_run_says(http: httpx.Client, backend: Backend, llm: ScriptedLanguageModel) -> None:
    run = ask(http, llm.script("told", DIAMOND), **{"x-request-id": "asked-1"})
    spans = ended(backend, run["id"], set(DIAMOND))
    root = named(spans, ROOT)
    assert root.attributes == {
        "gen_ai.operation.name": "invoke_workflow",
        "gen_ai.agent.name": "hugginggpt",
        "gen_ai.workflow.name": "hugginggpt",
        "gen_ai.usage.input_tokens": 30,
        "gen_ai.usage.output_tokens": 20,
        "hugginggpt.run.id": run["id"],
        "hugginggpt.request.id": "asked-1",
        "hugginggpt.outcome": "done",
        "hugginggpt.steps.done": 4,
        "hugginggpt.steps.failed": 0,
        "hugginggpt.steps.skipped": 0,
    }
    assert named(spans, "plan hugginggpt").attributes["gen_ai.operation.name"] == "plan"
    for result in run["results"]:
        step, times = steps(spans)[result["step"]], result["span"]
        assert step.attributes["gen_ai.tool.name"] == result["task"]
        assert step.attributes["hugginggpt.model"] == result["model"]
        assert step.started_s <= times["started_s"] <= times["finished_s"] <= step.ended_s
        assert step.attributes["hugginggpt.load_seconds"] == times["load_s"]
        assert step.attributes["hugginggpt.queue_seconds"] == pytest.approx(times["started_s"] - times["arrived_s"])
    assert all(root.started_s <= span.started_s <= span.ended_s <= root.ended_s for span in spans)
    assert steps(spans)["s4"].started_s >= max(steps(spans)[need].ended_s for need in ("s2", "s3"))


def test_a_failed_step_is_an_error_and_its_run_tells_what_was_skipped(
    http: httpx.Client, backend: Backend, llm: ScriptedLanguageModel
) -> None:
    plan = {"s1": wait(f"{SECRET} go", f"fail {SECRET}"), "s2": ["summarization", "s1"], "s3": ["summarization", {"text": "5 ms"}]}
    run = ask(http, llm.script("broken", plan, {"kind": "chat"}))
    spans = ended(backend, run["id"], {"s1", "s3"})
    failed, root = steps(spans)["s1"], named(spans, ROOT)
    assert failed.is_error and failed.says == "" and failed.attributes["error.type"] == "model_error"
    assert failed.events == [("model gave way", {"hugginggpt.model": "fakes/obedient", "error.type": "model_error"})]
    assert not steps(spans)["s3"].is_error and not root.is_error and "s2" not in steps(spans)
    told = [(name, attributes["gen_ai.tool.call.id"]) for name, attributes in root.events]
    assert sorted(told) == [("step failed", "s1"), ("step skipped", "s2")]
    assert (root.attributes["hugginggpt.steps.failed"], root.attributes["hugginggpt.steps.skipped"]) == (1, 1)


def test_a_run_goes_on_with_the_trace_of_who_asks_and_tells_it_to_the_language_model(
    http: httpx.Client, backend: Backend, llm: ScriptedLanguageModel
) -> None:
    run = ask(http, llm.script("traced", {"s1": wait("go", "1 ms")}), traceparent=f"00-{TRACE}-{CALLER}-01")
    spans = ended(backend, run["id"], {"s1"})
    root, plan = named(spans, ROOT), named(spans, "plan hugginggpt")
    assert (root.trace_id, root.parent_id) == (TRACE, CALLER)
    asked = next(span for span in spans if span.name == "chat controller" and span.parent_id == plan.id)
    assert llm.headers[-1]["traceparent"].startswith(f"00-{TRACE}-{asked.id}-")


def test_what_the_caller_does_not_sample_is_not_traced(http: httpx.Client, backend: Backend, llm: ScriptedLanguageModel) -> None:
    script = llm.script("unsampled", {"s1": wait("go", "1 ms")})
    unsampled = ask(http, script, traceparent=f"00-{TRACE}-{CALLER}-00")
    sampled = ask(http, script)
    ended(backend, sampled["id"], {"s1"})
    assert not any(unsampled["id"].encode() in body for body in backend.bodies)


def test_a_plan_that_a_person_sent_is_a_run_without_a_plan_span(http: httpx.Client, backend: Backend) -> None:
    body = {"plan": {"steps": [{"id": "mine", "task": "summarization", "inputs": [{"text": f"{SECRET} 1 ms"}]}]}}
    reply = http.post("/v1/runs", json=body)
    assert reply.status_code == 200, reply.text
    spans = ended(backend, reply.json()["id"], {"mine"})
    assert steps(spans)["mine"].parent_id == named(spans, ROOT).id
    assert "plan hugginggpt" not in {span.name for span in spans}


def test_a_run_without_a_plan_is_an_error_by_its_code(http: httpx.Client, backend: Backend, llm: ScriptedLanguageModel) -> None:
    script = llm.script("unserved", {"kind": "cannot", "task": "text-to-image"})
    body = {"model": "hugginggpt", "messages": [{"role": "user", "content": f"{script} {SECRET}"}]}
    reply = http.post("/v1/chat/completions", json=body)
    assert reply.status_code == 422 and reply.json()["error"]["code"] == "no_plan"
    spans = backend.await_spans(lambda spans: any(span.name == ROOT for span in spans))
    assert named(spans, ROOT).is_error and named(spans, ROOT).attributes["error.type"] == "no_plan"
    assert named(spans, "plan hugginggpt").attributes["error.type"] == "no_plan"


def test_a_result_of_another_run_is_an_event_and_no_span(http: httpx.Client, backend: Backend, llm: ScriptedLanguageModel) -> None:
    script = llm.script("again", {"s1": wait(f"{SECRET} once", "1 ms")})
    first, second = ask(http, script, **{"cache-control": ""}), ask(http, script, **{"cache-control": ""})
    ended(backend, first["id"], {"s1"})
    spans = of_run(backend.await_spans(lambda spans: bool(of_run(spans, second["id"]))), second["id"])
    assert steps(spans) == {}
    step = {"gen_ai.tool.name": "text-generation", "gen_ai.tool.call.id": "s1", "hugginggpt.model": "fakes/obedient"}
    assert named(spans, ROOT).events == [("step reused", step)]


def test_a_run_whose_caller_goes_away_is_marked_as_cancelled(http: httpx.Client, backend: Backend, llm: ScriptedLanguageModel) -> None:
    script = llm.script("left", {"s1": wait("go", "20000 ms")})
    body = {"model": "hugginggpt", "stream": True, "messages": [{"role": "user", "content": script}]}
    with http.stream("POST", "/v1/chat/completions", json=body) as stream:
        for line in stream.iter_lines():
            if '"step_started"' in line:
                break
    spans = backend.await_spans(lambda spans: {ROOT, "execute_tool text-generation"} <= {span.name for span in spans})
    for name in (ROOT, "execute_tool text-generation"):
        span = named(spans, name)
        assert span.attributes["hugginggpt.outcome"] == "cancelled" and not span.is_error


def test_no_word_of_a_person_or_a_model_is_exported(http: httpx.Client, backend: Backend, llm: ScriptedLanguageModel) -> None:
    files = [("file", ("Zanzibar.txt", f"{SECRET} in a file".encode(), "text/plain"))]
    uploaded = http.post("/v1/files", files=files).json()["id"]
    script = llm.script("private", {**DIAMOND, "s5": wait("s1", f"fail {SECRET}"), "s6": ["summarization", "f1"]})
    parts = [{"type": "text", "text": f"{script} {SECRET} 30 ms"}, {"type": "file", "file": {"file_id": uploaded}}]
    body = {"model": "hugginggpt", "user": SECRET, "messages": [{"role": "user", "content": parts}]}
    reply = http.post("/v1/chat/completions", json=body)
    assert reply.status_code == 200 and SECRET in reply.text
    ended(backend, reply.json()["run"]["id"], {"s1", "s2", "s3", "s4", "s5", "s6"})
    exported = b"".join(backend.bodies)
    assert b"execute_tool summarization" in exported
    assert SECRET.encode() not in exported and b"script-private" not in exported


@pytest.mark.parametrize("mood", [Mood.REFUSES, Mood.HANGS])
def test_a_backend_that_refuses_or_hangs_costs_a_run_nothing(
    http: httpx.Client, backend: Backend, llm: ScriptedLanguageModel, mood: Mood
) -> None:
    backend.mood = mood
    seen = backend.requests
    for number in range(3):
        run = ask(http, llm.script(f"{mood}{number}", {"s1": wait("go", "1 ms"), "s2": wait("s1", "1 ms")}))
        assert [result["status"] for result in run["results"]] == ["done", "done"]
    backend.await_requests(seen + 1)
    backend.mood = Mood.TAKES
    run = ask(http, llm.script(f"after{mood}", {"s1": wait("go", "1 ms")}))
    assert ended(backend, run["id"], {"s1"})


def test_a_backend_that_is_gone_costs_a_run_nothing_and_the_service_ends_as_ever(
    http: httpx.Client, backend: Backend, llm: ScriptedLanguageModel
) -> None:
    """The last test: that the service ends is for the fixture to see."""
    backend.mood = Mood.HANGS
    for number in range(3):
        run = ask(http, llm.script(f"gone{number}", {"s1": wait("go", "1 ms")}))
        assert [result["status"] for result in run["results"]] == ["done"]
