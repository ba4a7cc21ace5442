"""The service with weightless models, started for a benchmark or a test, and the messages that are their own plans."""

import dataclasses
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from controller.terminal.serve_command import ServiceConfig, read_config, running

HERE = Path(__file__).parent
CONFIG = HERE / "serve_config.yaml"
PORT = 8010
STOP_TIMEOUT_S = 60


@contextmanager
def fake_service(port: int = PORT, *, beside: Sequence[Mapping[str, Any]] = (), **sections: Mapping[str, Any]) -> Iterator[str]:
    """The address of the service, running inside the block with a Ray, a port and an artifact folder of its own.

    `sections` of the settings (`limits={…}`) are laid over those of serve_config.yaml, key by key; `beside` are further applications on
    the same Ray, as a Serve config has them.
    """
    with tempfile.TemporaryDirectory(prefix="hgpt-fakes-", ignore_cleanup_errors=True) as folder:
        config = fake_config(port, Path(folder), beside, sections)
        with running(config):
            yield config.url


@contextmanager
def fake_service_apart(port: int, environment: Mapping[str, str], *, beside: Sequence[Mapping[str, Any]] = ()) -> Iterator[str]:
    """The same in a process of its own, as `hgpt serve` starts it: Ray reads the variables of `environment` when it is imported."""
    with tempfile.TemporaryDirectory(prefix="hgpt-fakes-", ignore_cleanup_errors=True) as folder:
        config = fake_config(port, Path(folder), beside, {})
        http = {"host": config.host, "port": config.port, "request_timeout_s": config.request_timeout_s}
        file = Path(folder) / "serve_config.yaml"
        file.write_text(yaml.safe_dump({"http_options": http, "applications": list(config.applications)}), encoding="utf-8")
        command = [sys.executable, "-m", "controller.cli", "serve", "--config", str(file)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, **environment})
        try:
            if process.stdout is None or not any(line.startswith("ready at") for line in process.stdout):
                raise RuntimeError("hgpt serve ended before it was ready")
            yield config.url
        finally:
            process.terminate()
            process.wait(STOP_TIMEOUT_S)


def fake_config(port: int, folder: Path, beside: Sequence[Mapping[str, Any]], sections: Mapping[str, Mapping[str, Any]]) -> ServiceConfig:
    config = read_config(CONFIG)
    applications = [_moved(application, port, folder, sections) for application in config.applications]
    return dataclasses.replace(config, port=port, applications=(*applications, *map(dict, beside)))


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
