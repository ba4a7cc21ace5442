"""The service with weightless models, started for a benchmark or a test, and the messages that are their own plans."""

import dataclasses
import json
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from controller.serve_command import read_config, running

HERE = Path(__file__).parent
CONFIG = HERE / "serve_config.yaml"
PORT = 8010


@contextmanager
def fake_service(port: int = PORT, **sections: Mapping[str, Any]) -> Iterator[str]:
    """The address of the service, running inside the block with a Ray, a port and an artifact folder of its own.

    `sections` of the settings (`limits={…}`) are laid over those of serve_config.yaml, key by key.
    """
    config = read_config(CONFIG)
    with tempfile.TemporaryDirectory(prefix="hgpt-fakes-", ignore_cleanup_errors=True) as folder:
        applications = tuple(_moved(application, port, Path(folder), sections) for application in config.applications)
        config = dataclasses.replace(config, port=port, applications=applications)
        with running(config):
            yield config.url


def message(plan: Mapping[str, Any]) -> str:
    """A request that the echo engine plans as it is. No blanks: what follows «: » in a request is taken for a text to work on."""
    return f"plan:{json.dumps(plan, separators=(',', ':'))}"


def wait(source: str, told: str) -> list[Any]:
    """A step of a plan that obeys `told` ("10 ms", "fail"); `source` is an earlier step's id, or a text."""
    is_step = source[:1] == "s" and source[1:].isdigit()
    return ["text-generation", source if is_step else {"text": source}, told]


def _moved(application: Mapping[str, Any], port: int, folder: Path, sections: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    if application["name"] != "hugginggpt":
        return dict(application)
    args = application["args"]
    args = {
        **args,
        **{name: {**args.get(name, {}), **section} for name, section in sections.items()},
        "llm": {**args["llm"], "base_url": args["llm"]["base_url"].replace(f":{PORT}/", f":{port}/")},
        "catalogues": [str(HERE / "cards.yaml")],
        "artifacts": f"file://{folder}/artifacts",
        "models": str(folder / "models"),
    }
    return {**application, "args": args}
