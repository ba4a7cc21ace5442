import io
import wave
from pathlib import Path
from shutil import rmtree

import numpy as np
import numpy.typing as npt
import pytest
import torch
import transformers

from benchmarks.samples import empty_file, silence
from cluster.errors import ModelError
from deployments.hub.recordings import spoken
from deployments.hub.speakers import LONGEST_SENTENCE, sentences
from deployments.hub.voices import SEED, SPEAKER, numbers_spelled
from deployments.model import MediaOutput, Output
from deployments.speech import HEARING_RATE_HZ, PAUSE_S, read_audio
from tests.tiny.runs import Checkpoints, Folder, opened, refused, run
from tests.tiny.speech import vits
from tests.tiny.speech_runs import excerpt

Samples = npt.NDArray[np.float64]

VITS, SPEECHT5 = "text-to-speech", "text-to-speech/speecht5"
MUSICGEN, CONVERTER = "text-to-audio", "audio-to-audio"
GREETING = "Hello there, my dear friend."


def heard(reply: Output | ModelError) -> Samples:
    """The samples of a reply on a scale of -1..1; it must be a 16-bit mono WAV as long as it says."""
    assert isinstance(reply, Output), reply
    assert isinstance(reply.value, MediaOutput)
    assert reply.value.media_type == "audio/wav"
    with wave.open(io.BytesIO(reply.value.content)) as file:
        assert (file.getnchannels(), file.getsampwidth(), file.getframerate()) == (1, 2, reply.data["sample_rate_hz"])
        samples = np.frombuffer(file.readframes(file.getnframes()), "<i2") / 32_767
    assert reply.data["duration_s"] == pytest.approx(len(samples) / reply.data["sample_rate_hz"], abs=0.001)
    return samples


@pytest.mark.parametrize("name", [VITS, SPEECHT5, MUSICGEN, CONVERTER])
def test_a_batch_of_two_sounds_as_two_single_calls_sound(checkpoint: Folder, name: str, tmp_path: Path) -> None:
    model = opened(name, checkpoint(name))
    inputs = (excerpt(tmp_path, 1, 2.5), excerpt(tmp_path, 21, 22)) if name == CONVERTER else (GREETING, "It rains in the hills.")
    first, second = run(model, name, *inputs)
    assert heard(first).std() > 0
    assert [first, second] == [reply for one in inputs for reply in run(model, name, one)]
    assert first != second


@pytest.mark.parametrize("name", [VITS, SPEECHT5, MUSICGEN, CONVERTER])
def test_a_checkpoint_whose_config_or_weights_lie_is_refused_in_one_sentence(checkpoints: Checkpoints, name: str) -> None:
    checkpoints.assert_another_network_is_refused(name)
    checkpoints.assert_damage_is_refused(name)


@pytest.mark.parametrize(("name", "other"), [(SPEECHT5, CONVERTER), (CONVERTER, SPEECHT5)])
def test_a_speecht5_for_another_task_is_refused(checkpoint: Folder, name: str, other: str) -> None:
    with pytest.raises(ModelError, match=r"^tiny/x was not made for [a-z-]+: its weights lack speecht5.encoder.prenet"):
        opened(name, checkpoint(other))


@pytest.mark.parametrize("name", [SPEECHT5, CONVERTER])
def test_a_speecht5_without_its_vocoder_is_refused(copy: Folder, name: str) -> None:
    folder = copy(name)
    rmtree(folder / "base")
    with pytest.raises(ModelError, match=r"^tiny/x makes spectrograms, and the vocoder for them is not in its folder base$"):
        opened(name, folder)


def test_vits_says_what_the_network_says_for_the_same_noise(checkpoint: Folder) -> None:
    net = transformers.VitsModel.from_pretrained(checkpoint(VITS))
    tokens = transformers.AutoTokenizer.from_pretrained(checkpoint(VITS))(GREETING, return_tensors="pt")
    torch.manual_seed(SEED)
    with torch.inference_mode():
        expected = net(**tokens).waveform[0].clamp(-1, 1).numpy()
    np.testing.assert_allclose(heard(run(opened(VITS, checkpoint(VITS)), VITS, GREETING)[0]), expected, atol=1e-4)


@pytest.mark.parametrize("name", [VITS, SPEECHT5])
def test_a_text_is_read_sentence_by_sentence_with_pauses(checkpoint: Folder, name: str) -> None:
    model = opened(name, checkpoint(name))
    parts = GREETING, "What a rain in these hills!"
    whole, first, second = (heard(run(model, name, text)[0]) for text in (" ".join(parts), *parts))
    pause = np.zeros(round(PAUSE_S * HEARING_RATE_HZ))
    np.testing.assert_array_equal(whole, np.concatenate([first, pause, second]))


def test_an_english_voice_says_its_language_and_refuses_others(checkpoint: Folder) -> None:
    model = opened(VITS, checkpoint(VITS))
    english, german, nothing, foreign_letters, again = run(
        model, VITS, GREETING, "Guten Morgen, wie geht es Ihnen heute? Das Wetter ist schön.", "?!", "éèê", GREETING
    )
    assert isinstance(english, Output)
    assert english.data["language"] == "en"
    assert refused(german) == "this voice speaks en only, and the text is in another language (de)"
    assert refused(nothing) == "the text has nothing that can be spoken"
    assert refused(foreign_letters) == "the text has nothing that this voice can say"
    assert again == english


def test_a_voice_that_needs_a_missing_library_says_so(tmp_path: Path) -> None:
    korean, phonemes = tmp_path / "korean", tmp_path / "phonemes"
    for folder in (korean, phonemes):
        folder.mkdir()
    vits(korean, language="kor", is_uroman=True)
    (reply,) = run(opened(VITS, korean), VITS, "안녕하세요 여러분")
    assert "the package uroman" in refused(reply)
    assert heard(run(opened(VITS, korean), VITS, "annyeonghaseyo")[0]).size
    vits(phonemes, phonemize=True)
    with pytest.raises(ModelError, match="the package phonemizer"):
        opened(VITS, phonemes)


def test_speecht5_speaks_with_the_one_voice_as_long_as_it_may_and_no_longer(checkpoint: Folder) -> None:
    """The tiny one never decides to stop: ten mel frames of 16 ms a letter are its limit."""
    folder = checkpoint(SPEECHT5)
    said = heard(run(opened(SPEECHT5, folder), SPEECHT5, GREETING)[0])
    net = transformers.SpeechT5ForTextToSpeech.from_pretrained(folder)
    vocoder = transformers.SpeechT5HifiGan.from_pretrained(folder / "base")
    tokens = transformers.AutoTokenizer.from_pretrained(folder)(GREETING, return_tensors="pt")["input_ids"]
    vector = torch.from_numpy(np.fromfile(SPEAKER, "<f4"))[None]
    torch.manual_seed(SEED)
    with torch.inference_mode():
        expected = net.generate_speech(tokens, vector, vocoder=vocoder, maxlenratio=10.0)
    np.testing.assert_allclose(said, expected.clamp(-1, 1).numpy(), atol=1e-4)
    assert len(said) == tokens.shape[1] * 10 * 256
    assert torch.linalg.vector_norm(vector).item() == pytest.approx(1, abs=1e-5)


def test_music_lasts_ten_seconds_and_follows_the_description(checkpoint: Folder) -> None:
    model = opened(MUSICGEN, checkpoint(MUSICGEN))
    calm, calm_again, empty, long = run(model, MUSICGEN, "a calm piano", "a calm piano", "  ", "a very loud drum and " * 300)
    assert 9.5 < len(heard(calm)) / 3_200 <= 10
    assert calm == calm_again
    assert isinstance(calm, Output) and isinstance(calm.value, MediaOutput)
    assert calm.value.name == "audio.wav"
    assert refused(empty) == "the description of the sound is empty"
    assert not np.array_equal(heard(calm), heard(long))


def test_speech_is_said_again_as_the_network_says_it(checkpoint: Folder, tmp_path: Path) -> None:
    """The tiny network never decides to stop, so its limit shows too."""
    folder, path = checkpoint(CONVERTER), excerpt(tmp_path, 1.3, 2.5)
    said = heard(run(opened(CONVERTER, folder), CONVERTER, path)[0])
    net = transformers.SpeechT5ForSpeechToSpeech.from_pretrained(folder)
    vocoder = transformers.SpeechT5HifiGan.from_pretrained(folder / "base")
    (stretch,) = spoken(read_audio(path), 15)
    torch.manual_seed(SEED)
    with torch.inference_mode():
        vector = torch.from_numpy(np.fromfile(SPEAKER, "<f4"))[None]
        samples = torch.from_numpy(stretch.samples)[None]
        expected = net.generate_speech(samples, vector, attention_mask=torch.ones_like(samples).long(), vocoder=vocoder, maxlenratio=2.5)
    np.testing.assert_allclose(said, expected.clamp(-1, 1).numpy(), atol=1e-4)
    assert said.std() > 0


def test_a_long_recording_is_said_again_to_its_end(checkpoint: Folder, tmp_path: Path) -> None:
    model = opened(CONVERTER, checkpoint(CONVERTER))
    short, long = (heard(reply) for reply in run(model, CONVERTER, excerpt(tmp_path, 1, 4), excerpt(tmp_path, 1, 18)))
    assert len(long) > 4 * len(short)


def test_silence_and_what_is_no_audio_cannot_be_said_again(checkpoint: Folder, tmp_path: Path) -> None:
    silent, empty, good = run(
        opened(CONVERTER, checkpoint(CONVERTER)), CONVERTER, silence(tmp_path), empty_file(tmp_path), excerpt(tmp_path, 1, 2.5)
    )
    assert refused(silent) == "no speech was heard in the audio"
    assert refused(empty) == "empty.wav could not be read as audio"
    assert heard(good).size


@pytest.mark.parametrize(
    ("text", "spelled"),
    [
        ("It is 20% of 1,000,000.", "It is twenty percent of one million ."),
        ("0 of 10", "zero of ten"),
        ("from $3,000 to 0.5", "from three thousand dollars to point five"),
        ("9" * 60, "9" * 60),
    ],
)
def test_english_figures_are_spelled_for_voices_that_know_letters(text: str, spelled: str) -> None:
    assert " ".join(numbers_spelled(text, "en").split()).replace(" .", ".") == spelled.replace(" .", ".")
    assert numbers_spelled(text, "de") == text


def test_sentences_are_whole_and_of_bearable_length() -> None:
    assert sentences("Dr. Smith came at noon today. He left!\nNobody knows why he did so.") == [
        "Dr. Smith came at noon today.",
        "He left! Nobody knows why he did so.",
    ]
    assert sentences("今天天气很好，我们去公园散步，然后一起吃晚饭吧。明天也许会下雨，所以带上你的雨伞比较好。") == [
        "今天天气很好，我们去公园散步，然后一起吃晚饭吧。",
        "明天也许会下雨，所以带上你的雨伞比较好。",
    ]
    words = "word, " * 60 + "and then without commas " + "on and on " * 60 + "x" * 600
    pieces = sentences(words)
    assert max(map(len, pieces)) <= LONGEST_SENTENCE
    assert "".join("".join(pieces).split()) == "".join(words.split())
