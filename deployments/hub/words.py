"""Words and named entities as places in a text. Knows no model."""

import unicodedata
from collections.abc import Sequence
from itertools import groupby
from typing import Any

Span = tuple[int, int]  # first character, and one past the last

OUTSIDE = "O"
FIRST = ("B-", "U-", "S-")  # begins an entity, or is one alone (BIO, BILOU, BIOES)
LATER = ("I-", "L-", "E-")
# Scripts written without spaces, or, in Korean, with endings joined to names: each character is a word of its own.
DENSE = ((0x0E00, 0x0EFF), (0x1000, 0x109F), (0x1780, 0x17FF), (0x3040, 0x30FF), (0x3400, 0x9FFF), (0xAC00, 0xD7AF), (0x20000, 0x3FFFF))


def words(text: str) -> list[Span]:
    """Runs of letters, marks and digits; every other sign that is no space, and every dense character, alone."""
    spans = []
    for (kind, _), run in groupby(enumerate(text), key=lambda place: _kind(*place)):
        if kind != "space":
            places = [at for at, _ in run]
            spans.append((places[0], places[-1] + 1))
    return spans


def entities(text: str, labelled: Sequence[tuple[Span, str, float]]) -> list[dict[str, Any]]:
    """Neighbouring words of one kind as one entity; its score is its words' mean. Words are (place, label, score 0..1), in order."""
    found: list[tuple[str, list[Span], list[float]]] = []
    before = OUTSIDE
    for span, label, score in labelled:
        kind = label[2:] if label.startswith((*FIRST, *LATER)) else label
        if label != OUTSIDE:
            if before == kind and not label.startswith(FIRST):
                found[-1][1].append(span)
                found[-1][2].append(score)
            else:
                found.append((kind, [span], [score]))
        before = kind
    return [_entity(text, *each) for each in found]


def grouped(found: Sequence[dict[str, Any]]) -> str:
    """PER: Angela Merkel; LOC: Berlin, Paris. Labels and names in order of their first mention, each once."""
    groups: dict[str, dict[str, None]] = {}
    for entity in found:
        groups.setdefault(entity["label"], {})[" ".join(entity["text"].split())] = None
    return "; ".join(f"{label}: {', '.join(names)}" for label, names in groups.items())


def _entity(text: str, kind: str, spans: Sequence[Span], scores: Sequence[float]) -> dict[str, Any]:
    start, end = spans[0][0], spans[-1][1]
    return {"text": text[start:end], "label": kind, "start": start, "end": end, "score": round(sum(scores) / len(scores), 4)}


def _kind(at: int, letter: str) -> tuple[str, int]:
    """What groups characters into a word; the number keeps those apart that stand alone."""
    if letter.isspace():
        return "space", 0
    is_dense = any(first <= ord(letter) <= last for first, last in DENSE)
    if unicodedata.category(letter)[0] in "LMN" and not is_dense:
        return "word", 0
    return "sign", at
