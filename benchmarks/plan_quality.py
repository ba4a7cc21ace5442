"""Are the plans right? The project's own planner over the requests of TaskBench, one after another, scored as TaskBench scores.

Every plan is kept in FILE.plans.jsonl beside --out, in the LLM's own words too; a request that stands there already is not asked again.
"""

import argparse
import asyncio
import json
import os
import statistics
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.engines import adapter_file, gguf_card, llama_cpp
from benchmarks.measure import machine, versions
from benchmarks.plan_score import Pair, intervals, score
from benchmarks.taskbench import TASKS23, Node, Record, nodes_of, read_records, request_of
from cluster.chat import Message, OpenAIChat, Reply
from cluster.errors import HuggingGPTError, LanguageModelError, PlanError
from cluster.settings import LanguageModelClient, Planning
from controller.asking.request import Request
from controller.planning.plan_language import write_plan
from controller.planning.plan_schema import plan_schema
from controller.planning.planner import Planner

MODEL = "Qwen/Qwen2.5-Coder-0.5B-Instruct-GGUF"
ADAPTER = "planner-0.5b"
TIMEOUT_S = 600.0  # a busy machine must not turn a slow plan into none: what it took is reported
PROGRESS_EVERY = 10  # requests
FAILED = 1

Settings = Mapping[str, Any]
Engine = AbstractContextManager[tuple[str, str]]  # gives base URL and served name


@dataclass(frozen=True, slots=True)
class Entry:
    """What came of one request."""

    id: str
    type: str
    user_request: str
    replies: tuple[str, ...]  # as the LLM wrote them: the draft or drafts, then the repair
    plan: str | None  # in the plan language, after its mending; None where no valid plan came
    predicted: tuple[Node, ...] | None
    gold: tuple[Node, ...]
    seconds: float
    tokens_in: int  # read from the prefix cache or not
    tokens_out: int
    was_repaired: bool
    error: str | None = None

    @classmethod
    def of_json(cls, form: Mapping[str, Any]) -> "Entry":
        """Raises KeyError or TypeError for another form."""
        predicted = None if form["predicted"] is None else _nodes(form["predicted"])
        return cls(**{**form, "replies": tuple(form["replies"]), "predicted": predicted, "gold": _nodes(form["gold"])})


class RecordedChat(OpenAIChat):
    """OpenAIChat that remembers what came since `turns` was emptied, so that a reply which is no plan can be read too."""

    def __init__(self, base_url: str, model: str) -> None:
        client = LanguageModelClient()
        super().__init__(base_url, model, os.environ.get(client.api_key_env, "none"), client.max_retries)
        self.turns: list[list[Reply]] = []  # a turn has one reply, or several samples

    async def reply(self, messages: Sequence[Message], **limits: Any) -> Reply:
        reply = await super().reply(messages, **limits)
        self.turns.append([reply])
        return reply

    async def samples(self, messages: Sequence[Message], **limits: Any) -> list[Reply]:
        replies = await super().samples(messages, **limits)
        self.turns.append(replies)
        return replies


class PlansFile:
    """One JSON object a line: the settings, then the entries as they come. A line that a stop cut short is dropped.

    Raises HuggingGPTError when the file that is there is of other settings, or none of this benchmark.
    """

    def __init__(self, path: Path, settings: Settings) -> None:
        self._path = path
        self.entries: dict[str, Entry] = {}
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"{json.dumps({'settings': settings})}\n", encoding="utf-8")
            return
        content = path.read_bytes()
        whole = content[: content.rfind(b"\n") + 1]
        try:
            header, *lines = whole.decode().split("\n")[:-1]
            kept: dict[str, Any] = dict(json.loads(header)["settings"])
            entries = [Entry.of_json(json.loads(line)) for line in lines]
        except (ValueError, KeyError, TypeError) as exc:
            raise HuggingGPTError(f"{path} is no file of plans; name another --out or remove it") from exc
        if differing := [name for name in kept | dict(settings) if kept.get(name) != settings.get(name)]:
            changes = ", ".join(f"{name} was {kept.get(name)} and is {settings.get(name)}" for name in differing)
            raise HuggingGPTError(f"{path} holds plans of other settings ({changes}); name another --out or remove it")
        os.truncate(path, len(whole))
        self.entries = {entry.id: entry for entry in entries}

    def append(self, entry: Entry) -> None:
        self.entries[entry.id] = entry
        with self._path.open("a", encoding="utf-8") as file:
            print(json.dumps(asdict(entry), ensure_ascii=False), file=file)


def main(words: Sequence[str] | None = None) -> int:
    args = _arguments(words)
    try:
        if not args.out.name or args.out.is_dir():
            raise HuggingGPTError(f"{args.out} is a folder; --out names the file of the report")
        records = _records(args.data, args.limit)
        planning = Planning(samples=args.samples, demonstrations=args.demonstrations, timeout_s=TIMEOUT_S)
        engine, settings = _engine(args, planning)
        settings = {"data": args.data.name, "data_sha256": _digest(args.data.read_bytes()), **settings, **_as_settings(planning)}
        file = PlansFile(args.out.with_suffix(".plans.jsonl"), settings)
        if any(record.id not in file.entries for record in records):
            with engine as (base_url, served):
                asyncio.run(_ask(records, RecordedChat(base_url, served), planning, file))
        _report([file.entries[record.id] for record in records], settings, args.out)
    except OSError as exc:
        print(f"plan_quality: {exc.filename or 'a file'}: {exc.strerror or exc}", file=sys.stderr)
        return FAILED
    except HuggingGPTError as exc:
        print(f"plan_quality: {exc}", file=sys.stderr)
        return FAILED
    except KeyboardInterrupt:
        print("plan_quality: stopped; the same command goes on from here", file=sys.stderr)
        return FAILED
    return 0


def figures(entries: Sequence[Entry]) -> dict[str, float]:
    """The scores, and what the plans cost; a request without a valid plan counts too."""
    seconds = [entry.seconds for entry in entries]
    return score(_pairs(entries)) | {
        "requests": len(entries),
        "repaired_rate": statistics.fmean(entry.was_repaired for entry in entries),
        "seconds_per_plan_p50": statistics.median(seconds),
        "seconds_per_plan_p95": float(np.percentile(seconds, 95)),
        "tokens_in_p50": statistics.median(entry.tokens_in for entry in entries),
        "tokens_out_p50": statistics.median(entry.tokens_out for entry in entries),
    }


async def _ask(records: Sequence[Record], chat: RecordedChat, planning: Planning, file: PlansFile) -> None:
    """Raises LanguageModelError when the engine is not there, or no longer."""
    planner = Planner(chat, TASKS23, planning)
    print("reading the prompt first …", flush=True)
    await planner.prime()
    done = [file.entries[record.id] for record in records if record.id in file.entries]
    for record in records:
        if record.id not in file.entries:
            done.append(await _planned(record, planner, chat))
            file.append(done[-1])
            if len(done) % PROGRESS_EVERY == 0:
                print(_progress(done, len(records)), flush=True)


async def _planned(record: Record, planner: Planner, chat: RecordedChat) -> Entry:
    """What came of the request; raises LanguageModelError only when the engine is gone."""
    request = request_of(record)
    plan, predicted, error = None, None, None
    chat.turns.clear()
    started = time.perf_counter()
    try:
        found = (await planner.plan(request)).plan
        seconds = time.perf_counter() - started
        plan, predicted = write_plan(found, request), nodes_of(found, request)
    except (PlanError, LanguageModelError) as exc:
        seconds = time.perf_counter() - started
        error = exc.message
        if isinstance(exc, LanguageModelError):
            await chat.check()
    replies = [reply for turn in chat.turns for reply in turn]
    return Entry(
        *(record.id, record.type, record.user_request, tuple(reply.text for reply in replies), plan, predicted, record.nodes),
        seconds=round(seconds, 3),
        tokens_in=sum(reply.tokens_in for reply in replies),
        tokens_out=sum(reply.tokens_out for reply in replies),
        was_repaired=len(chat.turns) > 1,
        error=error,
    )


def _engine(args: argparse.Namespace, planning: Planning) -> tuple[Engine, dict[str, Any]]:
    """The engine to plan with, not started yet, and what names it. Raises HuggingGPTError for options that do not go together."""
    if args.url or args.engine == "external":
        if not (args.url and args.served) or args.engine == "llama_cpp" or args.model or args.adapter:
            raise HuggingGPTError("an external engine takes --url and --served, and neither --model nor --adapter")
        return nullcontext((args.url, args.served)), {"engine": "external", "url": args.url, "model": args.served}
    if args.served:
        raise HuggingGPTError("--served names the model of an external engine, and there is no --url")
    card = gguf_card(args.model or MODEL)
    adapter = adapter_file(args.adapter) if args.adapter else None
    named = {"engine": "llama_cpp", "model": card.id, "weights": card.files[0].digest}
    if adapter:
        named |= {"adapter": adapter.stem, "adapter_sha256": _digest(adapter.read_bytes())}
    return llama_cpp(card, adapter, planning.samples), named


def _as_settings(planning: Planning) -> dict[str, Any]:
    """`prompt_sha256` is of what all requests share: instructions, task table, demonstrations; and of a schema without files."""
    nobody = OpenAIChat("http://127.0.0.1", "", "none", 0)
    shared = [Planner(nobody, TASKS23, planning).constant_messages, plan_schema(TASKS23, Request("", ""), planning.max_steps)]
    named = planning.model_dump(mode="json", exclude={"max_replans", "timeout_s"})
    return named | {"prompt_sha256": _digest(json.dumps(shared).encode())}


def _records(path: Path, limit: int | None) -> list[Record]:
    """The first `limit` of them. Raises HuggingGPTError when there is none, or a line is none."""
    try:
        records = read_records(path)
    except UnicodeDecodeError as exc:
        raise HuggingGPTError(f"{path} is not UTF-8 text") from exc
    except ValueError as exc:
        raise HuggingGPTError(str(exc)) from exc
    if not records:
        raise HuggingGPTError(f"{path} holds no requests")
    if len({record.id for record in records}) < len(records):
        raise HuggingGPTError(f"two requests of {path} share an id")
    return records[:limit]


def _report(entries: Sequence[Entry], settings: Settings, out: Path) -> None:
    """Prints the figures and writes the JSON report, which has the intervals too."""
    found, bounds = figures(entries), intervals(_pairs(entries))
    width = max(map(len, found))
    for name, figure in found.items():
        low_high = " to ".join(f"{bound:.3f}" for bound in bounds.get(name, ()))
        print(f"{name:<{width}}  {figure:<8.4g}{low_high}")
    rounded = {name: round(figure, 5) for name, figure in found.items()}
    between = {name: [round(low, 5), round(high, 5)] for name, (low, high) in bounds.items()}
    parts = {"machine": machine(), "versions": versions(), "settings": settings, "figures": rounded, "intervals_95": between}
    out.write_text(f"{json.dumps(parts, indent=2)}\n", encoding="utf-8")


def _progress(done: Sequence[Entry], total: int) -> str:
    so_far = figures(done)
    scores = "  ".join(f"{name} F1 {so_far[f'{name}_f1']:.3f}" for name in ("node", "edge"))
    return f"{len(done):>5}/{total}  {scores}  {so_far['seconds_per_plan_p50']:.1f} s a plan"


def _pairs(entries: Sequence[Entry]) -> list[Pair]:
    return [Pair(entry.type, entry.gold, entry.predicted) for entry in entries]


def _nodes(forms: Sequence[Mapping[str, Any]]) -> tuple[Node, ...]:
    return tuple(Node(form["task"], tuple(form["arguments"])) for form in forms)


def _digest(content: bytes) -> str:
    return sha256(content).hexdigest()


def _arguments(words: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.plan_quality", description=__doc__)
    parser.add_argument("--data", type=Path, required=True, metavar="FILE.jsonl", help="TaskBench's records, one a line")
    parser.add_argument("--limit", type=_positive, metavar="N", help="the first N of them")
    parser.add_argument("--engine", choices=["llama_cpp", "external"], help="default: external with --url, else llama_cpp in this process")
    parser.add_argument(
        "--model", metavar="CARD_ID", help=f"for llama_cpp (default: {MODEL} with the adapter {ADAPTER}, a laptop's planner)"
    )
    parser.add_argument(
        "--adapter", metavar="FILE.gguf", help="for llama_cpp: a LoRA adapter; also a PEFT folder, or a shipped one's name; none"
    )
    parser.add_argument("--url", metavar="BASE_URL", help="an OpenAI-compatible server: http://127.0.0.1:8000/llm/v1")
    parser.add_argument("--served", metavar="NAME", help="what that server calls its model")
    parser.add_argument("--samples", type=_positive, default=1, metavar="N", help="plans drawn for a request (default: 1)")
    parser.add_argument(
        "--demonstrations", action=argparse.BooleanOptionalAction, help="whether they are in the prompt (default: only without an adapter)"
    )
    parser.add_argument("--out", type=Path, required=True, metavar="FILE.json", help="write the JSON report here")
    args = parser.parse_args(words)
    is_external = args.url or args.engine == "external"
    if args.adapter is None and not args.model and not is_external:
        args.adapter = ADAPTER
    if args.adapter == "none":
        args.adapter = None
    if args.demonstrations is None:
        args.demonstrations = args.adapter is None
    return args


def _positive(text: str) -> int:
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"{text} is no number of 1 or more")
    return int(text)


if __name__ == "__main__":
    sys.exit(main())
