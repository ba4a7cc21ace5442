"""A recording cut into what a network can take at once: the stretches in which someone speaks, or windows of one length."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from cluster.errors import ModelError
from deployments.speech import HEARING_RATE_HZ

if TYPE_CHECKING:
    from deployments.speech import Samples

Item = TypeVar("Item")

SHORTEST_S = 0.5  # a network of convolutions needs some frames; what is shorter is followed by silence
SENTENCE_PAUSE_S = 0.16  # a pause this long is a place to cut
MARGIN_S = 0.4  # kept on both sides of a stretch, so that no consonant is lost
LONGEST_GAP_S = 2.0  # Whisper makes words up in a longer silence, so a stretch ends there


@dataclass(frozen=True, slots=True)
class Stretch:
    """Part of a recording at 16 kHz in which someone speaks."""

    start_s: float
    end_s: float
    samples: "Samples"


def spoken(samples: "Samples", longest_s: float) -> list[Stretch]:
    """The speech in a recording at 16 kHz, cut at pauses into stretches of at most `longest_s`.

    Cutting by voice activity and transcribing the stretches together is the method of WhisperX (Bain et al. 2023), which
    found fewer made-up words than reading on from timestamp to timestamp. Raises ModelError when nobody speaks.
    """
    from faster_whisper.vad import VadOptions, get_speech_timestamps

    options = VadOptions(
        max_speech_duration_s=longest_s,
        min_silence_duration_ms=round(1000 * SENTENCE_PAUSE_S),
        speech_pad_ms=round(1000 * MARGIN_S),
    )
    utterances = [(int(found["start"]), int(found["end"])) for found in get_speech_timestamps(samples, options)]
    if not utterances:
        raise ModelError("no speech was heard in the audio")
    spans = joined(utterances, round(longest_s * HEARING_RATE_HZ), round(LONGEST_GAP_S * HEARING_RATE_HZ))
    return [
        Stretch(start / HEARING_RATE_HZ, end / HEARING_RATE_HZ, lengthened(samples[start:end], HEARING_RATE_HZ)) for start, end in spans
    ]


def joined(spans: Sequence[tuple[int, int]], longest: int, gap: int) -> list[tuple[int, int]]:
    """Neighbours as one span while the whole stays within `longest` and the silence between them within `gap`."""
    whole = [spans[0]]
    for start, end in spans[1:]:
        first, last = whole[-1]
        if end - first <= longest and start - last <= gap:
            whole[-1] = (first, end)
        else:
            whole.append((start, end))
    return whole


def windows(samples: "Samples", rate_hz: int, length_s: float) -> list["Samples"]:
    """The recording in windows of `length_s`, the last one shorter. A rest too short to tell anything is left out."""
    length, shortest = round(length_s * rate_hz), round(SHORTEST_S * rate_hz)
    pieces = [samples[start : start + length] for start in range(0, len(samples), length)]
    if len(pieces) > 1 and len(pieces[-1]) < shortest:
        pieces.pop()
    return [*pieces[:-1], lengthened(pieces[-1], rate_hz)]


def lengthened(samples: "Samples", rate_hz: int) -> "Samples":
    """Followed by silence when shorter than SHORTEST_S."""
    lacking = round(SHORTEST_S * rate_hz) - len(samples)
    return np.pad(samples, (0, lacking)) if lacking > 0 else samples


def batches(items: Sequence[Item], size: int) -> Iterator[Sequence[Item]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]
