"""The engine `vllm`, asked by the unmodified OpenAI client. The model is random: only the engine can make its replies obey a schema."""

import json
import secrets
from collections.abc import Iterator
from typing import Any

import pytest
from openai import BadRequestError, NotFoundError, OpenAI

from deployments.vllm_engine import QWEN3_8B_ON_L4, VllmSettings, llm_options
from tests.otlp import Backend

pytestmark = pytest.mark.vllm

TASKS = ["text-to-image", "image-to-text", "translation", "summarization", "text-to-speech"]
REFERENCES = ["request", "file-1", "step-1", "step-2"]
MAX_STEPS = 3
PLAN_SCHEMA = {
    "type": "array",
    "maxItems": MAX_STEPS,
    "items": {
        "type": "object",
        "properties": {
            "task": {"type": "string", "enum": TASKS},
            "in": {"type": "array", "items": {"type": "string", "enum": REFERENCES}, "minItems": 1, "maxItems": 2},
        },
        "required": ["task", "in"],
        "additionalProperties": False,
    },
}
PLAN_FORMAT: Any = {"type": "json_schema", "json_schema": {"name": "plan", "schema": PLAN_SCHEMA, "strict": True}}
QUESTION: Any = [
    {"role": "system", "content": "You plan tasks. Reply with a list of steps."},
    {"role": "user", "content": "Generate an image of a cat on the moon, and tell me what it shows. 猫"},
]


@pytest.fixture(scope="module")
def client(vllm_base_url: str) -> Iterator[OpenAI]:
    with OpenAI(base_url=vllm_base_url, api_key="none", timeout=120, max_retries=0) as client:
        yield client


def test_the_models_are_the_one_configured(client: OpenAI, vllm_model_id: str) -> None:
    assert [model.id for model in client.models.list()] == [vllm_model_id]


def test_a_chat_completion_has_text_and_a_count_of_tokens(client: OpenAI, vllm_model_id: str) -> None:
    reply = client.chat.completions.create(model=vllm_model_id, messages=QUESTION, max_tokens=16, temperature=0)
    assert reply.model == vllm_model_id
    assert reply.choices[0].message.content
    assert reply.usage is not None and 0 < reply.usage.completion_tokens <= 16


def test_a_reply_is_a_span_in_the_trace_of_whoever_asked(client: OpenAI, vllm_model_id: str, traces: Backend) -> None:
    trace_id, span_id = secrets.token_hex(16), secrets.token_hex(8)
    carrier = {"traceparent": f"00-{trace_id}-{span_id}-01"}
    reply = client.chat.completions.create(model=vllm_model_id, messages=QUESTION, max_tokens=16, temperature=0, extra_headers=carrier)
    spans = traces.await_spans(lambda seen: any(span.trace_id == trace_id for span in seen))
    told = [span for span in spans if span.trace_id == trace_id]
    assert span_id in {span.parent_id for span in told}
    assert reply.usage is not None
    assert reply.usage.completion_tokens in {span.attributes.get("gen_ai.usage.completion_tokens") for span in told}


def test_a_stream_adds_up_to_the_reply_without_one(client: OpenAI, vllm_model_id: str) -> None:
    question: Any = {"model": vllm_model_id, "messages": QUESTION, "max_tokens": 32, "temperature": 0, "seed": 1}
    whole = client.chat.completions.create(**question).choices[0].message.content
    chunks = [chunk for chunk in client.chat.completions.create(**question, stream=True) if chunk.choices]
    assert len(chunks) > 1
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == whole


@pytest.mark.parametrize("temperature", [0, 1])
def test_a_strict_schema_closes_the_enums_of_a_plan(client: OpenAI, vllm_model_id: str, temperature: float) -> None:
    reply = client.chat.completions.create(
        model=vllm_model_id,
        messages=QUESTION,
        temperature=temperature,
        max_tokens=400,
        response_format=PLAN_FORMAT,
    )
    assert reply.choices[0].finish_reason == "stop"
    content = reply.choices[0].message.content
    assert content is not None
    steps = json.loads(content)
    assert len(steps) <= MAX_STEPS
    assert all(set(step) == {"task", "in"} for step in steps)
    assert {step["task"] for step in steps} <= set(TASKS)
    assert {reference for step in steps for reference in step["in"]} <= set(REFERENCES)
    assert content == json.dumps(steps, separators=(",", ":")), "no blanks between the tokens"


def test_a_streamed_plan_obeys_the_schema_too(client: OpenAI, vllm_model_id: str) -> None:
    chunks = client.chat.completions.create(
        model=vllm_model_id,
        messages=QUESTION,
        temperature=0,
        max_tokens=400,
        stream=True,
        response_format=PLAN_FORMAT,
    )
    steps = json.loads("".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices))
    assert {step["task"] for step in steps} <= set(TASKS)


def test_an_unknown_model_is_a_404_that_names_it(client: OpenAI) -> None:
    with pytest.raises(NotFoundError) as caught:
        client.chat.completions.create(model="no/such-model", messages=QUESTION)
    # Ray 2.60 answers {"detail": "…"}, not {"error": {"message": "…"}}, so the name is in the body and not in the message.
    assert "no/such-model" in str(caught.value.body)


def test_a_schema_that_the_engine_cannot_enforce_is_a_400(client: OpenAI, vllm_model_id: str) -> None:
    schema: Any = {"type": "array", "items": {"type": "string", "enum": TASKS}, "uniqueItems": True}
    with pytest.raises(BadRequestError):
        client.chat.completions.create(
            model=vllm_model_id,
            messages=QUESTION,
            max_tokens=50,
            response_format={"type": "json_schema", "json_schema": {"name": "unique", "schema": schema}},
        )


def test_on_a_gpu_the_card_is_asked_for_and_the_cpu_defaults_stay_away() -> None:
    options = llm_options(QWEN3_8B_ON_L4)
    assert options["accelerator_type"] == "L4"
    assert options["accelerator_config"] == {"kind": "gpu"}
    engine = options["engine_kwargs"]
    assert isinstance(engine, dict)
    assert engine["dtype"] == "bfloat16"
    assert "enforce_eager" not in engine


def test_engine_arguments_of_the_operator_win() -> None:
    settings = VllmSettings("m", "m", accelerator="cpu", engine_kwargs={"kv_cache_memory_bytes": 1})
    engine = llm_options(settings)["engine_kwargs"]
    assert isinstance(engine, dict)
    assert engine["kv_cache_memory_bytes"] == 1
    assert engine["dtype"] == "float32"


@pytest.mark.parametrize(("low", "high"), [(2, 1), (-1, 1), (0, 0)])
def test_impossible_replica_counts_are_refused(low: int, high: int) -> None:
    with pytest.raises(ValueError, match="min_replicas"):
        VllmSettings("m", "m", min_replicas=low, max_replicas=high)
