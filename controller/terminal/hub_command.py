"""`hgpt models tasks | search`: what can be asked for, and which models of the hub do it. Prints; decides nothing."""

import argparse
import asyncio
import json
import sys
from collections.abc import Sequence
from difflib import get_close_matches
from typing import Any

from rich.console import Console
from rich.table import Table

from cluster.catalogue import BUILT_IN, Catalogue
from cluster.errors import NotFound
from cluster.hub import Hub, HubModel, Source
from cluster.hub_models import LANGUAGES_LONGEST
from cluster.settings import HubSettings
from cluster.tasks import TASKS, Task, TaskSpec

DONE, MISUSED = 0, 2  # exit codes
MEGABYTE = 1_000_000
MINIMUM_WIDTH = 190  # columns; in a pipe there is no terminal to ask
LANGUAGES_SHOWN = 4
NEAR = 3  # matches shown for a misspelt task


def add_parsers(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    does = "show every task: what it takes, gives, and runs on"
    tasks = commands.add_parser("tasks", help=does, description=does)
    tasks.add_argument("--json", action="store_true", help="print one JSON list")
    tasks.set_defaults(run=list_tasks)
    does = "find models of the hub for a task"
    search = commands.add_parser("search", help=does, description=does)
    search.add_argument("task", help="a name that `hgpt models tasks` shows")
    search.add_argument("--limit", type=_number, default=10, metavar="N", help="the N most downloaded models (default: 10)")
    narrows = "an ISO 639-1 code such as de: leaves out models that name other languages only"
    search.add_argument("--language", type=_language, metavar="L", help=narrows)
    search.add_argument("--json", action="store_true", help="print one JSON list")
    add_endpoint(search)
    search.set_defaults(run=search_models)


def add_endpoint(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--endpoint", metavar="URL", help="another hub, such as a mirror (default: HF_ENDPOINT, or huggingface.co)")


def list_tasks(args: argparse.Namespace) -> int:
    built_in = Catalogue.read(BUILT_IN)
    rows = [_task_row(spec, len(built_in.for_task(spec.task))) for spec in TASKS.values()]
    if args.json:
        print(json.dumps(rows, indent=2))
        return DONE
    table = _table("task", "inputs → output", "options", "family", "runner", "default model", "cards")
    for row in rows:
        flow = f"{' '.join(row['inputs']) or 'nothing'}{'…' if row['takes_many'] else ''} → {row['output']}"
        options = " ".join([*row["required"], *(f"[{name}]" for name in row["optional"])])
        table.add_row(row["task"], flow, options, row["family"], row["runner"], row["default_model"], str(row["built_in_cards"] or ""))
    _console().print(table, markup=False)
    return DONE


def search_models(args: argparse.Namespace) -> int:
    try:
        task = task_named(args.task)
    except NotFound as exc:
        print(exc, file=sys.stderr)
        return MISUSED
    found = asyncio.run(Hub(HubSettings(endpoint=args.endpoint)).find(task, args.limit, args.language))
    if args.json:
        print(json.dumps([model.as_line() for model in found.models], ensure_ascii=False, indent=2))
    else:
        _console().print(_models_table(found.models))
    if found.source == Source.SNAPSHOT:
        print("the hub did not answer; these are models and numbers of April 2023, shipped with this program", file=sys.stderr)
    return DONE


def task_named(name: str) -> Task:
    """Raises NotFound with the names that look like it."""
    try:
        return Task(name.strip().lower().replace("_", "-").replace(" ", "-"))
    except ValueError:
        near = get_close_matches(name.lower(), list(Task), n=NEAR, cutoff=0.7)
        like = f"do you mean {' or '.join(near)}?" if near else "`hgpt models tasks` shows those there are"
        raise NotFound(f"no task is called {name}; {like}") from None


def _task_row(spec: TaskSpec, built_in_cards: int) -> dict[str, Any]:
    return {
        "task": spec.task.value,
        "does": spec.does,
        "inputs": [media.value for media in spec.inputs],
        "takes_many": spec.takes_many,
        "output": spec.output.value,
        "required": [option.value for option in spec.required],
        "optional": [option.value for option in spec.optional],
        "family": spec.family.value,
        "runner": spec.runner,
        "default_model": spec.default_model,
        "built_in_cards": built_in_cards,
    }


def _models_table(models: Sequence[HubModel]) -> Table:
    table = _table("id", "downloads", "likes", "MB", "licence", "languages", "remarks")
    for model in models:
        size = f"{model.size_bytes / MEGABYTE:,.0f}" if model.size_bytes else ""
        shown = " ".join(model.languages) if len(model.languages) <= LANGUAGES_SHOWN else f"{len(model.languages)} languages"
        remarks = [*(["gated"] if model.is_gated else []), *(["no safetensors"] if model.has_safetensors is False else [])]
        row = (model.id, f"{model.downloads:,}", f"{model.likes:,}", size, model.licence or "", shown, ", ".join(remarks))
        table.add_row(*row)
    return table


def _table(*headings: str) -> Table:
    table = Table(box=None, pad_edge=False)
    for heading in headings:
        table.add_column(heading, overflow="fold", no_wrap=True, justify="right" if heading in ("downloads", "likes", "MB") else "left")
    return table


def _console() -> Console:
    return Console(width=max(Console().width, MINIMUM_WIDTH))


def _number(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError("must be a whole number of at least 1")
    return int(text)


def _language(text: str) -> str:
    if not (text.isascii() and text.isalpha() and 2 <= len(text) <= LANGUAGES_LONGEST):
        raise argparse.ArgumentTypeError("must be a code of two or three letters, such as de")
    return text.lower()
