"""Which language a text is in. By script where the script tells, by py3langid elsewhere; None when neither is sure."""

import re
from functools import cache
from typing import Any

MIN_PROBABILITY = 0.9
# Languages told apart by letters: those of the model cards. Fewer rivals make short texts surer.
LATIN_RIVALS = ("cs", "da", "de", "en", "es", "fi", "fr", "hu", "id", "it", "nl", "no", "pl", "pt", "ro", "sv", "tr", "vi")
OTHER_RIVALS = ("ar", "bg", "el", "fa", "he", "hi", "ru", "th", "uk")

NAMES = {
    **{"en": "English", "zh": "Chinese", "de": "German", "fr": "French", "es": "Spanish", "it": "Italian"},
    **{"pt": "Portuguese", "nl": "Dutch", "pl": "Polish", "ru": "Russian", "uk": "Ukrainian", "cs": "Czech"},
    **{"sv": "Swedish", "da": "Danish", "fi": "Finnish", "no": "Norwegian", "ja": "Japanese", "ko": "Korean"},
    **{"ar": "Arabic", "he": "Hebrew", "hi": "Hindi", "tr": "Turkish", "el": "Greek", "hu": "Hungarian"},
    **{"ro": "Romanian", "bg": "Bulgarian", "vi": "Vietnamese", "id": "Indonesian", "th": "Thai", "fa": "Persian"},
}

_KANA = re.compile(r"[\u3040-\u30ff]")
_HANGUL = re.compile(r"[\uac00-\ud7af]")
_HAN = re.compile(r"[\u3400-\u4dbf\u4e00-\u9fff]")
# One character of these scripts says about as much as three Latin letters, so a few of them among Latin names decide.
_DENSE_SHARE = 0.2


def detect_language(text: str) -> str | None:
    """ISO 639-1 code; None for a text too short or too mixed to tell."""
    letters = sum(letter.isalpha() for letter in text)
    if not letters:
        return None
    kana, hangul, han = (len(script.findall(text)) for script in (_KANA, _HANGUL, _HAN))
    if kana + hangul + han >= _DENSE_SHARE * letters:
        return "ko" if hangul > kana + han else "ja" if kana else "zh"
    language, probability = _identifier().classify(text)
    return str(language) if probability >= MIN_PROBABILITY else None


def language_name(code: str | None) -> str | None:
    """English name for prompts; None for an unknown code."""
    return NAMES.get(code) if code else None


@cache
def _identifier() -> Any:
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    identifier = LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
    identifier.set_languages(LATIN_RIVALS + OTHER_RIVALS)
    return identifier
