"""What the users of load.py ask for, and the Locust process that lets them. Imports neither Ray nor the service."""

import gevent.monkey

gevent.monkey.patch_all()  # before anything opens a socket

import itertools  # noqa: E402
import json  # noqa: E402
import sys  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import Any  # noqa: E402

import gevent  # noqa: E402
from locust import FastHttpUser, constant, task  # noqa: E402
from locust.env import Environment  # noqa: E402
from locust.html import get_html_report  # noqa: E402

STOP_TIMEOUT_S = 300
MOST_WAITED_S = 60.0  # of what a Retry-After asks for
CITIES = (
    "Paris",
    "Rome",
    "Lisbon",
    "Vienna",
    "Prague",
    "Dublin",
    "Oslo",
    "Warsaw",
    "Athens",
    "Helsinki",
    "Cairo",
    "Lima",
    "Quito",
    "Seoul",
)


class _Asks(FastHttpUser):
    abstract = True
    wait_time = constant(0)
    network_timeout = connection_timeout = 300.0
    files: dict[str, Path] = {}  # noqa: RUF012 - set once, before the users are

    def ask(self, name: str, content: Any, **more: Any) -> None:
        """Whoever is told to come later comes later; that is no failure, and is counted under a name of its own."""
        body = {"model": "hugginggpt", "messages": [{"role": "user", "content": content}], **more}
        with self.client.post("/v1/chat/completions", json=body, name=name, catch_response=True) as reply:
            text = reply.text or ""
            wait_s = float((reply.headers or {}).get("retry-after") or 0) if reply.status_code == 429 else 0.0
            if wait_s:
                reply.request_meta["name"] = "refused, to come later"
                reply.success()
            elif reply.status_code != 200:
                reply.failure(f"HTTP {reply.status_code}: {text[:200]}")
            elif more.get("stream") and "data: [DONE]" not in text:
                reply.failure("the stream has no end")
            elif not more.get("stream") and (failed := _failed(text)):
                reply.failure(failed)
        gevent.sleep(min(wait_s, MOST_WAITED_S))


class FakeUser(_Asks):
    """Plans that the echo engine repeats: steps that sleep, as benchmarks/fakes has them. Every request is a new one."""

    numbers = itertools.count()

    def go(self) -> dict[str, str]:
        return {"text": f"go {next(self.numbers)}"}

    @task(4)
    def one_step(self) -> None:
        self.ask("one step", _message({"s1": ["text-generation", self.go(), "10 ms"]}))

    @task(2)
    def chain(self) -> None:
        steps = {f"s{n}": ["text-generation", f"s{n - 1}", "10 ms"] for n in range(2, 5)}
        self.ask("chain of 4", _message({"s1": ["text-generation", self.go(), "10 ms"], **steps}))

    @task(2)
    def fan_out(self) -> None:
        self.ask("fan-out of 4", _message({f"s{n}": ["text-generation", self.go(), "20 ms"] for n in range(1, 5)}), stream=True)

    @task(1)
    def known(self) -> None:
        self.ask("asked before", _message({"s1": ["text-generation", {"text": "the same"}, "10 ms"]}))

    @task(1)
    def failing_step(self) -> None:
        body = {"model": "hugginggpt", "messages": [{"role": "user", "content": _message({"s1": ["text-generation", self.go(), "fail"]})}]}
        self.client.post("/v1/chat/completions", json=body, name="a step fails")

    @task(1)
    def models(self) -> None:
        self.client.get("/v1/models")


class RealUser(_Asks):
    """What people would write, for real models; each request names another city, so that most are new."""

    cities = itertools.cycle(CITIES)
    uploaded: dict[str, str] = {}  # noqa: RUF012 - ids by the file's name here, shared by the users

    @task(3)
    def chat(self) -> None:
        self.ask("chat", f"What is {next(self.cities)} known for?")

    @task(3)
    def translate(self) -> None:
        self.ask("translate", f'Translate "The train to {next(self.cities)} leaves at nine in the morning." into German.')

    @task(2)
    def sentiment(self) -> None:
        self.ask(
            "sentiment, streamed", f'Is the sentence "I have never liked {next(self.cities)} less." positive or negative?', stream=True
        )

    @task(2)
    def speech(self) -> None:
        self.ask("speech", f'Read aloud: "Welcome to {next(self.cities)}, everybody."')

    @task(1)
    def photograph(self) -> None:
        self.ask("photograph", self.with_file("photograph", "What does this photograph show?"))

    @task(1)
    def recording(self) -> None:
        self.ask("recording", self.with_file("recording", "Transcribe this recording and tell me its named entities."))

    @task(1)
    def summary(self) -> None:
        self.ask("summary of a file", self.with_file("text", "Summarise this speech."))

    def with_file(self, name: str, text: str) -> list[dict[str, Any]]:
        if name not in self.uploaded:
            path = self.files[name]
            reply = self.client.post("/v1/files", files={"file": (path.name, path.read_bytes())})
            self.uploaded[name] = reply.json()["id"]
        return [{"type": "file", "file": {"file_id": self.uploaded[name]}}, {"type": "text", "text": text}]


def main(url: str, user: str, users: int, seconds: int, folder: Path) -> None:
    files = json.loads((folder / "files.json").read_text(encoding="utf-8"))
    _Asks.files = {name: Path(path) for name, path in files.items()}
    environment = Environment(user_classes=[{"FakeUser": FakeUser, "RealUser": RealUser}[user]], host=url, stop_timeout=STOP_TIMEOUT_S)
    runner = environment.create_local_runner()
    runner.start(users, spawn_rate=users)
    gevent.sleep(seconds)
    runner.stop()
    for error in environment.stats.errors.values():
        print(f"{error.occurrences} times: {error.name}: {error.error}", file=sys.stderr)
    html: str = get_html_report(environment, show_download_link=False)  # type: ignore[no-untyped-call]
    (folder / "report.html").write_text(html, encoding="utf-8")
    (folder / "figures.json").write_text(json.dumps(_figures(environment.stats)), encoding="utf-8")


def _figures(stats: Any) -> dict[str, float]:
    """Of every kind of request and of all together. Locust rounds its percentiles to two digits."""
    total = stats.total
    took_s = max(total.last_request_timestamp - total.start_time, 1e-9)
    figures = {
        "requests": total.num_requests,
        "failures": total.num_failures,
        "requests_per_s": total.num_requests / took_s,
        "p50_s": total.get_response_time_percentile(0.5) / 1000,
        "p99_s": total.get_response_time_percentile(0.99) / 1000,
    }
    for (name, _method), entry in sorted(stats.entries.items()):
        slug = name.strip("/").replace(",", "").replace(" ", "_").replace("-", "_").replace("/", "_")
        figures[f"{slug}_requests"] = entry.num_requests
        figures[f"{slug}_p50_s"] = entry.get_response_time_percentile(0.5) / 1000
        figures[f"{slug}_p99_s"] = entry.get_response_time_percentile(0.99) / 1000
    return figures


def _failed(text: str) -> str:
    """What a reply says of steps that failed for good."""
    results = json.loads(text)["run"]["results"]
    return "; ".join(f"{result['task']}: {result['reason'][:100]}" for result in results if result["status"] == "failed")


def _message(plan: dict[str, Any]) -> str:
    return f"plan:{json.dumps(plan, separators=(',', ':'))}"


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), Path(sys.argv[5]))
