"""How each kind of translation network is told the pair of languages. Decides; computes nothing."""

import re
from dataclasses import dataclass
from typing import Any

from cluster.errors import ModelError
from cluster.language import NAMES, language_name
from cluster.language_codes import NLLB, iso_code, names_of

SHOWN = 12  # languages that an error message lists
_OPUS_PAIR = re.compile(r"opus-?mt-(?:tc-\w+-|big-)*([a-zA-Z_]+)-([a-zA-Z_]+)")
T5_KINDS = ("t5", "mt5", "umt5", "longt5")


@dataclass(frozen=True, slots=True)
class Told:
    """What goes with a text into the network. Nothing, for a network that does one thing only."""

    prefix: str = ""  # before the text
    source: str | None = None  # the tokenizer's src_lang
    first: int | None = None  # the token that the translation must begin with
    start: int | None = None  # the token that the decoder starts from, when not its own

    def decoding(self) -> dict[str, int]:
        """Options of generate()."""
        options = {"forced_bos_token_id": self.first, "decoder_start_token_id": self.start}
        return {name: value for name, value in options.items() if value is not None}


def told(model_id: str, config: Any, tokenizer: Any, source: str | None, target: str) -> Told:
    """The pair, in the network's own words; languages are ISO 639-1. Raises ModelError for a pair that it was not made for."""
    if hasattr(tokenizer, "supported_language_codes"):
        return _marian(model_id, tokenizer, source, target)
    if hasattr(tokenizer, "src_lang"):
        return _with_language_tokens(model_id, config, tokenizer, source, target)
    if config.model_type in T5_KINDS:
        return _instructed(model_id, config, tokenizer, source, target)
    return Told()


def _marian(model_id: str, tokenizer: Any, source: str | None, target: str) -> Told:
    """The pair stands in the tokenizer's configuration or in the model's name; with several targets each text is marked >>xxx<<."""
    named = _OPUS_PAIR.search(model_id.lower())
    languages = (tokenizer.source_lang, tokenizer.target_lang)
    from_, into = (iso_code(lang) or (iso_code(named[place + 1]) if named else None) for place, lang in enumerate(languages))
    if source and from_ in NAMES and source != from_:  # of other languages the detector knows nothing
        raise ModelError(f"{model_id} translates from {_name(from_)}, and the text is in {_name(source)}")
    codes = set(tokenizer.supported_language_codes)
    if code := next((f">>{name}<<" for name in names_of(target) if f">>{name}<<" in codes), None):
        return Told(prefix=f"{code} ")
    if into == target or (into is None and not codes):
        return Told()
    known = [into] if into else sorted({code.strip("<>") for code in codes})
    raise _not_into(model_id, target, known)


def _with_language_tokens(model_id: str, config: Any, tokenizer: Any, source: str | None, target: str) -> Told:
    """NLLB, M2M100, mBART: the source's token stands beside the text, the translation begins with the target's."""
    one_side = {"many-to-one": target, "one-to-many": source}  # mBART-50's two halves know English on the one side only
    if any(name in model_id and language not in (None, "en") for name, language in one_side.items()):
        raise ModelError(f"{model_id} does not translate from {_name(source)} into {_name(target)}: English is fixed on one side")
    into, from_ = language_token(tokenizer, target), language_token(tokenizer, source) if source else None
    if into is None:
        raise ModelError(f"{model_id} does not translate into {_name(target)}")
    if source and from_ is None:
        raise ModelError(f"{model_id} does not translate from {_name(source)}")
    token = tokenizer.convert_tokens_to_ids(into)
    speaks = from_.strip("_") if from_ and from_.startswith("__") else from_
    if type(tokenizer).__name__.startswith("MBartTokenizer"):
        fixed = config.decoder_start_token_id
        if fixed not in (None, token) and fixed in tokenizer.lang_code_to_id.values():
            raise _not_into(model_id, target, [str(tokenizer.convert_ids_to_tokens(fixed))])
        return Told(source=speaks, start=token)
    return Told(source=speaks, first=token)


def _instructed(model_id: str, config: Any, tokenizer: Any, source: str | None, target: str) -> Told:
    """T5 and its kin: <2xx> (MADLAD-400), the prefixes in the configuration, or an instruction in English."""
    if _is_known(tokenizer, mark := f"<2{target}>"):
        return Told(prefix=f"{mark} ")
    taught = {
        name: value for name, value in (getattr(config, "task_specific_params", None) or {}).items() if name.startswith("translation_")
    }
    if pair := taught.get(f"translation_{source or 'en'}_to_{target}"):
        return Told(prefix=pair["prefix"])
    if taught:
        raise ModelError(
            f"{model_id} does not translate from {_name(source or 'en')} into {_name(target)}; "
            f"it does {', '.join(name.removeprefix('translation_').replace('_', ' ') for name in taught)}"
        )
    return Told(prefix=f"translate {_name(source or 'en')} to {_name(target)}: ")


def language_token(tokenizer: Any, language: str) -> str | None:
    """`__de__` (M2M100), `deu_Latn` (NLLB) or `de_DE` (mBART); None when the tokenizer has none of them."""
    codes = [code for code in getattr(tokenizer, "lang_code_to_id", ()) if code.startswith(f"{language}_")]
    candidates = (f"__{language}__", NLLB.get(language, ""), *codes)
    return next((candidate for candidate in candidates if candidate and _is_known(tokenizer, candidate)), None)


def _is_known(tokenizer: Any, token: str) -> bool:
    return tokenizer.convert_tokens_to_ids(token) not in (None, tokenizer.unk_token_id)


def _not_into(model_id: str, target: str, known: list[str]) -> ModelError:
    names = ", ".join(_name(iso_code(code) or code) for code in known[:SHOWN])
    return ModelError(f"{model_id} does not translate into {_name(target)}; it does into {names}{' …' if len(known) > SHOWN else ''}")


def _name(code: str | None) -> str:
    return language_name(code) or str(code)
