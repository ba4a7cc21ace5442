"""Plan first, run later; a re-run computes only what changed; what failed is planned again. Fake models and a scripted planner."""

import json
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from openai import OpenAI

from benchmarks.fakes import CONFIG, wait
from controller.cli import main
from tests.cluster.serving import served
from tests.scripted_llm import ScriptedLanguageModel, scripted_llm

pytestmark = pytest.mark.cluster
FIRST, OTHER, SINGLE = "fakes/obedient", "fakes/other", "fakes/single"
CARDS = [
    {"id": FIRST, "tasks": ["text-generation", "summarization", "text-classification", "sentence-similarity"], "quality": 1.0},
    {"id": OTHER, "tasks": ["text-generation"], "quality": 0.1},
    {"id": SINGLE, "tasks": ["summarization"], "quality": 0.1},
]


@pytest.fixture(scope="module")
def llm() -> ScriptedLanguageModel:
    return ScriptedLanguageModel()


@pytest.fixture(scope="module")
def service(llm: ScriptedLanguageModel, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The whole service; its planner asks the scripted language model, and everybody else the echo engine."""
    folder = tmp_path_factory.mktemp("runs")
    cards = [{"family": "fake", "loader": "fake", "memory_bytes": 1, "licence": "Apache-2.0", **card} for card in CARDS]
    (folder / "cards.yaml").write_text(yaml.safe_dump(cards))
    config = yaml.safe_load(CONFIG.read_text(encoding="utf-8"))
    config["http_options"]["port"] = "the-port"
    app = config["applications"][1]["args"]
    app["llm"]["base_url"] = "http://127.0.0.1:the-port/llm/v1"
    app["catalogues"] = [str(folder / "cards.yaml")]
    with scripted_llm(llm) as port:
        app["planner_llm"] = {"base_url": f"http://127.0.0.1:{port}/v1", "timeout_s": 30}
        with served(config, folder, HGPT_HOME=str(folder / "home")) as url:
            yield url


@pytest.fixture
def http(service: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=service, timeout=60) as client:
        yield client


def planned(http: httpx.Client, llm: ScriptedLanguageModel, name: str, plan: dict[str, Any], **more: Any) -> dict[str, Any]:
    """What POST /v1/plan gives for a request that is planned so."""
    reply = http.post("/v1/plan", json=asking(f"{llm.script(name, plan)} go", **more))
    assert reply.status_code == 200, reply.text
    whole: dict[str, Any] = reply.json()
    return whole


def asking(text: str, **more: Any) -> dict[str, Any]:
    return {"model": "hugginggpt", "messages": [{"role": "user", "content": text}], **more}


def ran(http: httpx.Client, plan: Mapping[str, Any], **more: Any) -> dict[str, Any]:
    reply = http.post("/v1/runs", json={"plan": plan, **more})
    assert reply.status_code == 200, reply.text
    run: dict[str, Any] = reply.json()
    return run


def results_of(run: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    return {result["step"]: result for result in run["results"]}


def reused(run: Mapping[str, Any]) -> list[str]:
    return [result["step"] for result in run["results"] if result.get("reused")]


def refusal(http: httpx.Client, body: Any, status: int = 400) -> str:
    reply = http.post("/v1/runs", json=body)
    assert reply.status_code == status, reply.text
    sentence: str = reply.json()["error"]["message"]
    assert "\n" not in sentence
    return sentence


# Plan first, run later


def test_a_plan_runs_as_it_was_shown(http: httpx.Client, llm: ScriptedLanguageModel) -> None:
    plan = planned(http, llm, "shown", chain_of("at once"))
    assert (plan["object"], plan["request"], plan["files"]) == ("plan", "script-shown go", [])
    assert [step["model"] for step in plan["steps"]] == [FIRST] * 3
    run = ran(http, plan)
    assert (run["object"], run["request"]) == ("run", "script-shown go")
    assert [(step["model"], step["fallbacks"]) for step in run["plan"]] == [(step["model"], step["fallbacks"]) for step in plan["steps"]]
    assert [result["text"] for result in run["results"]] == ["go+", "go++", "go+++"]
    assert "go+++" in run["answer"]
    assert http.get(f"/v1/runs/{run['id']}").json() == http.get(f"/v1/runs/chatcmpl-{run['id']}").json() == run
    assert ran(http, plan, request=" ")["request"] == "script-shown go"


def test_the_time_of_a_plan_is_known_once_its_models_have_run(http: httpx.Client, llm: ScriptedLanguageModel) -> None:
    slow = {"s1": ["sentence-similarity", {"text": "120 ms"}, {"text": "120 ms"}], "s2": wait("s1", "at once")}
    request = f"{llm.script('time', slow)} 120 ms"
    ran(http, http.post("/v1/plan", json=asking(request)).json(), reuse=False)
    deadline = time.monotonic() + 20
    while (plan := http.post("/v1/plan", json=asking(request)).json())["estimated_s"] is None:
        assert time.monotonic() < deadline, plan
        time.sleep(0.2)
    first, second = (step["estimated_s"] for step in plan["steps"])
    assert first > 0 and plan["estimated_s"] == pytest.approx(first + second, abs=0.01)


def test_a_file_of_the_plan_comes_along(http: httpx.Client, llm: ScriptedLanguageModel) -> None:
    upload = http.post("/v1/files", files={"file": ("times.txt", b"the best of times")}).json()
    text = llm.script("file", {"s1": ["summarization", "f1"]})
    content = [{"type": "file", "file": {"file_id": upload["id"]}}, {"type": "text", "text": text}]
    plan = http.post("/v1/plan", json={"model": "hugginggpt", "messages": [{"role": "user", "content": content}]}).json()
    assert [(file["id"], file["name"]) for file in plan["files"]] == [("f1", "times.txt")]
    assert ran(http, plan)["results"][0]["text"] == "the best of times+"
    other = http.post("/v1/files", files={"file": ("worst.txt", b"the worst of times")}).json()["id"]
    run = ran(http, plan | {"files": [{"id": "f1", "sha256": other}]})
    assert (run["results"][0]["text"], reused(run)) == ("the worst of times+", [])


def test_steps_may_be_added_removed_and_given_another_model(http: httpx.Client, llm: ScriptedLanguageModel) -> None:
    plan = planned(http, llm, "edit", chain_of("at once"))
    first, second, _ = plan["steps"]
    second["model"] = OTHER
    added = {"id": "last", "task": "sentence-similarity", "inputs": [{"step": "s2"}, {"step": "s1"}]}
    run = ran(http, plan | {"steps": [added, second, first]}, request="And now?")
    results = results_of(run)
    assert {step: result["text"] for step, result in results.items()} == {"s1": "go+", "s2": "go++", "last": "go+++"}
    assert (results["s1"]["model"], results["s2"]["model"], results["last"]["model"]) == (FIRST, OTHER, FIRST)
    assert run["request"] == "And now?"


def test_a_question_may_be_what_another_step_gave(http: httpx.Client) -> None:
    steps = [
        {"id": "s1", "task": "summarization", "inputs": [{"text": "wait 1 ms"}]},
        {"id": "s2", "task": "text-generation", "inputs": [{"text": "go"}], "options": {"prompt": {"step": "s1"}}},
    ]
    assert [result["text"] for result in ran(http, {"steps": steps})["results"]] == ["wait 1 ms+", "go+"]


def test_a_streamed_run_tells_what_a_request_tells(service: str, http: httpx.Client, llm: ScriptedLanguageModel) -> None:
    plan = planned(http, llm, "stream", {"s1": wait("go", "3 ms"), "s2": wait("s1", "3 ms")})
    first = ran(http, plan)
    with http.stream("POST", "/v1/runs", json={"plan": plan, "stream": True}) as reply:
        assert reply.headers["content-type"].startswith("text/event-stream")
        lines = [line.removeprefix("data: ") for line in reply.iter_lines() if line]
    assert lines.pop() == "[DONE]"
    chunks = [json.loads(line) for line in lines]
    notes = [chunk["progress"] for chunk in chunks if "progress" in chunk]
    assert [note["event"] for note in notes] == ["plan", "step_ended", "step_ended"]
    assert [note["span"] for note in notes[1:]] == [result["span"] for result in first["results"]]
    assert all(note["reused"] for note in notes[1:])
    assert chunks[-1]["run"]["results"] == notes_as_results(notes[1:])
    assert "".join(chunk["choices"][0]["delta"].get("content") or "" for chunk in chunks) == first["answer"]


def notes_as_results(notes: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{key: value for key, value in note.items() if key != "event"} for note in notes]


def test_the_command_line_plans_into_a_file_and_runs_it(
    service: str, llm: ScriptedLanguageModel, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    request = f"{llm.script('typed', chain_of('at once'))} go"
    assert main(["plan", request, "--url", service]) == 0
    assert " in all\n" in capsys.readouterr().out
    assert main(["plan", request, "--url", service, "--json"]) == 0
    (tmp_path / "plan.json").write_text(capsys.readouterr().out)
    assert main(["run", str(tmp_path / "plan.json"), "--url", service, "--save", str(tmp_path)]) == 0
    assert "go+++" in capsys.readouterr().out
    assert main(["run", str(tmp_path / "plan.json"), "--url", service, "--json"]) == 0
    shown = capsys.readouterr()
    assert reused(json.loads(shown.out)) == ["s1", "s2", "s3"]
    assert "as before" in shown.err
    (tmp_path / "plan.json").write_text('{"steps": [{"id": "s1", "task": "sing"}]}')
    assert main(["run", str(tmp_path / "plan.json"), "--url", service]) == 1
    assert 'hgpt: s1: no task is called "sing"' in capsys.readouterr().err


# A re-run computes only what changed


def test_a_rerun_computes_the_step_that_changed_and_what_stands_behind_it(http: httpx.Client, llm: ScriptedLanguageModel) -> None:
    reply = http.post("/v1/chat/completions", json=asking(f"{llm.script('rerun', chain_of('2 ms'))} go"))
    before = http.get(f"/v1/runs/{reply.json()['run']['id']}").json()
    steps = [*before["plan"], {"id": "s4", "task": "summarization", "inputs": [{"step": "s3"}]}]
    steps[2]["options"]["prompt"] = "4 ms"
    run = ran(http, {"steps": steps})
    assert reused(run) == ["s1", "s2"]
    spans = {step: result["span"] for step, result in results_of(before).items()}
    assert {step: results_of(run)[step]["span"] for step in ("s1", "s2")} == {step: spans[step] for step in ("s1", "s2")}
    assert results_of(run)["s3"]["span"]["started_s"] > spans["s3"]["finished_s"]
    assert [result["text"] for result in run["results"]] == ["go+", "go++", "go+++", "go++++"]
    assert reused(ran(http, {"steps": steps})) == ["s1", "s2", "s3", "s4"]


def test_a_step_is_reused_when_the_changed_one_before_it_gives_the_same(http: httpx.Client, llm: ScriptedLanguageModel) -> None:
    plan = planned(http, llm, "same", chain_of("5 ms"))
    assert reused(ran(http, plan)) == []
    plan["steps"][0]["options"]["prompt"] = "6 ms"
    run = ran(http, plan)
    assert reused(run) == ["s2", "s3"]
    plan["steps"][0]["inputs"] = [{"text": "other"}]
    assert reused(ran(http, plan)) == []


def test_another_model_computes_its_step_and_without_reuse_all_are_computed(http: httpx.Client, llm: ScriptedLanguageModel) -> None:
    plan = planned(http, llm, "model", chain_of("7 ms"))
    ran(http, plan)
    plan["steps"][2]["model"] = OTHER
    assert reused(ran(http, plan)) == ["s1", "s2"]
    assert reused(ran(http, plan, reuse=False)) == []


def chain_of(told: str) -> dict[str, Any]:
    return {"s1": wait("go", told), "s2": wait("s1", told), "s3": wait("s2", told)}


# What is refused


def test_what_cannot_be_run_is_refused_in_a_sentence(http: httpx.Client) -> None:
    step = {"id": "s1", "task": "summarization", "inputs": [{"text": "go"}]}
    many = [step | {"id": f"s{n}"} for n in range(1000)]
    circle = [step | {"inputs": [{"step": "s2"}]}, step | {"id": "s2", "inputs": [{"step": "s1"}]}]
    assert refusal(http, {}) == "plan is missing, and so are messages: a run needs one of them"
    assert refusal(http, {"plan": {}}) == "the request cannot be read: plan.steps is missing"
    assert refusal(http, {"plan": {"steps": []}}) == "the plan has no steps"
    assert "1,000 steps; at most 100 are allowed (limits.max_run_steps)" in refusal(http, {"plan": {"steps": many}})
    assert "steps wait for each other" in refusal(http, {"plan": {"steps": circle}})
    assert refusal(http, {"plan": {"steps": [step | {"inputs": [{"file": "f1"}]}]}}) == "s1: there is no file f1"
    assert refusal(http, {"plan": {"steps": [step | {"task": "text-to-video"}]}}) == "s1: no deployed model can do text-to-video"
    assert refusal(http, {"plan": {"steps": [step | {"model": OTHER}]}}).startswith(f"s1: the model {OTHER} does not do summarization")
    assert refusal(http, {"plan": {"steps": [step | {"model": "nobody/nothing"}]}}).startswith("s1: nobody/nothing is not among the models")
    gone = {"steps": [step], "files": [{"id": "f1", "sha256": "0" * 64}]}
    assert refusal(http, {"plan": gone}, status=404) == f"no artifact has id {'0' * 64}"
    assert refusal(http, {"plan": gone, "stream": True}, status=404)


def test_a_run_that_nobody_remembers_is_404(http: httpx.Client) -> None:
    reply = http.get("/v1/runs/nonsense")
    assert (reply.status_code, reply.json()["error"]["code"]) == (404, "not_found")


# What failed is planned again


def test_what_failed_is_done_in_another_way_and_nothing_is_repeated(service: str, llm: ScriptedLanguageModel) -> None:
    first = {"s1": ["summarization", {"text": "go"}], "s2": wait("s1", "fail"), "s3": ["sentence-similarity", "s2", "s1"]}
    second = {"s1": ["summarization", {"text": "go"}], "s2": ["text-classification", "f1"], "s3": ["sentence-similarity", "s2", "s1"]}
    word = llm.script("mend", first, second)
    client = OpenAI(base_url=f"{service}/v1", api_key="none", max_retries=0, timeout=60)
    stream = client.chat.completions.create(model="hugginggpt", messages=[{"role": "user", "content": f"{word} go"}], stream=True)
    chunks = [chunk.model_dump() for chunk in stream]
    plans = [chunk["progress"] for chunk in chunks if chunk.get("progress", {}).get("event") == "plan"]
    assert [step["id"] for step in plans[1]["plan"]] == ["s4", "s5"]
    assert plans[1]["replan"] == 1 and "s2 text-generation failed: " in plans[1]["why"] and "told to fail" in plans[1]["why"]
    run = chunks[-1]["run"]
    assert [step["id"] for step in run["plan"]] == ["s1", "s2", "s3", "s4", "s5"]
    assert {result["step"]: result["status"] for result in run["results"]} == {
        "s1": "done", "s2": "failed", "s3": "skipped", "s4": "done", "s5": "done",
    }  # fmt: skip
    assert [results_of(run)[step]["text"] for step in ("s1", "s4", "s5")] == ["go+", "go++", "go+++"]
    assert run["plan"][3]["inputs"] == [{"step": "s1"}]
    ended = [chunk["progress"]["step"] for chunk in chunks if chunk.get("progress", {}).get("event") == "step_ended"]
    assert sorted(ended) == ["s1", "s2", "s3", "s4", "s5"]
    assert "go+++" in "".join(chunk["choices"][0]["delta"].get("content") or "" for chunk in chunks)
    assert [replan["steps"] for replan in run["replans"]] == [["s4", "s5"]]
    shown = llm.asked[word][1]
    assert "f1 = text summary of the text" in shown and "text-generation failed" in shown


def test_planning_again_ends_after_the_second_time(http: httpx.Client, llm: ScriptedLanguageModel) -> None:
    first = {"s1": wait("fail", "fail")}
    second = {"s1": ["summarization", {"text": "fail"}]}
    third = {"s1": ["text-classification", {"text": "fail"}]}
    fourth = {"s1": ["sentence-similarity", {"text": "go"}, {"text": "go"}]}
    word = llm.script("twice", first, second, third, fourth)
    run = http.post("/v1/chat/completions", json=asking(f"{word} go fail")).json()["run"]
    assert [(result["step"], result["status"]) for result in run["results"]] == [("s1", "failed"), ("s2", "failed"), ("s3", "failed")]
    assert [replan["steps"] for replan in run["replans"]] == [["s2"], ["s3"]]
    assert len(llm.asked[word]) == 3


@pytest.mark.parametrize("again", [{"s1": wait("fail", "fail")}, {"kind": "chat"}, {"kind": "cannot", "task": "text-to-image"}])
def test_a_run_goes_on_with_what_it_has_when_planning_again_gives_nothing(
    http: httpx.Client, llm: ScriptedLanguageModel, again: dict[str, Any]
) -> None:
    word = llm.script(f"nothing{len(llm.asked)}", {"s1": wait("fail", "fail"), "s2": wait("go", "at once")}, again)
    reply = http.post("/v1/chat/completions", json=asking(f"{word} go fail")).json()
    assert [(result["step"], result["status"]) for result in reply["run"]["results"]] == [("s1", "failed"), ("s2", "done")]
    (replan,) = reply["run"]["replans"]
    assert replan["steps"] == [] and replan["refused"]
    assert "go+" in reply["choices"][0]["message"]["content"]


def test_a_plan_that_a_person_sent_is_not_planned_again(http: httpx.Client, llm: ScriptedLanguageModel) -> None:
    plan = planned(http, llm, "sent", {"s1": wait("go", "fail")})
    run = ran(http, plan)
    assert [result["status"] for result in run["results"]] == ["failed"] and run["replans"] == []
    assert len(llm.asked["script-sent"]) == 1
