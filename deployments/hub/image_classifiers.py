"""Networks that look at a whole picture: what it shows (classification) and where it lies among others (embedding)."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import torch
from transformers import AutoModel, AutoModelForImageClassification

from cluster.catalogue import ModelCard
from cluster.errors import ModelError
from deployments.hub.checkpoint import Checkpoint
from deployments.hub.pictures import PictureNetwork
from deployments.model import Call, Output
from deployments.vision import MIN_SHOWN_SCORE, TOP, open_picture

SHOWN_NUMBERS = 4  # of an embedding, for a reader; the whole vector stands in the data


class ImageClassifier(Checkpoint):
    """Photographs, or pictures of documents, into the classes of the checkpoint."""

    max_batch = 8

    def __init__(self, sight: PictureNetwork) -> None:
        super().__init__(sight.network)
        self._sight = sight

    @classmethod
    def load(cls, card: ModelCard, folder: Path) -> Self:
        return cls(PictureNetwork.load(AutoModelForImageClassification, card, folder))

    def compute(self, calls: Sequence[Call]) -> list[Output]:
        outputs = self._sight.see([open_picture(Path(call.inputs[0])) for call in calls])
        return [_ranking(self._scores(output.logits[0]), self._sight.labels) for output in outputs]

    def _scores(self, logits: torch.Tensor) -> torch.Tensor:
        """(classes,) in 0..1: each class by itself where several may hold at once, and where there is only one; else shares of 1."""
        several = self._sight.network.config.problem_type == "multi_label_classification"
        return logits.sigmoid() if several or len(logits) == 1 else logits.softmax(dim=0)


class ImageEmbedder(Checkpoint):
    """One vector a picture, not normalized: pictures that look alike have a high cosine."""

    max_batch = 8

    def __init__(self, sight: PictureNetwork) -> None:
        super().__init__(sight.network)
        self._sight = sight

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
            found = self._sight.network.get_image_features(**{name: self._sight.moved(tensor) for name, tensor in inputs.items()})
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


def _ranking(scores: torch.Tensor, names: Mapping[int, str]) -> Output:
    best = scores.topk(min(TOP, len(scores)))
    pairs = zip(best.indices.tolist(), best.values.tolist(), strict=True)
    labels: list[dict[str, Any]] = [{"label": names.get(index, f"LABEL_{index}"), "score": round(score, 4)} for index, score in pairs]
    shown = [label for label in labels if label["score"] >= MIN_SHOWN_SCORE] or labels[:1]
    # ImageNet's classes are lists of synonyms; the first is enough for a reader.
    return Output(", ".join(f"{label['label'].split(',')[0]} ({label['score']:.2f})" for label in shown), {"labels": labels})


def _embedding(vector: torch.Tensor) -> Output:
    numbers = [round(number, 6) for number in vector.tolist()]
    shown = ", ".join(f"{number:.4f}" for number in numbers[:SHOWN_NUMBERS])
    return Output(f"a vector of {len(numbers)} numbers: {shown}, …", {"embedding": numbers})
