"""What a small language model gets wrong in translations, and text rules can mend: large numbers, names, and words left as they were."""

import re
from collections.abc import Mapping

# Chinese and Japanese count in ten thousands (万) and hundred millions (亿, 億); a small model turns 37 billion into 37亿.
_MYRIADS = {"zh": (("亿", 10**8), ("万", 10**4)), "ja": (("億", 10**8), ("万", 10**4))}
_SCALES = {"thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12}
_LARGE_NUMBER = re.compile(r"\b(\d+(?:,\d{3})*(?:\.\d+)?)\s+(thousand|million|billion|trillion)\b", re.IGNORECASE)
_WORD = re.compile(r"[A-Za-z][A-Za-z'-]{2,}")
_NAME = re.compile(r"(?<=[a-z,;:] )[A-ZÀ-Þ][a-zß-ÿ]+(?: [A-ZÀ-Þ][a-zß-ÿ]+)*\b")  # not the first word of a sentence
# What a translated word may be made of, as a JSON schema pattern: a small model leaves names as they are unless it cannot.
SCRIPT_PATTERNS = {"zh": "^[一-龥·]{1,12}$"}
# Shown before a text: without it the 1.5B model wrote "here is the translation" over and over instead of a notice's German.
EXAMPLE = "The library opens at nine on Monday. Please bring your card."
EXAMPLE_IN = {
    "de": "Die Bibliothek öffnet am Montag um neun Uhr. Bitte bringen Sie Ihre Karte mit.",
    "fr": "La bibliothèque ouvre lundi à neuf heures. Veuillez apporter votre carte.",
    "es": "La biblioteca abre el lunes a las nueve. Por favor, traiga su tarjeta.",
    "it": "La biblioteca apre lunedì alle nove. Si prega di portare la tessera.",
    "pt": "A biblioteca abre na segunda-feira às nove. Por favor, traga o seu cartão.",
}
NOT_LATIN = frozenset({"zh", "ja", "ko", "ru", "uk", "bg", "el", "ar", "fa", "he", "hi", "th"})


def with_large_numbers(text: str, language: str) -> str:
    """English large numbers in the units of the target language: "37 billion" becomes "370亿" for Chinese."""
    if language not in _MYRIADS:
        return text

    def counted(match: re.Match[str]) -> str:
        value = round(float(match[1].replace(",", "")) * _SCALES[match[2].lower()])
        for unit, size in _MYRIADS[language]:
            if value >= size:
                return f"{value / size:.10g}{unit}"
        return str(value)

    return _LARGE_NUMBER.sub(counted, text)


def names(text: str) -> tuple[str, ...]:
    """What is written with a capital letter inside a sentence, each once, in the order of the text."""
    return tuple(dict.fromkeys(_NAME.findall(text)))


def with_words(text: str, translations: Mapping[str, str]) -> str:
    """The text with these words in their translation, wherever they stand as whole words."""
    for word, translated in translations.items():
        text = re.sub(rf"\b{re.escape(word)}\b", translated, text)
    return text


def leftovers(source: str, translated: str, language: str) -> tuple[str, ...]:
    """Words of the source that stand untranslated in a translation into another script. Acronyms may."""
    if language not in NOT_LATIN:
        return ()
    known = set(_WORD.findall(source))
    return tuple(dict.fromkeys(word for word in _WORD.findall(translated) if word in known and not word.isupper()))
