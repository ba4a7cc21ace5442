"""The typed mirror of serve_config.yaml's `args`: every number an operator may turn. An unknown key stops the start."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from cluster.errors import HuggingGPTError
from cluster.tasks import Family, Task


def home_folder() -> Path:
    """HGPT_HOME, or the user's cache folder: where this machine keeps models and artifacts."""
    return Path(os.environ.get("HGPT_HOME") or "~/.cache/hugginggpt").expanduser()


def models_folder() -> Path:
    """HGPT_MODELS, or `models` in the home folder."""
    return Path(os.environ.get("HGPT_MODELS") or home_folder() / "models").expanduser()


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class LanguageModelClient(_Section):
    """How the controller and the LLM experts reach the LLM. The key itself is never in the YAML."""

    base_url: str = "http://127.0.0.1:8000/llm/v1"
    model: str = "controller"
    api_key_env: str = "HGPT_LLM_API_KEY"
    timeout_s: float = Field(default=120, gt=0)
    max_retries: int = Field(default=2, ge=0)


class Planning(_Section):
    max_steps: int = Field(default=10, ge=1, le=100)
    samples: int = Field(default=1, ge=1, le=16)  # plans drawn for a request, of which the most agreed on is taken; 1: the likeliest one
    temperature: float = Field(default=0.7, gt=0, le=2)  # at which several are drawn
    streams: bool = True  # steps start while the plan is still being written; only where one plan is drawn
    demonstrations: bool = True  # in the prompt; a planner that was trained on plans needs none
    max_replans: int = Field(default=2, ge=0, le=10)  # plannings again, for what failed; 0: none
    max_tokens: int = Field(default=400, ge=32)
    timeout_s: float = Field(default=120, gt=0)


class Selecting(_Section):
    margin: float = Field(default=0.1, ge=0)  # candidates this close in score to the best are put to the LLM
    max_candidates: int = Field(default=4, ge=1)  # put to it
    max_fallbacks: int = Field(default=2, ge=0)  # behind a step's first model
    delay_weight: float = Field(default=0.03, ge=0)  # score lost with every doubling of the seconds to a result
    models: Mapping[Task, str] = Field(default_factory=dict)  # task → model id that is always taken


class Answering(_Section):
    max_tokens: int = Field(default=160, ge=32)
    shown_characters: int = Field(default=200, ge=50)  # of each result, in the answer's prompt


class HubSettings(_Section):
    """How models beyond the built-in cards are found. With `enabled` every task of the table whose family is deployed can be planned."""

    enabled: bool = False
    endpoint: str | None = None  # None: HF_ENDPOINT, or huggingface.co
    timeout_s: float = Field(default=5, gt=0)  # of a search or a look-up; then the cache or the snapshot answers
    cache_s: float = Field(default=3600, ge=0)  # for which a search is not repeated
    max_results: int = Field(default=20, ge=1)  # of a search
    licences: tuple[str, ...] = ()  # the hub's licence tags that are allowed; empty: all
    token_env: str = "HF_TOKEN"  # noqa: S105 - the name of a variable


class FamilySettings(_Section):
    """One family deployment. `deployment` goes to Ray Serve as it is (num_replicas or autoscaling_config, …)."""

    deployment: Mapping[str, Any] = Field(default_factory=dict)
    memory_bytes: int = Field(default=4_000_000_000, gt=0)  # what a replica's loaded models may take together
    failures_in_a_row: int = Field(default=3, ge=1)  # after which a model is set aside on its replica
    rest_s: float = Field(default=300, ge=0)  # for which it is
    max_batch: int | None = Field(default=None, ge=1)  # calls that a model computes together; None: as many as the model gains from
    batch_wait_s: float = Field(default=0, ge=0)  # for which an idle model waits for more; a busy one gathers them anyway


class Limits(_Section):
    max_upload_bytes: int = Field(default=50_000_000, gt=0)
    max_picture_pixels: int = Field(default=50_000_000, gt=0, le=89_478_485)  # beyond the second number Pillow warns by itself
    max_message_characters: int = Field(default=20_000, gt=0)  # longer texts come as files
    max_text_characters: int = Field(default=200_000, gt=0)  # of a text file in a request
    max_files: int = Field(default=10, gt=0)
    max_run_steps: int = Field(
        default=100, gt=0, le=10_000
    )  # of a plan that a person sends; `planning.max_steps` is of one that is written
    step_timeout_s: float = Field(default=600, gt=0)
    run_timeout_s: float = Field(default=1800, gt=0)
    max_runs_in_flight: int = Field(default=64, gt=0)  # of an ingress replica; the next one is answered with 429
    max_memory_share: float = Field(default=0.95, gt=0, le=1)  # of the ingress's machine or container, above which it is too
    max_body_bytes_in_flight: int = Field(default=500_000_000, gt=0)  # of all requests that are being read and answered


class Caching(_Section):
    """Of the results of steps, in each ingress replica."""

    shared: bool = False  # what one user's inputs gave may answer another's equal step; else who asks is part of the key
    max_results: int = Field(default=512, ge=0)  # the last ones used; 0: none are kept
    max_bytes: int = Field(default=64_000_000, ge=0)  # of them all: texts and the names of artifacts, not their bytes


class Runs(_Section):
    """Of the records of runs. A request with `Cache-Control: no-store` leaves none in the store."""

    keep_s: float = Field(default=604_800, ge=0)  # from a run's beginning: how long its record stays in the artifact store; 0: not at all
    max_readers: int = Field(default=100, ge=1)  # of events at once, of an ingress replica: each takes one of its max_ongoing_requests
    heartbeat_s: float = Field(default=15, gt=0)  # of silence, after which a stream of events says that it is still there
    lost_after_s: float = Field(default=90, gt=0)  # without a word that a run in the background goes on; there is one three times as often


class Tracing(_Section):
    """OpenTelemetry spans of every run, by OTLP over HTTP. A backend's key goes into OTEL_EXPORTER_OTLP_HEADERS of every node."""

    otlp_endpoint: str | None = None  # such as "http://collector:4318", to which /v1/traces is added; None: nothing is traced
    sampling_ratio: float = Field(default=1, ge=0, le=1)  # of the runs; one that comes with a `traceparent` is traced as that says
    service_name: str = Field(default="hugginggpt", min_length=1)  # before "-ingress" and "-" with the name of a family
    interval_s: float = Field(default=1, gt=0)  # between two batches
    timeout_s: float = Field(default=3, gt=0)  # of a batch, with its retries
    max_queued_spans: int = Field(default=2048, ge=1)  # of a process; those beyond are lost

    @field_validator("otlp_endpoint")
    @classmethod
    def _is_an_address(cls, url: str | None) -> str | None:
        if url is None:
            return None
        parts = urlsplit(url)
        if parts.scheme not in {"http", "https"} or not parts.hostname or parts.port == 0:
            raise ValueError("the address of a backend reads http://host:4318")
        if parts.username or parts.query:
            raise ValueError("secrets go into OTEL_EXPORTER_OTLP_HEADERS, not into the address")
        return url


FamilyName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]  # of cluster.tasks.Family, or one that own model cards name


class AppSettings(_Section):
    """`args` of the application `controller.app:build`."""

    llm: LanguageModelClient = LanguageModelClient()
    planner_llm: LanguageModelClient | None = None  # None: the same as `llm`
    planning: Planning = Planning()
    selecting: Selecting = Selecting()
    answering: Answering = Answering()
    limits: Limits = Limits()
    caching: Caching = Caching()
    runs: Runs = Runs()
    artifacts: str = Field(default_factory=lambda: f"file://{home_folder()}/artifacts")  # any fsspec URL that all nodes see
    models: Path = Field(default_factory=models_folder)
    catalogues: tuple[Path, ...] = ()  # YAML files of own model cards, after the built-in ones
    families: Mapping[FamilyName, FamilySettings] = Field(default_factory=lambda: {family.value: FamilySettings() for family in Family})
    hub: HubSettings = HubSettings()
    tracing: Tracing = Tracing()
    ingress: Mapping[str, Any] = Field(default_factory=dict)  # deployment options of the HTTP door


class EngineSettings(_Section):
    """`args` of the application `deployments.llm:build`."""

    engine: Literal["llama_cpp", "vllm", "echo"] = "llama_cpp"
    model: str = "Qwen/Qwen2.5-Coder-1.5B-Instruct-GGUF"  # a card id (llama_cpp) or a hub id or path (vllm)
    adapter: str | None = None  # llama_cpp: a LoRA adapter, by its name in deployments/adapters or by the path of its folder
    serves_as: str = "controller"  # the model name that clients give
    models: Path = Field(default_factory=models_folder)
    catalogues: tuple[Path, ...] = ()
    threads: int | None = None  # None: all cores
    parallel: int = Field(default=4, ge=1)  # requests decoded together
    context_tokens: int = Field(default=4096, ge=1024)  # of each of them
    accelerator: str | None = None  # vllm: Ray's accelerator type such as "A100", "cpu" for none
    engine_kwargs: Mapping[str, Any] = Field(default_factory=dict)  # vllm: goes to the engine as it is
    deployment: Mapping[str, Any] = Field(default_factory=dict)


T = TypeVar("T", bound=BaseModel)


def parse(kind: type[T], args: Mapping[str, Any]) -> T:
    """The settings, or HuggingGPTError with one line per wrong key."""
    try:
        return kind.model_validate(args)
    except ValidationError as exc:
        raise HuggingGPTError(f"the configuration is wrong: {wrong_keys(exc)}") from exc


def wrong_keys(exc: ValidationError) -> str:
    """Every wrong key of a YAML file with its place, in one line."""
    wrong = ((".".join(map(str, error["loc"])), error["msg"].removeprefix("Value error, ")) for error in exc.errors())
    return "; ".join(f"{place}: {message}" if place else message for place, message in wrong)
