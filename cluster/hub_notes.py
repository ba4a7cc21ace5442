"""What is known here about models of the hub without asking it: hub_notes.yaml, hub_cards.yaml, hub_snapshot.jsonl."""

from functools import cache
from pathlib import Path

import yaml
from pydantic import BaseModel, ConfigDict

from cluster.catalogue import Catalogue, HubId
from cluster.hub_models import HubModel, read_lines
from cluster.tasks import TASKS, Task

NOTES = Path(__file__).with_name("hub_notes.yaml")
CARDS = Path(__file__).with_name("hub_cards.yaml")
SNAPSHOT = Path(__file__).with_name("hub_snapshot.jsonl")


class Note(BaseModel):
    """`tasks`: what the model is good for, whatever its tags say. `files`: patterns of the files to take, in place of the usual choice.
    `base`: another repository whose files are put under `base/`. `library`: how its files are laid out, where the hub does not say.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: HubId
    tasks: tuple[Task, ...]
    files: tuple[str, ...] = ()
    base: HubId | None = None
    library: str | None = None


@cache
def notes() -> dict[str, Note]:
    entries = yaml.safe_load(NOTES.read_text(encoding="utf-8"))
    return {note.id: note for note in map(Note.model_validate, entries)}


@cache
def cards() -> Catalogue:
    """Models of a task of the hub that need no files."""
    return Catalogue.read(CARDS)


@cache
def snapshot() -> tuple[HubModel, ...]:
    return tuple(read_lines(SNAPSHOT))


def noted_for(task: Task) -> tuple[str, ...]:
    """Ids of the models that the cards, the notes and the task table name for a task."""
    noted = [note.id for note in notes().values() if task in note.tasks]
    return tuple(dict.fromkeys([*(card.id for card in cards().for_task(task)), *noted, TASKS[task].default_model]))
