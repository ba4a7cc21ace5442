"""What the users of load.py ask for, and the Locust process that lets them. Imports neither Ray nor the service."""

import gevent.monkey

gevent.monkey.patch_all()  # before anything opens a socket

import json  # noqa: E402
import sys  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import Any  # noqa: E402

import gevent  # noqa: E402
from locust import FastHttpUser, constant, task  # noqa: E402
from locust.env import Environment  # noqa: E402

STOP_TIMEOUT_S = 60


class _Asks(FastHttpUser):
    abstract = True
    wait_time = constant(0)
    network_timeout = connection_timeout = 300.0

    def ask(self, name: str, content: str, **more: Any) -> None:
        body = {"model": "hugginggpt", "messages": [{"role": "user", "content": content}], **more}
        with self.client.post("/v1/chat/completions", json=body, name=name, catch_response=True) as reply:
            text = reply.text or ""
            if reply.status_code != 200:
                reply.failure(f"HTTP {reply.status_code}: {text[:200]}")
            elif more.get("stream") and "data: [DONE]" not in text:
                reply.failure("the stream has no end")


class FakeUser(_Asks):
    """Plans that the echo engine repeats: steps that sleep, as benchmarks/fakes has them."""

    @task(4)
    def one_step(self) -> None:
        self.ask("one step", _message({"s1": ["text-generation", {"text": "go"}, "10 ms"]}))

    @task(2)
    def chain(self) -> None:
        steps = {f"s{n}": ["text-generation", f"s{n - 1}", "10 ms"] for n in range(2, 5)}
        self.ask("chain of 4", _message({"s1": ["text-generation", {"text": "go"}, "10 ms"], **steps}))

    @task(2)
    def fan_out(self) -> None:
        self.ask("fan-out of 4", _message({f"s{n}": ["text-generation", {"text": "go"}, "20 ms"] for n in range(1, 5)}), stream=True)

    @task(1)
    def failing_step(self) -> None:
        self.ask("a step fails", _message({"s1": ["text-generation", {"text": "go"}, "fail"]}))

    @task(1)
    def models(self) -> None:
        self.client.get("/v1/models")


class RealUser(_Asks):
    """What a person would write, for real models."""

    @task(2)
    def translate(self) -> None:
        self.ask("translate", 'Translate "The meeting starts at nine in the morning." into German.')

    @task(1)
    def sentiment(self) -> None:
        self.ask("sentiment", 'Is the sentence "I have never liked a film less." positive or negative?', stream=True)

    @task(1)
    def speech(self) -> None:
        self.ask("speech", 'Read aloud: "Good morning, everybody."')


def main(url: str, user: str, users: int, seconds: int, out: Path) -> None:
    environment = Environment(user_classes=[{"FakeUser": FakeUser, "RealUser": RealUser}[user]], host=url, stop_timeout=STOP_TIMEOUT_S)
    runner = environment.create_local_runner()
    runner.start(users, spawn_rate=users)
    gevent.sleep(seconds)
    runner.stop()
    for error in environment.stats.errors.values():
        print(f"{error.occurrences} times: {error.name}: {error.error}", file=sys.stderr)
    out.write_text(json.dumps(_figures(environment.stats)), encoding="utf-8")


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
        slug = name.strip("/").replace(" ", "_").replace("-", "_").replace("/", "_")
        figures[f"{slug}_p50_s"] = entry.get_response_time_percentile(0.5) / 1000
        figures[f"{slug}_p99_s"] = entry.get_response_time_percentile(0.99) / 1000
    return figures


def _message(plan: dict[str, Any]) -> str:
    return f"plan:{json.dumps(plan, separators=(',', ':'))}"


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), Path(sys.argv[5]))
