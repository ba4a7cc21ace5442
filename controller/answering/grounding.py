"""The grounding check: an answer may name only links, files and numbers that the run or the request holds. Pure text."""

import re
from collections.abc import Iterable
from itertools import pairwise

_LINK = re.compile(r"(?:https?://|sandbox:|attachment:|file:|/v1/|www\.)[^\s)\]>\"'，。]+", re.IGNORECASE)
_LINK_TARGET = re.compile(r"\]\(\s*([^)\s]+)")
_FILE = re.compile(
    # From the start of a run and of a bounded length, so that no text takes more than linear time.
    # Not \b at the end: a Chinese word may follow at once.
    r"(?<![\w\-.])[\w\-.]{1,120}\.(?:png|jpe?g|gif|webp|svg|bmp|wav|mp3|ogg|flac|m4a|mp4|webm|avi|mov|pdf|txt|docx?|csv|json|zip)(?![A-Za-z0-9_])",
    re.IGNORECASE,
)
_NUMBER = re.compile(r"\d{1,3}(?:[ \u00a0\u202f]\d{3})+(?!\d)|\d(?:[\d,.]*\d)?")  # also "1 234"
_SENTENCE_END = re.compile(r"(?<=[.!?…])\s+|(?<=[。！？])|\n+")


class Evidence:
    """What an answer may speak of: the request, the results, and the names and links of their files."""

    def __init__(self, texts: Iterable[str], names: Iterable[str], links: Iterable[str]) -> None:
        joined = "\n".join(texts)
        self._names = {name.casefold() for name in names} | {name.casefold() for name in _FILE.findall(joined)}
        self._links = set(links) | {_bare(link) for link in _LINK.findall(joined)}
        self._named = _any_of(self._names)
        self._numbers = {_digits(number) for number in _NUMBER.findall(joined)}

    def objection(self, text: str, *, check_numbers: bool = True) -> str | None:
        """The first thing in the text that nothing backs; None when all of it is backed."""
        for link in [*_LINK.findall(text), *_LINK_TARGET.findall(text)]:
            if _bare(link) not in self._links and link.casefold() not in self._names:
                return f"the link {link}"
        unnamed = self._named.sub(" ", _LINK.sub(" ", text))
        if name := _FILE.search(unnamed):
            return f"the file {name.group()}"
        if check_numbers:
            for number in _NUMBER.findall(unnamed):
                if not self._has_number(_digits(number)):
                    return f"the number {number}"
        return None

    def _has_number(self, digits: str) -> bool:
        """One digit alone may count things («2 speakers»); a longer number must stand in the evidence, rounding allowed."""
        return len(digits) <= 1 or any(known.startswith(digits) or digits == known.rstrip("0") for known in self._numbers)


def sentences(text: str) -> tuple[list[str], str]:
    """Whole sentences with what separates them, and the unfinished rest. Joined they give the text back."""
    ends = [match.end() for match in _SENTENCE_END.finditer(text)]
    bounds = [0, *ends]
    return [text[a:b] for a, b in pairwise(bounds)], text[bounds[-1] :]


def _any_of(names: Iterable[str]) -> re.Pattern[str]:
    """Finds the names, whole: with spaces in them, and with Chinese words right before and after."""
    choice = "|".join(re.escape(name) for name in sorted(names, key=len, reverse=True))
    return re.compile(rf"(?<![A-Za-z0-9_.\-])(?:{choice})(?![A-Za-z0-9_]|\.[A-Za-z0-9])" if choice else r"(?!)", re.IGNORECASE)


def _digits(number: str) -> str:
    return re.sub(r"\D", "", number)


def _bare(link: str) -> str:
    return link.rstrip(".,;:!?")
