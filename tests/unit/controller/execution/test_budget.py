"""A run keeps to its time: it answers with what was done by then, and says what was not."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest

from cluster.chat import Message
from cluster.errors import RunTimeout
from cluster.messages import OUT_OF_TIME, Done, Failed, Skipped
from cluster.settings import Limits
from cluster.tasks import Task
from controller.asking.request import Request
from controller.asking.terms import Terms
from controller.execution.budget import Budget
from controller.execution.run import Run
from controller.planning.plan import OutputOf, Plan, Step
from controller.planning.plan_json import GivenPlan
from tests.fakes_chat import ScriptedChat
from tests.fakes_pipeline import a_pipeline

WORKS, HANGS = Task.SUMMARIZATION, Task.TEXT_CLASSIFICATION
HALF_HANGS = GivenPlan(Plan((Step("s1", WORKS, ("go",)), Step("s2", HANGS, ("go",)), Step("s3", WORKS, (OutputOf("s2"),)))), {})


async def answered(chat: ScriptedChat, timeout_s: float | None, plan: GivenPlan | None = HALF_HANGS, run_timeout_s: float = 60) -> Run:
    pipeline = a_pipeline(chat, [], Limits(run_timeout_s=run_timeout_s))
    return await pipeline.answer(Request("r", "go", terms=Terms(timeout_s=timeout_s)), lambda _event: None, plan)


@pytest.mark.parametrize(("timeout_s", "run_timeout_s"), [(4, 60), (60, 4)])
async def test_what_is_not_done_in_time_is_left_out_and_said(timeout_s: float | None, run_timeout_s: float) -> None:
    run = await answered(ScriptedChat("Here it is."), timeout_s, run_timeout_s=run_timeout_s)
    assert isinstance(run.results["s1"], Done)
    late, behind = run.results["s2"], run.results["s3"]
    assert isinstance(late, Failed) and late.kind == OUT_OF_TIME
    assert isinstance(behind, Skipped) and behind.because == "s2"
    assert "**text-classification** failed: no reply within 3." in run.answer and "**summarization** was not done" in run.answer


class Mute(ScriptedChat):
    """A language model that says nothing for a long time."""

    async def stream(self, messages: Sequence[Message], **limits: Any) -> AsyncIterator[str]:
        await asyncio.sleep(60)
        yield "too late"


async def test_words_that_do_not_come_in_time_are_left_out_and_the_results_are_not() -> None:
    made = GivenPlan(Plan((Step("s1", WORKS, ("one",)), Step("s2", WORKS, ("two",)))), {})
    run = await answered(Mute(), 4, made)
    assert run.answer_was_composed and run.answer.count("done") == 2


async def test_where_only_the_language_model_could_answer_and_does_not_the_run_ends_with_its_time() -> None:
    with pytest.raises(RunTimeout, match=r"longer than 0\.2 s"):
        await answered(Mute('{"kind":"chat"}'), 0.2, None)


async def test_most_of_a_short_time_is_the_steps_and_all_but_five_seconds_of_a_long_one() -> None:
    assert Budget(2).steps_left_s == pytest.approx(1.8, abs=0.05)
    assert Budget(1000).steps_left_s == pytest.approx(995, abs=0.05)
