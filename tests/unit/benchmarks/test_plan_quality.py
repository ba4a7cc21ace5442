"""The plan-quality benchmark against a language model that plans what the test has written down, behind real HTTP."""

import json
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from benchmarks.plan_quality import _arguments, main

RECORDS = [
    {
        "id": "1",
        "type": "chain",
        "user_request": "Transcribe example.wav and sum it up.",
        "task_nodes": [
            {"task": "Summarization", "arguments": ["<node-1>"]},
            {"task": "Automatic Speech Recognition", "arguments": ["example.wav"]},
        ],
    },
    {
        "id": "2",
        "type": "single",
        "user_request": "Describe example.jpg.",
        "task_nodes": [{"task": "Image-to-Text", "arguments": ["example.jpg"]}],
    },
    {
        "id": "3",
        "type": "single",
        "user_request": "How deep is the scene in example.png?",
        "task_nodes": [{"task": "Depth Estimation", "arguments": ["example.png"]}],
    },
]
GOOD = '{"kind":"tasks","s1":["automatic-speech-recognition","f1"],"s2":["summarization","s1"]}'
DEPTH = '{"kind":"tasks","s1":["depth-estimation","f1"]}'
RUBBISH = '{"kind":"tasks","s1":["depth-estimation","f9"]}'


@dataclass
class Engine:
    """Answers a request that holds the key with its replies, one each time; the last one again. A status stands for an HTTP error."""

    url: str
    replies: dict[str, list[str | int]] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)  # the requests that the planner showed it, and what it said of a wrong plan
    counts: list[int] = field(default_factory=list)  # of replies that were wanted

    def reply(self, shown: str, earlier: str) -> str | int:
        self.asked.append(shown)
        script = next((script for key, script in self.replies.items() if key in earlier), ['{"kind":"chat"}'])
        return script.pop(0) if len(script) > 1 else script[0]


@pytest.fixture
def engine() -> Iterator[Engine]:
    state = Engine("")

    class Door(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._send(200, {"object": "list", "data": []})

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            messages, count = body["messages"], body.get("n", 1)
            state.counts.append(count)
            said = state.reply(messages[-1]["content"], messages[-3]["content"] + messages[-1]["content"])
            if isinstance(said, int):
                self._send(said, {"error": {"message": "no grammar for this schema"}})
                return
            choices = [{"index": n, "message": {"role": "assistant", "content": said}, "finish_reason": "stop"} for n in range(count)]
            usage = {"prompt_tokens": 700, "completion_tokens": 30, "total_tokens": 730}
            self._send(200, {"id": "x", "object": "chat.completion", "choices": choices, "usage": usage})

        def _send(self, status: int, body: dict[str, Any]) -> None:
            content = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Door) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        state.url = f"http://127.0.0.1:{server.server_port}/v1"
        state.replies = {"Transcribe": [GOOD], "Describe": ['{"kind":"tasks","s1":["object-detection","f1"]}'], "How deep": [DEPTH]}
        yield state
        server.shutdown()
        thread.join()


@dataclass
class Bench:
    """One folder with data and report, and the command over them."""

    folder: Path
    engine: Engine

    def run(self, *words: str) -> int:
        return main(["--data", f"{self.data}", "--url", self.engine.url, "--served", "m", "--out", f"{self.folder}/q.json", *words])

    def write(self, records: Sequence[dict[str, Any]] = RECORDS) -> None:
        self.data.write_text("".join(f"{json.dumps(record)}\n" for record in records), encoding="utf-8")

    @property
    def data(self) -> Path:
        return self.folder / "some.jsonl"

    @property
    def plans_file(self) -> Path:
        return self.folder / "q.plans.jsonl"

    @property
    def plans(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.plans_file.read_text(encoding="utf-8").splitlines()[1:]]

    @property
    def report(self) -> dict[str, Any]:
        report: dict[str, Any] = json.loads((self.folder / "q.json").read_text(encoding="utf-8"))
        return report


@pytest.fixture
def bench(tmp_path: Path, engine: Engine) -> Bench:
    bench = Bench(tmp_path, engine)
    bench.write()
    return bench


def test_the_report_has_scores_costs_intervals_and_what_was_run(bench: Bench) -> None:
    assert bench.run() == 0
    figures = bench.report["figures"]
    assert figures["node_f1"] == round(2 * 3 / (2 * 3 + 1 + 1), 5)
    assert (figures["edge_f1"], figures["node_f1_chain"], figures["node_f1_single"], figures["invalid_rate"]) == (1, 1, 0.5, 0)
    assert (figures["requests"], figures["tokens_in_p50"], figures["tokens_out_p50"]) == (3, 700, 30)
    assert 0 < figures["seconds_per_plan_p50"] <= figures["seconds_per_plan_p95"]
    low, high = bench.report["intervals_95"]["node_f1"]
    assert low <= figures["node_f1"] <= high
    settings = bench.report["settings"]
    assert (settings["engine"], settings["model"], settings["data"], settings["demonstrations"]) == ("external", "m", "some.jsonl", True)
    assert bench.report["versions"]["python"] and bench.report["machine"]["cores"]


def test_every_plan_is_kept_in_the_words_of_the_llm_and_of_the_benchmark(bench: Bench) -> None:
    bench.run()
    kept = bench.plans[0]
    assert (kept["id"], kept["type"], kept["user_request"]) == ("1", "chain", "Transcribe example.wav and sum it up.")
    assert kept["replies"] == [GOOD] and kept["plan"] == GOOD
    assert [node["task"] for node in kept["predicted"]] == ["Automatic Speech Recognition", "Summarization"]
    assert kept["predicted"][1]["arguments"] == ["<node-0>"]
    assert kept["gold"] == RECORDS[0]["task_nodes"]


def test_the_prompt_is_read_before_the_first_request_and_not_counted(bench: Bench) -> None:
    bench.run()
    assert "Hello" in bench.engine.asked[0]
    assert len(bench.engine.asked) == 1 + len(RECORDS)


def test_what_stands_in_the_file_is_not_asked_again(bench: Bench) -> None:
    bench.run("--limit", "2")
    assert bench.report["figures"]["requests"] == 2
    bench.engine.asked.clear()
    assert bench.run() == 0
    assert ["How deep" in shown for shown in bench.engine.asked] == [False, True]
    assert bench.report["figures"]["requests"] == 3
    bench.engine.asked.clear()
    bench.run()
    assert bench.engine.asked == []


def test_a_smaller_limit_reports_the_first_alone(bench: Bench) -> None:
    bench.run()
    bench.run("--limit", "1")
    assert bench.report["figures"]["requests"] == 1 and bench.report["figures"]["node_f1"] == 1


def test_a_line_that_a_stop_cut_short_is_asked_again(bench: Bench) -> None:
    bench.run()
    whole = bench.plans_file.read_bytes()
    bench.plans_file.write_bytes(whole[:-40])
    assert bench.run() == 0
    assert [plan["id"] for plan in bench.plans] == ["1", "2", "3"]


def test_a_file_of_other_settings_is_refused_and_left_as_it_is(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    bench.run()
    before = bench.plans_file.read_bytes()
    assert bench.run("--no-demonstrations") == 1
    refusal = capsys.readouterr().err
    assert refusal.count("\n") == 1 and "demonstrations was True and is False" in refusal
    assert bench.plans_file.read_bytes() == before


def test_changed_data_are_other_settings(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    bench.run()
    bench.write([{**RECORDS[0], "user_request": "Something else."}])
    assert bench.run() == 1
    assert "data_sha256 was" in capsys.readouterr().err


def test_another_file_is_neither_read_nor_overwritten(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    bench.plans_file.write_text("my notes", encoding="utf-8")
    assert bench.run() == 1
    assert "is no file of plans" in capsys.readouterr().err
    assert bench.plans_file.read_text(encoding="utf-8") == "my notes"


def test_a_repaired_plan_counts_and_its_first_words_are_kept(bench: Bench) -> None:
    bench.engine.replies["How deep"] = [RUBBISH, DEPTH]
    bench.run()
    kept = bench.plans[2]
    assert kept["was_repaired"] and kept["replies"] == [RUBBISH, DEPTH] and kept["tokens_out"] == 60
    assert bench.report["figures"]["invalid_rate"] == 0


def test_a_plan_that_stays_wrong_is_an_empty_one_with_its_reason(bench: Bench) -> None:
    bench.engine.replies["How deep"] = [RUBBISH]
    assert bench.run() == 0
    kept = bench.plans[2]
    assert kept["predicted"] is None and "there is no file f9" in kept["error"] and kept["replies"] == [RUBBISH, RUBBISH]
    figures = bench.report["figures"]
    assert figures["invalid_rate"] == round(1 / 3, 5)
    assert figures["node_f1"] < figures["node_f1_valid"]


def test_an_engine_that_fails_on_one_request_goes_on_with_the_next(bench: Bench) -> None:
    bench.engine.replies["Describe"] = [400]
    assert bench.run() == 0
    assert [plan["error"] is None for plan in bench.plans] == [True, False, True]


def test_an_engine_that_is_not_there_stops_the_run_and_counts_nothing(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    gone = ["--data", f"{bench.data}", "--url", "http://127.0.0.1:9/v1", "--served", "m", "--out", f"{bench.folder}/q.json"]
    assert main(gone) == 1
    assert "cannot be reached" in capsys.readouterr().err
    assert bench.plans == [] and not (bench.folder / "q.json").exists()


def test_progress_is_shown_every_ten_requests(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    bench.write([{**RECORDS[0], "id": str(n)} for n in range(12)])
    bench.run()
    lines = [line for line in capsys.readouterr().out.splitlines() if "/12" in line]
    assert len(lines) == 1 and "10/12  node F1 1.000  edge F1 1.000" in lines[0]


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--model", "x"], "neither --model nor --adapter"),
        (["--engine", "llama_cpp"], "neither --model nor --adapter"),
    ],
)
def test_options_that_do_not_go_together_are_refused(
    bench: Bench, capsys: pytest.CaptureFixture[str], words: list[str], sentence: str
) -> None:
    assert bench.run(*words) == 1
    assert sentence in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--served", "m"], "there is no --url"),
        (["--model", "no/such-model"], "no/such-model"),
        (["--adapter", "nowhere/a.gguf"], "no LoRA adapter at nowhere/a.gguf"),
        (["--engine", "external"], "takes --url and --served"),
    ],
)
def test_a_wrong_engine_is_one_sentence(bench: Bench, capsys: pytest.CaptureFixture[str], words: list[str], sentence: str) -> None:
    assert main(["--data", f"{bench.data}", "--out", f"{bench.folder}/q.json", *words]) == 1
    refusal = capsys.readouterr().err
    assert sentence in refusal and refusal.count("\n") == 1


@pytest.mark.parametrize(("content", "sentence"), [("", "holds no requests"), ('{"id": "1"}\n', "line 1"), ("{", "line 1")])
def test_data_that_are_no_records_are_named(bench: Bench, capsys: pytest.CaptureFixture[str], content: str, sentence: str) -> None:
    bench.data.write_text(content, encoding="utf-8")
    assert bench.run() == 1
    assert sentence in capsys.readouterr().err
    assert not bench.plans_file.exists()


def test_an_id_twice_is_refused(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    bench.write([RECORDS[0], RECORDS[0]])
    assert bench.run() == 1
    assert "share an id" in capsys.readouterr().err


def test_samples_are_drawn_and_all_kept(bench: Bench) -> None:
    bench.run("--samples", "3", "--limit", "1")
    assert bench.engine.counts == [1, 3]
    assert bench.report["settings"]["samples"] == 3
    assert bench.plans[0]["replies"] == [GOOD, GOOD, GOOD] and not bench.plans[0]["was_repaired"]
    assert bench.plans[0]["tokens_out"] == 30


def test_a_missing_file_is_named(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    bench.data.unlink()
    assert bench.run() == 1
    assert "some.jsonl" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "adapter", "demonstrations"),
    [
        ([], "planner-0.5b", False),  # what a laptop plans with
        (["--adapter", "none"], None, True),
        (["--model", "org/other"], None, True),
        (["--demonstrations"], "planner-0.5b", True),
        (["--url", "http://127.0.0.1:1/v1", "--served", "m"], None, True),
    ],
)
def test_by_default_the_planner_of_a_laptop_plans(words: list[str], adapter: str | None, demonstrations: bool) -> None:
    args = _arguments(["--data", "d.jsonl", "--out", "o.json", *words])
    assert (args.adapter, args.demonstrations) == (adapter, demonstrations)
