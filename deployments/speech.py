"""Speech experts: Whisper hears; Hibari and espeak-ng speak. Audio comes in as a file and goes out as a 16-bit mono WAV."""

import ctypes
import io
import threading
import wave
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cluster.errors import ModelError
from cluster.language import detect_language
from cluster.messages import OptionValue
from cluster.tasks import Option
from deployments.mandarin import in_pinyin
from deployments.model import Call, Computation, MediaOutput, Output

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Samples = npt.NDArray[np.float32]  # mono, -1..1

HEARING_RATE_HZ = 16_000  # what Whisper was trained on
PAUSE_S = 0.25  # between two sentences
PCM_FULL_SCALE = 32_767
FULL_SAMPLE_BYTES = 2

# Languages whose espeak-ng voice has another name than their ISO 639-1 code.
VOICES = {"zh": "cmn-latn-pinyin", "en": "en-us", "no": "nb", "nb": "nb"}


class Whisper(Computation):
    """Transcribes with CTranslate2's Whisper; silence is cut out first, so it does not make words up in it."""

    def __init__(self, engine: Any) -> None:
        super().__init__()
        self._engine = engine

    @classmethod
    def load(cls, folder: Path, threads: int) -> "Whisper":
        from faster_whisper import WhisperModel

        return cls(WhisperModel(str(folder), device="cpu", compute_type="int8", cpu_threads=threads))

    def compute(self, calls: Sequence[Call]) -> list[Output]:
        return [self._transcribe(call) for call in calls]

    def _transcribe(self, call: Call) -> Output:
        language = asked_language(call.options)
        if language not in (None, "en") and not self._engine.model.is_multilingual:
            raise ModelError(f"this speech model hears English only, not {language}")
        segments, info = self._segments(read_audio(Path(call.inputs[0])), language)
        text = " ".join(segment["text"] for segment in segments)
        if not text:
            raise ModelError("no speech was heard in the audio")
        return Output(text, {"language": info.language, "duration_s": round(info.duration, 3), "segments": segments})

    def _segments(self, samples: "Samples", language: str | None) -> tuple[list[dict[str, Any]], Any]:
        try:
            found, info = self._engine.transcribe(
                samples,
                language=language,
                task="transcribe",  # without it Whisper may translate, or loop
                vad_filter=True,
                condition_on_previous_text=False,  # a misheard minute must not lead the next one astray
            )
            heard = [{"text": s.text.strip(), "start_s": round(s.start, 2), "end_s": round(s.end, 2)} for s in found]
        except ValueError as exc:  # an unknown language code, or nothing to detect one from
            raise ModelError(f"the speech could not be transcribed: {exc}") from exc
        return [segment for segment in heard if segment["text"]], info


class Hibari(Computation):
    """Reads English aloud with hibari-tts, which spells out numbers, sums and dates by itself."""

    def __init__(self, voice: Any) -> None:
        super().__init__()
        self._voice = voice

    @classmethod
    def load(cls, threads: int) -> "Hibari":
        import hibari

        voice = hibari.Hibari(threads=threads)
        _ = voice.g2p  # its dictionaries are read now rather than in the first request
        return cls(voice)

    def compute(self, calls: Sequence[Call]) -> list[Output]:
        return [self._speak(call) for call in calls]

    def _speak(self, call: Call) -> Output:
        import numpy as np

        text = speakable(call)
        language = asked_language(call.options) or detect_language(text) or "en"
        if language != "en":
            raise ModelError(f"this voice speaks English only, and the text is in another language ({language})")
        rate_hz = int(self._voice.sample_rate)
        sentences = list(self._voice.stream(text, seed=0))  # a fixed seed: the same text gives the same bytes
        if not any(sentence.size for sentence in sentences):
            raise ModelError("the text has nothing that can be spoken in English")
        pause = np.zeros(round(PAUSE_S * rate_hz), np.float32)
        samples = np.concatenate([piece for sentence in sentences for piece in (pause, sentence)][1:])
        return speech_output(as_pcm(samples), rate_hz, "en")


class Espeak(Computation):
    """Reads a hundred languages aloud with espeak-ng: plain formant synthesis, understood but not pretty."""

    def compute(self, calls: Sequence[Call]) -> list[Output]:
        return [self._speak(call) for call in calls]

    def _speak(self, call: Call) -> Output:
        text, library = speakable(call), espeak()
        language = asked_language(call.options) or detect_language(text) or "en"
        if language not in library.languages:
            spoken = " ".join(sorted(library.languages))
            raise ModelError(f"there is no voice for the language {language}; there are: {spoken}")
        if language == "ja" and any("\u4e00" <= letter <= "\u9fff" for letter in text):
            raise ModelError("this voice reads Japanese in kana only, and the text has kanji")
        pcm = library.speak(VOICES.get(language, language), in_pinyin(text) if language == "zh" else text)
        if not any(pcm):
            raise ModelError(f"the text has nothing that can be spoken in the language {language}")
        return speech_output(pcm, library.rate_hz, language)


class EspeakLibrary:
    """libespeak-ng through ctypes (speak_lib.h). Its state is global to the process, hence one instance and one lock."""

    _SYNCHRONOUS = 2  # AUDIO_OUTPUT_SYNCHRONOUS: espeak_Synth returns when the callback has had every sample
    _DONT_EXIT = 0x8000  # espeakINITIALIZE_DONT_EXIT: report a missing data folder instead of ending the process
    _UTF8 = 1  # espeakCHARS_UTF8
    _CALLBACK = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p)

    def __init__(self, library: Path, data: Path) -> None:
        self._lock = threading.Lock()
        self._pieces: list[bytes] = []
        self._lib = ctypes.CDLL(str(library))
        self.rate_hz: int = self._lib.espeak_Initialize(self._SYNCHRONOUS, 0, str(data).encode(), self._DONT_EXIT)
        if self.rate_hz <= 0:
            raise ModelError(f"espeak-ng could not read its data in {data}")
        self._callback = self._CALLBACK(self._take)  # kept alive here: C holds only its address
        self._lib.espeak_SetSynthCallback(self._callback)
        dictionaries = {path.name.removesuffix("_dict") for path in data.glob("*_dict")}  # not every voice ships its own
        voices = {path.name for path in (data / "lang").rglob("*") if path.is_file()}
        self.languages = frozenset(dictionaries & voices | VOICES.keys())

    def speak(self, voice: str, text: str) -> bytes:
        """16-bit mono PCM at `rate_hz`. A NUL would end the text early, so it is dropped."""
        written = text.replace("\0", "").encode()
        with self._lock:
            self._pieces.clear()
            failed = self._lib.espeak_SetVoiceByName(voice.encode()) or self._lib.espeak_Synth(
                written, ctypes.c_size_t(len(written) + 1), 0, 0, 0, self._UTF8, None, None
            )
            if failed:
                raise ModelError(f"espeak-ng could not speak with the voice {voice} (error {failed})")
            return b"".join(self._pieces)

    def _take(self, samples: int | None, count: int, _events: int | None) -> int:
        if samples and count > 0:
            self._pieces.append(ctypes.string_at(samples, count * FULL_SAMPLE_BYTES))
        return 0  # go on


@cache
def espeak() -> EspeakLibrary:
    """The process's one libespeak-ng, out of the package espeakng-loader."""
    import espeakng_loader

    return EspeakLibrary(Path(espeakng_loader.get_library_path()), Path(espeakng_loader.get_data_path()))


def read_audio(path: Path, rate_hz: int = HEARING_RATE_HZ) -> "Samples":
    """Any container that PyAV reads, as mono at the rate asked for. Raises ModelError when there is no audio in it."""
    import av
    from faster_whisper import decode_audio

    try:
        samples: Samples = decode_audio(str(path), sampling_rate=rate_hz)
    except (av.FFmpegError, IndexError, ValueError, OSError) as exc:
        raise ModelError(f"{path.name} could not be read as audio") from exc
    if not samples.size:
        raise ModelError(f"{path.name} holds no audio")
    return samples


def asked_language(options: Mapping[str, OptionValue]) -> str | None:
    """The option `language` as an ISO 639-1 code; a region, as in zh-CN, is dropped."""
    language = options.get(Option.LANGUAGE)
    if not isinstance(language, str) or not language.strip():
        return None
    return language.strip().lower().replace("_", "-").partition("-")[0]


def speakable(call: Call) -> str:
    text = str(call.inputs[0]).strip()
    if not any(letter.isalnum() for letter in text):
        raise ModelError("the text has nothing that can be spoken")
    return text


def speech_output(pcm: bytes, rate_hz: int, language: str | None) -> Output:
    return audio_output(pcm, rate_hz, "speech.wav", {"language": language})


def audio_output(pcm: bytes, rate_hz: int, name: str, data: Mapping[str, Any] | None = None) -> Output:
    """A WAV with its length and its rate among the data."""
    duration_s = len(pcm) / FULL_SAMPLE_BYTES / rate_hz
    length = {"duration_s": round(duration_s, 3), "sample_rate_hz": rate_hz}
    return Output(MediaOutput(as_wav(pcm, rate_hz), "audio/wav", name), {**(data or {}), **length})


def as_pcm(samples: "Samples") -> bytes:
    """16 bits a sample, little end first; what is louder than full scale is clipped."""
    import numpy as np

    return (np.clip(samples, -1, 1) * PCM_FULL_SCALE).astype("<i2").tobytes()


def as_wav(pcm: bytes, rate_hz: int) -> bytes:
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(FULL_SAMPLE_BYTES)
        file.setframerate(rate_hz)
        file.writeframes(pcm)
    return buffer.getvalue()
