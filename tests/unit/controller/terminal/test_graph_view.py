"""What a person at a terminal sees of a run: each step with its state, its model and its time, whatever the texts and the terminal are."""

import io
from typing import Any

import pytest
from rich.cells import cell_len
from rich.console import Console

from controller.terminal.graph_view import SPINNER, GraphView
from controller.terminal.run_view import RunView

SAMPLE = {"span": {"arrived_s": 0.0, "started_s": 0.5, "finished_s": 1.75}, "reused": False, "fallbacks": []}


def step(name: str, *needs: str, model: str = "org/m", task: str = "summarization", **options: Any) -> dict[str, Any]:
    inputs = [{"step": need} for need in needs] or [{"file": "f1"}]
    return {"id": name, "task": task, "inputs": inputs, "options": options, "model": model, "reason": "the only one; 1.0"}


def plan(*steps: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"event": "plan", "plan": list(steps), **more}


def started(name: str) -> dict[str, Any]:
    return {"event": "step_started", "step": name}


def done(name: str, text: str = "made", model: str = "org/m", **more: Any) -> dict[str, Any]:
    head = {"event": "step_ended", "step": name, "task": "summarization", "status": "done"}
    return {**head, "model": model, "text": text, **SAMPLE, **more}


def failed(name: str, reason: str, fallbacks: tuple[str, ...] = ()) -> dict[str, Any]:
    head = {"event": "step_ended", "step": name, "task": "summarization", "status": "failed"}
    return {**head, "reason": reason, "kind": "model_error", "fallbacks": list(fallbacks)}


def skipped(name: str, because: str) -> dict[str, Any]:
    return {"event": "step_ended", "step": name, "task": "summarization", "status": "skipped", "because": because}


def told(*events: dict[str, Any]) -> RunView:
    """A second apart, from second 1 on."""
    view = RunView()
    for number, event in enumerate(events):
        view = view.after(event, 1.0 + number)
    return view


def screen(view: RunView, now_s: float = 0.0, width: int = 100, height: int = 40, *, is_last: bool = False) -> list[str]:
    console = Console(file=io.StringIO(), width=width, height=height, force_terminal=True, color_system=None)
    console.print(GraphView(view, now_s, is_last=is_last))
    assert isinstance(console.file, io.StringIO)
    return [line.rstrip() for line in console.file.getvalue().splitlines()]


def test_each_step_tells_its_state_its_model_and_its_time() -> None:
    view = told(plan(step("s1"), step("s2", "s1", model="org/two"), step("s3", "s2")), started("s1"), done("s1", "the text"), started("s2"))
    head, first, second, third = screen(view, 6.5)
    assert head.startswith(tuple(SPINNER)) and "running  1 of 3 steps done" in head and head.endswith("6.50 s")
    assert first.startswith("✓ s1  summarization") and "f1 → the text" in first and "org/m" in first and first.endswith("1.25 s")
    assert second.startswith("↳ ") and second[2] in SPINNER and "org/two" in second and second.endswith("2.50 s")
    assert third.startswith("↳ · s3") and third.endswith("waiting")


def test_steps_that_may_run_side_by_side_branch_off_and_run_side_by_side() -> None:
    view = told(plan(step("s1"), step("s2", "s1"), step("s3", "s1")), started("s1"), done("s1"), started("s2"), started("s3"))
    _, _, second, third = screen(view, 5.0)
    assert (second[:3], third[:3]) == ("├─ ", "└─ ")
    assert second[3] in SPINNER and third[3] in SPINNER


def test_a_step_that_starts_while_the_plan_is_written_is_seen_at_once_and_once() -> None:
    early = told({"event": "step_planned", **step("s1")}, started("s1"))
    assert "planning, with steps running already" in screen(early)[0] and "s1" in screen(early)[1]
    whole = early.after(plan(step("s1"), step("s2")), 4.0)
    assert sum("s1  summarization" in line for line in screen(whole)) == 1
    assert sum("s2  summarization" in line for line in screen(whole)) == 1


def test_a_plan_that_was_taken_back_is_told_and_its_steps_are_gone() -> None:
    withdrawn = {"event": "plan_withdrawn", "steps": ["s1"], "why": "the plan was not valid"}
    view = told({"event": "step_planned", **step("s1", task="translation")}, started("s1"), withdrawn)
    assert [line.strip() for line in screen(view)[1:]] == ["stopped s1: the plan was not valid"]
    anew = screen(view.after(plan(step("s1")), 9.0))
    assert "stopped s1: the plan was not valid" in anew[1] and "s1  summarization" in anew[2] and len(anew) == 3


def test_planning_again_adds_its_steps_below_the_reason() -> None:
    again = plan(step("s2", task="translation"), replan=1, why="s1 failed: no model")
    view = told(plan(step("s1")), started("s1"), failed("s1", "no model"), again)
    lines = screen(view)
    place = next(number for number, line in enumerate(lines) if "planned again, since s1 failed: no model" in line)
    assert any("✗ s1" in line for line in lines[:place]) and "s2  translation" in lines[place + 1]


def test_a_failed_step_tells_why_and_what_stood_behind_it_was_skipped() -> None:
    view = told(plan(step("s1"), step("s2", "s1")), started("s1"), failed("s1", "the replica died"), skipped("s2", "s1"))
    for width in (100, 40):
        lines = screen(view, width=width)
        assert lines[1].startswith("✗ s1") and "the replica died" in lines[2]
        assert any(line.startswith("↳ – s2") and line.endswith("skipped") for line in lines)
        assert any("s1 gave nothing" in line for line in lines)
    assert "planning again or answering" in screen(view)[0]


def test_a_step_that_fell_back_tells_to_which_model_and_why() -> None:
    ended = done("s1", model="org/second", fallbacks=["org/m: not loaded"])
    _, line, note = screen(told(plan(step("s1")), started("s1"), ended))
    assert "org/second" in line and "org/m" not in line
    assert note.strip() == "fell back to org/second, since org/m: not loaded"


def test_a_result_of_an_earlier_run_is_told_from_one_that_was_made() -> None:
    assert screen(told(plan(step("s1")), done("s1", reused=True)))[1].endswith("reused")


def test_the_last_screen_counts_and_says_what_was_stopped() -> None:
    view = told(plan(step("s1"), step("s2", "s1")), started("s1"), done("s1"), started("s2"))
    finished = screen(view.after(done("s2"), 6.0).ended(7.0), is_last=True)
    assert finished[0].startswith("✓ 2 steps done") and finished[0].endswith("7.00 s")
    broken = screen(view.ended(7.0, broke_off=True), 99.0, is_last=True)
    assert broken[0].startswith("✗ stopped while running") and broken[0].endswith("7.00 s")
    assert broken[2].endswith("stopped") and not set("".join(broken)) & set(SPINNER)


def test_a_request_that_needs_no_step_says_so() -> None:
    assert "answering" in screen(told(plan()))[0]
    assert screen(told(plan()).ended(3.0), is_last=True)[0].startswith("✓ no step needed")


@pytest.mark.parametrize("width", [200, 130, 80, 40, 20, 8, 1])
def test_no_line_is_wider_than_the_terminal_and_none_is_wrapped(width: int) -> None:
    long = "地球 " * 200
    view = told(
        plan(step("s1", model="org/" + "m" * 300), step("s2", "s1", prompt=long), step("s3", "s1")),
        started("s1"),
        done("s1", long),
        failed("s2", long, ("org/m: " + long,)),
        skipped("s3", "s2"),
        plan(step("s4"), replan=1, why=long),
    )
    for is_last in (False, True):
        lines = screen(view, width=width, is_last=is_last)
        assert max(map(cell_len, lines)) <= width
        assert len(lines) <= 2 + 4 + 3 * 3


def test_what_does_not_fit_below_each_other_is_counted_and_what_runs_is_kept() -> None:
    steps = [step(f"s{number}") for number in range(60)]
    view = told(plan(*steps), *(done(f"s{number}") for number in range(50)), started("s55"))
    lines = screen(view, 52.0, height=12)
    assert len(lines) <= 12
    assert any("s55" in line for line in lines)
    assert lines[-1].strip().startswith("⋮") and "50 done" in lines[-1]
    assert len(screen(view.ended(60.0), height=12, is_last=True)) == 61


def test_no_text_of_a_model_steers_the_terminal_or_is_taken_for_markup() -> None:
    nasty = "\x1b[2J\x1b]0;title\x07\r\n[red]x[/red] [/]"
    view = told(
        plan(step("s1", model=f"org/{nasty}", prompt=nasty), step("s2")),
        done("s1", nasty, model=f"org/{nasty}", fallbacks=[nasty]),
        failed("s2", nasty),
        plan(step("s3"), replan=1, why=nasty),
    )
    console = Console(file=io.StringIO(), width=200, force_terminal=True, color_system=None)
    console.print(GraphView(view, 5.0))
    assert isinstance(console.file, io.StringIO)
    printed = console.file.getvalue()
    assert not {"\x1b", "\x07", "\r"} & set(printed)
    assert "org/ [red]x[/red] [/]" in printed


def test_an_event_of_a_later_version_changes_nothing() -> None:
    view = told(plan(step("s1")))
    assert view.after({"event": "something_new"}, 9.0) == view
