"""The texts that a request quotes, numbered so that a plan can name them ("q1") and need not copy them. Pure text."""

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import islice

MOST_QUOTES = 12
MOST_COLONS = 20  # that are looked behind
# What stands in quotation marks, a group each. No pattern may look past the next mark of its kind: a message of quotes alone must not
# take quadratic time.
PAIRED = "|".join(
    (
        *(
            r"[“„]([^“”„]+)[“”]",
            r"(?<!\w)”([^“”„]+)”(?!\w)",
            r"«([^«»]+)»",
            r"»([^«»]+)«",
            r"‹([^‹›]+)›",
            r"「([^「」]+)」",
            r"『([^『』]+)』",
        ),
        *(r"(?<!\w)‘((?:[^‘’]|(?<=\w)’(?=\w))+)’(?!\w)", r"‚([^‚‘’]+)[‘’]", r"(?<!\w)״([^״]+)״(?!\w)", r"＂([^＂]+)＂"),
    )
)
DOUBLE = r"(?<!\w)\"([^\"]+)\"(?!\w)"
SINGLE = r"(?<!\w)'((?:[^']|(?<=\w)'(?=\w))+)'(?!\w)"
_QUOTE = re.compile(f"{PAIRED}|{DOUBLE}|{SINGLE}")
_COLON = re.compile(r":\s++(?![\d\-*•(])|：\s*+(?!\()")
_SENTENCE_END = re.compile(r"[.?!](?=\s|\Z)|[。？！]|\Z|\n")
_WORDS = re.compile(r"\b\w++\W++\w|[\u3040-\u30ff\u4e00-\u9fff]{4}")
_STANDS_FOR_FILE = re.compile(r"\(text \d+\)")  # what request.py leaves of a long passage
_MARK = re.compile(r"\[(q\d+)\]")


@dataclass(frozen=True, slots=True)
class Quote:
    """A text inside a request: `start` is where its mark (a quotation mark or the text itself) begins."""

    id: str  # "q1"; equal texts share one
    text: str
    start: int


def quotes_in(text: str, names: Collection[str] = ()) -> tuple[Quote, ...]:
    """In order of appearance: what stands in quotation marks, and what a colon introduces. A file in quotes is no text."""
    matches = list(_QUOTE.finditer(text))
    found = [(m.start(), m[m.lastindex or 0].strip()) for m in matches]
    found += _introduced(text, [m.span() for m in matches])
    ids: dict[str, str] = {}
    quotes = []
    for start, words in sorted(found):
        is_file = words in names or _STANDS_FOR_FILE.fullmatch(words)
        if not words or is_file or (words not in ids and len(ids) == MOST_QUOTES):
            continue
        quotes.append(Quote(ids.setdefault(words, f"q{len(ids) + 1}"), words, start))
    return tuple(quotes)


def marked(text: str, quotes: Sequence[Quote]) -> str:
    """The request with `[q1]` before each quote. One that the person wrote becomes `(q1)`: it numbers nothing."""
    text = _MARK.sub(r"(\1)", text)
    for quote in reversed(quotes):
        text = f"{text[: quote.start]}[{quote.id}] {text[quote.start :]}"
    return text


def _introduced(text: str, quoted: Sequence[tuple[int, int]]) -> list[tuple[int, str]]:
    """What follows a colon without quotation marks: a question by itself, anything else up to the message's end."""
    found = []
    for colon in islice(_COLON.finditer(text), MOST_COLONS):
        start = colon.end()
        if any(left <= start < right for left, right in quoted):
            continue
        end = _SENTENCE_END.search(text, start)
        sentence = text[start : end.end() if end else len(text)].strip()
        if not sentence.endswith(("?", "？")):
            sentence = "" if any(left >= start for left, _ in quoted) else text[start:].strip()
        if _WORDS.search(sentence) and not any(left < start + len(sentence) and start < right for left, right in quoted):
            found.append((start, sentence))
            break
    return found
