"""What a text holds: words, numbers, a language, a length, the errors of a transcript. Pure text."""

import re
import unicodedata
from collections.abc import Sequence
from functools import cache

_CJK = re.compile(r"[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff]")
_NUMBER = re.compile(r"\d{1,3}(?:[ '\u00a0\u202f]\d{3})+(?:[.,]\d+)?(?!\d)|\d+(?:[.,]\d+)*")
_GROUPING = re.compile(r"[ '\u00a0\u202f]")
_HEADING = re.compile(r"(?m)^\*\*[\w-]+\*\*\s*$")
_FILE_LINE = re.compile(r"(?m)^- \[[^\]]*\]\([^)]*\)\s*$")
_FILE_NAME = re.compile(
    r"(?<![\w\-.])[\w\-.]{1,120}\.(?:png|jpe?g|gif|webp|svg|bmp|tiff?|wav|mp3|ogg|flac|m4a|mp4|webm|avi|mov|pdf|txt|docx?|csv|zip)(?![A-Za-z0-9_])",
    re.IGNORECASE,
)
_LINK = re.compile(r"(?:https?://|sandbox:|attachment:|file:|www\.)[^\s)\]>\"'，。]+|/v1/[\w/.\-]+", re.IGNORECASE)
_MARK = re.compile(r"[^\w\s]|_")


def folded(text: str) -> str:
    """For comparing: without case, with one kind of apostrophe and single blanks."""
    plain = unicodedata.normalize("NFKC", text).casefold()
    return " ".join(re.sub("[‘’‛`´]", "'", plain).split())


def holds(text: str, term: str) -> bool:
    """Whether the words of `term` stand in the text, whole; `bee*` also finds "bees". Chinese is found anywhere.

    A number that goes on after a point or a comma is another number: "3" is not in "3.5".
    """
    return bool(_pattern(term).search(folded(text)))


def numbers_in(text: str) -> set[float]:
    """Every number, in either convention: "1,234.50", "1.234,50" and "1 234,50" hold 1234.5; "1.234" holds 1.234 and 1234."""
    found: set[float] = set()
    for token in _NUMBER.findall(text):
        ungrouped = _GROUPING.sub("", token)
        for thousands, point in ((",", "."), (".", ",")):
            plain = ungrouped.replace(thousands, "").replace(point, ".")
            if plain.count(".") <= 1:
                found.add(float(plain))
    return found


def word_count(text: str) -> int:
    """Words; a Chinese or Japanese character counts as one."""
    return len(_CJK.findall(text)) + len(re.findall(r"\w+", _CJK.sub(" ", text)))


def word_error_rate(truth: str, text: str) -> float:
    """Wrong, missing and added words per word of the truth, without case and marks."""
    import jiwer

    rate: float = jiwer.wer(_plain_words(truth), _plain_words(text))
    return rate


def prose(answer: str) -> str:
    """An answer without the headings of its parts and the list of its files."""
    return _FILE_LINE.sub("", _HEADING.sub("", answer)).strip()


def first_paragraph(text: str) -> str:
    return re.split(r"\n\s*\n", text.strip(), maxsplit=1)[0]


def file_names(text: str) -> list[str]:
    return _FILE_NAME.findall(_LINK.sub(" ", text))


def links(text: str) -> list[str]:
    return [link.rstrip(".,;:!?") for link in _LINK.findall(text)]


def without(text: str, names: Sequence[str]) -> str:
    """The text with these names taken out, the longest first: a name may have blanks, and hold a shorter one."""
    for name in sorted(names, key=len, reverse=True):
        text = re.sub(re.escape(name), " ", text, flags=re.IGNORECASE)
    return text


@cache
def _pattern(term: str) -> re.Pattern[str]:
    plain = folded(term)
    words = re.escape(plain.removesuffix("*"))
    if _CJK.search(plain):
        return re.compile(words)
    before = r"(?<!\w)(?<!\d[.,])" if plain[0].isdigit() else r"(?<!\w)" if plain[0].isalpha() else ""
    after = r"(?!\w|[.,]\d)" if plain[-1].isdigit() else r"(?!\w)" if plain[-1].isalpha() else ""
    return re.compile(before + words + after)


def _plain_words(text: str) -> str:
    return " ".join(_MARK.sub(" ", folded(text).replace("'", "")).split())
