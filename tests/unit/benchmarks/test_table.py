"""What benchmarks/README.md says was measured is what the benchmarks last wrote."""

import pytest

from benchmarks.table import BEGIN, END, README, ROWS, reached, results, shown, table, with_table


def test_the_table_in_the_readme_is_that_of_the_results() -> None:
    text = README.read_text(encoding="utf-8")
    assert text == with_table(text, table(results()))
    assert text.count(BEGIN) == text.count(END) == 1


@pytest.mark.parametrize(
    ("figure", "goal", "is_reached"), [(0.15, "≤ 0.16", True), (0.17, "≤ 0.16", False), (2.0, "≥ 2", True), (1.9, "≥ 2", False)]
)
def test_a_goal_is_reached_or_missed(figure: float, goal: str, is_reached: bool) -> None:
    assert reached(figure, goal) is is_reached


def test_figures_have_three_digits_that_count() -> None:
    assert [shown(figure) for figure in (0.14567, 1.1549, 23.456, 412.3, 0.0, 3.0)] == ["0.146", "1.15", "23.5", "412", "0", "3"]


def test_no_figure_is_shown_twice() -> None:
    assert len({(row.benchmark, row.figure) for row in ROWS}) == len(ROWS)
