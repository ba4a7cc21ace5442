"""Is the answer right? Each check compares a reply with what its request expects, and says in words what is missed. Pure functions.

Whatever is expected, these hold too: there is an answer, no step failed for good, every task of the request is in the plan, and the answer
names no file and no link that does not exist.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import permutations

from benchmarks.answers.reply import Reply, Sound
from benchmarks.answers.suite import Expected, Range, Request, SoundExpected, TextExpected
from benchmarks.answers.wording import (
    file_names,
    first_paragraph,
    folded,
    holds,
    links,
    numbers_in,
    prose,
    without,
    word_count,
    word_error_rate,
)
from cluster.language import detect_language
from cluster.tasks import Task

Truths = Mapping[str, str]  # the words of the media, by file name

SILENCE = 0.01  # root mean square of a recording, of full scale
UNSERVED = "no deployed model"  # what the service says of a task that nobody serves
OWN_NAMES = ("previous answer.txt", *(f"text {n}.txt" for n in range(1, 6)))  # what the service calls texts of the conversation
CLASSIFYING = (Task.TEXT_CLASSIFICATION, Task.ZERO_SHOT_CLASSIFICATION, Task.IMAGE_CLASSIFICATION)
_REFUSAL = re.compile(
    r"\b(?:cannot|can't|can not|unable to|not able to|not possible|impossible|(?:don't|do not) have (?:access|the ability|information|any)"
    r"|not (?:available|supported|deployed|capable)|no (?:access|model|tool|way))\b"
    r"|\b(?:kann|können)\b[^.!?]*\bnicht\b|nicht möglich|nicht in der lage|keinen zugriff"
    r"|\bne (?:peux|peut|suis)[^.!?]*\bpas\b|\bno (?:puedo|es posible|tengo)\b|\bnon posso\b|\bnão (?:posso|consigo)\b|无法|不能|没有办法"
)
_NEGATION = re.compile(r"^(?:not|no|non)\b")


def missed(request: Request, reply: Reply, truths: Truths) -> list[str]:
    """What a person would miss, in words; nothing when the answer is right."""
    return list(_missed(request, reply, truths))


def _missed(request: Request, reply: Reply, truths: Truths) -> Iterator[str]:
    expected = request.expect
    yield from _invented(request, reply)
    if expected.declined:
        yield from _not_declined(reply)
        yield from _of_text("the answer", prose(reply.answer), expected.answer, truths)
        return
    if reply.error:
        yield f"an error, {reply.error['code']}: {reply.error['message']}"
        return
    if not reply.answer.strip():
        yield "an answer"
    yield from _of_run(request, reply)
    yield from _of_text("the answer", prose(reply.answer), expected.answer, truths)
    yield from _of_steps(expected, reply, truths)
    yield from _of_labels(expected, reply)
    yield from _of_sounds(expected.sounds, reply.sounds)


def _invented(request: Request, reply: Reply) -> Iterator[str]:
    """Files and links that the answer names and nobody made or brought."""
    made = [*reply.earlier, *reply.artifacts]
    said = " ".join(request.turns)
    names = [*request.files, *OWN_NAMES, *(artifact["name"] for artifact in made), *file_names(said)]
    urls = {artifact["url"] for artifact in made} | set(links(said))
    for link in links(reply.answer):
        if link not in urls:
            yield f"the link {link} leads nowhere"
    for name in file_names(without(reply.answer, names)):
        yield f"the file {name} does not exist"


def _not_declined(reply: Reply) -> Iterator[str]:
    if reply.error:
        if UNSERVED not in reply.error["message"]:
            yield f"a plain refusal, and not the error {reply.error['code']}: {reply.error['message']}"
        return
    if reply.plan:
        yield f"nothing should be run, and there ran {', '.join(sorted(reply.planned))}"
    if not _REFUSAL.search(folded(reply.answer)):
        yield "the answer does not say that it cannot be done"


def _of_run(request: Request, reply: Reply) -> Iterator[str]:
    expected = request.expect
    for result in reply.results:
        if result["status"] != "done" and not _was_mended(reply):
            yield f"{result['step']} {result['task']} {result['status']}: {result.get('reason') or result.get('because')}"
    for choice in request.tasks:
        if not reply.planned & set(choice):
            yield f"no {' or '.join(choice)} in the plan"
    for task in expected.avoids:
        if task in reply.planned:
            yield f"{task} is in the plan"
    if expected.runs_nothing and reply.plan:
        yield f"nothing should be run, and there ran {', '.join(sorted(reply.planned))}"
    for source, target in expected.feeds:
        if not _feeds(reply, source, target):
            yield f"no {target} works on what {source} gave"


def _was_mended(reply: Reply) -> bool:
    """Whether the service planned again after a failure, and everything that it added was done."""
    added = {step for replan in (reply.run or {}).get("replans", ()) for step in replan["steps"]}
    done = {result["step"] for result in reply.results if result["status"] == "done"}
    return bool(added) and added <= done


def _feeds(reply: Reply, source: Task, target: Task) -> bool:
    steps = {step["id"]: step for step in reply.plan}

    def sources(step_id: str) -> set[str]:
        step = steps[step_id]
        given = [*step["inputs"], *(value for value in step["options"].values() if isinstance(value, Mapping))]
        direct = {value["step"] for value in given if "step" in value}
        return direct.union(*map(sources, direct))

    return any(steps[one]["task"] == source for step in reply.plan if step["task"] == target for one in sources(step["id"]))


def _of_text(where: str, text: str, expected: TextExpected, truths: Truths) -> Iterator[str]:
    for words in expected.contains:
        if not any(holds(text, word) for word in words):
            yield f"{where} lacks {' or '.join(words)}"
    for word in expected.absent:
        if holds(text, word):
            yield f"{where} has {word}"
    for number in expected.numbers:
        if number not in numbers_in(text):
            yield f"{where} lacks the number {number:g}"
    if expected.language and (found := detect_language(first_paragraph(text))) != expected.language:
        yield f"{where} is not in {expected.language} ({found or 'no language is clear'})"
    count = word_count(text)
    if expected.words and not _within(count, expected.words):
        yield f"{where} has {count} words, and not {_told(expected.words)}"
    if (errors := expected.word_errors) and (rate := word_error_rate(truths[errors.file], text)) > errors.most:
        yield f"{where} has a word error rate of {rate:.2f}, and at most {errors.most:g} is right"
    if (shorter := expected.shorter) and count >= shorter.share * word_count(truths[shorter.file]):
        yield f"{where} has {count} words of the {word_count(truths[shorter.file])} in {shorter.file}"


def _of_steps(expected: Expected, reply: Reply, truths: Truths) -> Iterator[str]:
    for task, texts in expected.steps.items():
        given = [result["text"] for result in reply.done(task) if "text" in result]
        if not given:
            yield f"no {task} gave a text"
            continue
        for wanted in texts:
            tries = [list(_of_text(task, text, wanted, truths)) for text in given]
            if all(tries):
                yield from min(tries, key=len)


def _of_labels(expected: Expected, reply: Reply) -> Iterator[str]:
    objects = [thing["label"] for result in reply.done(Task.OBJECT_DETECTION) for thing in result["data"].get("objects", ())]
    for label, counts in expected.detects.items():
        if not _within(objects.count(label), counts):
            yield f"{objects.count(label)} × {label} detected, and not {_told(counts)}"
    if expected.top_label:
        tops = [result["data"]["labels"][0]["label"] for result in reply.done(*CLASSIFYING) if result["data"].get("labels")]
        if not any(holds(top, word) and not _NEGATION.match(folded(top)) for top in tops for word in expected.top_label):
            yield f"the first label is {' and '.join(tops) or 'none'}, and not {' or '.join(expected.top_label)}"
    if expected.similarity:
        scores = [result["data"].get("similarity", float("nan")) for result in reply.done(Task.SENTENCE_SIMILARITY)]
        if not any(_within(score, expected.similarity) for score in scores):
            shown = " and ".join(f"{score:.2f}" for score in scores)
            yield f"the similarity is {shown or 'not given'}, and not {_told(expected.similarity)}"


def _of_sounds(expected: Sequence[SoundExpected], sounds: Sequence[Sound]) -> Iterator[str]:
    """Each expectation by a recording of its own; what is missed is told of the assignment that misses least."""
    if len(sounds) < len(expected):
        yield f"{len(sounds)} recordings were made, and not {len(expected)}"
        return
    tries = [[miss for wanted, sound in zip(expected, chosen, strict=True) for miss in _of_sound(wanted, sound)]
             for chosen in permutations(sounds, len(expected))]  # fmt: skip
    yield from min(tries, key=len)


def _of_sound(expected: SoundExpected, sound: Sound) -> Iterator[str]:
    if not _within(sound.duration_s, expected.seconds):
        yield f"the recording lasts {sound.duration_s:.1f} s, and not {_told(expected.seconds)}"
    if sound.loudness < SILENCE:
        yield "the recording is silent"
    if expected.language and sound.language != expected.language:
        yield f"the recording is spoken in {sound.language}, and not {expected.language}"
    for words in expected.heard:
        if not any(holds(sound.heard, word) for word in words):
            yield f"{' or '.join(words)} is not heard in «{sound.heard}»"


def _within(value: float, bounds: Range) -> bool:
    return bounds[0] <= value <= bounds[1]


def _told(bounds: Range) -> str:
    return f"{bounds[0]:g}" if bounds[0] == bounds[1] else f"{bounds[0]:g} to {bounds[1]:g}"
