"""The span of a call to a language model: who was asked, what it cost, how it ended, and no word of it."""

from collections.abc import Callable, Iterator

import pytest

from cluster import tracing
from cluster.chat import Message, OpenAIChat
from cluster.errors import LanguageModelError
from cluster.settings import Tracing
from cluster.tracing import span_around
from tests.cluster.serving import free_port
from tests.otlp import Backend, Seen, running
from tests.scripted_llm import ScriptedLanguageModel, scripted_llm

HELLO: list[Message] = [{"role": "user", "content": "a secret of mine"}]


@pytest.fixture(scope="module")
def backend() -> Iterator[Backend]:
    with running(Backend(0)) as backend:
        tracing.start(Tracing(otlp_endpoint=backend.url, interval_s=0.01), "tests")
        yield backend
        tracing.stop()


@pytest.fixture(scope="module")
def llm() -> ScriptedLanguageModel:
    return ScriptedLanguageModel()


@pytest.fixture(scope="module")
def port(llm: ScriptedLanguageModel) -> Iterator[int]:
    with scripted_llm(llm) as port:
        yield port


@pytest.fixture(scope="module")
def chat(port: int) -> OpenAIChat:
    return OpenAIChat(f"http://127.0.0.1:{port}/v1", "a-model", "none", 0)


@pytest.fixture
def sent(backend: Backend) -> Callable[[], Seen]:
    backend.forget()
    return lambda: backend.await_spans(bool)[0]


async def reply(chat: OpenAIChat) -> None:
    await chat.reply(HELLO, max_tokens=40, timeout_s=10)


async def written(chat: OpenAIChat) -> None:
    await chat.written(HELLO, lambda _piece: None, max_tokens=40, timeout_s=10)


async def stream(chat: OpenAIChat) -> None:
    async for _ in chat.stream(HELLO, max_tokens=40, timeout_s=10):
        pass


async def samples(chat: OpenAIChat) -> None:
    await chat.samples(HELLO, count=2, temperature=0.7, max_tokens=40, timeout_s=10, schema={})


@pytest.mark.parametrize(
    ("ask", "streams", "temperature"), [(reply, False, 0.0), (written, True, 0.0), (stream, True, 0.0), (samples, False, 0.7)]
)
async def test_a_call_is_a_client_span_with_model_tokens_and_end(
    chat: OpenAIChat, backend: Backend, ask: Callable[[OpenAIChat], object], streams: bool, temperature: float
) -> None:
    backend.forget()
    await ask(chat)  # type: ignore[misc]
    (seen,) = backend.await_spans(bool)
    assert (seen.name, seen.kind, seen.is_error) == ("chat a-model", "CLIENT", False)
    attributes = dict(seen.attributes)
    assert attributes.pop("server.port") > 0
    assert (attributes.pop("gen_ai.response.time_to_first_chunk", None) is not None) is streams
    assert attributes == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": "a-model",
        "gen_ai.request.max_tokens": 40,
        "gen_ai.request.temperature": temperature,
        "gen_ai.request.stream": streams,
        "gen_ai.usage.input_tokens": 30,
        "gen_ai.usage.output_tokens": 20,
        "gen_ai.response.finish_reasons": ["stop"],
        "server.address": "127.0.0.1",
    }


@pytest.mark.parametrize("ask", [reply, written, stream, samples])
async def test_the_engine_is_told_the_trace(
    chat: OpenAIChat, llm: ScriptedLanguageModel, backend: Backend, ask: Callable[[OpenAIChat], object]
) -> None:
    backend.forget()
    with span_around("around"):
        await ask(chat)  # type: ignore[misc]
    seen = {span.name: span for span in backend.await_spans(lambda spans: len(spans) == 2)}
    assert seen["chat a-model"].parent_id == seen["around"].id
    version, trace_id, parent_id, flags = llm.headers[-1]["traceparent"].split("-")
    assert (version, trace_id, parent_id) == ("00", seen["around"].trace_id, seen["chat a-model"].id)
    assert int(flags, 16) & 1, "sampled"


async def test_a_server_that_is_gone_is_an_error_by_its_code(sent: Callable[[], Seen]) -> None:
    gone = OpenAIChat(f"http://127.0.0.1:{free_port()}/v1", "a-model", "none", 0)
    with pytest.raises(LanguageModelError):
        await reply(gone)
    seen = sent()
    assert seen.is_error and seen.attributes["error.type"] == LanguageModelError.code


async def test_a_stream_that_its_reader_leaves_is_marked_and_is_no_error(chat: OpenAIChat, sent: Callable[[], Seen]) -> None:
    pieces = chat.stream(HELLO, max_tokens=40, timeout_s=10)
    await anext(pieces)
    await pieces.aclose()  # type: ignore[attr-defined]
    seen = sent()
    assert seen.attributes["hugginggpt.outcome"] == "cancelled" and not seen.is_error


async def test_no_word_of_it_leaves_and_priming_is_no_call_of_a_run(chat: OpenAIChat, backend: Backend) -> None:
    backend.forget()
    await chat.prime(HELLO, timeout_s=10)
    await reply(chat)
    assert len(backend.await_spans(bool)) == 1
    assert not any(b"secret" in body for body in backend.bodies)
