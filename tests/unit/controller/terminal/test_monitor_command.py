"""What keeps `hgpt monitor` from starting, beside a service whose Ray cannot be asked what is to be scraped."""

import json
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from cluster.errors import HuggingGPTError
from controller.asking.openai_schema import MODEL
from controller.terminal.monitor_command import monitoring

NOWHERE = "http://127.0.0.1:9/api/prometheus/sd"


class Door(BaseHTTPRequestHandler):
    """A service's door, as far as the command asks it."""

    discovery: str | None = None

    def do_GET(self) -> None:
        answers = {"/v1/models": {"data": [{"id": MODEL}]}, "/v1/monitoring": {"ray_service_discovery": Door.discovery}, "/no-list": None}
        body = json.dumps(answers[self.path]).encode() if answers.get(self.path) else b"a page"
        self.send_response(200 if self.path in answers else 401)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_args: object) -> None:
        pass


@pytest.fixture
def url(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setenv("HGPT_PROMETHEUS", sys.executable)  # it is not started
    with ThreadingHTTPServer(("127.0.0.1", 0), Door) as http:
        thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{http.server_port}"
        http.shutdown()
        thread.join()


@pytest.mark.parametrize(
    ("discovery", "sentence"),
    [
        (None, "has no dashboard"),
        (NOWHERE, f"does not answer at {NOWHERE} ([Errno 111] Connection refused)"),
        ("{url}/wants-a-token", "/wants-a-token (HTTP 401)"),
        ("{url}/no-list", "/no-list (Expecting value"),
    ],
)
def test_a_dashboard_that_does_not_list_the_nodes_is_told(url: str, discovery: str | None, sentence: str) -> None:
    Door.discovery = discovery and discovery.replace("{url}", url)
    with pytest.raises(HuggingGPTError) as raised, monitoring(url, 0, 1, None):
        pass
    assert sentence in raised.value.message and "\n" not in raised.value.message
