"""`hgpt models list | pull | verify`: the model store on a command line. Prints; knows nothing of argument order or hashing."""

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from cluster.catalogue import BUILT_IN, Catalogue, ModelCard
from cluster.errors import HuggingGPTError, ModelError, ModelUnavailable, NotFound
from cluster.settings import models_folder
from deployments.store import ModelStore
from deployments.store_progress import progress_on

DONE, FAILED, MISUSED = 0, 1, 2  # exit codes
MEGABYTE = 1_000_000
LANGUAGES_SHOWN = 4
MINIMUM_WIDTH = 132  # columns; in a pipe there is no terminal to ask


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Registers `models`; each sub-command sets `run`, which takes the parsed arguments and gives the exit code."""
    models = subparsers.add_parser("models", help="the models on this machine")
    commands = models.add_subparsers(dest="models_command", required=True, metavar="list|pull|verify")
    listing = _command(commands, "list", "show every model card and whether its files are here", list_models)
    listing.add_argument("--json", action="store_true", help="print one JSON list")
    pull = _command(commands, "pull", "download models, checked by hash", pull_models)
    pull.add_argument("models", nargs="*", metavar="ID", help="model ids; without any, the default set")
    pull.add_argument("--all", action="store_true", help="every card")
    pull.add_argument("--default", action="store_true", help="every card that a task uses (this is the default)")
    pull.add_argument("--again", action="store_true", help="delete what is here first, to repair a corrupt model")
    verify = _command(commands, "verify", "hash the files again", verify_models)
    verify.add_argument("models", nargs="*", metavar="ID", help="model ids; without any, every model that is here")


def default_cards(catalogue: Catalogue) -> list[ModelCard]:
    """The set that the first command needs: cards without a task are candidate planners and are pulled by name."""
    return [card for card in catalogue.cards.values() if card.tasks]


def list_models(args: argparse.Namespace) -> int:
    return _with_catalogue(args, _list)


def pull_models(args: argparse.Namespace) -> int:
    return _with_catalogue(args, _pull)


def verify_models(args: argparse.Namespace) -> int:
    return _with_catalogue(args, _verify)


def _command(
    commands: "argparse._SubParsersAction[argparse.ArgumentParser]", name: str, does: str, run: Callable[[argparse.Namespace], int]
) -> argparse.ArgumentParser:
    parser = commands.add_parser(name, help=does, description=does)
    parser.add_argument("--catalogue", type=Path, action="append", metavar="FILE", help="model cards in place of the built-in ones")
    parser.set_defaults(run=run)
    return parser


def _with_catalogue(args: argparse.Namespace, command: Callable[[argparse.Namespace, Catalogue, ModelStore], int]) -> int:
    try:
        return command(args, Catalogue.read(*(args.catalogue or [BUILT_IN])), ModelStore(models_folder()))
    except NotFound as exc:
        print(exc, file=sys.stderr)
        return MISUSED
    except HuggingGPTError as exc:
        print(exc, file=sys.stderr)
        return FAILED


def _list(args: argparse.Namespace, catalogue: Catalogue, store: ModelStore) -> int:
    rows = [_row(card, store) for card in catalogue.cards.values()]
    if args.json:
        print(json.dumps(rows, indent=2))
    else:
        Console(width=max(Console().width, MINIMUM_WIDTH)).print(_table(rows))
    return DONE


def _pull(args: argparse.Namespace, catalogue: Catalogue, store: ModelStore) -> int:
    """One model after the other; one that fails does not keep the rest away."""
    progress = progress_on(sys.stderr)

    def pull(card: ModelCard) -> str:
        if args.again and card.files:
            store.remove(card)
        folder = store.ensure(card, progress)
        return str(folder) if card.files else "comes with a Python package"

    return _for_each(_cards_to_pull(args, catalogue), pull)


def _verify(args: argparse.Namespace, catalogue: Catalogue, store: ModelStore) -> int:
    named = [catalogue.card(model_id) for model_id in args.models]
    cards = named or [card for card in catalogue.cards.values() if card.files and store.is_complete(card)]
    if not cards:
        raise ModelUnavailable(f"no model has been pulled to {store.root}; `hgpt models pull` does that")

    def verify(card: ModelCard) -> str:
        store.verify(card)
        return f"{len(card.files)} files are as pinned"

    return _for_each(cards, verify)


def _cards_to_pull(args: argparse.Namespace, catalogue: Catalogue) -> list[ModelCard]:
    named = [catalogue.card(model_id) for model_id in args.models]
    if args.all:
        return list(catalogue.cards.values())
    if args.default or not named:
        return default_cards(catalogue) + [card for card in named if not card.tasks]
    return named


def _for_each(cards: Sequence[ModelCard], act: Callable[[ModelCard], str]) -> int:
    code = DONE
    for card in cards:
        try:
            print(f"{card.id}: {act(card)}", flush=True)
        except ModelError as exc:
            print(exc, file=sys.stderr)
            code = FAILED
    return code


def _row(card: ModelCard, store: ModelStore) -> dict[str, Any]:
    return {
        "id": card.id,
        "tasks": [task.value for task in card.tasks],
        "languages": list(card.languages),
        "size_bytes": card.size_bytes,
        "licence": card.licence,
        "state": "complete" if store.is_complete(card) else "absent",
    }


def _table(rows: Sequence[dict[str, Any]]) -> Table:
    table = Table(box=None, pad_edge=False)
    for heading in ("id", "tasks", "languages", "MB", "licence", "state"):
        table.add_column(heading, overflow="fold", no_wrap=heading != "tasks")  # an id is there to be copied whole
    for row in rows:
        languages = row["languages"]
        shown = " ".join(languages) if len(languages) <= LANGUAGES_SHOWN else f"{len(languages)} languages"
        size = f"{row['size_bytes'] / MEGABYTE:,.0f}"
        table.add_row(row["id"], ", ".join(row["tasks"]) or "(planner)", shown, size, row["licence"], row["state"])
    return table
