"""Real requests to the end of their answers, with plans that are streamed and plans that are not: the second half of first_step.

The service of serve_config.yaml is started twice on one Ray, with `planning.streams` on and off and with the same LLM, and they take turns.
"""

import dataclasses
import statistics
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from openai import OpenAI

from benchmarks import samples
from controller.terminal.serve_command import CONFIG, read_config, running

NO_STORE = {"Cache-Control": "no-store"}  # every step really runs
TIMEOUT_S = 300
UNSTREAMED = "/unstreamed"  # the route of the second service


@dataclass(frozen=True, slots=True)
class Asked:
    text: str
    files: tuple[Path, ...]


@dataclass(frozen=True, slots=True)
class Timed:
    """Seconds after the request."""

    steps: int
    first_step_s: float
    whole_s: float


def whole_run_figures() -> dict[str, float]:
    """Medians over the requests whose plans have the same number of steps both ways, two or more. Raises RuntimeError when one failed."""
    with tempfile.TemporaryDirectory(prefix="hgpt-runs-") as folder:
        timed = _in_turns(requests(Path(folder)))
    pairs = [(one, other) for one, other in timed if one.steps == other.steps >= 2]
    return {
        "whole_runs": len(pairs),
        "whole_runs_steps": sum(one.steps for one, _ in pairs),
        "first_step_streamed_s_p50": statistics.median(one.first_step_s for one, _ in pairs),
        "first_step_unstreamed_s_p50": statistics.median(other.first_step_s for _, other in pairs),
        "to_the_end_streamed_s_p50": statistics.median(one.whole_s for one, _ in pairs),
        "to_the_end_unstreamed_s_p50": statistics.median(other.whole_s for _, other in pairs),
        "to_the_end_streamed_over_unstreamed_p50": statistics.median(one.whole_s / other.whole_s for one, other in pairs),
    }


def requests(folder: Path) -> tuple[Asked, ...]:
    """One step to five, on files that must be read, heard and looked at."""
    invoice, beckett, coffee = samples.invoice(folder), samples.recording("beckett.wav"), samples.photograph("coffee.png")
    tale = folder / "tale.txt"
    tale.write_text(samples.TWO_CITIES, encoding="utf-8")
    return (
        Asked("What objects are in this photograph?", (coffee,)),
        Asked("Transcribe this recording and read the transcript aloud.", (beckett,)),
        Asked("What is the total due on this invoice? Say it aloud.", (invoice,)),
        Asked("Sum this up, and read the summary aloud.", (tale,)),
        Asked("Transcribe this recording. List the named entities in the transcript, and tell me its sentiment.", (beckett,)),
        Asked("Transcribe this, translate the transcript into German and read the translation aloud.", (beckett,)),
        Asked("From this recording give me a transcript, a summary, the named entities and the sentiment.", (beckett,)),
    )


def _in_turns(asked: tuple[Asked, ...]) -> list[tuple[Timed, Timed]]:
    """Streamed and not: the one first, then the other first. The first request goes before once, for what only a start pays for."""
    timed: list[tuple[Timed, Timed]] = []
    with _service() as urls:
        clients = [OpenAI(base_url=f"{url}/v1", api_key="none", default_headers=NO_STORE, timeout=TIMEOUT_S) for url in urls]
        for number, request in enumerate((asked[0], *asked)):
            turns = clients if number % 2 else clients[::-1]
            took = {id(client): _one(client, request) for client in turns}
            streamed, unstreamed = (took[id(client)] for client in clients)
            print(f"{streamed.steps} steps: {streamed.whole_s:.2f} s streamed, {unstreamed.whole_s:.2f} s not", flush=True)
            timed.append((streamed, unstreamed))
    return timed[1:]


def _one(client: OpenAI, request: Asked) -> Timed:
    parts: list[Any] = [
        {"type": "file", "file": {"file_id": client.files.create(file=path, purpose="user_data").id}} for path in request.files
    ]
    reply = client.chat.completions.create(
        model="hugginggpt", messages=[{"role": "user", "content": [*parts, {"type": "text", "text": request.text}]}]
    )
    run: Mapping[str, Any] = (reply.model_extra or {})["run"]
    if failed := [result for result in run["results"] if result["status"] != "done"]:
        raise RuntimeError(f"{request.text}: {failed}")
    return Timed(len(run["results"]), run["first_step_s"] or 0.0, run["seconds"]["total"])


@contextmanager
def _service() -> Iterator[tuple[str, str]]:
    """Addresses of two services on one Ray, with one LLM and one planner: the first streams its plans, the second does not."""
    config = read_config(CONFIG)
    (app,) = (application for application in config.applications if application["name"] == "hugginggpt")
    engines = [dict(application) for application in config.applications if application is not app]
    streaming = _variant(app, "hugginggpt", "/", streams=True)
    other = _variant(app, "unstreamed", UNSTREAMED, streams=False)
    with running(dataclasses.replace(config, applications=(*engines, streaming, other))):
        yield config.url, f"{config.url}{UNSTREAMED}"


def _variant(application: Mapping[str, Any], name: str, route: str, *, streams: bool) -> dict[str, Any]:
    """Its replicas reserve less, so that both have room on two cores."""
    args = application["args"]
    small = {"ray_actor_options": {"num_cpus": 0.05}}
    families = {name: {**family, "deployment": {**family["deployment"], **small}} for name, family in args["families"].items()}
    args = {**args, "families": families, "planning": {**args["planning"], "streams": streams}}
    return {**application, "name": name, "route_prefix": route, "args": args}
