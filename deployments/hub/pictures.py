"""A network that sees pictures, together with its image processor: pictures in, raw outputs out. Knows no task."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import torch
import transformers

from cluster.catalogue import ModelCard
from cluster.errors import ModelError
from deployments.hub.checkpoint import Checkpoint, network, opened
from deployments.hub.tensors import all_moved, by_shape

if TYPE_CHECKING:
    from PIL.Image import Image

MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]  # of ImageNet's red, green and blue
# Processors that exist for torchvision alone. All they do is resize, rescale and normalize, which ViT's does with PIL.
TORCHVISION_ONLY = {"DINOv3ViTImageProcessor", "Sam2ImageProcessor", "SegformerImageProcessor"}


class PictureNetwork:
    """`see` gives one output a picture, each with a leading dimension of 1, in float32 on the CPU.

    Pictures that the processor brings to the same shape go through the network together. Others go alone: networks of
    detectors and segmenters give slightly other boxes when a picture is padded to its neighbour's size.
    """

    def __init__(self, network: Any, processor: Any) -> None:
        self.network, self.processor = network, processor

    @classmethod
    def load(cls, kinds: Any, card: ModelCard, folder: Path, unread: tuple[str, ...] = (), **options: Any) -> Self:
        loaded = network(kinds, card, folder, unread, **options)
        return cls(loaded, image_processor(card, folder, loaded.config))

    def label(self, number: int) -> str:
        """The name of a class, or what stands for one that the checkpoint does not name."""
        return str(self.network.config.id2label.get(number, f"LABEL_{number}"))

    def see(self, pictures: Sequence["Image"], **more: Any) -> list[Any]:
        """`more` goes to the network. Raises ModelError for a picture that the processor or the network cannot take."""
        inputs = [self.prepare(picture) for picture in pictures]
        outputs: dict[int, Any] = {}
        for places, together in by_shape(inputs):
            outputs.update(zip(places, self.forward(together, len(places), **more), strict=True))
        return [outputs[place] for place in range(len(pictures))]

    def prepare(self, picture: "Image", **more: Any) -> dict[str, torch.Tensor]:
        """The processor's tensors for one picture. The layout is told: it cannot be guessed for a picture 3 pixels high."""
        try:
            found = self.processor(images=[picture], input_data_format="channels_last", return_tensors="pt", **more)
        except (ValueError, RuntimeError, ZeroDivisionError, OverflowError) as exc:
            raise ModelError(f"a picture of {picture.width} × {picture.height} pixels cannot be prepared for the model: {exc}") from exc
        return {name: tensor for name, tensor in found.items() if isinstance(tensor, torch.Tensor)}

    def forward(self, inputs: dict[str, torch.Tensor], count: int, **more: Any) -> list[Any]:
        """The network's output taken apart by picture; what has no row for each picture (losses, auxiliary layers) is dropped."""
        try:
            with torch.inference_mode():
                outputs = self.network(**all_moved(inputs, self.network), **more)
        except (ValueError, RuntimeError) as exc:
            raise ModelError(f"the network cannot take the picture: {str(exc).splitlines()[0][:200]}") from exc
        rows = {name: _plain(value) for name, value in outputs.items() if _has_rows(value, count)}
        return [type(outputs)(**{name: value[row : row + 1] for name, value in rows.items()}) for row in range(count)]


class PictureModel(Checkpoint):
    """A Model that is one such network."""

    def __init__(self, sight: PictureNetwork) -> None:
        super().__init__(sight.network)
        self._sight = sight


def image_processor(card: ModelCard, folder: Path, config: Any) -> Any:
    """The checkpoint's image processor on PIL and numpy. Raises ModelError when it has none, or one for torchvision alone."""
    if not any((folder / name).is_file() for name in ("preprocessor_config.json", "processor_config.json")):
        raise ModelError(f"{card.id} has no preprocessor_config.json, which says how pictures are to be prepared for it")
    if _processor_name(card, folder, config) in TORCHVISION_ONLY:
        return opened(_ImageNetProcessor, card, folder)
    return opened(transformers.AutoImageProcessor, card, folder, config=config, backend="pil")


class _ImageNetProcessor(transformers.ViTImageProcessorPil):
    image_mean, image_std = MEAN, STD


class _Settings:
    """preprocessor_config.json, or its part of processor_config.json."""

    @staticmethod
    def from_pretrained(folder: Path, trust_remote_code: bool, **options: Any) -> dict[str, Any]:
        return dict(transformers.ViTImageProcessorPil.get_image_processor_dict(folder, **options)[0])


def _processor_name(card: ModelCard, folder: Path, config: Any) -> str:
    """In today's spelling; checkpoints of 2022 say SegformerFeatureExtractor, or nothing."""
    settings = opened(_Settings, card, folder)
    name = (
        settings.get("image_processor_type") or settings.get("feature_extractor_type") or f"{config.model_type.capitalize()}ImageProcessor"
    )
    return str(name).removesuffix("Fast").replace("FeatureExtractor", "ImageProcessor")


def _has_rows(value: Any, count: int) -> bool:
    return isinstance(value, torch.Tensor) and value.ndim > 0 and len(value) == count


def _plain(tensor: torch.Tensor) -> torch.Tensor:
    return (tensor.float() if tensor.is_floating_point() else tensor).cpu()
