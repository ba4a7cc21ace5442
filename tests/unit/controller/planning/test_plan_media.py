"""Type constraints: an edge of the wrong medium is moved to what fits, and nothing else is touched."""

from dataclasses import replace

import pytest

from cluster.errors import PlanError
from cluster.messages import ArtifactRef
from cluster.tasks import Media, Option, Task
from controller.asking.request import Request, RequestFile
from controller.planning.plan import InputFile, OutputOf, Plan, Step
from controller.planning.plan_media import with_fitting_media


def request(**media: Media) -> Request:
    files = (RequestFile(name, ArtifactRef("0" * 64, f"{kind}/x", 1, name)) for name, kind in media.items())
    return Request("r", "Make it bluer.", tuple(files))


FILES = request(f1=Media.IMAGE, f2=Media.TEXT)
SEEN = Step("s1", Task.IMAGE_TO_TEXT, (InputFile("f1"),))
SPOKEN = Step("s2", Task.TEXT_TO_SPEECH, (OutputOf("s1"),))


def test_an_edge_that_fits_stays() -> None:
    assert with_fitting_media([SEEN, SPOKEN], FILES) == [SEEN, SPOKEN]


@pytest.mark.parametrize(
    ("wrong", "right"),
    [
        (Step("s3", Task.TOKEN_CLASSIFICATION, (OutputOf("s2"),)), OutputOf("s1")),  # speech where a text goes: the latest text
        (Step("s3", Task.OBJECT_DETECTION, (OutputOf("s1"),)), InputFile("f1")),  # no step gives a picture: the file
        (Step("s3", Task.AUTOMATIC_SPEECH_RECOGNITION, (InputFile("f2"),)), OutputOf("s2")),
    ],
)
def test_an_edge_that_does_not_is_moved_to_the_latest_that_fits(wrong: Step, right: object) -> None:
    assert with_fitting_media([SEEN, SPOKEN, wrong], FILES)[2].inputs == (right,)


def test_inputs_in_the_wrong_order_are_put_right() -> None:
    swapped = Step("s1", Task.IMAGE_EDITING, (InputFile("f1"), "make it blue"))
    assert with_fitting_media([swapped], FILES)[0].inputs == ("make it blue", InputFile("f1"))


def test_an_instruction_or_a_question_that_nothing_gives_is_the_request() -> None:
    pictures = request(f1=Media.IMAGE)
    edited = Step("s1", Task.IMAGE_EDITING, (InputFile("f1"), InputFile("f1")))
    assert with_fitting_media([edited], pictures)[0].inputs == ("Make it bluer.", InputFile("f1"))
    asked = Step("s1", Task.VISUAL_QUESTION_ANSWERING, (InputFile("f1"),), {Option.QUESTION: InputFile("f1")})
    assert with_fitting_media([asked], pictures)[0].options == {Option.QUESTION: "Make it bluer."}
    assert with_fitting_media([SEEN, replace(asked, id="s2")], pictures)[1].options == {Option.QUESTION: OutputOf("s1")}


def test_a_text_is_not_asked_about_with_itself() -> None:
    asked = Step("s1", Task.QUESTION_ANSWERING, (InputFile("f2"),), {Option.QUESTION: InputFile("f1")})
    assert with_fitting_media([asked], FILES)[0].options == {Option.QUESTION: "Make it bluer."}


def test_a_question_that_points_at_itself_or_forward_is_what_came_before() -> None:
    asked = Step("s2", Task.QUESTION_ANSWERING, (InputFile("f2"),), {Option.QUESTION: OutputOf("s2")})
    assert with_fitting_media([SEEN, asked], FILES)[1].options == {Option.QUESTION: OutputOf("s1")}


def test_in_the_last_reply_a_text_that_nothing_gives_is_the_request() -> None:
    summed = Step("s1", Task.SUMMARIZATION, (InputFile("f1"),))
    pictures = request(f1=Media.IMAGE)
    assert with_fitting_media([summed], pictures) == [summed]
    assert with_fitting_media([summed], pictures, is_last=True)[0].inputs == ("Make it bluer.",)


def test_what_nothing_can_feed_is_left_for_the_check_to_explain() -> None:
    wrong = Step("s1", Task.OBJECT_DETECTION, (InputFile("f2"),))
    mended = with_fitting_media([wrong], request(f2=Media.TEXT))
    assert mended == [wrong]
    with pytest.raises(PlanError, match="eats image, but f2 is text"):
        Plan.checked(mended, {"f2": Media.TEXT})


def test_unknown_references_and_wrong_counts_are_not_guessed_at() -> None:
    odd = Step("s1", Task.SENTENCE_SIMILARITY, (OutputOf("s9"), "a text", InputFile("f7")))
    assert with_fitting_media([odd], FILES) == [odd]
