"""OpenAIChat against servers that misbehave: whatever comes back, the caller sees a reply or a LanguageModelError."""

import json
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from cluster.chat import Message, OpenAIChat, Reply
from cluster.errors import LanguageModelError, LanguageModelTimeout

HELLO: list[Message] = [{"role": "user", "content": "hello"}]
JSON, STREAM = "application/json", "text/event-stream"


@dataclass
class Answer:
    """What the server says to one request; it closes the connection after `body`, whatever length it promised."""

    body: bytes
    media_type: str = JSON
    status: int = 200
    promised_bytes: int | None = None
    waits_for: threading.Event | None = None
    stalls_until: threading.Event | None = None  # after the body


@dataclass
class Server:
    url: str
    script: list[Answer] = field(default_factory=list)
    asked: list[dict[str, Any]] = field(default_factory=list)

    clients: dict[int, OpenAIChat] = field(default_factory=dict)

    def chat(self, max_retries: int = 0) -> OpenAIChat:
        """One client for all tests: making one reads the certificates."""
        if max_retries not in self.clients:
            self.clients[max_retries] = OpenAIChat(self.url, "controller", "none", max_retries)
        return self.clients[max_retries]


@pytest.fixture(scope="module")
def running() -> Iterator[Server]:
    state = Server("")

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            state.asked.append(json.loads(self.rfile.read(int(self.headers["content-length"]))))
            answer = state.script.pop(0)
            if answer.waits_for:
                answer.waits_for.wait(5)
            self.send_response(answer.status)
            self.send_header("content-type", answer.media_type)
            self.send_header("content-length", str(answer.promised_bytes or len(answer.body)))
            self.end_headers()
            with suppress(ConnectionError):  # a client that has given up
                self.wfile.write(answer.body)
            if answer.stalls_until:
                self.wfile.flush()
                answer.stalls_until.wait(5)

        def log_message(self, *_args: object) -> None:
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    state.url = f"http://127.0.0.1:{http.server_port}/v1"
    yield state
    http.shutdown()
    thread.join()
    http.server_close()


@pytest.fixture
def server(running: Server) -> Server:
    running.script, running.asked = [], []
    return running


def completion(text: str | None = "hi", finish_reason: str = "stop", **changes: Any) -> bytes:
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": finish_reason}
    usage = {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7}
    return json.dumps({"id": "1", "object": "chat.completion", "choices": [choice], "usage": usage, **changes}).encode()


def events(*texts: str) -> bytes:
    chunks = [{"id": "1", "object": "chat.completion.chunk", "choices": [{"index": 0, "delta": {"content": text}}]} for text in texts]
    return b"".join(b"data: " + json.dumps(chunk).encode() + b"\n\n" for chunk in chunks)


async def said(chat: OpenAIChat) -> str:
    return (await chat.reply(HELLO, max_tokens=9, timeout_s=5)).text


async def streamed(chat: OpenAIChat, into: list[str], timeout_s: float = 5) -> None:
    async for piece in chat.stream(HELLO, max_tokens=9, timeout_s=timeout_s):
        into.append(piece)


async def test_a_reply_comes_with_its_tokens(server: Server) -> None:
    server.script = [Answer(completion("hi"))]
    reply = await server.chat().reply(HELLO, max_tokens=9, timeout_s=5)
    assert (reply.text, reply.tokens_in, reply.tokens_out, reply.is_cut) == ("hi", 5, 2, False)


class Seen(list[Reply | LanguageModelError]):
    """What a client tells whoever observes it, such as the metrics."""

    def client(self, url: str) -> OpenAIChat:
        return OpenAIChat(url, "controller", "none", 0, self.append)


async def test_each_way_of_asking_is_observed_once_with_its_tokens(server: Server) -> None:
    seen = Seen()
    chat = seen.client(server.url)
    usage = {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7}
    end = {"id": "1", "object": "chat.completion.chunk", "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}], "usage": usage}
    stream = events("h", "i") + b"data: " + json.dumps(end).encode() + b"\n\n"
    server.script = [Answer(completion()), Answer(completion()), Answer(stream, STREAM), Answer(stream, STREAM)]
    await said(chat)
    await chat.samples(HELLO, count=1, temperature=0.7, max_tokens=9, timeout_s=5, schema={"type": "object"})
    await chat.written(HELLO, lambda _: None, max_tokens=9, timeout_s=5)
    await streamed(chat, [])
    assert [(reply.text, reply.tokens_in, reply.tokens_out) for reply in seen if isinstance(reply, Reply)] == [("hi", 5, 2)] * 4
    assert len(seen) == 4


async def test_each_way_of_asking_that_gives_no_reply_is_observed_once(server: Server) -> None:
    seen = Seen()
    chat = seen.client(server.url)
    server.script = [
        Answer(b"{}", status=500),
        Answer(b"[]"),
        Answer(events("never ended"), STREAM),
        Answer(b"{}", status=500),
        Answer(b"{}", status=500),
    ]
    for asked in (
        said(chat),
        said(chat),
        chat.written(HELLO, lambda _: None, max_tokens=9, timeout_s=5),
        streamed(chat, []),
        chat.prime(HELLO, timeout_s=5),
    ):
        with pytest.raises(LanguageModelError) as raised:
            await asked
        assert seen[-1] is raised.value
    assert len(seen) == 5


async def test_a_stream_that_nobody_wants_any_more_is_observed_with_what_was_written(server: Server) -> None:
    seen = Seen()
    server.script = [Answer(events("some", " more"), STREAM)]
    stream = seen.client(server.url).stream(HELLO, max_tokens=9, timeout_s=5)
    assert await anext(stream) == "some"
    await stream.aclose()  # type: ignore[attr-defined]
    assert [reply.text for reply in seen if isinstance(reply, Reply)] == ["some"] and len(seen) == 1


async def test_a_reply_stopped_by_the_token_limit_says_so(server: Server) -> None:
    server.script = [Answer(completion("hi", "length"))]
    assert (await server.chat().reply(HELLO, max_tokens=9, timeout_s=5)).is_cut


async def test_the_schema_reaches_the_server(server: Server) -> None:
    server.script = [Answer(completion("{}"))]
    await server.chat().reply(HELLO, max_tokens=9, timeout_s=5, schema={"type": "object"})
    assert server.asked[0]["response_format"]["json_schema"]["schema"] == {"type": "object"}
    assert server.asked[0]["temperature"] == 0


async def test_several_drawn_replies_come_in_one_request(server: Server) -> None:
    choices = [{"index": n, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"} for n, text in enumerate("ab")]
    server.script = [Answer(completion(choices=choices))]
    limits: dict[str, Any] = {"max_tokens": 9, "timeout_s": 5, "schema": {"type": "object"}}
    replies = await server.chat().samples(HELLO, count=2, temperature=0.7, **limits)
    assert [reply.text for reply in replies] == ["a", "b"]
    assert sum(reply.tokens_out for reply in replies) == 2  # counted once
    assert (server.asked[0]["n"], server.asked[0]["temperature"]) == (2, 0.7)


@pytest.mark.parametrize("usage", [None, {}])
async def test_a_server_that_counts_no_tokens_is_good_enough(server: Server, usage: object) -> None:
    server.script = [Answer(completion(usage=usage))]
    assert await server.chat().reply(HELLO, max_tokens=9, timeout_s=5) == Reply("hi", 0, 0, is_cut=False)


async def test_a_reply_without_content_is_empty(server: Server) -> None:
    server.script = [Answer(completion(None))]
    assert await said(server.chat()) == ""


@pytest.mark.parametrize(
    "answer",
    [
        Answer(b"{rubbish"),
        Answer(b""),
        Answer(b"[]"),
        Answer(b"null"),
        Answer(b'"hello"'),
        Answer(b"\xff\xfe\x00"),
        Answer(b"<html>welcome to nginx</html>", "text/html"),
        Answer(b"{}"),
        Answer(completion(choices=[])),
        Answer(completion(choices=None)),
        Answer(completion(choices=[{}])),
        Answer(completion(choices=[{"message": None}])),
        Answer(completion(choices=[{"message": {"content": [1]}}])),
        Answer(completion(usage="many")),
        Answer(b'{"error": {"message": "context too long"}}', status=400),
        Answer(b"<html>bad gateway</html>", "text/html", status=502),
        Answer(completion(), promised_bytes=10_000),
    ],
    ids=lambda answer: f"{answer.status} {answer.body[:60]!r}"[:80],
)
async def test_rubbish_is_a_language_model_error(server: Server, answer: Answer) -> None:
    server.script = [answer]
    with pytest.raises(LanguageModelError, match="language model"):
        await said(server.chat())


async def test_a_refusal_tells_the_servers_words(server: Server) -> None:
    server.script = [Answer(b'{"error": {"message": "context too long"}}', status=400)]
    with pytest.raises(LanguageModelError, match=r"HTTP 400.*context too long"):
        await said(server.chat())


async def test_a_failure_of_the_server_is_tried_again(server: Server) -> None:
    server.script = [Answer(b"{}", status=500), Answer(completion("hi"))]
    assert await said(server.chat(max_retries=1)) == "hi"
    assert len(server.asked) == 2


async def test_tries_are_bounded(server: Server) -> None:
    server.script = [Answer(b"{}", status=503)] * 9
    with pytest.raises(LanguageModelError, match="503"):
        await said(server.chat(max_retries=1))
    assert len(server.asked) == 2


async def test_a_server_that_keeps_silent_is_a_timeout(server: Server) -> None:
    over = threading.Event()
    server.script = [Answer(completion(), waits_for=over)]
    with pytest.raises(LanguageModelTimeout, match=r"0\.1 s"):
        await server.chat().reply(HELLO, max_tokens=9, timeout_s=0.1)
    over.set()


async def test_a_server_that_is_not_there_is_named() -> None:
    chat = OpenAIChat("http://127.0.0.1:9/v1", "controller", "none", 0)
    for call in (said(chat), streamed(chat, []), chat.check()):
        with pytest.raises(LanguageModelError, match=r"http://127\.0\.0\.1:9/v1 cannot be reached"):
            await call


async def test_a_stream_is_passed_on_as_it_comes(server: Server) -> None:
    server.script = [Answer(events("Hel", "", "lo") + b"data: [DONE]\n\n", "text/event-stream")]
    pieces: list[str] = []
    await streamed(server.chat(), pieces)
    assert pieces == ["Hel", "lo"]


async def test_a_stream_cut_in_the_middle_is_an_error_after_what_came(server: Server) -> None:
    server.script = [Answer(events("Hel"), "text/event-stream", promised_bytes=10_000)]
    pieces: list[str] = []
    with pytest.raises(LanguageModelError, match="language model"):
        await streamed(server.chat(), pieces)
    assert pieces == ["Hel"]


async def test_a_stream_that_stalls_is_a_timeout_after_what_came(server: Server) -> None:
    over = threading.Event()
    server.script = [Answer(events("Hel"), "text/event-stream", promised_bytes=10_000, stalls_until=over)]
    pieces: list[str] = []
    with pytest.raises(LanguageModelTimeout, match=r"0\.3 s"):
        await streamed(server.chat(), pieces, timeout_s=0.3)
    over.set()
    assert pieces == ["Hel"]


@pytest.mark.parametrize(
    "body",
    [
        b"data: {rubbish\n\n",
        b"data: \xff\xfe\n\n",
        b"data: []\n\n",
        b'data: {"error": {"message": "out of memory"}}\n\n',
        b'data: {"choices": [{"delta": null}]}\n\n',
        b'data: {"choices": 5}\n\n',
    ],
)
async def test_rubbish_in_a_stream_is_a_language_model_error(server: Server, body: bytes) -> None:
    server.script = [Answer(body, "text/event-stream")]
    with pytest.raises(LanguageModelError, match="language model"):
        await streamed(server.chat(), [])


async def test_the_key_comes_from_the_environment_variable_that_the_settings_name(
    server: Server, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from cluster.settings import LanguageModelClient

    monkeypatch.setenv("MY_KEY", "sk-secret")
    server.script = [Answer(b"{}", status=401)]
    chat = OpenAIChat.from_settings(LanguageModelClient(base_url=server.url, api_key_env="MY_KEY", max_retries=0))
    with pytest.raises(LanguageModelError) as refused:
        await said(chat)
    assert "sk-secret" not in refused.value.message + caplog.text


# A reply that is told while it is written


def written(*texts: str, end: str | None = "stop", tail: bytes = b"data: [DONE]\n\n") -> bytes:
    last: dict[str, Any] = {"id": "1", "object": "chat.completion.chunk", "choices": [{"index": 0, "delta": {}, "finish_reason": end}]}
    usage = {"id": "1", "object": "chat.completion.chunk", "choices": [], "usage": {"prompt_tokens": 5, "completion_tokens": 2}}
    return events(*texts) + b"".join(b"data: " + json.dumps(chunk).encode() + b"\n\n" for chunk in (last, usage)) + tail


async def heard(server: Server, timeout_s: float = 5) -> tuple[Reply, list[str]]:
    pieces: list[str] = []
    return await server.chat().written(HELLO, pieces.append, max_tokens=9, timeout_s=timeout_s, schema={"type": "object"}), pieces


async def test_a_written_reply_is_told_piece_by_piece_and_comes_whole_with_its_tokens(server: Server) -> None:
    server.script = [Answer(written('{"a"', ": 1}"), "text/event-stream")]
    assert await heard(server) == (Reply('{"a": 1}', 5, 2, is_cut=False), ['{"a"', ": 1}"])
    (asked,) = server.asked
    assert asked["stream"] and asked["stream_options"] == {"include_usage": True}
    assert asked["response_format"]["json_schema"]["schema"] == {"type": "object"}


async def test_a_written_reply_that_the_token_limit_stopped_says_so(server: Server) -> None:
    server.script = [Answer(written('{"a"', end="length"), "text/event-stream")]
    assert (await heard(server))[0].is_cut


@pytest.mark.parametrize(
    "answer",
    [
        Answer(events('{"a"'), "text/event-stream"),  # broken off without an end
        Answer(completion("{}")),  # no stream at all
        Answer(b'data: {"choices": [{"delta": {"content": 7}}]}\n\n', "text/event-stream"),
        Answer(b"data: {}\n\n", "text/event-stream"),
        Answer(b'data: {"choices": {"delta": {}}}\n\n', "text/event-stream"),
        Answer(b'{"error": {"message": "no"}}', status=500),
    ],
)
async def test_a_written_reply_that_is_none_is_an_error(server: Server, answer: Answer) -> None:
    server.script = [answer]
    with pytest.raises(LanguageModelError):
        await heard(server)


async def test_a_written_reply_has_one_time_limit_for_the_whole(server: Server) -> None:
    over = threading.Event()
    server.script = [Answer(events("a"), "text/event-stream", promised_bytes=10_000, stalls_until=over)]
    with pytest.raises(LanguageModelTimeout):
        await heard(server, timeout_s=0.2)
    over.set()
