from itertools import pairwise

import pytest
import torch
from transformers import AutoModelForSequenceClassification, AutoModelForTokenClassification, AutoTokenizer, pipeline

from cluster.tasks import Task
from deployments.hub.words import entities, grouped, words
from tests.tiny.runs import opened
from tests.tiny.text_runs import LONG, SHORT, Bench, call

SENTIMENT, SEVERAL, ROBERTA, GPT2 = (f"text-classification{kind}" for kind in ("", "/several", "/roberta", "/gpt2"))
ENTAILMENT, NER, XLM, RANKING = "zero-shot-classification", "token-classification", "token-classification/xlm-roberta", "text-ranking"


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    return Bench(tmp_path_factory.mktemp("classifiers"))


@pytest.mark.parametrize("key", [SENTIMENT, SEVERAL, ROBERTA, GPT2, ENTAILMENT, NER, XLM, RANKING])
def test_a_batch_is_as_single_calls(bench: Bench, key: str) -> None:
    task = Task(key.partition("/")[0])
    bench.assert_a_batch_is_as_single_calls(key, call(task, SHORT), call(task, LONG), call(task, "Berlin, the text"))


@pytest.mark.parametrize("key", [SENTIMENT, SEVERAL, ROBERTA])
def test_labels_and_scores_are_those_of_the_pipeline(bench: Bench, key: str) -> None:
    place = str(bench.place(key))
    expected = pipeline("text-classification", place, tokenizer=place, device="cpu")(SHORT, top_k=None)
    given = bench.give(key, SHORT)
    assert [each["label"] for each in given.data["labels"]] == [each["label"] for each in expected]
    assert [each["score"] for each in given.data["labels"]] == pytest.approx([each["score"] for each in expected], abs=1e-4)
    assert given.value == ", ".join(f"{each['label']} ({each['score']:.2f})" for each in expected)


def test_a_regression_gives_its_number(bench: Bench) -> None:
    place = bench.changed(SENTIMENT, "config.json", problem_type="regression")
    net, tokenizer = AutoModelForSequenceClassification.from_pretrained(place), AutoTokenizer.from_pretrained(place)
    with torch.inference_mode():
        number = float(net(**tokenizer(SHORT, return_tensors="pt")).logits.max())
    (given,) = opened(Task.TEXT_CLASSIFICATION, place).compute([call(Task.TEXT_CLASSIFICATION, SHORT)])
    assert given.data["labels"][0]["score"] == pytest.approx(number, abs=1e-4)


def test_the_end_of_a_long_text_counts(bench: Bench) -> None:
    assert bench.give(SENTIMENT, LONG + " Good.").data != bench.give(SENTIMENT, LONG + " Evil!").data


def test_marks_of_the_tokenizer_in_a_text_are_no_marks(bench: Bench) -> None:
    """BART counts the ends of texts, and fails when rows have different numbers of them."""
    assert bench.give(ENTAILMENT, "a </s> b").data == bench.give(ENTAILMENT, "a      b").data


def test_an_empty_text_and_missing_labels_are_refused_alone(bench: Bench) -> None:
    assert bench.refusal(SENTIMENT, " \n") == "the text is empty"
    assert "2 to 100 different labels, and 1 were given" in bench.refusal(ENTAILMENT, SHORT, labels=("one", " one "))
    assert "question" in bench.refusal(RANKING, "a\nb", question=" ")
    good, bad = bench.replies(SENTIMENT, call(Task.TEXT_CLASSIFICATION, SHORT), call(Task.TEXT_CLASSIFICATION, ""))
    assert str(bad) == "the text is empty"
    assert good == bench.give(SENTIMENT, SHORT)


def test_labels_are_ranked_as_the_pipeline_does(bench: Bench) -> None:
    place = str(bench.place(ENTAILMENT))
    expected = pipeline("zero-shot-classification", place, tokenizer=place, device="cpu")(
        SHORT, candidate_labels=["city", "food", "sports"]
    )
    given = bench.give(ENTAILMENT, SHORT, labels="city, food, sports").data["labels"]
    assert [each["label"] for each in given] == expected["labels"]
    assert [each["score"] for each in given] == pytest.approx(expected["scores"], abs=1e-4)
    assert sum(each["score"] for each in given) == pytest.approx(1, abs=1e-3)


def test_a_label_longer_than_the_window_is_cut(bench: Bench) -> None:
    labels = bench.give(ENTAILMENT, LONG, labels=("short", "long " * 100)).data["labels"]
    assert len(labels) == 2


def test_a_network_without_the_label_entailment_is_refused(bench: Bench) -> None:
    place = bench.changed(ENTAILMENT, "config.json", id2label={"0": "bad", "1": "so-so", "2": "good"}, label2id={"bad": 0})
    assert "none of its labels is entailment" in bench.refused(Task.ZERO_SHOT_CLASSIFICATION, place)


def test_entities_stand_in_the_text_where_they_say(bench: Bench) -> None:
    text = "Angela Merkel saw the text in Berlin."
    found = bench.give(NER, text)
    assert found.data["entities"]
    for each in found.data["entities"]:
        assert text[each["start"] : each["end"]] == each["text"]
        assert each["label"] in ("PER", "LOC")
        assert 0 < each["score"] <= 1
        assert each["text"] in str(found.value)


def test_entities_are_those_of_the_pipeline_with_a_words_first_token(bench: Bench) -> None:
    place, text = str(bench.place(NER)), "Angela saw Bob in Berlin"
    expected = pipeline("token-classification", place, tokenizer=place, device="cpu", aggregation_strategy="first")(text)
    given = bench.give(NER, text).data["entities"]
    assert expected
    assert [(each["label"], each["start"], each["end"]) for each in given] == [
        (each["entity_group"], each["start"], each["end"]) for each in expected
    ]


def test_a_words_label_is_that_of_the_word_mark_where_it_stands_alone(bench: Bench) -> None:
    """As these networks are trained: on the first token of each word, which sentencepiece may make of the mark alone."""
    place, text = bench.place(XLM), "Yes Angela saw Bob in Berlin"
    net, tokenizer = AutoModelForTokenClassification.from_pretrained(place), AutoTokenizer.from_pretrained(place)
    encoded = tokenizer(text, return_tensors="pt")
    with torch.inference_mode():
        labels = [net.config.id2label[place] for place in net(**encoded).logits[0].argmax(dim=-1).tolist()]
    firsts = [encoded.word_ids().index(word) for word in range(len(text.split()))]
    assert tokenizer.convert_ids_to_tokens(int(encoded["input_ids"][0, firsts[1]])) == "▁"
    named = {word for word, first in zip(text.split(), firsts, strict=True) if labels[first] != "O"}
    assert named
    assert {word for each in bench.give(XLM, text).data["entities"] for word in each["text"].split()} == named


def test_entities_of_a_long_text_are_found_everywhere_once(bench: Bench) -> None:
    entities = bench.give(NER, (LONG + " ") * 4).data["entities"]
    spans = [(each["start"], each["end"]) for each in entities]
    assert spans == sorted(set(spans))
    assert all(end <= start for (_, end), (start, _) in pairwise(spans))
    assert spans[-1][0] > 3 * len(LONG)


def test_words_are_runs_of_letters_and_every_other_sign_alone() -> None:
    text = "Zoë's 1,5 दिल्ली 東京!"
    assert [text[start:end] for start, end in words(text)] == ["Zoë", "'", "s", "1", ",", "5", "दिल्ली", "東", "京", "!"]


def test_neighbours_of_a_kind_are_one_entity_until_another_begins() -> None:
    labels = ["B-PER", "I-PER", "B-PER", "O", "I-LOC", "L-LOC", "U-LOC", "MISC", "MISC"]
    text = "a b c d e f g h i"
    found = entities(text, [((2 * at, 2 * at + 1), label, 0.5) for at, label in enumerate(labels)])
    assert [(each["label"], each["text"]) for each in found] == [
        *(("PER", "a b"), ("PER", "c"), ("LOC", "e f"), ("LOC", "g"), ("MISC", "h i")),
    ]
    assert grouped(found) == "PER: a b, c; LOC: e f, g; MISC: h i"


def test_lines_come_back_best_first_with_the_scores_of_the_network(bench: Bench) -> None:
    place, lines = bench.place(RANKING), ["one", "the text", "Berlin is a city", LONG]
    net, tokenizer = AutoModelForSequenceClassification.from_pretrained(place), AutoTokenizer.from_pretrained(place)
    with torch.inference_mode():
        scores = {line: float(net(**tokenizer("Where?", line, return_tensors="pt")).logits.sigmoid()) for line in lines[:3]}
    ranked = bench.give(RANKING, "\n\n".join(lines))
    ranking = ranked.data["ranking"]
    assert str(ranked.value).splitlines() == [each["text"] for each in ranking]
    assert sorted(each["line"] for each in ranking) == [1, 2, 3, 4]
    assert [each["score"] for each in ranking] == sorted((each["score"] for each in ranking), reverse=True)
    for each in ranking:
        assert each["text"] == LONG or each["score"] == pytest.approx(scores[each["text"]], abs=1e-4)


def test_a_network_of_three_labels_ranks_nothing(bench: Bench) -> None:
    assert "3 labels" in bench.refused(Task.TEXT_RANKING, bench.place(ENTAILMENT))


def test_damaged_and_lying_folders_are_refused(bench: Bench) -> None:
    for key, liar in ((SENTIMENT, "question-answering"), (ENTAILMENT, "summarization"), (NER, "fill-mask"), (RANKING, NER)):
        bench.assert_damage_and_lies_are_refused(key, liar)


def test_a_folder_without_a_vocabulary_is_refused(bench: Bench) -> None:
    place = bench.copy(SENTIMENT)
    (place / "tokenizer.json").unlink()
    assert "tiny/x" in bench.refused(Task.TEXT_CLASSIFICATION, place)


def test_the_size_is_that_of_the_weights(bench: Bench) -> None:
    stored = (bench.place(RANKING) / "model.safetensors").stat().st_size
    assert bench.model(RANKING).size_bytes == pytest.approx(stored, rel=0.2)
