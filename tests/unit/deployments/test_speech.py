import asyncio
import io
import math
import re
import struct
import wave
from collections.abc import Callable
from pathlib import Path

import jiwer
import pytest

from benchmarks.samples import BECKETT, TWO_CITIES, empty_file, recording, silence, zip_named_png
from cluster.errors import ModelError
from cluster.messages import OptionValue
from cluster.tasks import Task
from deployments.mandarin import cardinal, in_pinyin, spoken_numbers
from deployments.model import Call, MediaOutput, Model, Output
from deployments.speech import Espeak

Expert = Callable[[str], Model]


def word_error_rate(said: str, transcript: str) -> float:
    """Case and punctuation do not count."""
    reference, hypothesis = (re.sub(r"[^\w\s']", " ", text.lower()) for text in (said, transcript))
    return float(jiwer.wer(reference, hypothesis))


def transcribe(model: Model, *paths: Path) -> list[Output | ModelError]:
    return asyncio.run(model.run([Call(Task.AUTOMATIC_SPEECH_RECOGNITION, (path,)) for path in paths]))


def speak(model: Model, text: str, **options: OptionValue) -> Output | ModelError:
    (reply,) = asyncio.run(model.run([Call(Task.TEXT_TO_SPEECH, (text,), options)]))
    return reply


def heard(reply: Output | ModelError) -> tuple[float, float]:
    """(duration in seconds, root mean square on a scale of 0..1) of a spoken reply, which must be a 16-bit mono WAV."""
    assert isinstance(reply, Output), reply
    assert isinstance(reply.value, MediaOutput)
    assert (reply.value.media_type, reply.value.name) == ("audio/wav", "speech.wav")
    with wave.open(io.BytesIO(reply.value.content)) as file:
        assert (file.getnchannels(), file.getsampwidth()) == (1, 2)
        count = file.getnframes()
        samples = struct.unpack(f"<{count}h", file.readframes(count))
        duration_s = count / file.getframerate()
    assert reply.data["duration_s"] == pytest.approx(duration_s, abs=0.001)
    return duration_s, math.sqrt(sum(sample * sample for sample in samples) / count) / 32_768


@pytest.mark.models
@pytest.mark.parametrize(("name", "said"), [("beckett.wav", BECKETT), ("two_cities.wav", TWO_CITIES)])
def test_english_speech_is_transcribed_with_at_most_one_word_in_ten_wrong(expert: Expert, name: str, said: str) -> None:
    (reply,) = transcribe(expert("whisper"), recording(name))
    assert isinstance(reply, Output), reply
    assert word_error_rate(said, str(reply.value)) <= 0.1
    assert reply.data["language"] == "en"
    times = [time for segment in reply.data["segments"] for time in (segment["start_s"], segment["end_s"])]
    assert times == sorted(times)


@pytest.mark.models
def test_an_unreadable_recording_fails_alone_and_says_why(expert: Expert, tmp_path: Path) -> None:
    paths = empty_file(tmp_path), zip_named_png(tmp_path), silence(tmp_path), recording("beckett.wav")
    empty, archive, silent, good = transcribe(expert("whisper"), *paths)
    assert isinstance(empty, ModelError)
    assert empty.message == "empty.wav could not be read as audio"
    assert isinstance(archive, ModelError)
    assert "could not be read as audio" in archive.message
    assert isinstance(silent, ModelError)
    assert silent.message == "no speech was heard in the audio"
    assert isinstance(good, Output)


@pytest.mark.models
def test_an_amount_read_aloud_is_heard_as_that_amount(expert: Expert, tmp_path: Path) -> None:
    reply = speak(expert("hibari"), "The total due is $1,234.50. Please pay by March 3rd.")
    duration_s, loudness = heard(reply)
    assert 4 < duration_s < 12
    assert loudness > 0.01
    assert isinstance(reply, Output)
    assert isinstance(reply.value, MediaOutput)
    path = tmp_path / "speech.wav"
    path.write_bytes(reply.value.content)
    (transcript,) = transcribe(expert("whisper"), path)
    assert isinstance(transcript, Output)
    assert "1,234" in str(transcript.value)
    assert "50" in str(transcript.value)


@pytest.mark.models
def test_the_same_english_text_gives_the_same_bytes(expert: Expert) -> None:
    assert speak(expert("hibari"), "Fail better.") == speak(expert("hibari"), "Fail better.")


@pytest.mark.models
@pytest.mark.parametrize("text", ["你好，世界", "Das Wetter ist heute schön und wir gehen im Park spazieren.", "... !!!", ""])
def test_the_english_voice_refuses_what_it_cannot_speak(expert: Expert, text: str) -> None:
    reply = speak(expert("hibari"), text)
    assert isinstance(reply, ModelError)


def test_chinese_text_is_spoken_without_being_told_its_language() -> None:
    reply = speak(Espeak(), "2024年，中国的气候变化非常严重，我们需要减少12.5%的排放。")
    duration_s, loudness = heard(reply)
    assert 5 < duration_s < 20  # 28 syllables and some pauses
    assert loudness > 0.02
    assert isinstance(reply, Output)
    assert reply.data["language"] == "zh"


@pytest.mark.parametrize(("language", "text"), [("de", "Guten Tag."), ("fr-FR", "Bonjour."), ("zh-CN", "你好"), ("nb", "God dag.")])
def test_a_language_may_be_named_with_its_region(language: str, text: str) -> None:
    duration_s, loudness = heard(speak(Espeak(), text, language=language))
    assert 0.3 < duration_s < 3
    assert loudness > 0.02


def test_an_unknown_language_is_answered_with_those_there_are() -> None:
    reply = speak(Espeak(), "hello", language="zz")
    assert isinstance(reply, ModelError)
    assert "no voice for the language zz" in reply.message
    assert " de " in reply.message


@pytest.mark.parametrize(
    ("written", "spoken"),
    [
        ("$1,234.50", "一千二百三十四点五零美元"),
        ("上涨12.5%", "上涨百分之十二点五"),
        ("2024年", "二零二四年"),
        ("7:05", "七点零五分"),
        ("-5度", "负五度"),
        ("代码007", "代码零零七"),
        ("没有数字", "没有数字"),
    ],
)
def test_numbers_in_chinese_text_are_written_out(written: str, spoken: str) -> None:
    assert spoken_numbers(written) == spoken


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (0, "零"),
        (10, "十"),
        (12, "十二"),
        (110, "一百一十"),
        (1_005, "一千零五"),
        (10_050, "一万零五十"),
        (100_000, "十万"),
        (20_000_001, "二千万零一"),
        (1_300_000_000, "十三亿"),
    ],
)
def test_a_whole_number_in_characters(number: int, words: str) -> None:
    assert cardinal(number) == words


def test_chinese_becomes_numbered_pinyin_with_tone_sandhi_and_latin_words_stay() -> None:
    assert in_pinyin("你好，NASA") == "ni2 hao3 ,NASA"
    assert in_pinyin("旅行") == "lv3 xing2"
