"""Words for made-up requests: choices, slots and file names out of the YAML files here. Knows no plan."""

import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import yaml

from cluster.tasks import Media

FOLDER = Path(__file__).parent
ENDINGS = {
    Media.TEXT: ("txt", "txt", "md"),
    Media.IMAGE: ("jpg", "png", "jpeg", "webp"),
    Media.AUDIO: ("wav", "mp3", "m4a", "ogg", "flac"),
    Media.VIDEO: ("mp4", "mov", "webm"),
}
MEDIA_OF = {
    **{"speech": Media.AUDIO, "text": Media.TEXT, "page": Media.IMAGE, "bill": Media.IMAGE, "photo": Media.IMAGE},
    **{"clip": Media.VIDEO, "table": Media.TEXT, "document": Media.IMAGE},
}
LANGUAGES = ("en", "de", "fr", "es", "it", "pt", "zh")
_CHOICE = re.compile(r"<([^<>]*)>")
# What a preposition and an article, or two words put side by side, become.
_CONTRACTIONS = {
    "pt": (("de este", "deste"), ("de esta", "desta"), ("em este", "neste"), ("em esta", "nesta"), ("de a ", "da "), ("de o ", "do ")),
    "fr": (("de le ", "du "), ("de les ", "des ")),
    "es": (("de el ", "del "), ("a el ", "al ")),
    "it": (("di il ", "del "), ("di la ", "della "), ("da il ", "dal "), ("in la ", "nella "), ("su il ", "sul ")),
}
_ENGLISH_VOWEL = re.compile(r"\b([Aa]) (?=(?:English|Italian|Arabic|Ukrainian)\b)")
_PT_BY = (("por a ", "pela "), ("em a ", "na "), ("em o ", "no "))
_DATIVES = {
    "das ": "dem ",
    "den ": "dem ",
    "eine ": "einer ",
    "die ": "der ",
    "dieses ": "diesem ",
    "diesen ": "diesem ",
    "diese ": "dieser ",
}
Item = TypeVar("Item")


@dataclass(frozen=True, slots=True)
class MadeFile:
    """A file that a request comes with; `language` is of a text."""

    kind: str
    noun: str
    name: str
    language: str | None

    @property
    def media(self) -> Media:
        return MEDIA_OF[self.kind]


class Words:
    """One language's words, drawn with one source of chance."""

    def __init__(self, language: str, chance: random.Random) -> None:
        self.language = language
        self.chance = chance
        self.block: Mapping[str, Any] = read("phrases")[language]

    def pick(self, options: Sequence[Item]) -> Item:
        return self.chance.choice(options)

    def say(self, template: str) -> str:
        """The template with each <a|b> chosen, innermost first."""
        while match := _CHOICE.search(template):
            template = f"{template[: match.start()]}{self.pick(match.group(1).split('|'))}{template[match.end() :]}"
        return template

    def file(self, kind: str) -> MadeFile:
        noun = self.pick(self.block["nouns"][kind])
        stem = self.pick(read("situations")["names"][kind])
        if self.language == "en" and self.chance.random() < 0.5:
            stem = noun.replace(" ", self.pick(["_", "-", " "]))
        if self.chance.random() < 0.25:
            stem += self.pick(["_2", "-final", "_new", " copy", "_2026", "-v3", "_b", "01"])
        ending = "csv" if kind == "table" else self.pick(ENDINGS[MEDIA_OF[kind]])
        tongue = self.pick([self.language, self.language, "en", "en", "en", *LANGUAGES]) if kind == "text" else "en"
        is_text = MEDIA_OF[kind] is Media.TEXT
        return MadeFile(kind, noun, f"{stem}.{ending}", tongue if is_text else None)

    def named(self, file: MadeFile, *, first: bool = True) -> str:
        """A phrase for a file, as "accusative|dative" where the language has cases."""
        return str(self.pick(self.block["this" if first else "the"])).format(noun=file.noun, name=file.name)

    def language_pair(self) -> tuple[str, str]:
        """A language as it is called after "translate into", and its code."""
        name, code = self.pick([pair for pair in self.block["languages"].items() if pair[1] != self.language])
        return name, code

    def spoken(self, code: str) -> str | None:
        """What the language of a code is called by itself."""
        names: Mapping[str, str] = self.block.get("spoken") or self.block["languages"]
        return next((name for name, of in names.items() if of == code), None)

    def listed(self, items: Sequence[str], last: str | None = None) -> str:
        word = last or self.block["or"]
        comma = "、" if self.language == "zh" else ", "
        return comma.join(items[:-1]) + word + items[-1]

    def put(self, template: str, x: str, **slots: str) -> str:
        """Fills {x}, the phrase in its first case, and {x!}, in its second."""
        accusative, _, dative = x.partition("|")
        text = template.replace("{x!}", dative or (_dative(x) if self.language == "de" else x)).replace("{x}", accusative)
        for name, value in slots.items():
            text = text.replace(f"{{{name}}}", value)
        return re.sub(r"\b(up|out) it\b", r"it \1", text)

    def finished(self, text: str) -> str:
        """With the contractions and articles that the words put side by side ask for."""
        if self.language == "en":
            return _ENGLISH_VOWEL.sub(r"\1n ", text)
        for apart, joined in (*_CONTRACTIONS.get(self.language, ()), *(_PT_BY if self.language == "pt" else ())):
            text = re.sub(rf"\b{apart}", joined, text)
        return text


@cache
def read(name: str) -> Any:
    """One of the YAML files beside this module, by its name."""
    return yaml.safe_load((FOLDER / f"{name}.yaml").read_text(encoding="utf-8"))


def upper_first(text: str) -> str:
    return text[:1].upper() + text[1:]


def lower_first(text: str) -> str:
    """Unless the first word is a name, "I" or an abbreviation."""
    word = text.split(" ", 1)[0]
    is_plain = word[:1].isupper() and word[1:].islower() and word.strip(",.:") not in read("phrases")["en"]["languages"]
    return text[:1].lower() + text[1:] if is_plain else text


def _dative(phrase: str) -> str:
    for start, other in _DATIVES.items():
        if phrase.startswith(start):
            return other + phrase[len(start) :]
    return phrase
