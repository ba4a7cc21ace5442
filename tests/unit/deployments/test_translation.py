"""The rules that mend translations: large numbers and words left over."""

import pytest

from deployments.translation import leftovers, names, with_large_numbers, with_words


@pytest.mark.parametrize(
    ("english", "chinese"),
    [
        ("37 billion tonnes", "370亿 tonnes"),
        ("26 million people", "2600万 people"),
        ("1.4 billion", "14亿"),
        ("3 thousand", "3000"),
        ("2,500 million", "25亿"),
        ("1.2 degrees in 2023", "1.2 degrees in 2023"),
    ],
)
def test_large_numbers_are_counted_in_the_units_of_chinese(english: str, chinese: str) -> None:
    assert with_large_numbers(english, "zh") == chinese


def test_large_numbers_stay_for_languages_that_count_in_thousands() -> None:
    assert with_large_numbers("37 billion", "de") == "37 billion"


def test_words_of_the_source_left_in_another_script_are_found_once_each() -> None:
    assert leftovers("In 2023 alone the Congo lost", "2023年 alone，Congo，Congo", "zh") == ("alone", "Congo")


def test_acronyms_and_languages_in_the_same_script_leave_nothing_over() -> None:
    assert leftovers("NASA said", "NASA说", "zh") == ()
    assert leftovers("the restaurant", "das restaurant", "de") == ()


def test_names_are_what_has_a_capital_inside_a_sentence() -> None:
    text = "In Lisbon, Marie Curie and Émile met NASA. They saw the Congo, then Lisbon again."
    assert names(text) == ("Lisbon", "Marie Curie", "Émile", "Congo")


def test_names_are_put_into_the_text_as_whole_words() -> None:
    assert with_words("Peru and Peruvians. Peru!", {"Peru": "秘鲁"}) == "秘鲁 and Peruvians. 秘鲁!"
