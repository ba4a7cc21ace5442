"""Networks that write down short stretches of speech: Whisper, CTC networks (wav2vec2, HuBERT and their kin) and Moonshine.

Each takes mono samples at 16 kHz, no longer than its `longest_s`; none knows of files or calls.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import torch
import transformers
from transformers.models.whisper.tokenization_whisper import LANGUAGES, TO_LANGUAGE_CODE

from cluster.catalogue import ModelCard
from cluster.errors import ModelError
from deployments.hub.checkpoint import network, opened
from deployments.hub.recordings import batches
from deployments.speech import HEARING_RATE_HZ

if TYPE_CHECKING:
    from deployments.speech import Samples

STRETCHES_AT_ONCE = 8
TRAINING_ONLY = ("masked_spec_embed",)  # stands for masked audio in training; facebook/wav2vec2-base-960h comes without it
# Whisper's codes that differ from ISO 639-1.
WHISPER_CODES = {"jv": "jw", "nb": "no"}
MULTILINGUAL_VOCABULARY = 51_865  # openai/whisper tells its multilingual models by this size
PROMPT_TOKENS = 8  # what stands before the text: start, language, task, no timestamps; some to spare
# Text tokens in a second of speech: transformers' documentation says 6.5 for English, 13 for other scripts.
MOONSHINE_TOKENS_PER_S = 13


class Transcriber(Protocol):
    network: Any
    longest_s: float

    def languages(self, stretches: Sequence["Samples"], asked: Sequence[str | None]) -> list[str | None]:
        """What is spoken in each, as ISO 639-1: what was asked for, or what is heard; None when the network cannot tell.

        Raises ModelError for a language that the network does not hear.
        """

    def transcribe(self, stretches: Sequence["Samples"], languages: Sequence[str | None]) -> list[str]: ...


def transcriber(card: ModelCard, folder: Path) -> Transcriber:
    """The checkpoint's network with what prepares its input and reads its output.

    AutoProcessor is not used: for a checkpoint with a language model beside it (common among wav2vec2) it wants a decoder library.
    """
    kinds = (*KINDS, transformers.AutoModelForCTC)
    net = network(kinds, card, folder, unread=TRAINING_ONLY)
    extractor, tokenizer = opened(transformers.AutoFeatureExtractor, card, folder), opened(transformers.AutoTokenizer, card, folder)
    if (rate_hz := getattr(extractor, "sampling_rate", HEARING_RATE_HZ)) != HEARING_RATE_HZ:
        raise ModelError(f"{card.id} hears at {rate_hz} Hz, and speech is recognised at {HEARING_RATE_HZ} Hz here")
    ears: Transcriber = KINDS.get(type(net), CtcTranscriber)(net, extractor, tokenizer)
    return ears


class WhisperTranscriber:
    """Each stretch is one window of 30 s without timestamps, so that stretches of several recordings run together."""

    longest_s = 29.0

    def __init__(self, net: Any, extractor: Any, tokenizer: Any) -> None:
        self.network, self._extractor, self._tokenizer = net, extractor, tokenizer
        self._rules = _completed(net, tokenizer)

    def languages(self, stretches: Sequence["Samples"], asked: Sequence[str | None]) -> list[str | None]:
        wanted = [WHISPER_CODES.get(code, code) if code else None for code in asked]
        if not self._rules.is_multilingual:
            if foreign := next((code for code in wanted if code not in (None, "en")), None):
                raise ModelError(f"this speech model hears English only, not {foreign}")
            return ["en"] * len(asked)
        known = {mark.strip("<|>") for mark in self._rules.lang_to_id}
        if unknown := next((code for code in wanted if code and code not in known), None):
            raise ModelError(f"this speech model does not hear the language {unknown}")
        trained = getattr(self._rules, "language", None)  # a checkpoint tuned to one language says so
        wanted = [code or (_code(trained) if trained else None) for code in wanted]
        unsure = [place for place, code in enumerate(wanted) if code is None]
        for places in batches(unsure, STRETCHES_AT_ONCE):
            heard = self._heard_languages([stretches[place] for place in places])
            for place, code in zip(places, heard, strict=True):
                wanted[place] = code
        return wanted

    def transcribe(self, stretches: Sequence["Samples"], languages: Sequence[str | None]) -> list[str]:
        texts: list[str] = []
        for places in batches(range(len(stretches)), STRETCHES_AT_ONCE):
            # Without task="transcribe" it may translate, or loop.
            marks = {"language": [f"<|{languages[place]}|>" for place in places], "task": "transcribe"}
            with torch.inference_mode():
                tokens = self.network.generate(
                    self._features([stretches[place] for place in places]),
                    generation_config=self._rules,
                    **(marks if self._rules.is_multilingual else {}),
                )
            texts += self._tokenizer.batch_decode(tokens, skip_special_tokens=True)
        return [" ".join(text.split()) for text in texts]

    def _heard_languages(self, stretches: Sequence["Samples"]) -> list[str]:
        codes = {token: mark.strip("<|>") for mark, token in self._rules.lang_to_id.items()}
        with torch.inference_mode():
            tokens = self.network.detect_language(self._features(stretches), generation_config=self._rules)
        return [codes[token] for token in tokens.tolist()]

    def _features(self, stretches: Sequence["Samples"]) -> torch.Tensor:
        """(stretches, mels, frames of 30 s)."""
        features = self._extractor(list(stretches), sampling_rate=HEARING_RATE_HZ, return_tensors="pt").input_features
        return _moved(features, self.network)


class CtcTranscriber:
    """One letter or none a frame; what repeats is one letter, as the tokenizer reads it."""

    longest_s = 20.0  # about the longest that these networks were trained on

    def __init__(self, net: Any, extractor: Any, tokenizer: Any) -> None:
        self.network, self._extractor, self._tokenizer = net, extractor, tokenizer
        # Networks trained without a mask (wav2vec2-base) normalise over the whole time axis: padding would change what they hear.
        masks = isinstance(extractor, transformers.Wav2Vec2FeatureExtractor) and extractor.return_attention_mask
        self._at_once = STRETCHES_AT_ONCE if masks and hasattr(net, "_get_feat_extract_output_lengths") else 1

    def languages(self, stretches: Sequence["Samples"], asked: Sequence[str | None]) -> list[str | None]:
        return list(asked)

    def transcribe(self, stretches: Sequence["Samples"], languages: Sequence[str | None]) -> list[str]:
        texts = [text for batch in batches(stretches, self._at_once) for text in self._read(batch)]
        # Those trained on LibriSpeech write in capitals only.
        return [text.capitalize() if text.isupper() else text for text in texts]

    def _read(self, stretches: Sequence["Samples"]) -> list[str]:
        inputs = self._extractor(list(stretches), sampling_rate=HEARING_RATE_HZ, padding=True, return_tensors="pt")
        with torch.inference_mode():
            rows = self.network(**{name: _moved(tensor, self.network) for name, tensor in inputs.items()}).logits.argmax(dim=-1).tolist()
        if self._at_once > 1:
            frames = self.network._get_feat_extract_output_lengths(inputs["attention_mask"].sum(dim=1)).tolist()
            rows = [row[:count] for row, count in zip(rows, frames, strict=True)]
        return [" ".join(self._tokenizer.decode(row).split()) for row in rows]


class MoonshineTranscriber:
    """One stretch at a time: its encoder normalises over the whole time axis, so padding would change what it hears."""

    longest_s = 15.0  # 194 positions for text at 13 tokens a second

    def __init__(self, net: Any, extractor: Any, tokenizer: Any) -> None:
        self.network, self._extractor, self._tokenizer = net, extractor, tokenizer

    def languages(self, stretches: Sequence["Samples"], asked: Sequence[str | None]) -> list[str | None]:
        return list(asked)

    def transcribe(self, stretches: Sequence["Samples"], languages: Sequence[str | None]) -> list[str]:
        return [self._read(stretch) for stretch in stretches]

    def _read(self, stretch: "Samples") -> str:
        inputs = self._extractor(stretch, sampling_rate=HEARING_RATE_HZ, return_tensors="pt")
        ready = {name: _moved(tensor, self.network) for name, tensor in inputs.items()}
        longest = round(MOONSHINE_TOKENS_PER_S * len(stretch) / HEARING_RATE_HZ)
        with torch.inference_mode():
            tokens = self.network.generate(**ready, max_length=None, max_new_tokens=longest, do_sample=False, num_beams=1)
        return " ".join(self._tokenizer.decode(tokens[0], skip_special_tokens=True).split())


KINDS: dict[Any, Any] = {
    transformers.WhisperForConditionalGeneration: WhisperTranscriber,
    transformers.MoonshineForConditionalGeneration: MoonshineTranscriber,
}


def _completed(net: Any, tokenizer: Any) -> Any:
    """The generation settings, with what tuned checkpoints from before 2023 lack taken from the vocabulary; greedy."""
    rules, vocabulary = net.generation_config, tokenizer.get_vocab()
    if not hasattr(rules, "lang_to_id"):
        rules.lang_to_id = {mark: vocabulary[mark] for mark in (f"<|{code}|>" for code in LANGUAGES) if mark in vocabulary}
    if not hasattr(rules, "task_to_id"):
        rules.task_to_id = {task: vocabulary[f"<|{task}|>"] for task in ("transcribe", "translate") if f"<|{task}|>" in vocabulary}
    if not hasattr(rules, "is_multilingual"):
        rules.is_multilingual = net.config.vocab_size >= MULTILINGUAL_VOCABULARY
    if not hasattr(rules, "no_timestamps_token_id") and "<|notimestamps|>" in vocabulary:
        rules.no_timestamps_token_id = vocabulary["<|notimestamps|>"]
    rules.forced_decoder_ids = net.config.forced_decoder_ids = None  # the old way to say language and task
    rules.do_sample, rules.num_beams, rules.return_timestamps = False, 1, False
    rules.max_length, rules.max_new_tokens = None, net.config.max_target_positions - PROMPT_TOKENS
    return rules


def _code(language: str) -> str:
    """<|hi|>, hi or Hindi."""
    name = language.strip("<|>").lower()
    return TO_LANGUAGE_CODE.get(name, name)


def _moved(tensor: torch.Tensor, net: Any) -> torch.Tensor:
    """To the network's device, and to its precision where the tensor holds fractions."""
    return tensor.to(net.device, net.dtype if tensor.is_floating_point() else tensor.dtype)
