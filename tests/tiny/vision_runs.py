"""What the tests of the vision runners share: tiny checkpoints that a test may spoil, and pictures to show their models."""

from pathlib import Path
from typing import Any

import numpy as np

from tests.tiny.runs import opened
from tests.tiny.vision import CHECKPOINTS


def built(name: str, folder: Path) -> Path:
    """The checkpoint's folder."""
    place = folder / name.replace("/", "_")
    CHECKPOINTS[name](place)
    return place


def loaded(name: str, folder: Path, model_id: str = "tiny/x") -> Any:
    return opened(name, built(name, folder), model_id)


def blots(folder: Path, size: tuple[int, int] = (90, 60), seed: int = 0) -> Path:
    """A picture of soft coloured spots."""
    from PIL import Image

    path = folder / f"blots-{seed}-{size[0]}x{size[1]}.png"
    spots = np.random.default_rng(seed).integers(0, 255, (6, 6, 3), dtype=np.uint8)
    Image.fromarray(spots).resize(size, Image.Resampling.BICUBIC).save(path)
    return path
