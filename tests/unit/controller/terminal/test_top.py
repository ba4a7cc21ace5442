"""`hgpt top`: what a person sees of the cluster, also where something is not known, and what is said where no service is."""

import io
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest
from rich.cells import cell_len
from rich.console import Console

from cluster.state import ClusterState, ModelState, ReplicaState
from controller.cli import main, parser
from controller.terminal.top_view import TopView
from controller.watching.cluster_view import cluster_view
from controller.watching.ray_facts import DeploymentFacts, NodeFacts

URL = "http://127.0.0.1:8000"
GB = 1_000_000_000
STATE = ClusterState(
    (
        ReplicaState("r1", "text", "n1", 4 * GB, 3 * GB, (ModelState("org/m", True, 2, 0.5, 3.0), ModelState("org/cold", False))),
        ReplicaState("r2", "text", "n2", 4 * GB, 0, (ModelState("org/m", False, 1, 1.5, None, is_set_aside=True),)),
    )
)
NODES = [
    NodeFacts("n1", "head", "10.0.0.1", True, {"CPU": 8.0}, {"CPU": 7.5}, None),
    NodeFacts("n2", "worker", "10.0.0.2", False, {}, None, None),
]
DEPLOYMENTS = [DeploymentFacts("app", "text", "UPDATING", {"RUNNING": 1, "STARTING": 1})]
LATENCIES = {"plan": {"runs": 4, "p50_s": 0.25, "p95_s": 12.5}, "total": {"runs": 4, "p50_s": 1.0, "p95_s": 90.0}}


def cluster(
    nodes: list[NodeFacts] | None = NODES,
    deployments: list[DeploymentFacts] | None = DEPLOYMENTS,
    latencies: dict[str, Any] = LATENCIES,
    state: ClusterState | None = STATE,
) -> dict[str, Any]:
    """As it comes over HTTP."""
    ingress = {"replica": "i", "runs_in_flight": 3, "max_runs_in_flight": 64, "stage_latencies": latencies}
    told = cluster_view(state, ["text", "vision"], nodes, deployments, None, time_s=0.0, ingress=ingress)
    return dict(json.loads(json.dumps(told)))


def screen(told: dict[str, Any], width: int = 120, trouble: str = "") -> list[str]:
    console = Console(file=io.StringIO(), width=width, force_terminal=True, color_system=None)
    console.print(TopView(told, URL, trouble))
    assert isinstance(console.file, io.StringIO)
    return [line.rstrip() for line in console.file.getvalue().splitlines()]


def row(lines: list[str], start: str) -> list[str]:
    return next(line for line in lines if line.startswith(start)).split()


def test_nodes_replicas_models_deployments_and_latencies_are_seen() -> None:
    lines = screen(cluster())
    assert "1 node, 2 replicas, 3 of 64 runs in flight" in lines[0]
    assert row(lines, "head")[-2:] == ["–", "–"] and "0.5 of 8" in " ".join(row(lines, "head"))
    assert "dead" in row(lines, "worker")
    assert " ".join(row(lines, "text")).startswith("text r1 head 1 2 ") and " ".join(row(lines, "text")).endswith("3.0 GB of 4.0 GB")
    assert " ".join(row(lines, "vision")) == "vision silent"
    assert " ".join(row(lines, "org/m")) == "org/m text 1 3 1.00 s 3.00 s set aside on 1"
    assert " ".join(row(lines, "org/cold")) == "org/cold text 0 0 – –"
    assert " ".join(row(lines, "app/text")) == "app/text updating 1 of 2 – –"
    assert " ".join(row(lines, "p95")) == "p95 of 4 runs 12.5 s – – – 90.0 s"


def test_a_bar_is_as_full_as_the_memory() -> None:
    lines = screen(cluster(), width=200)
    full, empty = (next(line for line in lines if name in line.split()) for name in ("r1", "r2"))
    assert (full.count("█"), full.count("░")) == (15, 5) and (empty.count("█"), empty.count("░")) == (0, 20)


def test_what_is_not_known_is_said_and_the_rest_is_shown() -> None:
    lines = screen(cluster(nodes=None, deployments=None, latencies={}, state=None))
    assert "nodes: Ray did not tell in time" in lines and "deployments: Serve did not tell in time" in lines
    assert "no run has ended yet" in lines and "no model has run yet" in lines and "replicas: the board did not tell in time" in lines
    assert "– nodes, – replicas, 3 of 64 runs in flight" in lines[0]


def test_trouble_is_one_line_above_what_was_told_last() -> None:
    lines = screen(cluster(), trouble="no service answers\nat all \x1b[2J")
    assert lines[1] == "no service answers at all"
    assert any(line.startswith("org/m") for line in lines)


@pytest.mark.parametrize("width", [200, 110, 80, 50, 30, 10])
def test_no_line_is_wider_than_the_terminal(width: int) -> None:
    assert max(map(cell_len, screen(cluster(), width=width, trouble="x" * 300))) <= width


def test_no_name_steers_the_terminal_or_is_taken_for_markup() -> None:
    nasty = "org/[red]x[/red]\x1b[2J\x07\r\n"
    state = ClusterState((ReplicaState(nasty, "text", nasty, 10, 20, (ModelState(nasty, True),)),))
    printed = "\n".join(screen(cluster(nodes=[NodeFacts("n", nasty, nasty, True, {}, {}, None)], state=state)))
    assert not {"\x1b", "\x07", "\r"} & set(printed) and "org/[red]x[/red]" in printed


# Where no service is


def test_no_service_at_the_start_is_one_sentence_and_status_1(capsys: pytest.CaptureFixture[str]) -> None:
    for flags in ([], ["--once"], ["--json"]):
        assert main(["top", *flags, "--url", "http://127.0.0.1:9"]) == 1
        out, err = capsys.readouterr()
        assert out == "" and err == "hgpt: no service answers at http://127.0.0.1:9; start one with `hgpt serve`\n"


@pytest.fixture(params=["[1]", '{"object": "list"}', "<h1>Welcome</h1>"])
def stranger(request: pytest.FixtureRequest) -> Iterator[str]:
    class Stranger(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("content-type", "text/html" if request.param.startswith("<") else "application/json")
            self.end_headers()
            self.wfile.write(request.param.encode())

        def log_message(self, *_: object) -> None: ...

    with HTTPServer(("127.0.0.1", 0), Stranger) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_another_server_is_told_apart(stranger: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["top", "--url", stranger]) == 1
    assert f"what answers at {stranger} is no HuggingGPT service" in capsys.readouterr().err


@pytest.mark.parametrize("interval", ["0", "-1", "nan", "inf", "often"])
def test_an_interval_that_is_none_is_refused(interval: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parser().parse_args(["top", "--interval", interval])
    assert "--interval" in capsys.readouterr().err
