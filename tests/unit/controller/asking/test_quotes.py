"""Quotes: what a request quotes gets a number; what it only mentions does not."""

import time

import pytest

from controller.asking.quotes import MOST_QUOTES, marked, quotes_in


@pytest.mark.parametrize(
    ("text", "quoted"),
    [
        ("Say 'good luck' aloud.", ["good luck"]),
        ('Is "it\'s late" like „es ist spät“ or «il est tard»?', ["it's late", "es ist spät", "il est tard"]),
        ("What's the dog's name?", []),
        ("Translate into German: Good morning, everyone. See you.", ["Good morning, everyone. See you."]),
        ("Answer this question: What colour is the car? Then read it aloud.", ["What colour is the car?"]),
        ("翻译成英文：今天天气很好", ["今天天气很好"]),
        ("The question is: 'Who is it?' Read the answer aloud.", ["Who is it?"]),
        ("Meet at 12:30, then: 1. translate it 2. read it", []),
        ("Sum this up:\n\n(text 1)", []),
        ("Compare 'a b' with 'a b'.", ["a b", "a b"]),
        ("Say ‘it’s late’ and „it is not”.", ["it’s late", "it is not"]),
        ("Säg ”god natt”, sag »gute Nacht«, dis ‹bonne nuit›, אמור ״לילה טוב״.", ["god natt", "gute Nacht", "bonne nuit", "לילה טוב"]),
        ("Say «she said „no“ twice» and 「彼は『はい』と言った」.", ["she said „no“ twice", "彼は『はい』と言った"]),
        ('A 5" and a 6" nail, a 12” and a 14” pipe.', []),
        ('Say "this without an end', []),
        ('Translate "(text 1)" and "(text two)".', ["(text two)"]),
    ],
)
def test_what_is_quoted(text: str, quoted: list[str]) -> None:
    assert [quote.text for quote in quotes_in(text)] == quoted


def test_a_files_name_in_quotes_is_no_text() -> None:
    assert quotes_in("Read 'scan.png' to me.", {"scan.png"}) == ()


def test_equal_quotes_share_a_number_and_each_place_is_marked() -> None:
    text = "Compare 'a b' with 'c d', then 'a b' with itself."
    assert marked(text, quotes_in(text)) == "Compare [q1] 'a b' with [q2] 'c d', then [q1] 'a b' with itself."


def test_a_number_that_the_person_wrote_is_not_taken_for_a_quotes() -> None:
    text = "Say [q1] and 'a b' and '[q2]'."
    assert marked(text, quotes_in(text)) == "Say (q1) and [q1] 'a b' and [q2] '(q2)'."
    assert quotes_in(text)[1].text == "[q2]"


@pytest.mark.parametrize("text", [': "' + "a" * 20_000, ': "' + "a" * 10_000 + "!" * 10_000, "‘a’a" * 5_000, "”a“" * 6_000, ": “" * 6_000])
def test_a_hostile_message_is_searched_in_no_time(text: str) -> None:
    started = time.process_time()
    quotes_in(text)
    assert time.process_time() - started < 0.5


def test_a_message_of_quotes_alone_gets_no_endless_prompt() -> None:
    text = " ".join(f"'w{n}'" for n in range(500))
    assert len(quotes_in(text)) == MOST_QUOTES
