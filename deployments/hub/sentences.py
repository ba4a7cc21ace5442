"""Texts cut at the ends of sentences, so that a network reads no more at once than it can. Nothing is lost; knows no model."""

import re
from collections.abc import Callable

ABBREVIATIONS = frozenset(
    "mr mrs ms dr prof st vs etc e.g i.e no inc ltd co corp jr sr fig vol pp approx dept est bzw z.b d.h ca nr m mme".split()
)
_END = re.compile(r"[.!?…؟।]+[\"'»”’)\]]*\s+|[。！？]+[」』”’)）]*\s*|\n+\s*")
_LAST_WORD = re.compile(r"([\w.]+?)\.\s*\Z")


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
    last = _LAST_WORD.search(sentence)
    return last is None or not (last[1].lower() in ABBREVIATIONS or (len(last[1]) == 1 and last[1].isalpha() and last[1].isupper()))


def _halved(part: str, size: Callable[[str], int], limit: int) -> list[str]:
    if len(part) < 2 or size(part) <= limit:
        return [part]
    half = len(part) // 2
    at = part.rfind(" ", 1, half) + 1 or half
    return [*_halved(part[:at], size, limit), *_halved(part[at:], size, limit)]
