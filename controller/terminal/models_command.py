"""`hgpt models list | pull | verify`: the model store on a command line. Prints; knows nothing of argument order or hashing."""

import argparse
import asyncio
import json
import logging
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from cluster.catalogue import BUILT_IN, Catalogue, ModelCard
from cluster.errors import HuggingGPTError, ModelError, ModelUnavailable, NotFound
from cluster.hub import Hub
from cluster.settings import HubSettings, models_folder
from controller.terminal import hub_command
from deployments.store import ModelStore
from deployments.store_progress import progress_on

DONE, FAILED, MISUSED = 0, 1, 2  # exit codes
MEGABYTE = 1_000_000
LANGUAGES_SHOWN = 4
MINIMUM_WIDTH = 132  # columns; in a pipe there is no terminal to ask


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Registers `models`; each sub-command sets `run`, which takes the parsed arguments and gives the exit code."""
    models = subparsers.add_parser("models", help="the models on this machine")
    commands = models.add_subparsers(dest="models_command", required=True, metavar="list|pull|verify|tasks|search")
    listing = _command(commands, "list", "show every model card and whether its files are here", list_models)
    listing.add_argument("--json", action="store_true", help="print one JSON list")
    pull = _command(commands, "pull", "download models, checked by hash", pull_models)
    pull.add_argument("models", nargs="*", metavar="ID", help="model ids, also of the hub; without any, the default set")
    pull.add_argument("--task", help="what a model of the hub is to do, where its own tag does not say so")
    hub_command.add_endpoint(pull)
    pull.add_argument("--all", action="store_true", help="every card")
    pull.add_argument("--default", action="store_true", help="every card that a task or the planner uses (this is the default)")
    pull.add_argument("--again", action="store_true", help="delete what is here first, to repair a corrupt model")
    verify = _command(commands, "verify", "hash the files again", verify_models)
    verify.add_argument("models", nargs="*", metavar="ID", help="model ids; without any, every model that is here")
    hub_command.add_parsers(commands)


def default_cards(catalogue: Catalogue) -> list[ModelCard]:
    """The set that the first command needs. A card that neither does a task nor plans is pulled by name."""
    return [card for card in catalogue.cards.values() if card.tasks or card.plans]


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
        store = ModelStore(models_folder(), hub_endpoint=getattr(args, "endpoint", None))
        return command(args, Catalogue.read(*(args.catalogue or [BUILT_IN])), store)
    except NotFound as exc:
        print(exc, file=sys.stderr)
        return MISUSED
    except HuggingGPTError as exc:
        print(exc, file=sys.stderr)
        return FAILED


def _list(args: argparse.Namespace, catalogue: Catalogue, store: ModelStore) -> int:
    rows = [_row(card, store) for card in _all_cards(catalogue)]
    if args.json:
        print(json.dumps(rows, indent=2))
    else:
        Console(width=max(Console().width, MINIMUM_WIDTH)).print(_table(rows))
    return DONE


def _pull(args: argparse.Namespace, catalogue: Catalogue, store: ModelStore) -> int:
    """One model after the other; one that fails does not keep the rest away."""
    progress = progress_on(sys.stderr)
    logging.getLogger("huggingface_hub").setLevel(logging.CRITICAL)  # a failure is told in our own sentence

    def pull(card: ModelCard) -> str:
        if args.again and card.files:
            store.remove(card)
        folder = store.ensure(card, progress)
        return str(folder) if card.has_files else "comes with a Python package"

    return _for_each(_cards_to_pull(args, catalogue), pull)


def _verify(args: argparse.Namespace, catalogue: Catalogue, store: ModelStore) -> int:
    hub = Hub(HubSettings())
    named = [_own_card(model_id, catalogue, hub) for model_id in args.models]
    cards = named or [card for card in _all_cards(catalogue) if card.files and store.is_complete(card)]
    if not cards:
        raise ModelUnavailable(f"no model has been pulled to {store.root}; `hgpt models pull` does that")

    def verify(card: ModelCard) -> str:
        store.verify(card)
        return f"{len(card.files)} files are as pinned" if card.files else "nothing is pinned that could have changed"

    return _for_each(cards, verify)


def _cards_to_pull(args: argparse.Namespace, catalogue: Catalogue) -> list[ModelCard]:
    named = asyncio.run(_named_cards(args, catalogue))
    if args.all:
        return list(catalogue.cards.values())
    if args.default or not named:
        return default_cards(catalogue) + [card for card in named if not card.tasks]
    return named


async def _named_cards(args: argparse.Namespace, catalogue: Catalogue) -> list[ModelCard]:
    """Own cards, and models of the hub, which are pinned now if they were not before."""
    task = hub_command.task_named(args.task) if args.task else None
    hub = Hub(HubSettings(endpoint=args.endpoint))
    return [catalogue.cards.get(model_id) or await hub.card(model_id, task) for model_id in args.models]


def _own_card(model_id: str, catalogue: Catalogue, hub: Hub) -> ModelCard:
    return catalogue.cards.get(model_id) or hub.pinned(model_id) or catalogue.card(model_id)


def _all_cards(catalogue: Catalogue) -> list[ModelCard]:
    """The catalogue's, and the models of the hub that were used here."""
    return [*catalogue.cards.values(), *(card for card in Hub(HubSettings()).all_pinned() if card.id not in catalogue.cards)]


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
