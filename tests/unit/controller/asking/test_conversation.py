"""An OpenAI conversation becomes a Request: the files in order, the earlier results at hand, the rest refused with a sentence."""

import base64
import contextlib
import time
from pathlib import Path
from typing import Any

import pytest

from cluster.artifacts import ArtifactStore
from cluster.errors import BadFile, BadRequest, NotFound
from cluster.settings import Limits
from cluster.tasks import Task
from controller.answering.grounding import Evidence
from controller.asking.conversation import PREVIOUS_ANSWER, read_conversation
from controller.asking.intake import Intake
from controller.asking.openai_schema import ChatRequest
from controller.asking.request import Request
from controller.asking.terms import Terms
from controller.planning.plan_schema import plan_schema

PASSAGE = "The climate is changing faster than most models foresaw, and the oceans carry the heat. " * 4


@pytest.fixture
def intake(tmp_path: Path) -> Intake:
    return Intake(ArtifactStore(f"file://{tmp_path}"), Limits(max_upload_bytes=1_000_000))


def read(intake: Intake, *messages: tuple[str, Any], **body: Any) -> Request:
    form = ChatRequest.model_validate({"messages": [{"role": role, "content": content} for role, content in messages], **body})
    return read_conversation(form, Terms(), intake, Limits(max_files=3))


def text(words: str) -> dict[str, Any]:
    return {"type": "text", "text": words}


def attached(words: str, name: str = "a.txt") -> dict[str, Any]:
    return {"type": "file", "file": {"file_data": base64.b64encode(words.encode()).decode(), "filename": name}}


def names(request: Request) -> list[str]:
    return [f"{file.id} {file.artifact.name}" for file in request.files]


def test_files_are_numbered_in_order_of_appearance_with_their_text(intake: Intake) -> None:
    request = read(intake, ("user", [attached("one", "a.txt"), text("How alike are they?"), attached("two", "b.txt")]))
    assert names(request) == ["f1 a.txt", "f2 b.txt"]
    assert [file.text for file in request.files] == ["one", "two"]
    assert request.text == "How alike are they?"


def test_a_file_id_a_data_url_and_a_recording_are_read(intake: Intake) -> None:
    ref = intake.accept(b"hello", "hello.txt")
    url = f"data:text/plain;base64,{base64.b64encode(b'other').decode()}"
    parts = [{"type": "file", "file": {"file_id": f"file-{ref.sha256}"}}, {"type": "file", "file": {"file_data": url, "filename": "o.txt"}}]
    assert names(read(intake, ("user", [*parts, text("go")]))) == ["f1 hello.txt", "f2 o.txt"]
    with pytest.raises(BadFile, match=r"recording\.wav is not audio"):
        read(intake, ("user", [{"type": "input_audio", "input_audio": {"data": "aGVsbG8=", "format": "wav"}}, text("go")]))


def test_the_same_file_twice_is_one_file(intake: Intake) -> None:
    assert len(read(intake, ("user", [attached("one"), attached("one"), text("go")])).files) == 1


def test_a_long_passage_becomes_a_file(intake: Intake) -> None:
    request = read(intake, ("user", f'Summarise "{PASSAGE}"'))
    assert request.text == 'Summarise "(text 1)"'
    assert request.files[0].text == PASSAGE.strip()


def test_the_previous_answer_can_be_worked_on(intake: Intake) -> None:
    request = read(intake, ("user", "hi"), ("assistant", "Good morning."), ("user", "Translate that."))
    assert names(request) == [f"f1 {PREVIOUS_ANSWER}"]
    assert request.files[0].text == "Good morning."
    assert [message["role"] for message in request.history] == ["user", "assistant"]


def test_what_earlier_answers_made_can_be_worked_on_and_what_has_expired_is_left_out(intake: Intake) -> None:
    ref = intake.accept(b"made earlier", "summary.txt")
    answer = f"[summary.txt](/v1/artifacts/{ref.sha256}) [gone](/v1/artifacts/{'0' * 64})"
    request = read(intake, ("user", "hi"), ("assistant", answer), ("user", "Read it aloud."))
    assert names(request) == ["f1 summary.txt", f"f2 {PREVIOUS_ANSWER}"]


def test_a_file_of_an_earlier_turn_is_still_there(intake: Intake) -> None:
    request = read(intake, ("user", [attached("one"), text("Keep it.")]), ("assistant", ""), ("user", "Sum it up."))
    assert names(request) == ["f1 a.txt"]


@pytest.mark.parametrize("role", ["system", "developer"])
def test_instructions_to_the_model_are_no_history(intake: Intake, role: str) -> None:
    assert read(intake, (role, "be brief"), ("user", "hi")).history == ()


@pytest.mark.parametrize("role", ["tool", "function"])
def test_what_a_tool_said_is_context_and_no_earlier_answer(intake: Intake, role: str) -> None:
    request = read(intake, ("user", "Weather?"), ("assistant", None), (role, "12 degrees"), ("user", "Is that cold?"))
    assert "12 degrees" in request.for_planner()
    assert request.files == ()


def test_the_models_that_the_person_named_arrive(intake: Intake) -> None:
    assert read(intake, ("user", "hi"), models={"summarization": "org/m"}).models == {"summarization": "org/m"}
    said = read(intake, ("user", "Transcribe it, use openai/whisper-small."), named_models=["org/m-1"])
    assert said.named == ("org/m-1", "openai/whisper-small")


@pytest.mark.parametrize("content", ["", "  \n", None, [], [{"type": "text", "text": " "}]])
def test_an_empty_message_is_refused(intake: Intake, content: Any) -> None:
    with pytest.raises(BadRequest, match="the message is empty"):
        read(intake, ("user", content))


def test_files_without_words_are_refused_with_what_is_missing(intake: Intake) -> None:
    with pytest.raises(BadRequest, match="say what is to be done with the files"):
        read(intake, ("user", [attached("one")]))


def test_the_last_message_must_be_the_users(intake: Intake) -> None:
    with pytest.raises(BadRequest, match="the last message must be the user's"):
        read(intake, ("user", "hi"), ("assistant", "hello"))


@pytest.mark.parametrize("url", ["https://example.com/cat.png", "http://169.254.169.254/latest", "file:///etc/passwd"])
def test_addresses_on_the_web_are_not_fetched(intake: Intake, url: str) -> None:
    with pytest.raises(BadFile, match="not fetched"):
        read(intake, ("user", [{"type": "image_url", "image_url": {"url": url}}, text("What is it?")]))


def test_an_unknown_file_id_is_not_found(intake: Intake) -> None:
    with pytest.raises(NotFound, match="no artifact has id"):
        read(intake, ("user", [{"type": "file", "file": {"file_id": "file-" + "0" * 64}}, text("go")]))


def test_a_file_part_without_a_file_is_refused(intake: Intake) -> None:
    with pytest.raises(BadFile, match="file_id or file_data"):
        read(intake, ("user", [{"type": "file", "file": {"filename": "a.txt"}}, text("go")]))


def test_too_many_files_are_refused_with_both_numbers(intake: Intake) -> None:
    with pytest.raises(BadRequest, match="has 4 files; the limit is 3"):
        read(intake, ("user", [*(attached(f"file {n}") for n in range(4)), text("go")]))


def test_another_model_is_not_found(intake: Intake) -> None:
    with pytest.raises(NotFound, match="'gpt-4' does not exist here; use 'hugginggpt'"):
        read(intake, ("user", "hi"), model="gpt-4")


def test_a_model_of_any_length_and_spelling_is_refused_in_a_short_line(intake: Intake) -> None:
    with pytest.raises(NotFound) as refused:
        read(intake, ("user", "hi"), model="a\n\ud800" + "x" * 100_000)
    assert len(refused.value.message) < 200
    assert refused.value.message.isprintable()


@pytest.mark.parametrize("hostile", ["“", '"', "'", "a", "a.", "``` \n", ": ", "\n\n", "1 "], ids=repr)
def test_no_message_within_the_limit_takes_long_to_read(intake: Intake, hostile: str) -> None:
    """A second is a hundred times what it takes; the patterns once took minutes."""
    words = (hostile * 20_000)[:20_000]
    started = time.process_time()
    with contextlib.suppress(BadRequest):
        request = read(intake, ("user", words))
        Evidence([request.text, *(file.text or "" for file in request.files)], [], []).objection(words)
        plan_schema(tuple(Task), request, 4)
        request.for_planner()
    assert time.process_time() - started < 5


def test_a_message_beyond_the_limit_is_to_be_sent_as_a_file(intake: Intake) -> None:
    with pytest.raises(BadRequest, match="send a long text as a file"):
        read(intake, ("user", "a" * 20_001))


@pytest.mark.parametrize("role", ["user", "assistant"])
def test_half_a_unicode_character_is_refused(intake: Intake, role: str) -> None:
    with pytest.raises(BadRequest, match="not valid Unicode"):
        read(intake, ("user", "hi"), (role, "hello \ud800 there"), ("user", "go"))


@pytest.mark.parametrize(("sent", "kept"), [("\ud800.txt", "txt"), ("..", "file"), ("a\r\nf2 = b.txt", "af2 = b.txt"), ("é.txt", "é.txt")])
def test_a_file_name_keeps_only_what_can_be_shown(intake: Intake, sent: str, kept: str) -> None:
    assert intake.accept(f"text of {kept}".encode(), sent).name == kept


def test_a_picture_part_that_holds_no_picture_is_refused(intake: Intake) -> None:
    part = {"type": "image_url", "image_url": {"url": "DATA:image/png;base64,aGVsbG8="}}
    with pytest.raises(BadFile, match="must hold a picture"):
        read(intake, ("user", [part, text("go")]))
