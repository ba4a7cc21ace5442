"""The span of one call to a language model, by the GenAI semantic conventions. Knows no text of it."""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from urllib.parse import urlsplit

from cluster.tracing import Attributes, Kind, Span, span

PORTS = {"http": 80, "https": 443}


class ChatSpans:
    """Of the calls to one model of one server. `openai` is whose form they have, as the conventions want it, and not who answers."""

    def __init__(self, base_url: str, model: str) -> None:
        server = urlsplit(base_url)
        self._name = f"chat {model}"
        self._attributes: Attributes = {
            "gen_ai.operation.name": "chat",
            "gen_ai.provider.name": "openai",
            "gen_ai.request.model": model,
            "server.address": server.hostname,
            "server.port": server.port or PORTS.get(server.scheme),
        }

    def span(self, max_tokens: int, *, temperature: float = 0, streams: bool = False) -> AbstractContextManager[Span]:
        """Its carrier goes with the request, so that an engine that is traced itself goes on with the trace."""
        asked = {
            "gen_ai.request.max_tokens": max_tokens,
            "gen_ai.request.temperature": float(temperature),
            "gen_ai.request.stream": streams,
        }
        return span(self._name, {**self._attributes, **asked}, kind=Kind.CLIENT)


def describe_reply(span: Span, tokens_in: int, tokens_out: int, ends: Sequence[str] | None, first_s: float | None = None) -> None:
    """`ends`: why each choice ended, if it did; no tokens: the server counts none. `first_s`: until the first piece of a stream."""
    span.describe(
        {
            "gen_ai.usage.input_tokens": tokens_in or None,
            "gen_ai.usage.output_tokens": tokens_out or None,
            "gen_ai.response.finish_reasons": ends,
            "gen_ai.response.time_to_first_chunk": first_s,
        }
    )
