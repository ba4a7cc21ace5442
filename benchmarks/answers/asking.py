"""Asks the service a request, turn by turn, with the unmodified openai client, and listens to what it made."""

import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import openai
from openai import OpenAI

from benchmarks.answers.reply import Reply, Sound
from benchmarks.answers.suite import Request
from cluster.catalogue import BUILT_IN, Catalogue
from cluster.errors import HuggingGPTError, ModelError
from cluster.settings import models_folder
from cluster.tasks import Task
from controller.asking.openai_schema import MODEL
from deployments.model import Call
from deployments.speech import HEARING_RATE_HZ, Whisper, read_audio
from deployments.store import ModelStore

TIMEOUT_S = 900.0
JUDGE = "Systran/faster-whisper-base"


class Listener(Protocol):
    def heard(self, recording: Path, language: str | None) -> str:
        """What is understood of a recording; nothing where no speech is heard."""
        ...


class WhisperListener:
    """The embedded Whisper base, in this process: the service's own plans have no part in the verdict. Loaded when it is first needed."""

    def __init__(self) -> None:
        self._whisper: Whisper | None = None

    def heard(self, recording: Path, language: str | None) -> str:
        if self._whisper is None:
            folder = ModelStore(models_folder()).ensure(Catalogue.read(BUILT_IN).card(JUDGE))
            self._whisper = Whisper.load(folder, threads=1)
        options = {"language": language} if language else {}
        try:
            (output,) = self._whisper.compute([Call(Task.AUTOMATIC_SPEECH_RECOGNITION, (recording,), options)])
        except ModelError:  # no speech was heard
            return ""
        return str(output.value)


class Asker:
    """A client of the service at `url`, with the suite's files in `media`."""

    def __init__(self, url: str, media: Mapping[str, Path], listener: Listener, timeout_s: float = TIMEOUT_S) -> None:
        self._url = url.rstrip("/")
        self._media = media
        self._listener = listener
        self._timeout_s = timeout_s
        self._openai = OpenAI(base_url=f"{self._url}/v1", api_key="none", max_retries=0, timeout=timeout_s)

    def ask(self, request: Request) -> Reply:
        """An error of the service is in the reply. Raises HuggingGPTError when no service answers."""
        started = time.perf_counter()
        earlier: list[Mapping[str, Any]] = []
        try:
            answer, run = self._answered(request, earlier)
            seconds = time.perf_counter() - started
            return Reply(answer, run, None, self._sounds(run), tuple(earlier), seconds)
        except (openai.APIStatusError, openai.APITimeoutError) as exc:
            return Reply(error=self._error(exc), earlier=tuple(earlier), seconds=time.perf_counter() - started)
        except openai.APIConnectionError as exc:
            raise HuggingGPTError(f"no service answers at {self._url}; when one does, the same command goes on from here") from exc

    def _answered(self, request: Request, earlier: list[Mapping[str, Any]]) -> tuple[str, dict[str, Any]]:
        """Answer and run of the last turn; what the turns before it made is added to `earlier`."""
        messages: list[Any] = []
        answer, run = "", dict[str, Any]()
        for number, said in enumerate(request.turns):
            earlier += run.get("artifacts", ())
            messages.append({"role": "user", "content": self._content(said, request.files if number == 0 else ())})
            completion: Any = self._openai.chat.completions.create(model=MODEL, messages=messages)
            answer, run = completion.choices[0].message.content or "", completion.run
            messages.append({"role": "assistant", "content": answer})
        return answer, run

    def _content(self, said: str, files: Sequence[str]) -> list[dict[str, Any]]:
        uploads = [self._openai.files.create(file=self._media[name], purpose="user_data").id for name in files]
        return [*({"type": "file", "file": {"file_id": upload}} for upload in uploads), {"type": "text", "text": said}]

    def _error(self, exc: openai.APIStatusError | openai.APITimeoutError) -> dict[str, Any]:
        if isinstance(exc, openai.APITimeoutError):
            return {"status": 0, "code": "timeout", "message": f"no answer within {self._timeout_s:g} s"}
        body = exc.body if isinstance(exc.body, dict) else {}
        return {"status": exc.status_code, "code": body.get("code") or "unknown", "message": body.get("message") or exc.message}

    def _sounds(self, run: Mapping[str, Any]) -> tuple[Sound, ...]:
        """Every recording that was made: once, however many steps gave it."""
        made = {}
        for result in run.get("results", ()):
            artifact = result.get("artifact")
            if artifact and artifact["media_type"].startswith("audio/"):
                made[artifact["sha256"]] = result["data"].get("language")
        return tuple(self._sound(sha256, language) for sha256, language in made.items())

    def _sound(self, sha256: str, language: str | None) -> Sound:
        with tempfile.TemporaryDirectory(prefix="hgpt-answers-") as folder:
            path = Path(folder, "recording")
            path.write_bytes(self._openai.files.content(sha256).content)
            return listened(sha256, path, language, self._listener)


def listened(sha256: str, recording: Path, language: str | None, listener: Listener) -> Sound:
    """The facts about a recording; one that cannot be decoded lasts no time."""
    try:
        samples = read_audio(recording)
    except ModelError:
        return Sound(sha256, 0.0, 0.0, "", language)
    loudness = float((samples.astype("float64") ** 2).mean() ** 0.5)
    return Sound(sha256, round(samples.size / HEARING_RATE_HZ, 3), round(loudness, 4), listener.heard(recording, language), language)
