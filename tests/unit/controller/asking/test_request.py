"""What becomes of a message before the planner sees it: long passages turn into files, earlier turns into one line each."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.messages import ArtifactRef
from cluster.tasks import Media
from controller.asking.request import LONG_TEXT_CHARACTERS, Request, RequestFile, artifacts_named, models_named, split_passages

ENGLISH = "The climate is changing faster than most models foresaw, and the oceans carry most of the heat. " * 4
GERMAN = "Das Klima ändert sich schneller, als die meisten Modelle es vorhergesehen haben, und das Meer wird wärmer. " * 4
CHINESE = "气候变化的速度超出了大多数模型的预测，海洋吸收了其中的大部分热量，沿海城市需要为此做好准备。" * 8
JAPANESE = "気候変動は多くのモデルの予測よりも速く進んでおり、海洋がその熱の大部分を吸収しています。" * 8
FRENCH = "Le climat change plus vite que la plupart des modèles ne l'avaient prévu, et l'océan absorbe la chaleur. " * 4


@pytest.mark.parametrize(
    ("before", "passage", "after"),
    [
        ('Translate "', ENGLISH, '" into German.'),
        ("Translate '", ENGLISH, "' into German."),
        ("Translate “", ENGLISH, "” into German."),
        ("Summarise this: ", ENGLISH, ""),
        ("Summarise this:\n\n", ENGLISH, ""),
        ("Please summarise the following speech\n\n", ENGLISH, ""),
        ("Summarise:\n```\n", ENGLISH, "\n```"),
        ("Übersetze „", GERMAN, "“ ins Englische."),
        ("Fasse das zusammen: ", GERMAN, ""),
        ("请把「", CHINESE, "」翻译成英文。"),
        ("请把“", CHINESE, "”翻译成英文。"),
        ("请翻译成英文：", CHINESE, ""),
        ("请翻译成英文：\n", CHINESE, ""),
        ("『", JAPANESE, "』を要約してください。"),
        ("Résume « ", FRENCH, " » en anglais."),
    ],
)
def test_a_long_passage_leaves_the_request_and_its_place_is_marked(before: str, passage: str, after: str) -> None:
    request, passages = split_passages(before + passage + after)
    assert passages == (passage.strip(),)
    assert request.split("(text 1)")[0].strip() == before.strip()
    assert "(text 1)" in request
    assert after.strip() in request


def test_two_long_passages_are_numbered_in_order() -> None:
    request, passages = split_passages(f'How alike are "{ENGLISH}" and "{GERMAN}"?')
    assert request == 'How alike are "(text 1)" and "(text 2)"?'
    assert passages == (ENGLISH.strip(), GERMAN.strip())


@pytest.mark.parametrize("marks", ["“”", "»«", "‹›", "‘’", "‚‘", "״״", "『』"])
def test_a_long_quotation_is_a_file_and_no_quote(marks: str) -> None:
    request, passages = split_passages(f"Say {marks[0]}{ENGLISH}{marks[1]} aloud.")
    assert request == f"Say {marks[0]}(text 1){marks[1]} aloud."
    assert passages == (ENGLISH.strip(),)
    assert Request("r", request).quotes == ()


def test_a_message_of_nothing_but_fences_is_split_in_no_time() -> None:
    started = time.process_time()
    split_passages("`" * 60_000)
    assert time.process_time() - started < 1.0


def test_a_short_quotation_beside_a_long_one_stays() -> None:
    request, passages = split_passages(f'Is "I lost my keys" said in "{ENGLISH}"?')
    assert request == 'Is "I lost my keys" said in "(text 1)"?'
    assert len(passages) == 1


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Hello, who are you?",
        'Translate "good morning" into German.',
        "It's Tom's cat, isn't it? " * 20,  # apostrophes are no quotation marks
        "Schedule at 10:30, " * 30,  # nor is every colon the start of a text
        "a" * (2 * LONG_TEXT_CHARACTERS),
    ],
)
def test_a_request_without_a_long_passage_comes_back_as_it_is(text: str) -> None:
    assert split_passages(text) == (text, ())


@given(st.text(st.sampled_from("ab :：\n\"'“”„«»「」‘’‚‹›״＂`"), max_size=600))
def test_no_word_is_lost_between_request_and_passages(text: str) -> None:
    request, passages = split_passages(text)
    for number, passage in enumerate(passages, 1):
        request = request.replace(f"(text {number})", passage, 1)
    assert request.split() == text.split()


SHA, OTHER = "ab" * 32, "cd" * 32


def test_the_artifacts_of_earlier_answers_are_found_once_each_in_order() -> None:
    history = [
        {"role": "assistant", "content": f"[cat.png](/v1/artifacts/{SHA}) and http://here/v1/artifacts/{OTHER}."},
        {"role": "assistant", "content": f"again /v1/artifacts/{SHA}, not /v1/artifacts/123 or {'ef' * 32}"},
    ]
    assert artifacts_named(history) == (SHA, OTHER)


def a_request(**changes: object) -> Request:
    speech = RequestFile("f1", ArtifactRef(SHA, "text/plain", 9, "speech.txt"), ENGLISH)
    photo = RequestFile("f2", ArtifactRef(OTHER, "image/png", 9, "cat.png"))
    return Request("r", "What is it?", (speech, photo), **changes)


def test_the_planner_sees_every_file_with_its_medium_and_language() -> None:
    lines = a_request().for_planner().splitlines()
    assert lines == ["f1 = text speech.txt (en)", "f2 = image cat.png", "What is it?"]


def test_a_long_history_is_shortened_for_the_planner_and_the_request_is_not() -> None:
    history = tuple({"role": "user", "content": f"turn {n} " + "word " * 500} for n in range(20))
    prompt = a_request(history=history).for_planner()
    assert len(prompt) < 1500
    assert "turn 19" in prompt and "turn 0 " not in prompt
    assert prompt.endswith("What is it?")


def test_files_are_known_by_their_media() -> None:
    assert a_request().media == {"f1": Media.TEXT, "f2": Media.IMAGE}


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("Transcribe this, use openai/whisper-small.", ("openai/whisper-small",)),
        ("Sum it up with the model `facebook/bart-large-cnn`, please", ("facebook/bart-large-cnn",)),
        ("用 Helsinki-NLP/opus-mt-en-zh 翻译", ("Helsinki-NLP/opus-mt-en-zh",)),
        ("Nutze openai/whisper-1 und use openai/whisper-1", ("openai/whisper-1",)),
        ("use input/output as it is", ()),
        ("what is in /data/run-1/a?", ()),
        ("use a/b-1/c", ()),
    ],
)
def test_a_model_is_named_by_telling_to_use_it(text: str, named: tuple[str, ...]) -> None:
    assert models_named(text) == named
