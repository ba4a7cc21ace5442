"""Mandarin as espeak-ng can read it: numbers in characters, characters in numbered pinyin. Pure text in, text out.

espeak-ng's voice `cmn-latn-pinyin` reads syllables such as `ni3 hao3`, with `v` for ü and 5 for the neutral tone;
words that are no pinyin syllable it reads as English by itself.
"""

import re
import unicodedata

DIGITS = "零一二三四五六七八九"
_UNITS = ("", "十", "百", "千")
_MYRIADS = ("", "万", "亿", "万亿")
_LONGEST_CARDINAL_DIGITS = 16  # 千万亿; longer runs are codes and are read digit by digit
_CURRENCIES = {"$": "美元", "€": "欧元", "£": "英镑", "¥": "元"}

_NUMBER = r"\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d+(?:\.\d+)?"
_YEAR = re.compile(r"(?<!\d)(\d{4})(?=\s*年)")
_CLOCK = re.compile(r"(?<!\d)(\d{1,2}):(\d{2})(?!\d)")
_MONEY = re.compile(rf"([$€£¥])\s?({_NUMBER})\s?([万亿]*)")
_PERCENT = re.compile(rf"({_NUMBER})\s?%")
_MINUS = re.compile(r"(?<![\w.])[-−](?=\d)")
_PLAIN = re.compile(_NUMBER)
_PUNCTUATION = str.maketrans("，。、；：？！“”‘’（）《》…—", ',.,;:?!""\'\'()"".,')


def in_pinyin(text: str) -> str:
    """Numbered pinyin with tone sandhi; Latin words and punctuation stay."""
    from pypinyin import Style, lazy_pinyin

    words = spoken_numbers(text).translate(_PUNCTUATION)
    syllables = lazy_pinyin(words, style=Style.TONE3, neutral_tone_with_five=True, tone_sandhi=True)
    return " ".join(" ".join(syllables).split())


def spoken_numbers(text: str) -> str:
    """Every number written in Chinese characters, as a newsreader says it: $1,234.50 is 一千二百三十四点五零美元."""
    text = unicodedata.normalize("NFKC", text)
    text = _YEAR.sub(lambda m: _one_by_one(m[1]), text)
    text = _CLOCK.sub(lambda m: _clock(int(m[1]), int(m[2])), text)
    text = _MONEY.sub(lambda m: _number(m[2]) + m[3] + _CURRENCIES[m[1]], text)
    text = _PERCENT.sub(lambda m: "百分之" + _number(m[1]), text)
    text = _MINUS.sub("负", text)
    return _PLAIN.sub(lambda m: _number(m[0]), text)


def cardinal(number: int) -> str:
    """A whole number from 0 to 10**16 - 1 in characters, in groups of four digits: 10_050 is 一万零五十."""
    if number == 0:
        return DIGITS[0]
    words = ""
    for power in range(len(_MYRIADS) - 1, -1, -1):
        group = number // 10_000**power % 10_000
        if group == 0:
            continue
        if words and (group < 1000 or number // 10_000 ** (power + 1) % 10_000 == 0):
            words += DIGITS[0]
        words += _below_ten_thousand(group) + _MYRIADS[power]
    return words.removeprefix("一") if words.startswith("一十") else words


def _below_ten_thousand(group: int) -> str:
    words, gap = "", False
    for power in (3, 2, 1, 0):
        digit = group // 10**power % 10
        if digit == 0:
            gap = bool(words)
            continue
        words += (DIGITS[0] if gap else "") + DIGITS[digit] + _UNITS[power]
        gap = False
    return words


def _number(written: str) -> str:
    whole, _, decimals = written.replace(",", "").partition(".")
    is_code = len(whole) > _LONGEST_CARDINAL_DIGITS or (len(whole) > 1 and whole.startswith("0"))
    words = _one_by_one(whole) if is_code else cardinal(int(whole))
    return words + ("点" + _one_by_one(decimals) if decimals else "")


def _one_by_one(digits: str) -> str:
    return "".join(DIGITS[int(digit)] for digit in digits)


def _clock(hour: int, minute: int) -> str:
    return f"{cardinal(hour)}点" + (f"{'零' if minute < 10 else ''}{cardinal(minute)}分" if minute else "整")
