"""A plan's graph as a person reads it in a terminal."""

from controller.terminal.graph_lines import graph_lines


def drawn(**needs: str) -> list[str]:
    """A line for each step; `needs`: by step id, ids with blanks between them."""
    return [front + step for front, step in graph_lines({step: needed.split() for step, needed in needs.items()})]


def test_steps_side_by_side_branch_off_and_the_one_behind_follows() -> None:
    assert drawn(s1="", s2="s1", s3="s1", s4="s2") == ["s1", "├─ s2", "│  ↳ s4", "└─ s3"]


def test_independent_steps_stand_side_by_side_from_the_beginning() -> None:
    assert drawn(s1="", s2="", s3="s1") == ["├─ s1", "│  ↳ s3", "└─ s2"]


def test_what_branches_behind_a_follower_is_told_from_what_stands_beside_it() -> None:
    assert drawn(s1="", s2="s1", s3="s2", s4="s2") == ["s1", "↳ s2", "  ├─ s3", "  └─ s4"]


def test_a_step_that_needs_several_stands_once_below_the_last_of_them() -> None:
    assert drawn(s1="", s2="s1", s3="s1", s4="s2 s3") == ["s1", "├─ s2", "└─ s3", "   ↳ s4"]


def test_a_chain_of_thousands_is_drawn_and_no_wider_than_one_of_two() -> None:
    needs = {f"s{number}": [f"s{number - 1}"] if number else [] for number in range(5000)}
    lines = graph_lines(needs)
    assert [step for _, step in lines] == list(needs)
    assert {front for front, _ in lines[1:]} == {"↳ "}


def test_a_step_that_needs_one_of_an_earlier_plan_begins_anew() -> None:
    assert drawn(s4="s1", s5="s4") == ["s4", "↳ s5"]
