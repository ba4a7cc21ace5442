"""The planner: one repair and no more, and an LLM that is not there is said, not planned around."""

import json

import pytest

from cluster.chat import Reply
from cluster.errors import LanguageModelError, PlanError
from cluster.messages import ArtifactRef
from cluster.settings import Planning
from cluster.tasks import Task
from controller.asking.request import Request, RequestFile
from controller.planning.plan_language import UnservedTask
from controller.planning.planner import Planner
from tests.fakes_chat import ScriptedChat

SPEECH = RequestFile("f1", ArtifactRef("0" * 64, "text/plain", 9, "speech.txt"), "Good morning to you all, my friends.")
REQUEST = Request("r", "Translate it into Chinese.", (SPEECH,))
GOOD = '{"s1":["translation","f1","zh"]}'
WRONG = '{"s1":["translation","f7","zh"]}'
CUT = Reply('{"s1":["transl', 10, 400, is_cut=True)


def planner(chat: ScriptedChat, *tasks: Task) -> Planner:
    return Planner(chat, tasks or tuple(Task), Planning())


async def test_a_good_reply_is_the_plan() -> None:
    planned = await planner(ScriptedChat(GOOD)).plan(REQUEST)
    assert [step.task for step in planned.plan.steps] == [Task.TRANSLATION]
    assert not planned.was_repaired


async def test_the_llm_sees_the_files_and_the_request_and_must_keep_to_the_schema() -> None:
    chat = ScriptedChat(GOOD)
    await planner(chat).plan(REQUEST)
    shown = chat.asked[0][-1]["content"]
    assert "f1 = text speech.txt" in shown and "Translate it into Chinese." in shown
    assert chat.schemas[0] is not None


@pytest.mark.parametrize("first", [WRONG, "Sure!", CUT], ids=["wrong", "no JSON", "cut"])
async def test_a_wrong_plan_is_repaired_once_and_both_replies_are_paid(first: str | Reply) -> None:
    chat = ScriptedChat(first, Reply(GOOD, 20, 30, is_cut=False))
    planned = await planner(chat).plan(REQUEST)
    assert planned.was_repaired
    assert planned.tokens_out == 30 + (first.tokens_out if isinstance(first, Reply) else 1)
    assert [step.id for step in planned.plan.steps] == ["s1"]


async def test_the_repair_tells_the_llm_what_was_wrong() -> None:
    chat = ScriptedChat(WRONG, GOOD)
    await planner(chat).plan(REQUEST)
    assert chat.asked[1][-2] == {"role": "assistant", "content": WRONG}
    assert "there is no file f7" in chat.asked[1][-1]["content"]


@pytest.mark.parametrize("second", [WRONG, CUT], ids=["wrong", "cut"])
async def test_a_plan_that_stays_wrong_is_no_plan(second: str | Reply) -> None:
    chat = ScriptedChat(WRONG, second)
    with pytest.raises(PlanError, match="no valid plan"):
        await planner(chat).plan(REQUEST)
    assert len(chat.asked) == 2


@pytest.mark.parametrize("empty", ["", " \n"])
async def test_an_empty_reply_is_the_llms_failure(empty: str) -> None:
    with pytest.raises(LanguageModelError, match="nothing"):
        await planner(ScriptedChat(empty)).plan(REQUEST)


async def test_an_llm_that_is_down_is_said() -> None:
    with pytest.raises(LanguageModelError, match="cannot be reached"):
        await planner(ScriptedChat(LanguageModelError("the language model cannot be reached"))).plan(REQUEST)


async def test_an_llm_that_goes_down_during_the_repair_is_said() -> None:
    with pytest.raises(LanguageModelError, match="cannot be reached"):
        await planner(ScriptedChat(WRONG, LanguageModelError("cannot be reached"))).plan(REQUEST)


async def test_a_task_that_nobody_serves_is_not_repaired() -> None:
    chat = ScriptedChat('{"kind": "cannot", "task": "text-to-image"}')
    with pytest.raises(UnservedTask, match="text-to-image"):
        await planner(chat).plan(REQUEST)
    assert len(chat.asked) == 1


async def test_the_prompt_speaks_of_deployed_tasks_only() -> None:
    chat = ScriptedChat("{}")
    await planner(chat, Task.TRANSLATION, Task.SUMMARIZATION).plan(REQUEST)
    plans = [json.loads(message["content"]) for message in chat.asked[0] if message["role"] == "assistant"]
    planned = {form[0] for plan in plans for step, form in plan.items() if step not in {"kind", "task"}}
    assert planned <= {"translation", "summarization"}
    assert "text-to-speech" not in chat.asked[0][0]["content"]


def test_the_constant_part_of_the_prompt_depends_on_no_request() -> None:
    one, other = planner(ScriptedChat()), planner(ScriptedChat())
    assert one.constant_messages == other.constant_messages


def drawing(*script: str) -> Planner:
    return Planner(ScriptedChat(*script), tuple(Task), Planning(samples=3))


OTHER = '{"s1":["summarization","f1"]}'


async def test_of_several_drafts_the_most_agreed_on_is_the_plan() -> None:
    planned = await drawing(OTHER, GOOD, GOOD).plan(REQUEST)
    assert [step.task for step in planned.plan.steps] == [Task.TRANSLATION]
    assert (planned.tokens_in, planned.tokens_out, planned.was_repaired) == (1, 3, False)


async def test_drafts_that_cannot_be_read_do_not_count() -> None:
    assert (await drawing(WRONG, "Sure!", OTHER).plan(REQUEST)).plan.steps[0].task is Task.SUMMARIZATION


async def test_when_no_draft_can_be_read_the_first_is_repaired() -> None:
    planned = await drawing(WRONG, WRONG, "Sure!", GOOD).plan(REQUEST)
    assert planned.was_repaired
    assert planned.plan.steps[0].task is Task.TRANSLATION


async def test_a_request_is_declined_when_most_drafts_decline_it() -> None:
    cannot = '{"kind":"cannot","task":"web-search"}'
    with pytest.raises(UnservedTask, match="web-search"):
        await drawing(cannot, GOOD, cannot).plan(REQUEST)
    assert (await drawing(cannot, GOOD, GOOD).plan(REQUEST)).plan.steps


async def test_a_made_up_text_gives_way_to_the_request_when_it_comes_again() -> None:
    made_up = '{"s1":["text-to-speech",{"text":"The sum is 4."}]}'
    planned = await planner(ScriptedChat(made_up, made_up)).plan(REQUEST)
    assert planned.plan.steps[0].inputs == (REQUEST.text,)
    at_once = await planner(ScriptedChat(made_up)).plan(Request("r", "Add two and two."))  # which has nothing else that could be meant
    assert at_once.plan.steps[0].inputs == ("Add two and two.",)


async def test_a_trained_planner_gets_no_demonstrations() -> None:
    chat = ScriptedChat(GOOD)
    await Planner(chat, tuple(Task), Planning(demonstrations=False)).plan(REQUEST)
    assert [message["role"] for message in chat.asked[0]] == ["system", "user"]
