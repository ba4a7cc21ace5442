"""What a model wrote is shown, and does not steer the terminal."""

import pytest

from controller.terminal.terminal_text import many_lines, one_line, seconds


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[2Jgone?", "gone?"),
        ("\x1b]0;another title\x07here", "here"),
        ("\x1b]8;;http://elsewhere\x1b\\link\x1b]8;;\x1b\\", "link"),
        ("a\rb\x08c\x07", "a b c"),
        ("\x9b31mred", "31mred"),
        ("one\ntwo\u2028three\tfour", "one two three four"),
        ("exe\u202egnp", "exe gnp"),
        ("half \ud800 a character", "half a character"),
        ("地球 [bold]é", "地球 [bold]é"),
    ],
)
def test_a_line_holds_nothing_but_what_can_be_seen(text: str, shown: str) -> None:
    assert one_line(text) == shown


def test_an_answer_keeps_its_lines_and_its_writing_and_loses_what_steers() -> None:
    assert many_lines("one\n\ttwo \x1b[31mred\x1b[0m\x07\r\n👩‍🚀 می‌خواهم") == "one\n\ttwo red\n👩‍🚀 می‌خواهم"


@pytest.mark.parametrize(
    ("took_s", "shown"), [(0, "0.00 s"), (9.996, "10.0 s"), (12.34, "12.3 s"), (99.96, "1:40 m"), (125, "2:05 m"), (6000, "1:40 h")]
)
def test_a_time_is_short_at_any_length(took_s: float, shown: str) -> None:
    assert seconds(took_s) == shown
