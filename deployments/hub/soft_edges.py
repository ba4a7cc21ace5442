"""Soft edges (HED) and scribbles, as ControlNet's own annotator makes them: its hed and scribble models were trained with those."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import count, pairwise, takewhile
from pathlib import Path
from pickle import UnpicklingError
from typing import TYPE_CHECKING, Self

import numpy as np
import torch
from PIL import Image

from cluster.catalogue import ModelCard
from cluster.errors import ModelError
from cluster.tasks import Task
from deployments.controls import shrunk
from deployments.hub.checkpoint import Checkpoint, device
from deployments.model import Call, Output
from deployments.vision import open_picture, picture_output

if TYPE_CHECKING:
    import numpy.typing as npt

    Pixels = npt.NDArray[np.uint8]  # (height, width)

WEIGHTS = "ControlNetHED.pth"  # in lllyasviel/Annotators
BROKEN_WEIGHTS = (OSError, EOFError, UnpicklingError, RuntimeError, KeyError, ValueError, TypeError, AttributeError)
# Scribbles: edges blurred by SIGMA, thinned to ridges above MIN_RIDGE, and widened again.
SIGMA, MIN_RIDGE, MIN_WIDENED = 3.0, 127, 4
SMALLEST_PIXELS = 16  # a side; the picture is halved four times
# The four directions across which a pixel may be the highest of three.
ACROSS = (
    [[0, 0, 0], [1, 1, 1], [0, 0, 0]],
    [[0, 1, 0], [0, 1, 0], [0, 1, 0]],
    [[1, 0, 0], [0, 1, 0], [0, 0, 1]],
    [[0, 0, 1], [0, 1, 0], [1, 0, 0]],
)


class Block(torch.nn.Module):
    """Convolutions of 3 × 3 at one scale, and what they say about edges."""

    def __init__(self, widths: Sequence[int]) -> None:
        super().__init__()
        self.convs = torch.nn.ModuleList(torch.nn.Conv2d(*pair, 3, padding=1) for pair in pairwise(widths))
        self.projection = torch.nn.Conv2d(widths[-1], 1, 1)

    def forward(self, values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        for conv in self.convs:
            values = conv(values).relu()
        return values, self.projection(values)


class HED(torch.nn.Module):
    """Holistically-nested edge detection (Xie and Tu, 2015) as retrained for ControlNet: RGB 0..255 in, edges 0..1 out."""

    def __init__(self, widths: Sequence[Sequence[int]]) -> None:
        """`widths` of a block: its channels before, between and after its convolutions."""
        super().__init__()
        self.norm = torch.nn.Parameter(torch.zeros(1, 3, 1, 1))
        for number, channels in enumerate(widths, 1):
            self.add_module(f"block{number}", Block(channels))

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        values, said = pictures - self.norm, []
        for number, block in enumerate(self.children()):
            values, edges = block(torch.nn.functional.max_pool2d(values, 2) if number else values)
            said.append(torch.nn.functional.interpolate(edges, pictures.shape[2:], mode="bilinear", align_corners=False))
        return torch.cat(said, dim=1).mean(dim=1).sigmoid()


class SoftEdges(Checkpoint):
    """Control images, white on black, at the size that ControlNet was trained with."""

    def __init__(self, network: HED) -> None:
        super().__init__(network)
        self._network = network

    @classmethod
    def load(cls, card: ModelCard, folder: Path) -> Self:
        path = folder / WEIGHTS
        if not path.is_file():
            raise ModelError(f"{card.id} has no file {WEIGHTS}")
        try:
            weights = torch.load(path, map_location="cpu", weights_only=True)
            network = HED(_widths(weights))
            network.load_state_dict(weights)
        except BROKEN_WEIGHTS as exc:
            raise ModelError(f"{card.id} could not be loaded: {WEIGHTS} does not hold the weights of ControlNet's HED") from exc
        return cls(network.to(device()).eval())  # in full precision: values grow to thousands inside

    def compute(self, calls: Sequence[Call]) -> list[Output]:
        return [self._output(call) for call in calls]

    def _output(self, call: Call) -> Output:
        picture = shrunk(open_picture(Path(call.inputs[0])))
        if min(picture.size) < SMALLEST_PIXELS:
            raise ModelError(f"a picture of {picture.width} × {picture.height} pixels is too small to find edges in")
        pixels = torch.from_numpy(np.array(picture, dtype=np.float32)).permute(2, 0, 1)[None]
        with torch.inference_mode():
            edges = self._network(pixels.to(device()))[0].cpu().numpy()
        soft = (edges * 255).clip(0, 255).astype(np.uint8)
        drawn = scribbled(soft) if call.task == Task.SCRIBBLE_CONTROL else soft
        return picture_output(Image.fromarray(drawn).convert("RGB"), f"{Task(call.task)}.png")


def scribbled(soft: "Pixels") -> "Pixels":
    """Edges as lines of a thick pen, 0 or 255."""
    import cv2

    blurred = cv2.GaussianBlur(soft.astype(np.float32), (0, 0), SIGMA)
    highest = [cv2.dilate(blurred, np.array(across, dtype=np.uint8)) == blurred for across in ACROSS]
    ridges = np.where(np.any(highest, axis=0) & (blurred > MIN_RIDGE), 255, 0).astype(np.uint8)
    drawn: Pixels = np.where(cv2.GaussianBlur(ridges, (0, 0), SIGMA) > MIN_WIDENED, 255, 0).astype(np.uint8)
    return drawn


def _widths(weights: Mapping[str, torch.Tensor]) -> list[list[int]]:
    """Channels of every block's convolutions, read off the weights: in, then out of each."""
    blocks: list[list[int]] = []
    while kernels := list(_kernels(weights, len(blocks) + 1)):
        blocks.append([kernels[0].shape[1], *(kernel.shape[0] for kernel in kernels)])
    return blocks


def _kernels(weights: Mapping[str, torch.Tensor], block: int) -> Iterator[torch.Tensor]:
    names = (f"block{block}.convs.{place}.weight" for place in count())
    return (weights[name] for name in takewhile(weights.__contains__, names))
