"""What does it cost to get to a model? One step of each embedded model through a family replica: new, loaded, let go, in turns, warmed up.

`cold`: the first step in a fresh process, files on disk, the model's libraries yet to be imported; `warm`: loaded; `reload`: evicted,
the libraries still there. `switch`: two models in turns in a memory that holds one, the eviction included. `chain`: a recording is
heard, then texts are compared by a model that was let go; `warm_up_saves_s` is what telling the replica beforehand, as a plan does, saves.
"""

import asyncio
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path

# On two cores torch's second busy thread can stall it; set before the first import of torch, also in the processes started here.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

from benchmarks.measure import arguments, report
from benchmarks.samples import photograph, recording
from cluster.artifacts import ArtifactStore
from cluster.messages import Done, OptionValue, TaskRequest, Value
from cluster.settings import AppSettings, FamilySettings
from cluster.tasks import Option, Task
from deployments.replica import FamilyReplica

FAMILY = "bench"  # one for all: a replica runs whatever card it is asked for
AMPLE_BYTES = 4_000_000_000
FOR_ONE_BYTES = 400_000_000  # of MiniLM's 300 and spaCy's 250 million
TIMEOUT_S = 120.0
TEXT = "Angela Merkel met Barack Obama in Berlin, and both were happy."


@dataclass(frozen=True, slots=True)
class Asked:
    """One step: the model, what it is given, and a word that its result must hold."""

    model: str
    task: Task
    given: tuple[str | Path, ...]
    expected: str
    options: Mapping[str, OptionValue] = field(default_factory=dict)


ASKED = {
    "minilm": Asked("sentence-transformers/all-MiniLM-L6-v2", Task.SENTENCE_SIMILARITY, (TEXT, TEXT), "1.00"),
    "spacy": Asked("spacy/en_core_web_sm", Task.TOKEN_CLASSIFICATION, (TEXT,), "Berlin"),
    "efficientnet": Asked("ml-illustrated/efficientnet-lite0", Task.IMAGE_CLASSIFICATION, (photograph("coffee.png"),), "espresso"),
    "whisper": Asked(
        "Systran/faster-whisper-base", Task.AUTOMATIC_SPEECH_RECOGNITION, (recording("beckett.wav"),), "better", {Option.LANGUAGE: "en"}
    ),
}


def main() -> None:
    parser = arguments(__doc__ or "")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--starts", type=int, default=2, help="fresh processes for each model")
    args = parser.parse_args()
    figures: dict[str, float] = {}
    for name in ASKED:
        starts = [in_fresh_process(alone, name, args.rounds) for _ in range(args.starts)]
        figures |= {f"{name}_{way}": min(start[way] for start in starts) for way in starts[0]}
    figures |= in_fresh_process(switched, args.rounds)
    figures |= in_fresh_process(warmed_up, args.rounds)
    report(figures, args.out)


def in_fresh_process(measure: Callable[..., dict[str, float]], *args: object) -> dict[str, float]:
    with ProcessPoolExecutor(1, get_context("spawn")) as process:
        return process.submit(measure, *args).result()


def alone(name: str, rounds: int) -> dict[str, float]:
    """Cold, then medians of warm and reloaded steps. Best over the starts, since other work of the machine only adds."""

    async def measured(bench: "Bench") -> dict[str, float]:
        cold_s = await bench.step(name)
        warm_s = [await bench.step(name) for _ in range(rounds)]
        reload_s = []
        for _ in range(rounds):
            await bench.let_go()
            reload_s.append(await bench.step(name, loads=True))
        return {"cold_s": cold_s, "warm_s": statistics.median(warm_s), "reload_s": statistics.median(reload_s)}

    with benched(AMPLE_BYTES) as bench:
        return asyncio.run(measured(bench))


def switched(rounds: int) -> dict[str, float]:
    """The median step of two models that take turns, each of which evicts the other; both were there once before."""

    async def measured(bench: "Bench") -> dict[str, float]:
        turns = [(name, await bench.step(name, loads=True)) for _ in range(rounds + 1) for name in ("minilm", "spacy")][2:]
        found = {f"switch_to_{name}_s": statistics.median(s for turn, s in turns if turn == name) for name in ("minilm", "spacy")}
        return {"switch_s": statistics.median(s for _, s in turns), **found}

    with benched(FOR_ONE_BYTES) as bench:
        return asyncio.run(measured(bench))


def warmed_up(rounds: int) -> dict[str, float]:
    """Medians of a chain of two steps without and with the warm-up of the second one's model, taking turns."""

    async def chain(bench: "Bench", warms: bool) -> float:
        await bench.let_go()
        await bench.step("whisper")
        started = time.perf_counter()
        if warms:
            await bench.replica.warm(ASKED["minilm"].model)
        await bench.step("whisper")
        await bench.step("minilm")
        return time.perf_counter() - started

    async def measured(bench: "Bench") -> dict[str, float]:
        await bench.step("minilm")
        pairs = [(await chain(bench, False), await chain(bench, True)) for _ in range(rounds)]
        cold_s, warm_s = (statistics.median(column) for column in zip(*pairs, strict=True))
        saved_s = statistics.median(cold - warm for cold, warm in pairs)
        return {"chain_without_warm_up_s": cold_s, "chain_with_warm_up_s": warm_s, "warm_up_saves_s": saved_s}

    with benched(AMPLE_BYTES) as bench:
        return asyncio.run(measured(bench))


@dataclass(frozen=True, slots=True)
class Bench:
    """A replica and the files that its steps are given."""

    replica: FamilyReplica
    artifacts: ArtifactStore

    async def step(self, name: str, *, loads: bool | None = None) -> float:
        """Seconds of one step. Raises RuntimeError when it gives something else, or when `loads` and nothing was loaded for it."""
        asked = ASKED[name]
        request = TaskRequest("bench", "s1", asked.task, (asked.model,), tuple(map(self._value, asked.given)), asked.options, TIMEOUT_S)
        started = time.perf_counter()
        result = await self.replica.run(request)
        took_s = time.perf_counter() - started
        if not isinstance(result, Done) or asked.expected not in str(result.value):
            raise RuntimeError(f"{name} gave {result}")
        if loads and not result.span.load_s:
            raise RuntimeError(f"{name} was loaded before")
        return took_s

    async def let_go(self) -> None:
        await self.replica._cache.evict_idle()  # no request can ask for it, and a benchmark must

    def _value(self, given: str | Path) -> Value:
        if isinstance(given, str):
            return given
        kind = "audio/wav" if given.suffix == ".wav" else "image/png"
        return self.artifacts.put(given.read_bytes(), kind, given.name)


@contextmanager
def benched(memory_bytes: int) -> Iterator[Bench]:
    with tempfile.TemporaryDirectory(prefix="hgpt-switch-") as folder:
        settings = AppSettings(artifacts=f"file://{folder}", families={FAMILY: FamilySettings(memory_bytes=memory_bytes)})
        yield Bench(FamilyReplica(FAMILY, settings), ArtifactStore(settings.artifacts))


if __name__ == "__main__":
    main()
