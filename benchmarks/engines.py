"""Engines that a benchmark starts for itself, in its own process and without Ray, as the service's deployments start them."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cluster.catalogue import BUILT_IN, Catalogue, ModelCard
from cluster.errors import HuggingGPTError
from cluster.settings import EngineSettings, home_folder, models_folder
from deployments.adapters import adapter_folder, as_gguf
from deployments.llama_server import start_server
from deployments.store import ModelStore


def gguf_card(model: str) -> ModelCard:
    """The built-in card of a model that llama.cpp can run. Raises HuggingGPTError where there is none."""
    card = Catalogue.read(BUILT_IN).card(model)
    if [file.path.endswith(".gguf") for file in card.files] != [True]:
        raise HuggingGPTError(f"{model} cannot be run with llama.cpp: its card has no single GGUF file")
    return card


def adapter_file(name: str) -> Path:
    """A LoRA adapter as llama.cpp loads it: a GGUF file as it is, or made from a PEFT folder or a shipped adapter's name.

    Raises ModelUnavailable where there is none.
    """
    if not name.endswith(".gguf"):
        return as_gguf(adapter_folder(name), home_folder() / "adapters")
    if not Path(name).is_file():
        raise HuggingGPTError(f"there is no LoRA adapter at {name}")
    return Path(name)


@contextmanager
def llama_cpp(card: ModelCard, adapter: Path | None, parallel: int = 1) -> Iterator[tuple[str, str]]:
    """(base URL, served name) of llama.cpp's OpenAI server, which keeps the prompts of `parallel` requests; the weights are pulled first.

    Raises ModelUnavailable or ModelCorrupt when the weights cannot be had.
    """
    settings = EngineSettings(model=card.id, parallel=parallel)
    folder = ModelStore(models_folder()).ensure(card)
    server = start_server(str(folder / card.files[0].path), settings, adapter)
    try:
        yield f"{server.listening_address}/v1", settings.serves_as
    finally:
        del server  # its last reference: llama.cpp stops
