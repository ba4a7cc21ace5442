"""The service with weightless models, started for a benchmark or a test, and the messages that are their own plans."""

import dataclasses
import json
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from controller.serve_command import read_config, running

HERE = Path(__file__).parent
CONFIG = HERE / "serve_config.yaml"
PORT = 8010


@contextmanager
def fake_service(port: int = PORT, *, max_steps: int | None = None, beside: Sequence[Mapping[str, Any]] = ()) -> Iterator[str]:
    """The address of the service, running inside the block with a Ray, a port and an artifact folder of its own.

    `max_steps` of a plan, where not those of the config; `beside` are further applications on the same Ray, as a Serve config has them.
    """
    config = read_config(CONFIG)
    with tempfile.TemporaryDirectory(prefix="hgpt-fakes-", ignore_cleanup_errors=True) as folder:
        applications = [_moved(application, port, Path(folder), max_steps) for application in config.applications]
        config = dataclasses.replace(config, port=port, applications=(*applications, *map(dict, beside)))
        with running(config):
            yield config.url


def message(plan: Mapping[str, Any]) -> str:
    """A request that the echo engine plans as it is. No blanks: what follows «: » in a request is taken for a text to work on."""
    return f"plan:{json.dumps(plan, separators=(',', ':'))}"


def wait(source: str, told: str) -> list[Any]:
    """A step of a plan that obeys `told` ("10 ms", "fail"); `source` is an earlier step's id, or a text."""
    is_step = source[:1] == "s" and source[1:].isdigit()
    return ["text-generation", source if is_step else {"text": source}, told]


def _moved(application: Mapping[str, Any], port: int, folder: Path, max_steps: int | None) -> dict[str, Any]:
    if application["name"] != "hugginggpt":
        return dict(application)
    args = application["args"]
    args = {
        **args,
        "planning": args["planning"] if max_steps is None else {**args["planning"], "max_steps": max_steps},
        "llm": {**args["llm"], "base_url": args["llm"]["base_url"].replace(f":{PORT}/", f":{port}/")},
        "catalogues": [str(HERE / "cards.yaml")],
        "artifacts": f"file://{folder}/artifacts",
        "models": str(folder / "models"),
    }
    return {**application, "args": args}
