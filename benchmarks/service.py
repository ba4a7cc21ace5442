"""The service that a benchmark asks: one that runs already, or one of its own for as long as it lasts."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from controller.terminal.serve_command import read_config, running


@contextmanager
def service(url: str | None, config: Path) -> Iterator[str]:
    """Its address; without `url` the one that this Serve config starts. Raises HuggingGPTError for a wrong config."""
    if url:
        yield url
        return
    read = read_config(config)
    print(f"starting the service of {config} …", flush=True)
    with running(read):
        yield read.url
