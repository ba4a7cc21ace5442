"""Texts cut at the ends of sentences, so that a network reads no more at once than it can. Nothing is lost; knows no model."""

import re
from collections.abc import Callable

# Bounded repeats: a line of ten thousand dots is no riddle.
_END = re.compile(r"[.!?…؟।]{1,8}[\"'»”’)\]]{0,4}\s+|[。！？]{1,8}[」』”’)）]{0,4}\s*|\n+\s*")
_ABBREVIATED = re.compile(
    r"(?:\W|\A)(?:mr|mrs|ms|dr|prof|st|vs|etc|e\.g|i\.e|no|inc|ltd|co|corp|jr|sr|fig|vol|pp|approx|dept|est|bzw|z\.b|d\.h|ca|nr|mme|[a-z])\.\Z",
    re.IGNORECASE,
)
_LONGEST_ABBREVIATION = 8  # with its dot and the sign before it


def sentences(text: str) -> list[str]:
    """The sentences, each with the white space after it: joined they are the text."""
    found, start = [], 0
    for end in _END.finditer(text):
        if _ends(text[start : end.end()], text[end.end() : end.end() + 1]):
            found.append(text[start : end.end()])
            start = end.end()
    return [*found, text[start:]] if start < len(text) else found


def packed(text: str, size: Callable[[str], int], limit: int) -> list[str]:
    """Pieces of at most `limit` in the measure of `size`, with as many whole sentences in each as go in.

    A longer sentence is cut at words, or where it has none, anywhere. Joined the pieces are the text.
    """
    pieces: list[str] = []
    room = 0
    for sentence in sentences(text):
        for part in _halved(sentence, size, limit):
            needed = size(part)
            if pieces and needed <= room:
                pieces[-1] += part
                room -= needed
            else:
                pieces.append(part)
                room = limit - needed
    return pieces


def _ends(sentence: str, following: str) -> bool:
    """Whether a sign that may end a sentence does: not after an abbreviation or an initial, nor before a small letter."""
    if sentence.endswith("\n") or "\n" in sentence[len(sentence.rstrip()) :]:
        return True
    if following.islower():
        return False
    return not _ABBREVIATED.search(sentence.rstrip()[-_LONGEST_ABBREVIATION:])


def _halved(part: str, size: Callable[[str], int], limit: int) -> list[str]:
    if len(part) < 2 or size(part) <= limit:
        return [part]
    half = len(part) // 2
    at = part.rfind(" ", 1, half) + 1 or half
    return [*_halved(part[:at], size, limit), *_halved(part[at:], size, limit)]
