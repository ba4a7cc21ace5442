import asyncio
import json
from itertools import pairwise
from pathlib import Path

import pytest
import torch
import transformers

from benchmarks.samples import empty_file, recording, silence
from cluster.errors import ModelError
from cluster.messages import OptionValue
from cluster.tasks import Task
from deployments.hub.recordings import SHORTEST_S, joined, spoken, windows
from deployments.model import Call, Model, Output
from deployments.speech import read_audio
from tests.tiny.runs import Checkpoints, Folder, opened, refused, run, told
from tests.tiny.speech import CHECKPOINTS, CLASSES, whisper
from tests.tiny.speech_runs import excerpt

RECOGNISERS = [name for name in CHECKPOINTS if name.startswith(Task.AUTOMATIC_SPEECH_RECOGNITION)]
CLASSIFIERS = [name for name in CHECKPOINTS if name.startswith(Task.AUDIO_CLASSIFICATION)]
CLAP = str(Task.ZERO_SHOT_AUDIO_CLASSIFICATION)
LABELS = ("dog", "rain", "a violin")


def hear(model: Model, name: str, *paths: Path, **options: OptionValue) -> list[Output | ModelError]:
    return run(model, name, *paths, **({"labels": LABELS} if name == CLAP else {}), **options)


@pytest.mark.parametrize("name", RECOGNISERS)
def test_speech_becomes_text_with_segments_in_order(checkpoint: Folder, name: str) -> None:
    (reply,) = hear(opened(name, checkpoint(name)), name, recording("beckett.wav"))
    output = told(reply)
    segments = output.data["segments"]
    assert output.value == " ".join(segment["text"] for segment in segments)
    assert 0 <= segments[0]["start_s"] < segments[-1]["end_s"] <= output.data["duration_s"] == pytest.approx(9.963, abs=0.001)


@pytest.mark.parametrize("name", [*RECOGNISERS, *CLASSIFIERS, CLAP])
def test_a_batch_of_two_hears_what_two_single_calls_hear(checkpoint: Folder, name: str, tmp_path: Path) -> None:
    model = opened(name, checkpoint(name))
    paths = excerpt(tmp_path, 1, 14), excerpt(tmp_path, 21, 24)
    together = [told(reply) for reply in hear(model, name, *paths)]
    alone = [told(hear(model, name, path)[0]) for path in paths]
    assert [output.value for output in together] == [output.value for output in alone]
    assert together[0].data != together[1].data
    if "labels" in together[0].data:
        for one, other in zip(together, alone, strict=True):
            assert one.data["labels"] == [{**label, "score": pytest.approx(label["score"], abs=2e-4)} for label in other.data["labels"]]


@pytest.mark.parametrize("name", [*RECOGNISERS, *CLASSIFIERS, CLAP])
def test_a_checkpoint_whose_config_or_weights_lie_is_refused_in_one_sentence(checkpoints: Checkpoints, name: str) -> None:
    checkpoints.assert_another_network_is_refused(name)
    checkpoints.assert_damage_is_refused(name)


def test_a_network_without_the_tasks_head_is_refused(checkpoint: Folder, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"^tiny/x was not made for audio-classification: its weights lack"):
        opened("audio-classification", checkpoint("automatic-speech-recognition/ctc"))


@pytest.mark.parametrize("name", RECOGNISERS)
def test_silence_and_what_is_no_audio_fail_alone_with_a_sentence(checkpoint: Folder, name: str, tmp_path: Path) -> None:
    silent, empty, good = hear(opened(name, checkpoint(name)), name, silence(tmp_path), empty_file(tmp_path), excerpt(tmp_path, 1, 5))
    assert refused(silent) == "no speech was heard in the audio"
    assert refused(empty) == "empty.wav could not be read as audio"
    told(good)


@pytest.mark.parametrize("name", RECOGNISERS)
def test_a_long_recording_is_heard_to_its_end(checkpoint: Folder, name: str) -> None:
    output = told(hear(opened(name, checkpoint(name)), name, recording("two_cities.wav"))[0])
    segments = output.data["segments"]
    assert len(segments) > 1
    assert segments[-1]["end_s"] > 41
    times = [time for segment in segments for time in (segment["start_s"], segment["end_s"])]
    assert times == sorted(times)


@pytest.mark.parametrize("code", ["de", "zh"])
def test_whisper_writes_what_transformers_own_pipeline_writes(checkpoint: Folder, code: str) -> None:
    name = "automatic-speech-recognition"
    output = told(hear(opened(name, checkpoint(name)), name, recording("beckett.wav"), language=code)[0])
    (stretch,) = spoken(read_audio(recording("beckett.wav")), 29)
    own = transformers.pipeline(name, model=str(checkpoint(name)))
    rules = {"task": "transcribe", "language": code, "num_beams": 1, "max_new_tokens": 16}
    assert output.value == " ".join(own(stretch.samples, generate_kwargs=rules)["text"].split())
    assert output.data["language"] == code


def test_whisper_finds_the_language_by_itself(checkpoint: Folder) -> None:
    folder = checkpoint("automatic-speech-recognition")
    net = transformers.WhisperForConditionalGeneration.from_pretrained(folder)
    (stretch,) = spoken(read_audio(recording("beckett.wav")), 29)
    heard = transformers.AutoFeatureExtractor.from_pretrained(folder)(stretch.samples, sampling_rate=16_000, return_tensors="pt")
    token = net.detect_language(heard.input_features)[0].item()
    output = told(hear(opened("automatic-speech-recognition", folder), "automatic-speech-recognition", recording("beckett.wav"))[0])
    assert net.generation_config.lang_to_id[f"<|{output.data['language']}|>"] == token


def test_whisper_refuses_a_language_that_it_does_not_hear(checkpoint: Folder) -> None:
    name = "automatic-speech-recognition"
    model = opened(name, checkpoint(name))
    assert refused(hear(model, name, recording("beckett.wav"), language="fr")[0]) == "this speech model does not hear the language fr"


def test_an_english_whisper_takes_english_and_refuses_other_languages(tmp_path: Path) -> None:
    name = "automatic-speech-recognition"
    whisper(tmp_path, multilingual=False)
    model = opened(name, tmp_path)
    english, unasked = (told(hear(model, name, recording("beckett.wav"), **options)[0]) for options in ({"language": "en"}, {}))
    assert english == unasked
    assert english.data["language"] == "en"
    assert refused(hear(model, name, recording("beckett.wav"), language="de")[0]) == "this speech model hears English only, not de"


def test_an_old_whisper_without_its_tables_of_languages_and_tasks_takes_them_from_the_vocabulary(checkpoint: Folder, copy: Folder) -> None:
    name = "automatic-speech-recognition"
    folder = copy(name)
    rules = json.loads((folder / "generation_config.json").read_text())
    for new in ("lang_to_id", "task_to_id", "no_timestamps_token_id"):
        del rules[new]
    (folder / "generation_config.json").write_text(json.dumps(rules))
    old = opened(name, folder)
    path, new = recording("beckett.wav"), opened(name, checkpoint(name))
    assert told(hear(old, name, path, language="zh")[0]) == told(hear(new, name, path, language="zh")[0])


def test_a_whisper_tuned_to_one_language_hears_that_one(checkpoints: Checkpoints) -> None:
    name = "automatic-speech-recognition"
    tuned = checkpoints.changed(name, "generation_config.json", language="chinese")
    assert told(hear(opened(name, tuned), name, recording("beckett.wav"))[0]).data["language"] == "zh"


@pytest.mark.parametrize("name", ["automatic-speech-recognition/ctc", "automatic-speech-recognition/ctc-large"])
def test_ctc_writes_what_transformers_own_pipeline_writes_in_small_letters(checkpoint: Folder, name: str, tmp_path: Path) -> None:
    output = told(hear(opened(name, checkpoint(name)), name, recording("beckett.wav"))[0])
    (stretch,) = spoken(read_audio(recording("beckett.wav")), 20)
    own = transformers.pipeline("automatic-speech-recognition", model=str(checkpoint(name)))(stretch.samples)["text"]
    assert output.value == " ".join(own.split()).capitalize()
    assert own.isupper()


def test_a_recording_is_classified_as_by_transformers_own_pipeline(checkpoint: Folder, tmp_path: Path) -> None:
    path = excerpt(tmp_path, 1, 2.2)
    for name in CLASSIFIERS:
        output = told(hear(opened(name, checkpoint(name)), name, path)[0])
        own = transformers.pipeline("audio-classification", model=str(checkpoint(name)))(read_audio(path))
        assert [(one["label"], one["score"]) for one in output.data["labels"]] == [
            (one["label"], pytest.approx(one["score"], abs=2e-4)) for one in own[:5]
        ]
        assert str(output.value).startswith(own[0]["label"])


def test_a_long_recording_is_classified_by_the_mean_of_its_windows(checkpoint: Folder, tmp_path: Path) -> None:
    name = "audio-classification"  # its window is 1.28 s
    path = excerpt(tmp_path, 1, 1 + 1.28 + 0.64)
    output = told(hear(opened(name, checkpoint(name)), name, path)[0])
    own, samples = transformers.pipeline(name, model=str(checkpoint(name)), top_k=None), read_audio(path)
    first, second = ({one["label"]: one["score"] for one in own(part)} for part in (samples[:20_480], samples[20_480:]))
    for label in output.data["labels"]:
        assert label["score"] == pytest.approx((2 * first[label["label"]] + second[label["label"]]) / 3, abs=2e-4)


def test_a_network_of_several_labels_at_once_scores_each_by_itself(checkpoints: Checkpoints, tmp_path: Path) -> None:
    name = "audio-classification"
    folder = checkpoints.changed(name, "config.json", problem_type="multi_label_classification")
    path = excerpt(tmp_path, 1, 2.2)
    output = told(hear(opened(name, folder), name, path)[0])
    own = transformers.pipeline(name, model=str(checkpoints.place(name)))(read_audio(path), function_to_apply="sigmoid")
    assert [label["score"] for label in output.data["labels"]] == [pytest.approx(one["score"], abs=2e-4) for one in own[:5]]


@pytest.mark.parametrize("name", [*CLASSIFIERS, CLAP])
def test_a_click_and_a_silence_have_a_sound_too(checkpoint: Folder, name: str, tmp_path: Path) -> None:
    for reply in hear(opened(name, checkpoint(name)), name, excerpt(tmp_path, 3, 3.01), silence(tmp_path)):
        known = LABELS if name == CLAP else CLASSES
        assert {label["label"] for label in told(reply).data["labels"]} <= set(known)


def test_clap_sorts_as_transformers_own_pipeline_sorts(checkpoint: Folder, tmp_path: Path) -> None:
    path = excerpt(tmp_path, 1, 9)
    output = told(hear(opened(CLAP, checkpoint(CLAP)), CLAP, path)[0])
    own = transformers.pipeline(CLAP, model=str(checkpoint(CLAP)))(read_audio(path, 48_000), candidate_labels=list(LABELS))
    assert output.data["labels"] == [{"label": one["label"], "score": pytest.approx(one["score"], abs=2e-4)} for one in own]


def test_clap_hears_the_whole_of_a_long_recording_the_same_way_every_time(checkpoint: Folder, tmp_path: Path) -> None:
    model = opened(CLAP, checkpoint(CLAP))
    path, beginning = excerpt(tmp_path, 0, 25), excerpt(tmp_path, 0, 10)
    first, second, short = (told(hear(model, CLAP, one)[0]) for one in (path, path, beginning))
    assert first == second
    assert first.data != short.data


def test_clap_takes_each_calls_own_labels_and_wants_two(checkpoint: Folder, tmp_path: Path) -> None:
    task, path = Task.ZERO_SHOT_AUDIO_CLASSIFICATION, excerpt(tmp_path, 1, 4)
    groups: tuple[tuple[str, ...], ...] = (("dog", "cat"), ("rain", "cat", "a violin"), ("dog",))
    replies = asyncio.run(opened(CLAP, checkpoint(CLAP)).run([Call(task, (path,), {"labels": group}) for group in groups]))
    assert [{label["label"] for label in told(reply).data["labels"]} for reply in replies[:2]] == [set(group) for group in groups[:2]]
    assert sum(label["score"] for label in told(replies[1]).data["labels"]) == pytest.approx(1, abs=1e-3)
    assert "needs 2 to 100 different labels, and 1 were given" in refused(replies[2])


@pytest.mark.parametrize("longest_s", [3.0, 15.0, 29.0])
def test_stretches_of_speech_follow_each_other_within_the_limit_and_cover_what_is_said(longest_s: float) -> None:
    samples = read_audio(recording("two_cities.wav"))
    stretches = spoken(samples, longest_s)
    assert all(stretch.end_s - stretch.start_s <= longest_s + 0.1 for stretch in stretches)
    assert all(one.end_s <= other.start_s for one, other in pairwise(stretches))
    assert sum(stretch.end_s - stretch.start_s for stretch in stretches) > 36


def test_utterances_are_joined_while_they_fit_and_lie_close() -> None:
    assert joined([(0, 4), (5, 9), (10, 13), (30, 32)], longest=10, gap=5) == [(0, 9), (10, 13), (30, 32)]


def test_windows_cover_a_recording_and_none_is_too_short_for_a_network() -> None:
    samples = torch.arange(100_000).float().numpy()
    found = windows(samples, 16_000, 2.0)
    assert [len(window) for window in found] == [32_000, 32_000, 32_000]
    assert [len(window) for window in windows(samples[:40_001], 16_000, 2.0)] == [32_000, 8_001]
    assert [len(window) for window in windows(samples[:7], 16_000, 2.0)] == [round(SHORTEST_S * 16_000)]
