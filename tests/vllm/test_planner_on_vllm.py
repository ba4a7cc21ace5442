"""The project's real planner on vLLM. The model is random, so what is right in a plan is right because the engine obeyed the schema."""

import asyncio
import json
from typing import Any

import pytest

from cluster.catalogue import BUILT_IN, Catalogue
from cluster.chat import OpenAIChat
from cluster.errors import PlanError
from cluster.messages import ArtifactRef
from cluster.settings import Planning
from cluster.tasks import Task
from controller.asking.request import Request, RequestFile
from controller.planning.plan import Plan
from controller.planning.plan_language import Kind
from controller.planning.plan_schema import plan_schema
from controller.planning.planner import Planner

pytestmark = pytest.mark.vllm

EMBEDDED = tuple(task for task in Task if Catalogue.read(BUILT_IN).for_task(task))
REQUESTS = ("Read the picture aloud.", "Transcribe the recording.", "What is the total?", "Hello", "Translate it into German.")


@pytest.fixture
def chat(vllm_base_url: str, vllm_model_id: str) -> OpenAIChat:
    return OpenAIChat(vllm_base_url, vllm_model_id, "none", max_retries=0)


def request(text: str) -> Request:
    picture = ArtifactRef("0" * 64, "image/png", 1, "scan.png")
    recording = ArtifactRef("1" * 64, "audio/wav", 1, "talk.wav")
    return Request("r", text, (RequestFile("f1", picture), RequestFile("f2", recording)))


async def reply(chat: OpenAIChat, text: str, schema: dict[str, Any]) -> dict[str, Any]:
    said = await chat.reply([{"role": "user", "content": text}], max_tokens=600, timeout_s=120, schema=schema)
    assert not said.is_cut
    draft: dict[str, Any] = json.loads(said.text)
    return draft


async def planned(planner: Planner, text: str) -> tuple[Plan, str]:
    """The plan, or why there is none: a random model may quote what does not stand in the request, twice."""
    try:
        return (await planner.plan(request(text))).plan, ""
    except PlanError as exc:
        return Plan(), exc.message


@pytest.mark.parametrize("text", REQUESTS)
def test_the_planner_gets_a_plan_or_a_refusal_and_never_rubbish(chat: OpenAIChat, text: str) -> None:
    planner = Planner(chat, tuple(Task), Planning(max_steps=4, max_tokens=600))
    plan, refusal = asyncio.run(planned(planner, text))
    assert len(plan.steps) <= 4
    assert "not JSON" not in refusal


@pytest.mark.parametrize("text", REQUESTS)
def test_steps_point_only_to_fitting_files_and_earlier_steps(chat: OpenAIChat, text: str) -> None:
    schema = plan_schema(EMBEDDED, request(text), max_steps=3)
    (steps_only,) = [form for form in schema["anyOf"] if form["properties"]["kind"].get("const") == Kind.TASKS]
    draft = asyncio.run(reply(chat, text, {**steps_only, "$defs": schema["$defs"]}))
    assert draft.pop("kind") == Kind.TASKS
    assert "s1" in draft
    for step_id, form in draft.items():
        task, source = Task(form[0]), form[1]
        earlier = {f"s{n}" for n in range(1, int(step_id[1:]))}
        match task:
            case Task.IMAGE_TO_TEXT | Task.IMAGE_CLASSIFICATION | Task.OBJECT_DETECTION:
                assert source in {"f1", *earlier}
            case Task.AUTOMATIC_SPEECH_RECOGNITION:
                assert source in {"f2", *earlier}
            case _:
                assert isinstance(source, dict) or set([source] if isinstance(source, str) else source) <= earlier
