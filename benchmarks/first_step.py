"""When can the first step start, and what does the answer gain by that? The embedded planner, its plans read while they are written.

First an engine of its own in this process, without Ray: what is timed is the plan, from the request to the step that could be dispatched.
Then the whole service, to the end of the answers (whole_runs.py).
"""

import asyncio
import statistics
import time
from dataclasses import dataclass, replace

from benchmarks.engines import adapter_file, gguf_card, llama_cpp
from benchmarks.measure import arguments, report
from benchmarks.plan_quality import ADAPTER, MODEL
from benchmarks.planner_training.requests import LAPTOP
from benchmarks.planner_training.samples import LAPTOP_ROWS
from benchmarks.whole_runs import whole_run_figures
from cluster.chat import OpenAIChat
from cluster.messages import ArtifactRef
from cluster.settings import LanguageModelClient, Planning
from controller.asking.request import Request, RequestFile
from controller.planning.plan import Plan
from controller.planning.planner import Planner

LONG = 3  # steps, from which on a plan counts for the fraction
ROUNDS = 3
REQUESTS = (
    ("Translate this into German.", ("text/plain letter.txt",)),
    ("Transcribe this recording.", ("audio/wav talk.wav",)),
    ("Sum this up and read the summary aloud.", ("text/plain report.txt",)),
    ("What is the total on this invoice? Say it aloud.", ("image/png invoice.png",)),
    ("Describe this photograph in one sentence.", ("image/jpeg photo.jpg",)),
    ("Transcribe this, translate the transcript into French and read the translation aloud.", ("audio/wav talk.wav",)),
    ("Read the text in this picture, sum it up and list the names in it.", ("image/png page.png",)),
    (
        "Translate this into Chinese, sum up the translation, and read the summary aloud. List the names as well.",
        ("text/plain speech.txt",),
    ),
    (
        "Transcribe this recording. From the transcript give me a summary, the names and the sentiment, and read the summary aloud.",
        ("audio/wav talk.wav",),
    ),
    (
        "Write down what is said, sum it up, list the names, judge the mood, translate the summary into Spanish and read that aloud.",
        ("audio/wav talk.wav",),
    ),
)


@dataclass(frozen=True, slots=True)
class Timed:
    """Seconds after the request."""

    steps: int
    first_step_s: float
    plan_s: float
    unstreamed_s: float = 0.0


def main() -> None:
    parser = arguments(__doc__ or "")
    parser.add_argument("--plans-only", action="store_true", help="leave out the whole service")
    args = parser.parse_args()
    with llama_cpp(gguf_card(MODEL), adapter_file(ADAPTER)) as (base_url, served):
        timed = asyncio.run(_all(OpenAIChat(base_url, served, "none", LanguageModelClient().max_retries)))
    report({**figures(timed), **({} if args.plans_only else whole_run_figures())}, args.out)


def figures(timed: list[Timed]) -> dict[str, float]:
    """Medians over the requests; the fraction is of the time in which the plan was written, over plans of LONG steps and more."""
    long = [one for one in timed if one.steps >= LONG]
    return {
        "requests": len(timed),
        "long_plans": len(long),
        "first_step_fraction_p50": statistics.median(one.first_step_s / one.plan_s for one in long),
        "first_step_fraction_max": max(one.first_step_s / one.plan_s for one in long),
        "first_step_s_p50": statistics.median(one.first_step_s for one in long),
        "plan_s_p50": statistics.median(one.plan_s for one in long),
        "unstreamed_plan_s_p50": statistics.median(one.unstreamed_s for one in long),
    }


async def _all(chat: OpenAIChat) -> list[Timed]:
    planner = Planner(chat, LAPTOP, Planning(demonstrations=False), LAPTOP_ROWS)
    await planner.prime()
    return [await _best(planner, Request("first_step", text, tuple(map(_file, range(1, 9), files)))) for text, files in REQUESTS]


async def _best(planner: Planner, request: Request) -> Timed:
    """Of ROUNDS, streamed and not in turns, the fastest of each."""
    rounds = [(await _streamed(planner, request), await _unstreamed(planner, request)) for _ in range(ROUNDS)]
    best = min((streamed for streamed, _ in rounds), key=lambda one: one.plan_s)
    return replace(best, unstreamed_s=min(unstreamed for _, unstreamed in rounds))


async def _streamed(planner: Planner, request: Request) -> Timed:
    told: list[float] = []

    def tell(plan: Plan | None) -> None:
        told.append(time.perf_counter() - started)

    started = time.perf_counter()
    plan = (await planner.plan(request, tell)).plan
    took_s = time.perf_counter() - started
    return Timed(len(plan.steps), told[0] if told else took_s, took_s)


async def _unstreamed(planner: Planner, request: Request) -> float:
    started = time.perf_counter()
    await planner.plan(request)
    return time.perf_counter() - started


def _file(number: int, told: str) -> RequestFile:
    media_type, name = told.split()
    return RequestFile(f"f{number}", ArtifactRef("0" * 64, media_type, 1, name))


if __name__ == "__main__":
    main()
