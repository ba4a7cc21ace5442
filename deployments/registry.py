"""From a card's `loader` to a loaded model. The experts' libraries are imported when a model is loaded, not before."""

import os
from collections.abc import Callable
from pathlib import Path

from cluster.catalogue import ModelCard
from cluster.errors import ModelError
from deployments.detector import Detector
from deployments.fakes import FakeExpert
from deployments.model import Model
from deployments.speech import Espeak, Hibari, Whisper
from deployments.text import MiniLM, SpacyEntities
from deployments.vision import EfficientNet, Ocr

Loader = Callable[[ModelCard, Path | None], Model]
"""Takes the card and the folder with its files; None for a model whose weights come inside a library."""

DEFAULT_THREADS = 2


def _with_files(load: Callable[[Path], Model]) -> Loader:
    def loader(card: ModelCard, folder: Path | None) -> Model:
        if folder is None:
            raise ModelError(f"the model {card.id} needs its files, and none were fetched")
        return load(folder)

    return loader


def _threads() -> int:
    """OMP_NUM_THREADS is what Ray sets to a replica's share of cores; the engines here that do not read it are told."""
    return int(os.environ.get("OMP_NUM_THREADS") or DEFAULT_THREADS)


LOADERS: dict[str, Loader] = {
    "minilm": _with_files(MiniLM.load),
    "spacy_ner": _with_files(SpacyEntities.load),
    "efficientnet": _with_files(EfficientNet.load),
    "tfjs_detector": _with_files(Detector.load),
    "whisper": _with_files(lambda folder: Whisper.load(folder, _threads())),
    "hibari": lambda _card, _folder: Hibari.load(_threads()),
    "espeak": lambda _card, _folder: Espeak(),
    "rapidocr": lambda _card, _folder: Ocr.load(_threads()),
    "fake": lambda _card, _folder: FakeExpert(),
}
