"""The grounding check: what nothing backs is found, what is backed passes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.answering.grounding import Evidence, sentences

SHA = "ab" * 32
EVIDENCE = Evidence(
    ["Invoice 2024-0117, total 1,234.50 dollars, see https://northwind.example/terms.", "3 people, 27 %, page 12, 15 and 1 400 €"],
    ["summary.wav", "text 12.txt", "报告.pdf", "Photo of 1999.JPG"],
    [f"/v1/artifacts/{SHA}"],
)


@pytest.mark.parametrize(
    "text",
    [
        "The summary is in summary.wav.",
        "The summary is in **Summary.WAV**, as asked.",
        "摘要已生成summary.wav，请收听。",
        "请看报告.pdf中的内容",
        "It was read from text 12.txt.",
        "Photo of 1999.jpg shows a cat.",
        f"Listen to [summary.wav](/v1/artifacts/{SHA}).",
        "[here](summary.wav)",
        "The terms are at https://northwind.example/terms.",
        "The total is 1,234.50 dollars.",
        "Rounded, the total is 1234 dollars.",
        "There are 2 speakers.",
        "Page 15 says 27 %, page 12 says 1,400 €.",
        "In 2024 3 people paid.",
        "No file, no number.",
        "",
    ],
)
def test_what_the_evidence_holds_passes(text: str) -> None:
    assert EVIDENCE.objection(text) is None


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("See https://example.com/cat.png.", "https://example.com/cat.png"),
        ("See https://northwind.example/terms/secret", "https://northwind.example/terms/secret"),
        ("HTTP://EXAMPLE.COM/", "HTTP://EXAMPLE.COM/"),
        ("Go to www.example.com now", "www.example.com"),
        ("[Download](sandbox:/mnt/data/cat.png)", "sandbox:/mnt/data/cat.png"),
        ("[Download](cat)", "cat"),
        (f"/v1/artifacts/{'cd' * 32}", "cd" * 32),
        ("I made cat.png for you.", "cat.png"),
        ("I made my-summary.wav for you.", "my-summary.wav"),
        ("I made xsummary.wav for you.", "xsummary.wav"),
        ("I made summary.wav.zip for you.", "summary.wav.zip"),
        ("我做了fake.wav给你", "fake.wav"),
        ("The total is 9,999.00 dollars.", "9,999.00"),
        ("二〇二四年有 4711 人", "4711"),
        ("Page 1215 says so.", "1215"),
    ],
)
def test_what_nothing_backs_is_named(text: str, named: str) -> None:
    assert named in (EVIDENCE.objection(text) or "passed")


def test_numbers_pass_where_they_are_not_checked() -> None:
    assert EVIDENCE.objection("Everest is 8849 m high.", check_numbers=False) is None


def test_without_evidence_every_link_and_file_is_an_invention() -> None:
    nothing = Evidence([], [], [])
    assert nothing.objection("cat.png")
    assert nothing.objection("https://example.com")
    assert nothing.objection("Hello there.") is None


@pytest.mark.parametrize(
    ("text", "whole", "rest"),
    [
        ("One. Two! Three", ["One. ", "Two! "], "Three"),
        ("Pi is 3.14 and summary.wav is", [], "Pi is 3.14 and summary.wav is"),
        ("第一句。第二句！第三", ["第一句。", "第二句！"], "第三"),
        ("价格是3.5元。", ["价格是3.5元。"], ""),
        ("- one\n- two\n", ["- one\n", "- two\n"], ""),
        ("It ends.", [], "It ends."),  # more digits or letters may follow
        ("", [], ""),
    ],
)
def test_sentences_are_split_where_they_end(text: str, whole: list[str], rest: str) -> None:
    assert sentences(text) == (whole, rest)


@given(st.text(st.sampled_from("ab1. \n!?。！？…")))
def test_the_sentences_and_the_rest_give_the_text_back(text: str) -> None:
    whole, rest = sentences(text)
    assert "".join(whole) + rest == text


@given(st.text(st.sampled_from("a1. \n。！wv/:hts")), st.integers(0, 40))
def test_a_text_that_arrives_in_pieces_is_split_like_the_whole_or_finer_but_loses_nothing(text: str, cut: int) -> None:
    first, waiting = sentences(text[:cut])
    second, rest = sentences(waiting + text[cut:])
    assert "".join([*first, *second]) + rest == text
