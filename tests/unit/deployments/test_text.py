import asyncio
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from cluster.errors import ModelError
from cluster.language import detect_language
from cluster.messages import OptionValue
from cluster.tasks import Option, Task
from deployments.model import Call, Model, Output
from tests.tiny.runs import assert_alike

pytestmark = pytest.mark.models
Expert = Callable[[str], Model]

# Written before the prototypes were measured on them.
SENTIMENTS = {
    "positive": (
        "I absolutely adore this phone, the camera is stunning.",
        "The staff were friendly and the room was spotless.",
        "What a lovely evening, we laughed all night.",
        "Fast delivery and it fits like a glove.",
        "This film moved me to tears of joy.",
        "Finally a laptop that does everything right.",
        "My daughter is over the moon with her present.",
    ),
    "negative": (
        "The soup was cold and the waiter was rude.",
        "After two days the battery died and support ignored me.",
        "I regret buying this, it is useless.",
        "Boring plot and bad acting, I walked out.",
        "The flight was delayed six hours and nobody told us why.",
        "My order arrived damaged and smelled of smoke.",
        "I am furious about this invoice, you charged me twice.",
    ),
    "neutral": (
        "The shop opens at nine and closes at six.",
        "Water boils at one hundred degrees Celsius.",
        "She put the book on the table.",
        "The parcel weighs two kilograms.",
        "The committee consists of seven members.",
        "He lives in a flat on the second floor.",
        "The software update was released on Monday.",
    ),
}


def run(model: Model, *calls: Call) -> list[Output | ModelError]:
    return asyncio.run(model.run(calls))


def give(model: Model, task: Task, *inputs: str, options: Mapping[str, OptionValue] | None = None) -> Output:
    (reply,) = run(model, Call(task, inputs, options or {}))
    assert isinstance(reply, Output), reply
    return reply


def similarity(model: Model, one: str, other: str) -> float:
    return float(give(model, Task.SENTENCE_SIMILARITY, one, other).data["similarity"])


def test_a_paraphrase_is_more_alike_than_an_unrelated_sentence(expert: Expert) -> None:
    model, meal = expert("minilm"), "A man is eating food."
    paraphrase, unrelated = similarity(model, meal, "Someone eats a meal."), similarity(model, meal, "The stock market fell.")
    assert paraphrase > 0.6
    assert unrelated < 0.3
    assert similarity(model, meal, meal) == pytest.approx(1, abs=1e-4)


def test_two_texts_in_a_batch_get_the_vectors_they_get_alone(expert: Expert) -> None:
    model: Any = expert("minilm")
    texts = ["Short.", "A much longer sentence, so that the first one has to be padded to its length."]
    together = model.embed(texts)
    for row, text in zip(together, texts, strict=True):
        assert (row - model.embed([text])[0]).abs().max() < 1e-5


LENGTHS = (1, 3, 40, 2, 12, 1, 5)  # sentences; the third is longer than one pass of the network


@pytest.mark.parametrize(("loader", "task"), [("minilm", Task.TEXT_CLASSIFICATION), ("spacy_ner", Task.TOKEN_CLASSIFICATION)])
def test_texts_of_all_lengths_in_a_batch_get_in_order_what_they_get_alone(expert: Expert, loader: str, task: Task) -> None:
    model = expert(loader)
    texts = [f"Angela Merkel met Mr {number} in Berlin, and the rooms were spotless. " * count for number, count in enumerate(LENGTHS, 1)]
    for text, together in zip(texts, run(model, *(Call(task, (text,)) for text in texts)), strict=True):
        alone = give(model, task, text)
        assert isinstance(together, Output)
        assert together.value == alone.value
        assert_alike(together.data, alone.data)


def test_the_end_of_a_long_text_counts(expert: Expert) -> None:
    model = expert("minilm")
    cooking, rockets = "We boil pasta in salted water. " * 60, "The rocket reached orbit around Mars. " * 60
    question = "Space travel"
    assert similarity(model, cooking + rockets, question) > similarity(model, cooking, question) + 0.1


def test_a_text_is_sorted_into_the_label_that_fits(expert: Expert) -> None:
    options: dict[str, OptionValue] = {Option.LABELS: ("politics", "sports", "cooking")}
    reply = give(expert("minilm"), Task.ZERO_SHOT_CLASSIFICATION, "The striker scored twice in the final.", options=options)
    assert str(reply.value).startswith("sports (")
    assert sum(label["score"] for label in reply.data["labels"]) == pytest.approx(1, abs=1e-3)


def test_a_bad_call_does_not_spoil_its_neighbour(expert: Expert) -> None:
    good = Call(Task.SENTENCE_SIMILARITY, ("a cat", "a kitten"))
    no_labels = Call(Task.ZERO_SHOT_CLASSIFICATION, ("a cat",), {Option.LABELS: ("animal",)})
    empty = Call(Task.TEXT_CLASSIFICATION, ("",))
    first, second, third = run(expert("minilm"), good, no_labels, empty)
    assert isinstance(first, Output)
    assert isinstance(second, ModelError)
    assert "2 to 100 different labels, and 1 were given" in second.message
    assert isinstance(third, ModelError)


def test_sentiment_is_right_for_four_plain_sentences_in_five(expert: Expert) -> None:
    model = expert("minilm")
    expected = [label for label, texts in SENTIMENTS.items() for _ in texts]
    texts = [text for group in SENTIMENTS.values() for text in group]
    replies = run(model, *(Call(Task.TEXT_CLASSIFICATION, (text,)) for text in texts))
    given = [reply.data["labels"][0]["label"] for reply in replies if isinstance(reply, Output)]
    assert sum(map(str.__eq__, given, expected)) >= 0.8 * len(expected)


def test_people_places_dates_and_sums_are_named(expert: Expert) -> None:
    text = "Angela Merkel met Barack Obama in Berlin on 5 June 2015 and Angela Merkel paid $1,234.50 to Siemens."
    reply = give(expert("spacy_ner"), Task.TOKEN_CLASSIFICATION, text)
    groups = str(reply.value).split("; ")
    assert groups == ["PERSON: Angela Merkel, Barack Obama", "GPE: Berlin", "DATE: 5 June 2015", "MONEY: $1,234.50", "ORG: Siemens"]
    assert all(text[entity["start"] : entity["end"]] == entity["text"] for entity in reply.data["entities"])


def test_a_text_without_names_says_so(expert: Expert) -> None:
    assert give(expert("spacy_ner"), Task.TOKEN_CLASSIFICATION, "hello there").value == "no named entities found"


def test_entities_of_a_long_text_keep_their_places(expert: Expert) -> None:
    text = "nothing here, " * 8_000 + "but Angela Merkel lives in Berlin."
    entities = give(expert("spacy_ner"), Task.TOKEN_CLASSIFICATION, text).data["entities"]
    assert [text[entity["start"] : entity["end"]] for entity in entities][-2:] == ["Angela Merkel", "Berlin"]


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("The climate is changing faster than we thought.", "en"),
        ("Das Wetter ist heute schön und wir gehen spazieren.", "de"),
        ("气候变化 is real", "zh"),
        ("こんにちは世界", "ja"),
        ("안녕하세요", "ko"),
        ("$1,234.50", None),
    ],
)
def test_the_language_of_a_text(text: str, language: str | None) -> None:
    assert detect_language(text) == language
