"""A language model that plans what a test has written down, behind HTTP in the OpenAI form."""

import json
import re
import threading
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

USAGE = {"prompt_tokens": 30, "completion_tokens": 20, "total_tokens": 50}  # of every reply
_NAMED = re.compile(r"script-\w+")


class ScriptedLanguageModel:
    """A request that names a script gets its plans, one each time it comes; the last one again when they run out."""

    def __init__(self) -> None:
        self._scripts: dict[str, list[dict[str, Any]]] = {}
        self.asked: dict[str, list[str]] = defaultdict(list)  # what the planner was shown, by script
        self.headers: list[dict[str, str]] = []  # of every request, by their names in small letters

    def script(self, name: str, *plans: dict[str, Any]) -> str:
        """The word to put into the request."""
        self._scripts[f"script-{name}"] = list(plans)
        return f"script-{name}"

    def plan(self, shown: str) -> dict[str, Any]:
        found = _NAMED.search(shown)
        if found is None or found.group() not in self._scripts:
            return {"kind": "chat"}
        self.asked[found.group()].append(shown)
        plans = self._scripts[found.group()]
        return plans[min(len(self.asked[found.group()]), len(plans)) - 1]


@contextmanager
def scripted_llm(model: ScriptedLanguageModel) -> Iterator[int]:
    """The port on 127.0.0.1 where `model` answers."""

    class Door(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self._reply({"object": "list", "data": [{"id": "controller", "object": "model", "created": 0, "owned_by": "a test"}]})

        def do_POST(self) -> None:
            model.headers.append({name.lower(): value for name, value in self.headers.items()})
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            message = {"role": "assistant", "content": json.dumps(model.plan(body["messages"][-1]["content"]))}
            head = {"id": "x", "created": 0, "model": "controller", "usage": USAGE}
            if body.get("stream"):
                chunk = {**head, "object": "chat.completion.chunk", "choices": [{"index": 0, "delta": message, "finish_reason": "stop"}]}
                self._send(f"data: {json.dumps(chunk)}\n\ndata: [DONE]\n\n".encode(), "text/event-stream")
                return
            choice = {"index": 0, "message": message, "finish_reason": "stop"}
            self._reply({**head, "object": "chat.completion", "choices": [choice]})

        def _reply(self, body: Mapping[str, Any]) -> None:
            self._send(json.dumps(body).encode(), "application/json")

        def _send(self, content: bytes, media_type: str) -> None:
            self.send_response(200)
            self.send_header("content-type", media_type)
            self.send_header("content-length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Door) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()
