"""What do batches gain? Sentences of a speech through a family replica, 32 steps at a time, one by one and in batches, taking turns.

The replica's own path without Ray: lease, queue, batch, model, result. `batching_gain` is the smallest gain of the models that batch; the
`mixed` figures have a text of some 200 words among every sixteen, and stand beside it.
"""

import asyncio
import itertools
import os
import re
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

# On two cores torch's second busy thread can stall it; set before the first import of torch.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

from benchmarks.measure import arguments, report
from benchmarks.samples import SPEECH
from cluster.messages import Done, TaskRequest
from cluster.settings import AppSettings, FamilySettings
from cluster.tasks import Task
from deployments.replica import FamilyReplica

FAMILY = "text"
STEPS_AT_A_TIME = 32
LONG_EVERY = 16
TIMEOUT_S = 120.0


@dataclass(frozen=True, slots=True)
class Load:
    """What one model is asked, over and over until a round has its number of steps."""

    model: str
    task: Task
    texts: Sequence[str]
    counts: bool = True  # towards batching_gain


def sentences(text: str) -> list[str]:
    return [sentence for sentence in re.split(r"(?<=[.!?])\s+", text.strip()) if sentence]


def mixed(short: Sequence[str], long: str) -> list[str]:
    """A long text in the place of every sixteenth short one."""
    count = -(-len(short) // LONG_EVERY) * LONG_EVERY
    return [long if place % LONG_EVERY == LONG_EVERY // 2 else short[place % len(short)] for place in range(count)]


def loads() -> dict[str, Load]:
    speech = SPEECH.read_text(encoding="utf-8")
    minilm, spacy, short = "sentence-transformers/all-MiniLM-L6-v2", "spacy/en_core_web_sm", sentences(speech)
    return {
        "minilm": Load(minilm, Task.TEXT_CLASSIFICATION, short),
        "spacy": Load(spacy, Task.TOKEN_CLASSIFICATION, short),
        "minilm_mixed": Load(minilm, Task.TEXT_CLASSIFICATION, mixed(short, speech), counts=False),
        "spacy_mixed": Load(spacy, Task.TOKEN_CLASSIFICATION, mixed(short, speech), counts=False),
    }


def main() -> None:
    parser = arguments(__doc__ or "")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--steps", type=int, default=320, help="of a round")
    args = parser.parse_args()
    with replicas() as (alone, together):
        figures = asyncio.run(measured(alone, together, args.rounds, args.steps))
    report(figures, args.out)


@contextmanager
def replicas() -> Iterator[tuple[FamilyReplica, FamilyReplica]]:
    """Two of the same family: in the first a batch is one call, in the second what each model has for its own."""
    with tempfile.TemporaryDirectory(prefix="hgpt-batching-") as folder:
        one, other = (
            FamilyReplica(FAMILY, AppSettings(artifacts=f"file://{folder}", families={FAMILY: FamilySettings(max_batch=most)}))
            for most in (1, None)
        )
        yield one, other


async def measured(alone: FamilyReplica, together: FamilyReplica, rounds: int, steps: int) -> dict[str, float]:
    """Steps a second, the median of the rounds; the first round of each warms up and is compared."""
    asked = loads()
    for name, load in asked.items():
        _, expected = await round_of(alone, load, len(load.texts))
        _, given = await round_of(together, load, len(load.texts))
        if given != expected:
            raise RuntimeError(f"{name}: a batch does not give what single calls give")
    per_s: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for _ in range(rounds):
        for name, load in asked.items():
            for way, replica in (("batch1", alone), ("batched", together)):
                took_s, _ = await round_of(replica, load, steps)
                per_s[name][way].append(steps / took_s)
    figures: dict[str, float] = {}
    for name, ways in per_s.items():
        figures |= {f"{name}_{way}_per_s": statistics.median(found) for way, found in ways.items()}
        figures[f"{name}_gain"] = statistics.median(map(float.__truediv__, ways["batched"], ways["batch1"]))
    figures["batching_gain"] = min(figures[f"{name}_gain"] for name, load in asked.items() if load.counts)
    return figures


async def round_of(replica: FamilyReplica, load: Load, steps: int) -> tuple[float, list[object]]:
    """Seconds that so many steps took, 32 at a time, and what they gave."""
    left = iter(enumerate(itertools.islice(itertools.cycle(load.texts), steps)))
    given: dict[int, object] = {}

    async def user() -> None:
        for number, text in left:
            request = TaskRequest("bench", f"s{number}", load.task, (load.model,), (text,), {}, TIMEOUT_S)
            result = await replica.run(request)
            if not isinstance(result, Done):
                raise RuntimeError(f"{load.model}: {result}")
            given[number] = result.value

    started = time.perf_counter()
    async with asyncio.TaskGroup() as users:
        for _ in range(STEPS_AT_A_TIME):
            users.create_task(user())
    return time.perf_counter() - started, [given[number] for number in range(steps)]


if __name__ == "__main__":
    main()
