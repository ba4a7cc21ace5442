"""What the tests of the speech runners share: pieces of a recording."""

from pathlib import Path

from benchmarks.samples import recording
from deployments.speech import HEARING_RATE_HZ, as_pcm, as_wav, read_audio


def excerpt(folder: Path, start_s: float, end_s: float) -> Path:
    samples = read_audio(recording("two_cities.wav"))[round(start_s * HEARING_RATE_HZ) : round(end_s * HEARING_RATE_HZ)]
    path = folder / f"{start_s}-{end_s}.wav"
    path.write_bytes(as_wav(as_pcm(samples), HEARING_RATE_HZ))
    return path
