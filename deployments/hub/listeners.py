"""Checkpoints that hear: what is said in a recording, and what it sounds like."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import torch
import transformers

from cluster.catalogue import ModelCard
from cluster.errors import ModelError
from cluster.language import detect_language
from deployments.hub.checkpoint import Checkpoint, network, opened
from deployments.hub.recordings import Stretch, spoken, windows
from deployments.hub.tensors import all_moved, by_shape, class_scores
from deployments.hub.transcribers import TRAINING_ONLY, Transcriber, transcriber
from deployments.labels import TOP, in_words, labels_of, likely, ranking
from deployments.model import Call, Output
from deployments.speech import HEARING_RATE_HZ, asked_language, read_audio

if TYPE_CHECKING:
    from deployments.speech import Samples

WINDOW_S = 10.0  # for a network that does not say how much it hears at once; CLAP and AudioSet's networks were trained on this
WINDOWS_AT_ONCE = 8
SPECTRA_PER_S = 100  # the Audio Spectrogram Transformer takes one every 10 ms
HYPOTHESIS = "This is a sound of {}."  # as in transformers' pipeline
WRITTEN_WITHOUT_SPACES = frozenset({"zh", "yue", "ja", "th", "lo", "km", "my"})


class SpeechRecognizer(Checkpoint):
    """Writes down what is said, stretch of speech by stretch, so a recording may be of any length."""

    max_batch = 8

    def __init__(self, ears: Transcriber) -> None:
        super().__init__(ears.network)
        self._ears = ears

    @classmethod
    def load(cls, card: ModelCard, folder: Path) -> Self:
        return cls(transcriber(card, folder))

    def compute(self, calls: Sequence[Call]) -> list[Output]:
        recordings = [read_audio(Path(call.inputs[0])) for call in calls]
        speech = [spoken(samples, self._ears.longest_s) for samples in recordings]
        # The language of a recording is that of its first stretch.
        languages = self._ears.languages([found[0].samples for found in speech], [asked_language(call.options) for call in calls])
        stretches = [stretch.samples for found in speech for stretch in found]
        spread = [language for language, found in zip(languages, speech, strict=True) for _ in found]
        texts = iter(self._ears.transcribe(stretches, spread))
        written = [[next(texts) for _ in found] for found in speech]
        return [_transcript(*parts) for parts in zip(recordings, speech, written, languages, strict=True)]


class AudioClassifier(Checkpoint):
    """What a recording sounds like, by the labels of the checkpoint: a long one by the mean over its windows."""

    max_batch = 8

    def __init__(self, net: Any, extractor: Any) -> None:
        super().__init__(net)
        self._network, self._extractor = net, extractor
        self._window_s = _window_s(extractor)

    @classmethod
    def load(cls, card: ModelCard, folder: Path) -> Self:
        net = network(transformers.AutoModelForAudioClassification, card, folder, unread=TRAINING_ONLY)
        return cls(net, opened(transformers.AutoFeatureExtractor, card, folder))

    def compute(self, calls: Sequence[Call]) -> list[Output]:
        rate_hz = int(self._extractor.sampling_rate)
        recordings = [windows(read_audio(Path(call.inputs[0]), rate_hz), rate_hz, self._window_s) for call in calls]
        pieces = [piece for recording in recordings for piece in recording]
        logits = _rows([_features(self._extractor, piece) for piece in pieces], self._network, lambda found: found.logits)
        means = _means(class_scores(logits, self._network.config), recordings)
        names = self._network.config.id2label
        return [_output(ranking(((names[place], score) for place, score in enumerate(mean)), TOP)) for mean in means.tolist()]


class ZeroShotAudioClassifier(Checkpoint):
    """Sorts recordings into labels that come with the call, by CLAP's likeness of a sound and a text."""

    max_batch = 8

    def __init__(self, net: Any, extractor: Any, tokenizer: Any) -> None:
        super().__init__(net)
        self._network, self._extractor, self._tokenizer = net, extractor, tokenizer

    @classmethod
    def load(cls, card: ModelCard, folder: Path) -> Self:
        net = network(transformers.ClapModel, card, folder)
        return cls(net, opened(transformers.AutoFeatureExtractor, card, folder), opened(transformers.AutoTokenizer, card, folder))

    def compute(self, calls: Sequence[Call]) -> list[Output]:
        wanted = [labels_of(call, 2) for call in calls]
        labels = list(dict.fromkeys(label for group in wanted for label in group))
        likeness = self._likeness(calls, labels)
        return [_output(ranking(self._scores(group, labels, row))) for group, row in zip(wanted, likeness, strict=True)]

    def _likeness(self, calls: Sequence[Call], labels: Sequence[str]) -> torch.Tensor:
        """(calls, labels): logits, a long recording's as the mean of its windows'. One label's depends on no other label."""
        rate_hz = int(self._extractor.sampling_rate)
        # No longer than the network hears at once: of a longer window the extractor would cut a piece out at random.
        window_s = self._extractor.nb_max_samples / rate_hz
        recordings = [windows(read_audio(Path(call.inputs[0]), rate_hz), rate_hz, window_s) for call in calls]
        pieces = [piece for recording in recordings for piece in recording]
        texts = self._tokenizer([HYPOTHESIS.format(label) for label in labels], padding=True, truncation=True, return_tensors="pt")
        words = {name: texts[name].to(self._network.device) for name in ("input_ids", "attention_mask")}
        features = [_features(self._extractor, piece) for piece in pieces]
        return _means(_rows(features, self._network, lambda found: found.logits_per_audio, **words), recordings)

    def _scores(self, group: Sequence[str], labels: Sequence[str], row: torch.Tensor) -> list[tuple[str, float]]:
        scores = row[[labels.index(label) for label in group]].softmax(dim=-1).tolist()
        return list(zip(group, scores, strict=True))


def _transcript(samples: "Samples", speech: Sequence[Stretch], texts: Sequence[str], language: str | None) -> Output:
    segments = [
        {"text": text, "start_s": round(stretch.start_s, 2), "end_s": round(stretch.end_s, 2)}
        for stretch, text in zip(speech, texts, strict=True)
        if text
    ]
    if not segments:
        raise ModelError("no words were heard in the audio")
    language = language or detect_language(" ".join(texts))
    whole = ("" if language in WRITTEN_WITHOUT_SPACES else " ").join(str(segment["text"]) for segment in segments)
    return Output(whole, {"language": language, "duration_s": round(len(samples) / HEARING_RATE_HZ, 3), "segments": segments})


def _window_s(extractor: Any) -> float:
    """What the network hears at once: what its spectrogram holds, Whisper's 30 s, or WINDOW_S."""
    if isinstance(extractor, transformers.ASTFeatureExtractor):
        return float(extractor.max_length) / SPECTRA_PER_S
    return float(getattr(extractor, "chunk_length", None) or WINDOW_S)


def _features(extractor: Any, piece: "Samples") -> dict[str, torch.Tensor]:
    """For one piece alone: extractors pad and choose at random across a batch."""
    return dict(extractor(piece, sampling_rate=extractor.sampling_rate, return_tensors="pt"))


def _rows(inputs: Sequence[dict[str, torch.Tensor]], net: Any, read: Any, **more: torch.Tensor) -> torch.Tensor:
    """(inputs, classes) in float32 on the CPU. Inputs of one shape go through the network together; none is padded."""
    rows: dict[int, torch.Tensor] = {}
    for places, together in by_shape(inputs, WINDOWS_AT_ONCE):
        with torch.inference_mode():
            found = read(net(**all_moved(together, net), **more))
        rows.update(zip(places, found.float().cpu(), strict=True))
    return torch.stack([rows[place] for place in range(len(inputs))])


def _means(rows: torch.Tensor, recordings: Sequence[Sequence["Samples"]]) -> torch.Tensor:
    """One row a recording: the mean of its windows' rows, weighted by their lengths."""
    parts = torch.split_with_sizes(rows, [len(recording) for recording in recordings])
    weights = [np.array([len(window) for window in recording]) for recording in recordings]
    return torch.stack([torch.from_numpy(w / w.sum()).float() @ part for w, part in zip(weights, parts, strict=True)])


def _output(labels: list[dict[str, Any]]) -> Output:
    return Output(in_words(likely(labels)), {"labels": labels})
