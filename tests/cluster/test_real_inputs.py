"""The inputs that the service must handle, on the real embedded models, through `hgpt serve` and the unmodified OpenAI client."""

import base64
import io
import re
import wave
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import jiwer
import numpy as np
import pytest
import yaml
from openai import OpenAI, UnprocessableEntityError

from benchmarks import samples
from cluster.language import detect_language
from tests.cluster.serving import served

pytestmark = [pytest.mark.cluster, pytest.mark.models, pytest.mark.timeout(1500)]

MODEL = "hugginggpt"


@pytest.fixture(scope="module")
def real_service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """`hgpt serve` with serve_config.yaml on a free port."""
    config = yaml.safe_load(Path("serve_config.yaml").read_text(encoding="utf-8"))
    with served(config, tmp_path_factory.mktemp("config")) as url:
        yield url


@pytest.fixture(scope="module")
def openai(real_service: str) -> Iterator[OpenAI]:
    with OpenAI(base_url=f"{real_service}/v1", api_key="none", max_retries=0, timeout=900) as client:
        yield client


def ask(openai: OpenAI, text: str, *files: Path) -> dict[str, Any]:
    """The run's record with the answer in it."""
    uploads = [openai.files.create(file=path, purpose="user_data").id for path in files]
    parts: Any = [{"type": "file", "file": {"file_id": upload}} for upload in uploads]
    content: Any = [*parts, {"type": "text", "text": text}]
    completion: Any = openai.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": content}])
    return {**completion.run, "answer": completion.choices[0].message.content}


def result(run: dict[str, Any], task: str) -> dict[str, Any]:
    found: dict[str, Any] = next(result for result in run["results"] if result["task"] == task)
    assert found["status"] == "done", found
    return found


def sound(openai: OpenAI, run: dict[str, Any]) -> tuple[bytes, float]:
    """The run's WAV and its duration in seconds. It plays and is not silence."""
    content = openai.files.content(result(run, "text-to-speech")["artifact"]["sha256"]).content
    with wave.open(io.BytesIO(content)) as file:
        duration_s = file.getnframes() / file.getframerate()
        samples_ = np.frombuffer(file.readframes(file.getnframes()), np.int16).astype(float)
    assert np.sqrt((samples_**2).mean()) > 300
    return content, duration_s


def chinese_share(text: str) -> float:
    letters = [letter for letter in text if letter.isalpha()]
    return sum("\u4e00" <= letter <= "\u9fff" for letter in letters) / len(letters)


def numbers(text: str) -> set[str]:
    return set(re.findall(r"\d+(?:\.\d+)?", text.replace(",", "")))


def unnumbered(text: str) -> str:
    """Without the numbers of a list's lines."""
    return re.sub(r"(?m)^\s*\d+[.、]\s*", "", text)


def test_a_plain_question_runs_no_step(openai: OpenAI) -> None:
    run = ask(openai, "What is the capital of France?")
    assert run["plan"] == []
    assert "Paris" in run["answer"]


def test_a_recording_is_transcribed_and_three_steps_work_on_it_at_once(openai: OpenAI) -> None:
    request = (
        "Transcribe this recording. From the transcript give me a summary, the named entities and the sentiment, "
        "and read the summary aloud."
    )
    run = ask(openai, request, samples.recording("two_cities.wav"))
    transcript = result(run, "automatic-speech-recognition")["text"]
    plain = jiwer.Compose([jiwer.ToLowerCase(), jiwer.RemovePunctuation(), jiwer.RemoveMultipleSpaces(), jiwer.Strip()])
    assert jiwer.wer(plain(samples.TWO_CITIES), plain(transcript)) <= 0.10
    spans = [result(run, task)["span"] for task in ("summarization", "token-classification", "text-classification")]
    assert max(span["started_s"] for span in spans) < min(span["finished_s"] for span in spans)
    _content, duration_s = sound(openai, run)
    assert duration_s > 3
    assert transcript in run["answer"]
    assert all(artifact["url"] in run["answer"] for artifact in run["artifacts"])


def test_the_total_of_an_invoice_is_said_and_heard_again(openai: OpenAI, tmp_path: Path) -> None:
    run = ask(openai, "What is the total due on this invoice? Say it aloud.", samples.invoice(tmp_path))
    assert "1,234.50" in run["answer"]
    content, _duration_s = sound(openai, run)
    spoken = tmp_path / "spoken.wav"
    spoken.write_bytes(content)
    heard = result(ask(openai, "Transcribe this recording.", spoken), "automatic-speech-recognition")["text"]
    # Ways to write one and the same amount.
    assert re.search(r"(?<![\d,])1,?234(\.50|( dollars)? and (\$0\.50|(50|fifty) cents))(?!\d)", heard), heard


@pytest.mark.parametrize(
    ("question", "language"),
    [
        ("What is in this photograph? Answer in one sentence.", "en"),
        ("Was ist auf diesem Foto zu sehen? Antworte in einem Satz auf Deutsch.", "de"),
    ],
)
def test_a_photograph_is_described_in_the_language_of_the_question(openai: OpenAI, question: str, language: str) -> None:
    run = ask(openai, question, samples.photograph("coffee.png"))
    assert "espresso" in result(run, "image-classification")["text"]
    assert re.search("espresso|kaffee|coffee|tasse|cup", run["answer"], re.IGNORECASE)
    assert detect_language(run["answer"].splitlines()[0]) == language


def test_a_speech_is_translated_summarised_and_spoken_in_chinese(openai: OpenAI) -> None:
    request = "Translate this speech into Chinese, summarise the translation in Chinese, and read the summary aloud."
    run = ask(openai, request, samples.SPEECH)
    translation, summary = result(run, "translation")["text"], result(run, "summarization")["text"]
    assert chinese_share(translation) > 0.95
    kept = numbers(samples.SPEECH.read_text(encoding="utf-8")) - numbers(translation)
    assert kept <= {"26", "37"}, "only the large numbers may change, to the units of Chinese"
    assert {"2600万", "370亿"} <= set(re.findall(r"\d+[万亿]", translation))
    assert [name for name in ("里斯本", "丹麦", "肯尼亚", "亚马逊", "刚果") if name not in translation] == []
    assert chinese_share(summary) > 0.9
    assert len(summary) < 0.8 * len(translation)
    assert numbers(unnumbered(summary))
    assert numbers(unnumbered(summary)) <= numbers(translation)
    assert result(run, "text-to-speech")["model"] == "espeak-ng/espeak-ng"
    _content, duration_s = sound(openai, run)
    assert len(summary) / 12 < duration_s < len(summary)
    assert translation in run["answer"] and summary in run["answer"]


@pytest.mark.slow
def test_a_speech_of_1500_words_is_translated_in_pieces_and_nothing_is_lost(openai: OpenAI, tmp_path: Path) -> None:
    speech = samples.SPEECH.read_text(encoding="utf-8")
    chapters = [f"Chapter {1000 + n}.\n{speech}\n" for n in range(-(-1500 // len(speech.split())))]
    path = tmp_path / "long speech.txt"
    path.write_text("\n".join(chapters), encoding="utf-8")
    request = "Translate this speech into Chinese, summarise the translation in Chinese, and read the summary aloud."
    run = ask(openai, request, path)
    translation, summary = result(run, "translation")["text"], result(run, "summarization")["text"]
    assert chinese_share(translation) > 0.95
    assert {str(1000 + n) for n in range(len(chapters))} <= numbers(translation)
    assert translation.count("刚果") >= len(chapters)
    assert len(summary) < 0.2 * len(translation)
    sound(openai, run)


def test_an_earlier_answer_can_be_worked_on(openai: OpenAI) -> None:
    messages: Any = [
        {"role": "user", "content": "Who wrote Hamlet?"},
        {"role": "assistant", "content": "William Shakespeare wrote Hamlet around the year 1600."},
        {"role": "user", "content": "Translate your previous answer into German."},
    ]
    completion: Any = openai.chat.completions.create(model=MODEL, messages=messages)
    translated = result(completion.run, "translation")["text"]
    assert detect_language(translated) == "de"
    assert "1600" in translated


def test_a_request_for_a_task_that_nobody_serves_is_declined_in_one_sentence(openai: OpenAI) -> None:
    with pytest.raises(UnprocessableEntityError) as refused:
        ask(openai, "Draw a picture of a castle by the sea.")
    assert "no deployed model" in str(refused.value)


def test_pictures_inside_the_message_and_streaming_work(openai: OpenAI) -> None:
    picture = base64.b64encode(samples.photograph("chelsea.png").read_bytes()).decode()
    parts: Any = [
        {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{picture}"}},
        {"type": "text", "text": "How many cats are there?"},
    ]
    stream: Any = openai.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": parts}], stream=True)
    answer, record = "", None
    for chunk in stream:
        answer += chunk.choices[0].delta.content or ""
        record = getattr(chunk, "run", None) or record
    assert record is not None
    assert "cat" in result(record, "object-detection")["text"]
    assert re.search("1|one", answer, re.IGNORECASE)


def test_the_service_is_healthy_after_all_that(real_service: str) -> None:
    assert httpx.get(f"{real_service}/healthz", timeout=60).json() == {"status": "ok"}
