"""Texts as a terminal may show them: what a model or a file's name holds moves no cursor, sets no title and turns no line around."""

import re
import unicodedata

_STEERS = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})  # Unicode's controls, formats (as those that reverse a line), halves and separators
# ECMA-48: what ESC [ begins ends with a letter, what ESC ] begins with a bell or ESC \\.
_SEQUENCE = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b\][^\x07\x1b\n]*(?:\x07|\x1b\\)")
_ANSWERS_MAY = frozenset("\n\t")


def one_line(text: str) -> str:
    """For a cell of a table or a line of progress: blanks for what steers the terminal or breaks the line."""
    return " ".join("".join(" " if unicodedata.category(one) in _STEERS else one for one in _SEQUENCE.sub("", text)).split())


def many_lines(text: str) -> str:
    """For an answer: its lines and tabs stay, and so does what a language's writing needs."""
    if text.isprintable():
        return text
    return "".join(one for one in _SEQUENCE.sub("", text) if one in _ANSWERS_MAY or unicodedata.category(one) not in {"Cc", "Cs"})


def seconds(value: float) -> str:
    """Of a duration, in six characters or fewer up to ten hours: "0.34 s", "12.3 s", "2:05 m", "1:40 h"."""
    if value < 9.995:
        return f"{value:.2f} s"
    if value < 99.95:
        return f"{value:.1f} s"
    minutes, rest_s = divmod(round(value), 60)
    return f"{minutes}:{rest_s:02d} m" if minutes < 60 else f"{minutes // 60}:{minutes % 60:02d} h"
