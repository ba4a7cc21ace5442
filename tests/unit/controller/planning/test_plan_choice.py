"""Of several drafts the one is taken that the others agree with."""

from cluster.tasks import Task
from controller.planning.plan import InputFile, OutputOf, Plan, Step
from controller.planning.plan_choice import most_agreed

READ = Step("s1", Task.IMAGE_TO_TEXT, (InputFile("f1"),))
SAID = Step("s2", Task.TEXT_TO_SPEECH, (OutputOf("s1"),))
SUMMED = Step("s2", Task.SUMMARIZATION, (OutputOf("s1"),))


def test_the_majority_wins_whatever_the_order() -> None:
    odd, usual = Plan((READ, SUMMED)), Plan((READ, SAID))
    assert most_agreed([odd, usual, usual]) == usual
    assert most_agreed([usual, odd, usual]) == usual


def test_equal_wiring_under_other_numbers_agrees() -> None:
    renamed = Plan((Step("s4", Task.IMAGE_TO_TEXT, (InputFile("f1"),)), Step("s9", Task.TEXT_TO_SPEECH, (OutputOf("s4"),))))
    assert most_agreed([Plan((READ, SUMMED)), Plan((READ, SAID)), renamed]) == Plan((READ, SAID))


def test_a_plan_in_the_middle_beats_two_extremes() -> None:
    short, long = Plan((READ,)), Plan((READ, SAID, Step("s3", Task.SUMMARIZATION, (OutputOf("s1"),))))
    assert most_agreed([short, long, Plan((READ, SAID))]) == Plan((READ, SAID))


def test_of_equals_the_first_and_one_alone_is_taken() -> None:
    assert most_agreed([Plan((READ, SUMMED)), Plan((READ, SAID))]) == Plan((READ, SUMMED))
    assert most_agreed([Plan()]) == Plan()
