"""What a request asks beside its words."""

import pytest

from cluster.errors import BadRequest
from controller.asking.terms import Terms, read_terms


def test_a_request_that_asks_for_nothing_gets_the_usual() -> None:
    assert read_terms({}) == Terms(user="", reads_cache=True, keeps_results=True, timeout_s=None, seed=None)


@pytest.mark.parametrize(
    ("header", "reads", "keeps"),
    [("no-store", False, False), ("No-Cache", False, True), ("max-age=0, no-store", False, False), ("private", True, True)],
)
def test_cache_control_is_read_as_http_means_it(header: str, reads: bool, keeps: bool) -> None:
    terms = read_terms({"cache-control": header})
    assert (terms.reads_cache, terms.keeps_results) == (reads, keeps)


def test_who_asks_is_the_key_and_the_user_together_and_neither_can_be_read_from_it() -> None:
    users = [
        read_terms({"authorization": key} if key else {}, user=user).user
        for key in ("", "Bearer a", "Bearer b")
        for user in (None, "u", "v")
    ]
    assert len(set(users)) == 9
    assert not any("Bearer" in user for user in users)
    assert read_terms({"authorization": "ab"}, user="c").user != read_terms({"authorization": "a"}, user="bc").user


def test_a_field_goes_before_its_header() -> None:
    assert read_terms({"x-timeout-s": "5"}).timeout_s == 5
    assert read_terms({"x-timeout-s": "5"}, timeout_s=7).timeout_s == 7


@pytest.mark.parametrize("text", ["soon", "", "0", "-3", "nan", "inf", "0.01"])
def test_a_time_that_is_none_is_refused_in_a_sentence(text: str) -> None:
    with pytest.raises(BadRequest, match="a number of seconds"):
        read_terms({"x-timeout-s": text})
