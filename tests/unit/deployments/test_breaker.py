"""A model that keeps failing is passed over for a while, and comes back."""

from deployments.breaker import Breaker


class Clock:
    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def a_breaker(failures: int = 3, rest_s: float = 60) -> tuple[Breaker, Clock]:
    clock = Clock()
    return Breaker(failures, rest_s, clock), clock


def fail(breaker: Breaker, model: str, times: int) -> None:
    for _ in range(times):
        breaker.failed(model)


def test_a_model_is_set_aside_at_the_last_of_its_failures_in_a_row_and_not_before() -> None:
    breaker, _ = a_breaker()
    fail(breaker, "org/a", 2)
    assert breaker.candidates(["org/a", "org/b"]) == (("org/a", "org/b"), ())
    breaker.failed("org/a")
    to_try, passed_over = breaker.candidates(["org/a", "org/b"])
    assert to_try == ("org/b",)
    assert passed_over == ("org/a: set aside after 3 failures in a row, for 60 s more",)
    assert breaker.set_aside == {"org/a"}


def test_a_success_between_failures_starts_the_count_again() -> None:
    breaker, _ = a_breaker()
    fail(breaker, "org/a", 2)
    breaker.worked("org/a")
    fail(breaker, "org/a", 2)
    assert not breaker.is_set_aside("org/a")


def test_after_its_rest_a_model_is_tried_once_and_rests_again_when_that_fails() -> None:
    breaker, clock = a_breaker()
    fail(breaker, "org/a", 3)
    clock.now_s += 59
    assert breaker.is_set_aside("org/a")
    clock.now_s += 1
    assert not breaker.is_set_aside("org/a")
    breaker.failed("org/a")
    assert breaker.is_set_aside("org/a")


def test_a_model_that_works_again_after_its_rest_is_as_good_as_new() -> None:
    breaker, clock = a_breaker()
    fail(breaker, "org/a", 3)
    clock.now_s += 60
    breaker.worked("org/a")
    fail(breaker, "org/a", 2)
    assert not breaker.is_set_aside("org/a")


def test_when_all_are_set_aside_the_one_that_failed_longest_ago_is_tried() -> None:
    breaker, clock = a_breaker()
    fail(breaker, "org/b", 3)
    clock.now_s += 1
    fail(breaker, "org/a", 3)
    to_try, passed_over = breaker.candidates(["org/a", "org/b"])
    assert to_try == ("org/b",)
    assert [sentence.split(":")[0] for sentence in passed_over] == ["org/a"]


def test_no_candidates_are_none() -> None:
    assert a_breaker()[0].candidates([]) == ((), ())
