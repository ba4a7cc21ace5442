"""Checkpoints that sound: voices that read a text aloud, music from a description, and speech said again by another voice."""

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import torch
import transformers

from cluster.catalogue import ModelCard
from cluster.errors import ModelError
from cluster.language import detect_language
from cluster.tasks import SEED_OPTION
from deployments.hub.checkpoint import Checkpoint, network, opened
from deployments.hub.recordings import spoken
from deployments.hub.voices import SEED, Voice, numbers_spelled, speaker, vocoder, voice
from deployments.model import Call, Output
from deployments.speech import HEARING_RATE_HZ, PAUSE_S, as_pcm, asked_language, audio_output, read_audio, speakable, speech_output

if TYPE_CHECKING:
    from deployments.speech import Samples

LONGEST_SENTENCE, SHORTEST_SENTENCE = 250, 20  # characters; a longer one is cut, a shorter one is read with the next
SENTENCE_END = re.compile(r"(?<=[.!?…])\s+|(?<=[。！？])|\s*\n\s*")
MUSIC_S = 10.0
DESCRIPTION_TOKENS = 256
# Frames of the encoder (20 ms each) to mel frames (16 ms): 1.25 for speech as fast as it was, and this before a lost network is stopped.
SPECTRA_PER_FRAME = 2.5
CONVERTED_AT_ONCE_S = 15.0


class SpeechSynthesizer(Checkpoint):
    """Reads a text aloud, sentence by sentence."""

    def __init__(self, voice: Voice) -> None:
        super().__init__(*voice.networks)
        self._voice = voice

    @classmethod
    def load(cls, card: ModelCard, folder: Path) -> Self:
        return cls(voice(card, folder))

    def compute(self, calls: Sequence[Call]) -> list[Output]:
        return [self._speak(call) for call in calls]

    def _speak(self, call: Call) -> Output:
        text = speakable(call)
        language = asked_language(call.options) or detect_language(text)
        only = self._voice.language
        if only and language and language != only:
            raise ModelError(f"this voice speaks {only} only, and the text is in another language ({language})")
        self._voice.check(text)
        spelled = numbers_spelled(text, only or language)
        spoken_sentences = [self._voice.say(sentence) for sentence in sentences(spelled)]
        samples = with_pauses(spoken_sentences, self._voice.rate_hz)
        if not samples.size:
            raise ModelError("the text has nothing that this voice can say")
        return speech_output(as_pcm(samples), self._voice.rate_hz, only or language)


class AudioGenerator(Checkpoint):
    """Makes music and sounds with MusicGen, some ten seconds of it; a stereo checkpoint is mixed down."""

    def __init__(self, net: Any, tokenizer: Any) -> None:
        super().__init__(net)
        self._network, self._tokenizer = net, tokenizer
        self._rate_hz = int(net.config.audio_encoder.sampling_rate)
        self._frames = round(MUSIC_S * net.config.audio_encoder.frame_rate)

    @classmethod
    def load(cls, card: ModelCard, folder: Path) -> Self:
        net = network(transformers.MusicgenForConditionalGeneration, card, folder)
        return cls(net, opened(transformers.AutoTokenizer, card, folder))

    def compute(self, calls: Sequence[Call]) -> list[Output]:
        return [self._play(call) for call in calls]

    def _play(self, call: Call) -> Output:
        description = str(call.inputs[0]).strip()
        if not description:
            raise ModelError("the description of the sound is empty")
        tokens = self._tokenizer(description, truncation=True, max_length=DESCRIPTION_TOKENS, return_tensors="pt")
        ready = {name: tokens[name].to(self._network.device) for name in ("input_ids", "attention_mask")}
        torch.manual_seed(int(str(call.options.get(SEED_OPTION, SEED))))  # greedy decoding would hum one note
        with torch.inference_mode():
            waves = self._network.generate(**ready, do_sample=True, max_length=None, max_new_tokens=self._frames)
        samples = waves[0].float().mean(dim=0).cpu().numpy()  # (channels, samples)
        return audio_output(as_pcm(samples), self._rate_hz, "audio.wav")


class VoiceConverter(Checkpoint):
    """Says again what is said in a recording, in another voice and without the noise around it: SpeechT5."""

    def __init__(self, net: Any, extractor: Any, vocoder: Any, speaker: torch.Tensor) -> None:
        super().__init__(net, vocoder)
        self._network, self._extractor, self._vocoder, self._speaker = net, extractor, vocoder, speaker

    @classmethod
    def load(cls, card: ModelCard, folder: Path) -> Self:
        net = network(transformers.SpeechT5ForSpeechToSpeech, card, folder, dtype=torch.float32)
        extractor = opened(transformers.SpeechT5FeatureExtractor, card, folder)
        return cls(net, extractor, vocoder(card, folder), speaker(card, net))

    def compute(self, calls: Sequence[Call]) -> list[Output]:
        return [self._convert(call) for call in calls]

    def _convert(self, call: Call) -> Output:
        stretches = spoken(read_audio(Path(call.inputs[0])), CONVERTED_AT_ONCE_S)
        rate_hz = int(self._vocoder.config.sampling_rate)
        samples = with_pauses([self._said_again(stretch.samples) for stretch in stretches], rate_hz)
        return audio_output(as_pcm(samples), rate_hz, "speech.wav")

    def _said_again(self, samples: "Samples") -> "Samples":
        heard = self._extractor(audio=samples, sampling_rate=HEARING_RATE_HZ, return_tensors="pt").input_values.to(self._network.device)
        torch.manual_seed(SEED)
        with torch.inference_mode():
            wave = self._network.generate_speech(
                heard,
                self._speaker,
                attention_mask=torch.ones_like(heard, dtype=torch.long),  # left out, it would be guessed from samples equal to a token
                vocoder=self._vocoder,
                maxlenratio=SPECTRA_PER_FRAME,
            )
        said: Samples = wave.float().cpu().numpy().reshape(-1)
        return said


def sentences(text: str) -> list[str]:
    """The sentences of a text, none longer than LONGEST_SENTENCE; one as short as `Dr.` goes with the next."""
    found: list[str] = []
    for sentence in filter(None, (part.strip() for part in SENTENCE_END.split(text))):
        if found and len(found[-1]) < SHORTEST_SENTENCE:
            found[-1] += f" {sentence}"
        else:
            found.append(sentence)
    return [piece for sentence in found for piece in _cut(sentence)]


def with_pauses(pieces: Iterable["Samples"], rate_hz: int) -> "Samples":
    """One after the other, PAUSE_S apart; empty when all are."""
    pause = np.zeros(round(PAUSE_S * rate_hz), np.float32)
    parts = [part for piece in pieces if piece.size for part in (pause, piece)]
    return np.concatenate(parts[1:]) if parts else np.zeros(0, np.float32)


def _cut(sentence: str) -> list[str]:
    """At the last comma before the limit, else at the last space, else at the limit."""
    pieces = []
    while len(sentence) > LONGEST_SENTENCE:
        head = sentence[:LONGEST_SENTENCE]
        cut = max(head.rfind(", "), head.rfind("，")) + 1 or head.rfind(" ") + 1 or LONGEST_SENTENCE
        pieces.append(sentence[:cut].strip())
        sentence = sentence[cut:].strip()
    return [*pieces, sentence]
