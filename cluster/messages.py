"""What crosses a process: artifact references, task requests and task results. Small and picklable; media never ride inside."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from cluster.catalogue import ModelCard
from cluster.tasks import Media, Task

OptionValue = str | tuple[str, ...]

# Kinds of a Failed step beside the error codes of cluster.errors.
TIMEOUT = "timeout"  # not done in its own time
OUT_OF_TIME = "out_of_time"  # not done, or not started, in the time of its run
REPLICA_ERROR = "replica_error"  # the replica failed, and not its model
REPLICA_DIED = "replica_died"  # again and again


@dataclass(frozen=True, slots=True)
class ArtifactRef:
    """A file in the ArtifactStore, named by the sha256 of its bytes."""

    sha256: str  # 64 hex digits; also the id in /v1/artifacts/{id}
    media_type: str  # IANA, such as "audio/wav"
    size_bytes: int
    name: str  # what a person sees: "summary.wav"

    @property
    def media(self) -> Media:
        return Media(self.media_type.partition("/")[0])


@dataclass(frozen=True, slots=True)
class FromStep:
    """Stands for the output of another step of the same run: `position` counts the results passed with the request."""

    position: int


Value = str | ArtifactRef
Input = Value | FromStep


@dataclass(frozen=True, slots=True)
class TaskRequest:
    """One step, ready for a family deployment: `models` are card ids, best first; the rest are fallbacks.

    `cards` holds those cards that the replica cannot read from its own YAML files: models of the hub.
    """

    run_id: str
    step_id: str
    task: Task
    models: tuple[str, ...]
    inputs: tuple[Input, ...]
    options: Mapping[str, OptionValue | FromStep]
    timeout_s: float
    cards: Mapping[str, ModelCard] = field(default_factory=dict)
    until_s: float | None = None  # Unix: when the run needs the result at the latest
    request_id: str = ""  # of the request that the run answers, for log lines
    trace: Mapping[str, str] = field(default_factory=dict)  # the carrier of its run's span: cluster.tracing


@dataclass(frozen=True, slots=True)
class Span:
    """When and where a step ran. Unix seconds."""

    arrived_s: float
    started_s: float
    finished_s: float
    load_s: float  # of which loading the model
    node: str


@dataclass(frozen=True, slots=True)
class Done:
    """A finished step. `value` is what dependents eat; `data` is the same for machines (labels, scores, entities)."""

    step_id: str
    task: Task
    model: str
    value: Value
    span: Span
    data: Mapping[str, Any] = field(default_factory=dict)
    fallbacks: tuple[str, ...] = ()  # why earlier candidates gave way, one sentence each


@dataclass(frozen=True, slots=True)
class Failed:
    """A step that could not be done. `kind` is a closed word for metrics: an error code of cluster.errors."""

    step_id: str
    task: Task
    reason: str
    kind: str = "model_error"
    fallbacks: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Skipped:
    """A step that was not tried because `because` (a step id) gave nothing."""

    step_id: str
    task: Task
    because: str


TaskResult = Done | Failed | Skipped
