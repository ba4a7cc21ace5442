"""What is wrong with a body is told in the words of the request."""

from typing import Any

import pytest
from pydantic import ValidationError

from controller.asking.openai_schema import ChatRequest, unreadable


def one(**message: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": "hi"} | message]}


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        ([], "the body should be a JSON object"),
        ({}, "messages is missing"),
        ({"messages": []}, "messages is empty"),
        ({"messages": ["hi"]}, "messages.0 should be a JSON object"),
        (one(role="wizard"), "messages.0.role should be 'system', 'developer', 'user', 'assistant', 'tool' or 'function'"),
        (one(content=3), "messages.0.content should be a valid string"),
        (one(content={"text": "hi"}), "messages.0.content should be a valid string"),
        (one(content=["hi"]), "messages.0.content.0 should be a JSON object"),
        (one(content=[{}]), "messages.0.content.0.type is missing"),
        (one(content=[{"type": "video"}]), "messages.0.content.0.type should be one of 'text', 'image_url', 'input_audio', 'file'"),
        (one(content=[{"type": "text"}]), "messages.0.content.0.text is missing"),
        (one(content=[{"type": "text", "text": 3}]), "messages.0.content.0.text should be a valid string"),
        (one(content=[{"type": "image_url", "image_url": {}}]), "messages.0.content.0.image_url.url is missing"),
        (one() | {"named_models": ["a b"]}, "named_models.0 is no id of a model; they read owner/name"),
        (one() | {"model": 3}, "model should be a valid string"),
    ],
)
def test_a_sentence_names_the_place_and_what_should_be_there(body: Any, sentence: str) -> None:
    assert told(body) == sentence


def test_an_odd_task_is_quoted_in_one_short_line() -> None:
    sentence = told(one() | {"models": {"\n" + "x" * 100_000: "org/m"}})
    assert sentence.startswith(r"models.\nxxx") and "x… is none of those that exist; `hgpt models tasks`" in sentence
    assert len(sentence) < 500


def told(body: Any) -> str:
    with pytest.raises(ValidationError) as refused:
        ChatRequest.model_validate(body)
    return unreadable([{**error, "loc": ("body", *error["loc"])} for error in refused.value.errors()], body)
