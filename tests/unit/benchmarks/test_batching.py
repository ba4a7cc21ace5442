"""What the batching benchmark asks."""

from benchmarks.batching import LONG_EVERY, mixed, sentences


def test_a_text_is_asked_sentence_by_sentence() -> None:
    assert sentences(" It rains. Does it?\nYes!") == ["It rains.", "Does it?", "Yes!"]


def test_one_in_sixteen_is_long() -> None:
    texts = mixed(["a", "b", "c"] * 7, "long")
    assert (len(texts), texts.count("long")) == (2 * LONG_EVERY, 2)
