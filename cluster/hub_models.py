"""A model as a search of the hub shows it, and which of the hub's tags stand for a task. Asks nobody."""

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from huggingface_hub import ModelInfo

from cluster.catalogue import ANY_LANGUAGE
from cluster.language_codes import iso_code
from cluster.tasks import TASKS, Media, Task

# The hub tells these in one search.
FACTS = (
    "cardData",
    "downloads",
    "gated",
    "library_name",
    "likes",
    "pipeline_tag",
    "safetensors",
    "sha",
    "tags",
    "trendingScore",
    "usedStorage",
)
RUNNABLE_LIBRARIES = frozenset({"transformers", "diffusers", "sentence-transformers"})
# What the runners here do not open although the library is right: quantised weights, adapters, code of the repository. Not "gguf" or
# "openvino": many repositories have such files beside their safetensors.
QUANTISED_TAGS = frozenset({"4-bit", "8-bit", "awq", "bitsandbytes", "compressed-tensors", "fp8", "gptq", "mlx", "nvfp4"})
UNRUNNABLE_TAGS = QUANTISED_TAGS | {"adapter", "controlnet", "custom_code", "lora", "peft", "textual_inversion"}
CONTROLNET_TASKS = frozenset(task for task in Task if TASKS[task].runner == "controlnet")
LANGUAGES_LONGEST = 3  # letters of an ISO 639 code; longer tags are remarks
_VOICE = re.compile(r"mms-tts-([a-z]{3})\b")  # the 1,100 voices of MMS name their language, ISO 639-3, in their ids alone
EVERY_LANGUAGE = frozenset({"multilingual", "mul"})
BYTES_OF = {"F64": 8, "I64": 8, "U64": 8, "F32": 4, "I32": 4, "U32": 4, "F16": 2, "BF16": 2, "I16": 2, "U16": 2}  # others take 1

# Tasks that the hub calls otherwise. The first of a task's tags is searched for; a model with any of them may be used for it.
# A task without a tag has only the models that hub_notes.yaml names.
_OTHER_TAGS: dict[Task, tuple[str, ...]] = {
    Task.SUMMARIZATION: ("summarization", "text2text-generation"),
    Task.TRANSLATION: ("translation", "text2text-generation"),
    Task.TEXT2TEXT_GENERATION: ("text2text-generation", "text-generation", "summarization", "translation"),
    Task.CONVERSATIONAL: ("text-generation", "conversational"),
    Task.TEXT_GENERATION: ("text-generation", "conversational"),
    Task.ZERO_SHOT_CLASSIFICATION: ("zero-shot-classification", "text-classification"),
    Task.SENTENCE_SIMILARITY: ("sentence-similarity", "feature-extraction"),
    Task.FEATURE_EXTRACTION: ("feature-extraction", "sentence-similarity"),
    Task.TEXT_RANKING: ("text-ranking", "text-classification"),
    Task.IMAGE_TO_TEXT: ("image-to-text", "image-text-to-text"),
    Task.IMAGE_TEXT_TO_TEXT: ("image-text-to-text", "image-to-text", "any-to-any"),
    Task.VISUAL_QUESTION_ANSWERING: ("visual-question-answering", "image-text-to-text"),
    Task.DOCUMENT_QUESTION_ANSWERING: ("document-question-answering", "visual-question-answering", "image-to-text", "image-text-to-text"),
    Task.IMAGE_FEATURE_EXTRACTION: ("image-feature-extraction", "feature-extraction"),
    Task.TEXT_TO_SPEECH: ("text-to-speech", "text-to-audio"),
    Task.TEXT_TO_AUDIO: ("text-to-audio", "text-to-speech"),
    Task.IMAGE_TO_IMAGE: ("image-to-image", "text-to-image"),
    Task.IMAGE_TO_VIDEO: ("image-to-video", "text-to-video"),
    Task.DEPTH_CONTROL: ("depth-estimation",),
    Task.NORMAL_CONTROL: ("depth-estimation",),
    Task.OPENPOSE_CONTROL: ("keypoint-detection",),
    Task.SEG_CONTROL: ("image-segmentation",),
    Task.CANNY_CONTROL: (),
    Task.MLSD_CONTROL: (),
    Task.HED_CONTROL: (),
    Task.SCRIBBLE_CONTROL: (),
    Task.TABULAR_CLASSIFICATION: (),  # the hub's tag stands for models of table rows; here a picture of a table is read
    Task.IMAGE_EDITING: (),
    **dict.fromkeys(CONTROLNET_TASKS, ()),
}
# Tags of the hub that are no pipeline tag (any more): searched for among all tags.
PLAIN_TAGS = frozenset({"text2text-generation"})
# Further tags that a model must have, where the pipeline tag says too little.
ALSO_TAGGED = {Task.CONVERSATIONAL: ("conversational",)}


@dataclass(frozen=True, slots=True)
class HubModel:
    """A model as a search of the hub shows it. Unknown facts are None."""

    id: str
    task: Task
    downloads: int  # in the last 30 days
    likes: int
    library: str | None = None  # "transformers", "diffusers", …
    languages: tuple[str, ...] = ()  # ISO 639-1; empty when the card names none
    licence: str | None = None  # the hub's licence tag, "apache-2.0"
    is_gated: bool = False
    has_safetensors: bool | None = None
    size_bytes: int | None = None  # of the weights
    trending: float | None = None
    sha: str | None = None  # of the revision that was seen
    tags: tuple[str, ...] = ()
    description: str = ""

    @classmethod
    def of(cls, info: ModelInfo, task: Task) -> "HubModel":
        card: Mapping[str, Any] = info.card_data.to_dict() if info.card_data else {}  # type: ignore[no-untyped-call]
        tags = tuple(info.tags or ())
        return cls(
            id=info.id,
            task=task,
            downloads=info.downloads or 0,
            likes=info.likes or 0,
            library=library_of(info),
            languages=languages_of(card.get("language")),
            licence=licence_of(card.get("license"), tags),
            is_gated=bool(info.gated),
            has_safetensors=info.safetensors is not None or "safetensors" in tags,
            size_bytes=weights_bytes(info),
            trending=info.trending_score,
            sha=info.sha,
            tags=tags,
        )

    @classmethod
    def from_line(cls, line: Mapping[str, Any]) -> "HubModel":
        """One entry of the snapshot or of a search kept on disk."""
        lists = {name: tuple(line.get(name, ())) for name in ("languages", "tags")}
        return cls(**{**line, "task": Task(line["task"]), **lists})

    def as_line(self) -> dict[str, Any]:
        """What is known, for a file: what a reader of the file fills in by itself is left out."""
        defaults = {field.name: field.default for field in fields(self)}
        return {name: value for name, value in asdict(self).items() if value != defaults[name]}

    @property
    def might_run(self) -> bool:
        """By its library and tags; what only its files can tell is found when it is pinned."""
        unfit = UNRUNNABLE_TAGS - ({"controlnet"} if self.task in CONTROLNET_TASKS else set())
        return (self.library is None or self.library in RUNNABLE_LIBRARIES) and unfit.isdisjoint(self.tags)

    @property
    def reads(self) -> tuple[str, ...]:
        """The languages to count on, ISO 639-1 or "*". A model of words or speech that names none is most likely an English one."""
        if EVERY_LANGUAGE & set(self.languages) or not {Media.TEXT, Media.AUDIO} & {*TASKS[self.task].inputs, TASKS[self.task].output}:
            return (ANY_LANGUAGE,)
        if (voice := _VOICE.search(self.id)) and (language := iso_code(voice[1])):
            return (language,)
        return self.languages or ("en",)

    def speaks(self, language: str | None) -> bool:
        """False only for a model that names other languages."""
        return language is None or not self.languages or language in self.languages or bool(EVERY_LANGUAGE & set(self.languages))


def hub_tags(task: Task) -> tuple[str, ...]:
    return _OTHER_TAGS.get(task, (task.value,))


def searched(task: Task, language: str | None) -> dict[str, Any] | None:
    """The parameters of a search for the task; None when the hub has no tag for it."""
    tags = hub_tags(task)
    if not tags:
        return None
    filters = [*ALSO_TAGGED.get(task, ()), *([language] if language else [])]
    if tags[0] in PLAIN_TAGS:
        return {"filter": [tags[0], *filters]}
    return {"pipeline_tag": tags[0], **({"filter": filters} if filters else {})}


def task_of(pipeline_tag: str | None) -> Task | None:
    """The task that a pipeline tag stands for, when nobody says which is meant."""
    if pipeline_tag == Task.TABULAR_CLASSIFICATION:
        return None
    return next((task for task in Task if task == pipeline_tag), None)


def read_lines(path: Path) -> list[HubModel]:
    """A JSON object a line."""
    return [HubModel.from_line(json.loads(line)) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]


def write_lines(models: Iterable[HubModel]) -> str:
    return "".join(json.dumps(model.as_line(), ensure_ascii=False) + "\n" for model in models)


def info_of(answer: Mapping[str, Any]) -> ModelInfo:
    """What the hub's API answers about one repository. Raises KeyError or TypeError for something else."""
    return ModelInfo(**answer)  # type: ignore[no-untyped-call]


def library_of(info: ModelInfo) -> str | None:
    if info.library_name:
        return info.library_name
    return next((library for library in sorted(RUNNABLE_LIBRARIES) if library in (info.tags or ())), None)


def languages_of(named: Any) -> tuple[str, ...]:
    """The card's `language`: a code, a list of them, or nonsense."""
    codes = [named] if isinstance(named, str) else named if isinstance(named, list) else []
    known = [str(code).lower() for code in codes]
    return tuple(dict.fromkeys(code for code in known if len(code) <= LANGUAGES_LONGEST or code in EVERY_LANGUAGE))


def licence_of(named: Any, tags: Iterable[str]) -> str | None:
    licence = named[0] if isinstance(named, list) and named else named
    return str(licence) if licence else next((tag.removeprefix("license:") for tag in tags if tag.startswith("license:")), None)


def weights_bytes(info: ModelInfo) -> int | None:
    """From the safetensors' headers; else everything that the repository stores, which is more."""
    if info.safetensors is None:
        return info.used_storage or None
    return sum(count * BYTES_OF.get(kind, 1) for kind, count in info.safetensors.parameters.items())
