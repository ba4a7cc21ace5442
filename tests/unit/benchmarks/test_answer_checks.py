"""The answer-quality suite: every check passes a right reply and fails a wrong one, and the suite asks for all that is deployed."""

import json
import math
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from benchmarks.answer_quality import check_report_file, chosen, kept
from benchmarks.answers.asking import listened
from benchmarks.answers.checks import missed
from benchmarks.answers.figures import Judged, figures, wilson
from benchmarks.answers.media import make
from benchmarks.answers.reply import Reply, Sound
from benchmarks.answers.suite import Kind, Medium, Request, Suite, read_suite
from benchmarks.answers.wording import holds, numbers_in, word_count
from cluster.catalogue import BUILT_IN, Catalogue
from cluster.errors import HuggingGPTError

SUITE = read_suite()
DEPLOYED = {task for card in Catalogue.read(BUILT_IN).cards.values() for task in card.tasks}
TRUTHS = {"talk.wav": "Fail again. Fail better.", "long.txt": "one two three four five six seven eight nine ten"}
ASKED = {"id": "a", "kind": "single", "turns": "x", "expect": {"declined": True}}
WORDLESS = {"answer": {"shorter": {"file": "b", "share": 0.5}}}
WAV = {"sha256": "a" * 64, "media_type": "audio/wav", "size_bytes": 9, "name": "speech.wav", "url": f"/v1/artifacts/{'a' * 64}"}
SPOKEN = Sound("a" * 64, 3.0, 0.1, "The bus leaves at noon.", "en")


def step(number: int, task: str, *inputs: str, **options: Any) -> dict[str, Any]:
    return {"id": f"s{number}", "task": task, "inputs": [{"step" if one[0] == "s" else "file": one} for one in inputs], "options": options}


def done(number: int, task: str, text: str | None = None, **data: Any) -> dict[str, Any]:
    given = {"artifact": WAV} if text is None else {"text": text}
    return {"step": f"s{number}", "task": task, "status": "done", "data": data, **given}


def reply(answer: str, plan: list[dict[str, Any]] | None = None, results: list[dict[str, Any]] | None = None, *sounds: Sound) -> Reply:
    results = results or []
    made = [result["artifact"] for result in results if "artifact" in result]
    return Reply(answer, {"plan": plan or [], "results": results, "artifacts": made}, None, sounds)


def refusal(message: str, code: str = "no_plan") -> Reply:
    return Reply(error={"status": 422, "code": code, "message": message})


def misses(expect: dict[str, Any], given: Reply, tasks: tuple[Any, ...] = (), files: tuple[str, ...] = ()) -> list[str]:
    request = Request.model_validate(
        {"id": "r", "kind": "single", "turns": "Do it.", "expect": expect, "tasks": tasks or ["translation"], "files": files}
    )
    return missed(request if tasks else request.model_copy(update={"tasks": ()}), given, TRUTHS)


CLASSIFIED = [step(1, "text-classification", "f1")]
SPEAKING = [step(1, "translation", "f1", language="de"), step(2, "summarization", "s1"), step(3, "text-to-speech", "s2")]
NOON = {"seconds": [1, 9], "language": "en", "heard": ["bus", ["noon", "12"]]}

# what is expected, a reply that is right, one that is not
CASES: dict[str, tuple[dict[str, Any], Reply, Reply]] = {
    "words": ({"answer": {"contains": ["Paris"]}}, reply("It is **Paris**."), reply("It is Parisian.")),
    "any of several words": ({"answer": {"contains": [["6", "six"]]}}, reply("at six"), reply("at 6.30")),
    "absent words": ({"answer": {"absent": ["boat"]}}, reply("a boathouse"), reply("a boat")),
    "a number": ({"answer": {"numbers": [1234.5]}}, reply("Es sind 1.234,50 Euro."), reply("It is 1234.")),
    "the language": ({"answer": {"language": "de"}}, reply("Das ist eine Katze auf dem Sofa."), reply("This is a cat on the sofa.")),
    "the length": ({"answer": {"words": [2, 3]}}, reply("two words"), reply("these are four words")),
    "a shorter text": (
        {"answer": {"shorter": {"file": "long.txt", "share": 0.5}}},
        reply("one to ten"),
        reply("one two three four five"),
    ),
    "word errors": (
        {"steps": {"automatic-speech-recognition": [{"word_errors": {"file": "talk.wav", "most": 0.2}}]}},
        reply("x", None, [done(1, "automatic-speech-recognition", "fail again fail better")]),
        reply("x", None, [done(1, "automatic-speech-recognition", "fail again feel bitter")]),
    ),
    "a step's text": (
        {"steps": {"translation": [{"contains": ["Katze"]}, {"contains": ["chat"]}]}},
        reply("x", None, [done(1, "translation", "le chat"), done(2, "translation", "die Katze")]),
        reply("Katze, chat", None, [done(1, "translation", "die Katze")]),
    ),
    "a detection and its count": (
        {"detects": {"cat": [2, 2]}},
        reply("x", None, [done(1, "object-detection", "x", objects=[{"label": "cat"}, {"label": "cat"}, {"label": "dog"}])]),
        reply("two cats", None, [done(1, "object-detection", "x", objects=[{"label": "cat"}])]),
    ),
    "the first label": (
        {"top_label": ["negative", "unhappy"]},
        reply("x", CLASSIFIED, [done(1, "text-classification", "x", labels=[{"label": "negative"}, {"label": "positive"}])]),
        reply("x", CLASSIFIED, [done(1, "text-classification", "x", labels=[{"label": "positive"}, {"label": "negative"}])]),
    ),
    "a label that is not negated": (
        {"top_label": ["happy"]},
        reply("x", None, [done(1, "zero-shot-classification", "x", labels=[{"label": "happy"}])]),
        reply("x", None, [done(1, "zero-shot-classification", "x", labels=[{"label": "not happy"}])]),
    ),
    "a similarity": (
        {"similarity": [0.5, 1]},
        reply("x", None, [done(1, "sentence-similarity", "x", similarity=0.7)]),
        reply("0.7", None, [done(1, "sentence-similarity", "x", similarity=0.2)]),
    ),
    "what feeds a step, directly or not": (
        {"feeds": [["translation", "text-to-speech"]]},
        reply("x", SPEAKING),
        reply("x", [*SPEAKING[:2], step(3, "text-to-speech", "f1")]),
    ),
    "an option that a step feeds": (
        {"feeds": [["image-to-text", "question-answering"]]},
        reply("x", [step(1, "image-to-text", "f1"), step(2, "question-answering", "f2", question={"step": "s1"})]),
        reply("x", [step(1, "image-to-text", "f1"), step(2, "question-answering", "f2", question="s1")]),
    ),
    "a task that is not wanted": ({"avoids": ["translation"]}, reply("x", CLASSIFIED), reply("x", SPEAKING)),
    "nothing to run": ({"runs_nothing": True}, reply("Hello!"), reply("Hello!", CLASSIFIED)),
    "a refusal by the service": (
        {"declined": True},
        refusal("no deployed model can do text-to-image; deployed tasks: translation"),
        refusal("no valid plan was found for this request: there is no file f2"),
    ),
    "a refusal in words": ({"declined": True}, reply("I cannot draw pictures."), reply("Here is the picture you wanted.")),
    "a refusal in German": ({"declined": True}, reply("Das kann ich leider nicht."), reply("Ein Leuchtturm steht im Nebel.")),
    "a refusal that runs nothing": ({"declined": True}, reply("I can't."), reply("I can't.", CLASSIFIED)),
    "a refusal that makes nothing up": (
        {"declined": True, "answer": {"absent": ["°c"]}},
        reply("I do not have access to the weather."),
        reply("I do not have access to the weather, but it is 21°C."),
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_a_right_reply_passes_and_a_wrong_one_does_not(case: str) -> None:
    expect, right, wrong = CASES[case]
    assert misses(expect, right) == []
    assert len(misses(expect, wrong)) >= 1


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({}, None),
        ({"duration_s": 0.4}, "lasts 0.4 s"),
        ({"loudness": 0.001}, "silent"),
        ({"language": "de"}, "spoken in de"),
        ({"heard": "The bus leaves at ten."}, "noon or 12 is not heard"),
    ],
)
def test_a_recording_is_measured_and_listened_to(change: dict[str, Any], told: str | None) -> None:
    given = reply("x", None, [done(1, "text-to-speech")], replace(SPOKEN, **change))
    found = misses({"sounds": [NOON]}, given)
    assert len(found) == (told is not None)
    assert told is None or told in found[0]


def test_each_recording_that_is_expected_must_be_one_of_its_own() -> None:
    train = replace(SPOKEN, sha256="b" * 64, heard="The train is late.")
    both = {"sounds": [{"seconds": [1, 9], "heard": ["train"]}, NOON]}
    results = [done(1, "text-to-speech"), done(2, "text-to-speech")]
    assert misses(both, reply("x", None, results, SPOKEN, train)) == []
    assert misses(both, reply("x", None, results, SPOKEN, SPOKEN)) == ["train is not heard in «The bus leaves at noon.»"]
    assert misses(both, reply("x", None, results[:1], SPOKEN)) == ["1 recordings were made, and not 2"]


def test_the_plan_must_have_each_task_or_one_of_its_equals() -> None:
    wanted = (["summarization", "text-generation"], "text-to-speech")
    assert misses({}, reply("x", SPEAKING), wanted) == []
    assert misses({}, reply("x", CLASSIFIED), wanted) == [
        "no summarization or text-generation in the plan",
        "no text-to-speech in the plan",
    ]


def test_whatever_is_expected_an_error_an_empty_answer_and_a_failed_step_are_missed() -> None:
    failed = {"step": "s1", "task": "translation", "status": "failed", "reason": "out of memory"}
    skipped = {"step": "s2", "task": "summarization", "status": "skipped", "because": "s1"}
    assert misses({}, refusal("no valid plan")) == ["an error, no_plan: no valid plan"]
    assert misses({}, reply(" ")) == ["an answer"]
    assert misses({}, reply("x", None, [failed, skipped])) == ["s1 translation failed: out of memory", "s2 summarization skipped: s1"]


def test_a_failure_that_planning_again_made_up_for_is_none() -> None:
    failed = {"step": "s1", "task": "translation", "status": "failed", "reason": "out of memory"}

    def planned_again(*added: str) -> Reply:
        given = reply("x", None, [failed, done(2, "translation", "ja")])
        return replace(given, run={**(given.run or {}), "replans": [{"why": "it failed", "steps": list(added), "refused": ""}]})

    assert misses({}, planned_again("s2")) == []
    assert misses({}, planned_again("s2", "s3")) == misses({}, planned_again()) == ["s1 translation failed: out of memory"]


def test_an_answer_may_name_the_files_that_exist_and_no_others() -> None:
    spoken = reply("talk.wav was read into [speech.wav](/v1/artifacts/" + "a" * 64 + ").", None, [done(1, "text-to-speech")], SPOKEN)
    assert misses({}, spoken, files=("talk.wav",)) == []
    assert misses({}, spoken) == ["the file talk.wav does not exist"]
    assert misses({"declined": True}, reply("I cannot, but see castle.png.")) == ["the file castle.png does not exist"]
    assert misses({}, reply("See https://example.org/a.png")) == ["the link https://example.org/a.png leads nowhere"]
    assert misses({}, reply(f"See /v1/artifacts/{'b' * 64}")) == [f"the link /v1/artifacts/{'b' * 64} leads nowhere"]


def test_the_headings_and_files_of_an_answer_are_not_its_words() -> None:
    answer = "**translation**\nEine kleine Katze schläft.\n\n- [speech.wav](/v1/artifacts/" + "a" * 64 + ")"
    given = reply(answer, None, [done(1, "text-to-speech")], SPOKEN)
    assert misses({"answer": {"words": [4, 4], "absent": ["translation", "speech"], "language": "de"}}, given) == []


def test_words_are_found_whole_and_in_any_case() -> None:
    assert holds("The PEOPLE’S vote", "people's vote") and holds("two bees", "bee*") and holds("我们的考试很难", "考试")
    assert not holds("category", "cat") and not holds("3.5 km", "3") and not holds("13", "3") and not holds("beer", "bee")
    assert numbers_in("CHF 1'250.75, 1 440 min., 9,5 %") == {1250.75, 125075.0, 1440.0, 9.5, 95.0}  # in either convention
    assert word_count("图书馆 opens today") == 5


def test_a_rate_comes_with_its_wilson_interval() -> None:
    low, high = wilson(8, 10)  # Newcombe 1998 and every textbook: 0.490 to 0.943
    assert math.isclose(low, 0.4902, abs_tol=1e-4) and math.isclose(high, 0.9433, abs_tol=1e-4)
    assert wilson(0, 5)[0] == 0 and wilson(5, 5)[1] == pytest.approx(1)
    with pytest.raises(ValueError, match="no rate"):
        wilson(0, 0)


def test_figures_are_told_by_kind_task_and_language() -> None:
    first, second = SUITE.requests[0], next(request for request in SUITE.requests if request.language == "de")
    found = figures([Judged(first, 4.0, True), Judged(second, 8.0, False)])
    assert (found["requests"], found["success_rate"], found["seconds_p50"]) == (2, 0.5, 6.0)
    assert (found["success_rate_single"], found["success_rate_languages"]) == (1, 0)
    assert found["success_rate_task_automatic-speech-recognition"] == 1
    assert found["success_rate_language_de"] == 0 and found["success_rate_low"] < 0.5 < found["success_rate_high"]


# The suite


def test_the_suite_asks_for_every_kind_and_every_deployed_task() -> None:
    kinds = Counter(request.kind for request in SUITE.requests)
    alone = Counter(choice[0] for request in SUITE.requests if request.kind is Kind.SINGLE for choice in request.tasks)
    assert len(SUITE.requests) >= 70
    assert {kind for kind in Kind if kinds[kind] < 4} == set()
    assert {task for task in DEPLOYED if alone[task] < 2} == set()
    assert {task for request in SUITE.requests for choice in request.tasks for task in choice} <= DEPLOYED
    assert {"de", "fr", "es", "zh", "it", "pt"} <= {request.language for request in SUITE.requests}


def test_no_request_passes_with_an_idle_answer() -> None:
    """An empty plan and a sentence that says nothing must not do, whatever the request."""
    idle = reply("Here is what you asked for.")
    assert [request.id for request in SUITE.requests if not missed(request, idle, SUITE.truths)] == []


def test_no_request_is_one_of_the_planners_demonstrations() -> None:
    prompt = yaml.safe_load(Path("controller/prompts/planner.yaml").read_text(encoding="utf-8"))
    shown = {line.strip().casefold() for one in prompt["demonstrations"] for line in one["request"].splitlines()}
    assert [request.id for request in SUITE.requests if {turn.casefold() for turn in request.turns} & shown] == []


@pytest.mark.parametrize("name", [name for name, medium in SUITE.media.items() if not medium.speak])
def test_a_file_that_no_voice_speaks_is_the_same_each_time(name: str, tmp_path: Path) -> None:
    (tmp_path / "again").mkdir()
    first, again = (make(name, SUITE.media[name], folder) for folder in (tmp_path, tmp_path / "again"))
    assert first.stat().st_size > 40 and first.read_bytes() == again.read_bytes()


@pytest.mark.parametrize(
    ("media", "requests", "told"),
    [
        ({"a.txt": {"text": "x", "lines": ["y"]}}, [], "exactly one of"),
        ({"a.png": {"lines": ["süß"]}}, [], "ASCII"),
        ({}, [{**ASKED, "expect": {}}], "a expects nothing"),
        ({}, [{**ASKED, "files": ["b"]}], "no medium b"),
        ({}, [{**ASKED, "language": "xx"}], "language xx"),
        ({"b": {"photographs": ["coffee.png"]}}, [{**ASKED, "expect": WORDLESS}], "nobody knows the words of b"),
        ({}, [ASKED, ASKED], "two requests are called a"),
    ],
)
def test_a_suite_that_does_not_hold_together_is_refused(media: dict[str, Any], requests: list[dict[str, Any]], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        Suite.model_validate({"media": media, "requests": requests})


class _Deaf:
    def heard(self, recording: Path, language: str | None) -> str:
        return ""


def test_a_recording_is_decoded_and_one_that_cannot_be_lasts_no_time(tmp_path: Path) -> None:
    spoken = make("a.wav", Medium(speak="Guten Morgen, liebe Leute.", language="de"), tmp_path)
    sound = listened("a", spoken, "de", _Deaf())
    assert 1 < sound.duration_s < 4 and sound.loudness > 0.02
    spoken.write_bytes(b"no recording")
    assert listened("a", spoken, None, _Deaf()) == Sound("a", 0.0, 0.0, "", None)


# The runner


def test_kinds_and_ids_choose_requests_and_other_names_are_refused() -> None:
    some = chosen(SUITE.requests, ["impossible", "knowledge-gold"], None)
    assert {request.kind for request in some} == {Kind.IMPOSSIBLE, Kind.KNOWLEDGE} and len(chosen(SUITE.requests, [], 3)) == 3
    with pytest.raises(HuggingGPTError, match="neither a request nor a kind"):
        chosen(SUITE.requests, ["impossibel"], None)


def test_a_reply_is_kept_until_the_request_is_another_and_a_torn_line_is_passed_over(tmp_path: Path) -> None:
    first, second, third = SUITE.requests[:3]
    given = reply("two\u2028lines", None, [done(1, "text-to-speech")], SPOKEN)
    lines = [
        json.dumps({"id": request.id, "turns": turns, "files": list(request.files), "reply": given.as_json()}, ensure_ascii=False)
        for request, turns in ((first, list(first.turns)), (second, ["something else"]))
    ]
    path = tmp_path / "figures.answers.jsonl"
    torn = lines[0].replace(first.id, third.id).encode()
    path.write_bytes(b"\n".join([*(line.encode() for line in lines), torn[: torn.index("\u2028".encode()) + 1]]))
    assert kept(path, SUITE.requests) == {first.id: given}
    assert kept(tmp_path / "none.jsonl", SUITE.requests) == {}


def test_a_report_that_could_not_be_written_is_refused_before_anything_is_asked(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for wrong in (tmp_path, Path("."), tmp_path / "file" / "report.json"):
        with pytest.raises(HuggingGPTError, match="is a folder|is no folder"):
            check_report_file(wrong)
    check_report_file(tmp_path / "new" / "report.json")
    assert not (tmp_path / "new").exists()
