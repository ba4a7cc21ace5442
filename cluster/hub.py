"""What the hub says about its models: the facts that a choice needs, live, from a cache on disk, or from the snapshot shipped here."""

from dataclasses import dataclass

from cluster.tasks import Task


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
