"""Networks that say one sentence: VITS (also MMS) and SpeechT5 with its vocoder. None knows of calls or files that go out."""

import hashlib
import re
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
import transformers
from transformers.models.speecht5.number_normalizer import EnglishNumberNormalizer
from transformers.utils.import_utils import is_phonemizer_available, is_uroman_available

from cluster.catalogue import ModelCard
from cluster.errors import ModelError
from cluster.language import NAMES
from deployments.hub.checkpoint import device, network, opened

if TYPE_CHECKING:
    from deployments.speech import Samples

SEED = 0  # these networks draw noise: the same text gives the same bytes
VOCODER_FOLDER = "base"  # where the model store puts the second checkpoint of a model
# The x-vector of one sentence (a0001) of the speaker slt, an American woman, of CMU ARCTIC, as the data set
# Matthijs/cmu-arctic-xvectors (MIT) holds it: 512 numbers, length 1. SpeechT5 speaks with the voice it describes.
SPEAKER = Path(__file__).with_name("cmu_us_slt_arctic_a0001.f32")
SPEAKER_SHA256 = "1be85882a04effc2cd1111869ae885f53cf2b05ac6ad3b072d56e079cf3b24ff"
# Mel frames for each letter that SpeechT5 reads, at most: speech takes about 4. Without a bound a lost network talks on and on.
FRAMES_PER_LETTER = 10.0
_THOUSANDS_COMMA = re.compile(r"(?<=\d),(?=\d{3}(?!\d))")
_ZERO = re.compile(r"(?<![\w.,])0(?![\w.,]*\d)")
# MMS names its languages by ISO 639-3.
ISO_639_1 = {
    **{"eng": "en", "deu": "de", "fra": "fr", "spa": "es", "ita": "it", "por": "pt", "nld": "nl", "pol": "pl", "rus": "ru"},
    **{"ukr": "uk", "ces": "cs", "swe": "sv", "dan": "da", "fin": "fi", "nor": "no", "nob": "no", "kor": "ko", "ara": "ar"},
    **{"heb": "he", "hin": "hi", "tur": "tr", "ell": "el", "hun": "hu", "ron": "ro", "bul": "bg", "vie": "vi", "ind": "id"},
    **{"tha": "th", "fas": "fa", "jpn": "ja", "cmn": "zh"},
}


class Voice(Protocol):
    networks: tuple[Any, ...]
    rate_hz: int
    language: str | None  # ISO 639-1; None when the checkpoint does not tell

    def check(self, text: str) -> None:
        """Raises ModelError for a text that this voice cannot read."""

    def say(self, sentence: str) -> "Samples":
        """Empty when there is nothing in the sentence that this voice can say."""


def voice(card: ModelCard, folder: Path) -> Voice:
    # In full precision also on a GPU: both are small, and the flow of VITS is not made for halves.
    kinds = (transformers.VitsModel, transformers.SpeechT5ForTextToSpeech)
    net = network(kinds, card, folder, dtype=torch.float32)
    tokenizer = opened(transformers.AutoTokenizer, card, folder)
    if isinstance(net, transformers.VitsModel):
        if getattr(tokenizer, "phonemize", False) and not is_phonemizer_available():
            raise ModelError(f"{card.id} reads phonemes, which the package phonemizer would make of a text, and that is not installed")
        return VitsVoice(net, tokenizer)
    return SpeechT5Voice(net, tokenizer, vocoder(card, folder), speaker(card, net))


class VitsVoice:
    """Spells: letters go in, samples come out. Letters that its training text did not have are left out."""

    def __init__(self, net: Any, tokenizer: Any) -> None:
        self.networks: tuple[Any, ...] = (net,)
        self.rate_hz = int(net.config.sampling_rate)
        named = str(getattr(tokenizer, "language", None) or "").lower()
        self.language = ISO_639_1.get(named, named if named in NAMES else None)
        self._network, self._tokenizer = net, tokenizer

    def check(self, text: str) -> None:
        if getattr(self._tokenizer, "is_uroman", False) and not text.isascii() and not is_uroman_available():
            raise ModelError("this voice reads Latin letters only, and the package uroman, which would put the text into them, is missing")

    def say(self, sentence: str) -> "Samples":
        tokens = self._tokenizer(sentence, return_tensors="pt")
        if tokens["input_ids"].shape[1] <= 1:  # the blank alone, which stands around every letter
            return np.zeros(0, np.float32)
        ready = {name: tokens[name].to(self._network.device) for name in ("input_ids", "attention_mask")}
        more = {"speaker_id": 0} if self._network.config.num_speakers > 1 else {}
        torch.manual_seed(SEED)
        with torch.inference_mode():
            return _samples(self._network(**ready, **more).waveform[0])


class SpeechT5Voice:
    """Letters to a mel spectrogram in the manner of one speaker; the vocoder makes samples of it."""

    language: str | None = None

    def __init__(self, net: Any, tokenizer: Any, vocoder: Any, speaker: torch.Tensor) -> None:
        self.networks: tuple[Any, ...] = (net, vocoder)
        self.rate_hz = int(vocoder.config.sampling_rate)
        self._network, self._tokenizer, self._vocoder, self._speaker = net, tokenizer, vocoder, speaker
        self._longest = int(net.config.max_text_positions)

    def check(self, text: str) -> None:
        """It reads what its alphabet has."""

    def say(self, sentence: str) -> "Samples":
        tokens = self._tokenizer(sentence, truncation=True, max_length=self._longest, return_tensors="pt")["input_ids"]
        torch.manual_seed(SEED)  # its prenet drops values out also when it speaks (Tacotron 2, section 2.2)
        with torch.inference_mode():
            ready = tokens.to(self._network.device)
            return _samples(self._network.generate_speech(ready, self._speaker, vocoder=self._vocoder, maxlenratio=FRAMES_PER_LETTER))


def vocoder(card: ModelCard, folder: Path) -> Any:
    """The HiFi-GAN that turns SpeechT5's spectrograms into samples. Raises ModelError when there is none."""
    place = folder / VOCODER_FOLDER
    if not place.is_dir():
        raise ModelError(f"{card.id} makes spectrograms, and the vocoder for them is not in its folder {VOCODER_FOLDER}")
    options = {"use_safetensors": True, "dtype": torch.float32, "output_loading_info": True}
    net, report = opened(transformers.SpeechT5HifiGan, card, place, **options)
    if lacking := sorted(report["missing_keys"]):
        raise ModelError(f"the vocoder of {card.id} is no HiFi-GAN for SpeechT5: its weights lack {lacking[0]}")
    return net.to(device()).eval()


def speaker(card: ModelCard, net: Any) -> torch.Tensor:
    """(1, 512): the one voice that every SpeechT5 speaks with here. Raises ModelError when the checkpoint describes voices otherwise."""
    vector = _speaker()
    if net.config.speaker_embedding_dim != vector.shape[1]:
        wanted = net.config.speaker_embedding_dim
        raise ModelError(f"{card.id} describes a speaker by {wanted} numbers, and the voice at hand has {vector.shape[1]}")
    return vector.to(net.device)


def numbers_spelled(text: str, language: str | None) -> str:
    """English figures and sums in words, since these networks were trained on texts without figures; other languages as they are."""
    if language != "en":
        return text
    plain = _ZERO.sub("zero", _THOUSANDS_COMMA.sub("", text))  # the normalizer reads 1,000,000 as a thousand, and 0 as nothing
    try:
        return str(EnglishNumberNormalizer()(plain))  # type: ignore[no-untyped-call]
    except IndexError:  # it has no word for so large a number
        return text


@cache
def _speaker() -> torch.Tensor:
    content = SPEAKER.read_bytes()
    if hashlib.sha256(content).hexdigest() != SPEAKER_SHA256:
        raise ModelError(f"the file {SPEAKER.name} of this installation is damaged")
    return torch.from_numpy(np.frombuffer(content, "<f4").astype(np.float32)).unsqueeze(0)


def _samples(waveform: torch.Tensor) -> "Samples":
    return waveform.float().cpu().numpy().reshape(-1)
