"""What came back for a request, as it is kept: enough to judge it again without asking again."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from cluster.tasks import Task


@dataclass(frozen=True, slots=True)
class Sound:
    """A recording that the service made, decoded and listened to. `language` is that of the voice, as the service says."""

    sha256: str
    duration_s: float
    loudness: float  # root mean square, 0..1
    heard: str
    language: str | None = None


@dataclass(frozen=True, slots=True)
class Reply:
    """The answer and the run's record of the last turn; or the error, as {"status", "code", "message"}, of the turn that had one."""

    answer: str = ""
    run: Mapping[str, Any] | None = None
    error: Mapping[str, Any] | None = None
    sounds: tuple[Sound, ...] = ()
    earlier: tuple[Mapping[str, Any], ...] = ()  # artifacts of the turns before
    seconds: float = field(default=0.0, compare=False)  # of all turns

    @property
    def plan(self) -> Sequence[Mapping[str, Any]]:
        plan: Sequence[Mapping[str, Any]] = (self.run or {}).get("plan", ())
        return plan

    @property
    def results(self) -> Sequence[Mapping[str, Any]]:
        results: Sequence[Mapping[str, Any]] = (self.run or {}).get("results", ())
        return results

    @property
    def artifacts(self) -> Sequence[Mapping[str, Any]]:
        artifacts: Sequence[Mapping[str, Any]] = (self.run or {}).get("artifacts", ())
        return artifacts

    @property
    def planned(self) -> set[Task]:
        return {Task(step["task"]) for step in self.plan}

    def done(self, *tasks: Task) -> list[Mapping[str, Any]]:
        """The results of these tasks that came, in the plan's order."""
        return [result for result in self.results if result["task"] in tasks and result["status"] == "done"]

    def as_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def of_json(cls, form: Mapping[str, Any]) -> "Reply":
        """Raises KeyError or TypeError for another form."""
        sounds = tuple(Sound(**sound) for sound in form["sounds"])
        return cls(**{**form, "sounds": sounds, "earlier": tuple(form["earlier"])})
