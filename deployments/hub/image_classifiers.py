"""Networks that look at a whole picture: what it shows (classification) and where it lies among others (embedding)."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import torch
from transformers import AutoModel, AutoModelForImageClassification

from cluster.catalogue import ModelCard
from cluster.errors import ModelError
from deployments.hub.pictures import PictureModel, PictureNetwork
from deployments.hub.tensors import all_moved, class_scores
from deployments.labels import TOP, in_words, likely, ranking
from deployments.model import Call, Output
from deployments.vision import open_picture

SHOWN_NUMBERS = 4  # of an embedding, for a reader; the whole vector stands in the data


class ImageClassifier(PictureModel):
    """Photographs, or pictures of documents, into the classes of the checkpoint."""

    max_batch = 8

    @classmethod
    def load(cls, card: ModelCard, folder: Path) -> Self:
        return cls(PictureNetwork.load(AutoModelForImageClassification, card, folder))

    def compute(self, calls: Sequence[Call]) -> list[Output]:
        outputs = self._sight.see([open_picture(Path(call.inputs[0])) for call in calls])
        return [self._output(output.logits[0]) for output in outputs]

    def _output(self, logits: torch.Tensor) -> Output:
        scores = class_scores(logits, self._sight.network.config).tolist()
        labels = ranking(((self._sight.label(place), score) for place, score in enumerate(scores)), TOP)
        # ImageNet's classes are lists of synonyms; the first is enough for a reader.
        shown = [{**label, "label": label["label"].split(",")[0]} for label in likely(labels)]
        return Output(in_words(shown), {"labels": labels})


class ImageEmbedder(PictureModel):
    """One vector a picture, not normalized: pictures that look alike have a high cosine."""

    max_batch = 8

    @classmethod
    def load(cls, card: ModelCard, folder: Path) -> Self:
        # Many ViTs of the hub lack the pooler that the class has for BERT's sake; it is not read.
        sight = PictureNetwork.load(AutoModel, card, folder, unread=("pooler.dense",))
        if sight.network.main_input_name != "pixel_values" and not hasattr(sight.network, "get_image_features"):
            raise ModelError(f"{card.id} is a {type(sight.network).__name__}, which reads no pictures")
        return cls(sight)

    def compute(self, calls: Sequence[Call]) -> list[Output]:
        pictures = [open_picture(Path(call.inputs[0])) for call in calls]
        if hasattr(self._sight.network, "get_image_features"):  # two towers, as CLIP and SigLIP have
            vectors = [self._of_tower(self._sight.prepare(picture)) for picture in pictures]
        else:
            vectors = [self._of_trunk(output) for output in self._sight.see(pictures)]
        return [_embedding(vector) for vector in vectors]

    def _of_tower(self, inputs: Mapping[str, torch.Tensor]) -> torch.Tensor:
        with torch.inference_mode():
            found = self._sight.network.get_image_features(**all_moved(inputs, self._sight.network))
        vectors: torch.Tensor = found if isinstance(found, torch.Tensor) else found.pooler_output
        return vectors[0].float().cpu()

    def _of_trunk(self, output: Any) -> torch.Tensor:
        """What the network pools; else the class token, where it has one; else the mean over the patches."""
        network = self._sight.network
        pooled = getattr(output, "pooler_output", None)
        if pooled is not None and not hasattr(getattr(network, "pooler", None), "dense"):
            return torch.Tensor.flatten(pooled)
        tokens: torch.Tensor = output.last_hidden_state[0]
        if tokens.ndim == 3:  # (channels, height, width) of a convolutional network
            return tokens.mean(dim=(1, 2))
        return tokens[0] if hasattr(getattr(network, "embeddings", None), "cls_token") else tokens.mean(dim=0)


def _embedding(vector: torch.Tensor) -> Output:
    numbers = [round(number, 6) for number in vector.tolist()]
    shown = ", ".join(f"{number:.4f}" for number in numbers[:SHOWN_NUMBERS])
    return Output(f"a vector of {len(numbers)} numbers: {shown}, …", {"embedding": numbers})
