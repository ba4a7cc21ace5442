"""Pictures and labels that were not known before: which label fits a picture, and where the labelled things are."""

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Self

import torch
import transformers

from cluster.catalogue import ModelCard
from cluster.errors import ModelError
from deployments.detector import Found, distinct, findings, inside
from deployments.hub.checkpoint import Checkpoint, network
from deployments.hub.picture_writers import prepared
from deployments.hub.pictures import image_processor
from deployments.hub.tensors import all_moved
from deployments.hub.tokens import opened_tokenizer
from deployments.labels import in_words, labels_of, ranking
from deployments.model import Call, Output
from deployments.vision import open_picture

if TYPE_CHECKING:
    from PIL.Image import Image

HYPOTHESIS = "This is a photo of {}."  # as in transformers' pipeline
SIGLIP_TOKENS = 64  # the length that SigLIP was trained with, padding included
# A box that scores less shows nothing; both are the values of the networks' own examples.
OWL_MIN_SCORE, GROUNDING_DINO_MIN_SCORE = 0.1, 0.3
GROUNDED = frozenset({"grounding-dino", "mm-grounding-dino"})


class ZeroShotImageClassifier(Checkpoint):
    """Networks that put pictures and texts into one space: CLIP and its kin, SigLIP."""

    max_batch = 8

    def __init__(self, net: Any, prepare: Any, tokenizer: Any) -> None:
        super().__init__(net)
        self._network, self._prepare, self._tokenizer = net, prepare, tokenizer
        self._is_siglip = "siglip" in net.config.model_type

    @classmethod
    def load(cls, card: ModelCard, folder: Path) -> Self:
        net = network(transformers.AutoModelForZeroShotImageClassification, card, folder)
        return cls(net, image_processor(card, folder, net.config), opened_tokenizer(card, folder))

    def compute(self, calls: Sequence[Call]) -> list[Output]:
        wanted = [labels_of(call, 2) for call in calls]
        pictures = [open_picture(Path(call.inputs[0])) for call in calls]
        labels = list(dict.fromkeys(label for group in wanted for label in group))
        logits = self._logits(pictures, labels)
        return [_output(group, self._scores(row[[labels.index(one) for one in group]])) for group, row in zip(wanted, logits, strict=True)]

    def _logits(self, pictures: Sequence["Image"], labels: Sequence[str]) -> torch.Tensor:
        """(pictures, labels). A label's logit depends on no other label, so the batch is asked about all of them at once."""
        with torch.inference_mode():
            pixels = prepared(self._prepare, self._network, images=list(pictures))
            found = self._network(**pixels, **all_moved(self._tokens(labels), self._network))
        logits: torch.Tensor = found.logits_per_image.float()
        return logits

    def _tokens(self, labels: Sequence[str]) -> Any:
        hypotheses = [HYPOTHESIS.format(label) for label in labels]
        if self._is_siglip:
            return self._tokenizer(hypotheses, padding="max_length", max_length=SIGLIP_TOKENS, truncation=True, return_tensors="pt")
        longest = min(self._tokenizer.model_max_length, self._network.config.text_config.max_position_embeddings)
        return self._tokenizer(hypotheses, padding=True, truncation=True, max_length=longest, return_tensors="pt")

    def _scores(self, logits: torch.Tensor) -> list[float]:
        """Shares of 1; SigLIP's are each label's own probability, so that none need fit."""
        scores: list[float] = (logits.sigmoid() if self._is_siglip else logits.softmax(dim=0)).tolist()
        return scores


class ZeroShotDetector(Checkpoint):
    """Networks that find what a text names: OWL-ViT, OWLv2 and Grounding DINO."""

    def __init__(self, net: Any, prepare: Any, tokenizer: Any) -> None:
        super().__init__(net)
        self._network, self._prepare, self._tokenizer = net, prepare, tokenizer
        self._is_grounded = net.config.model_type in GROUNDED

    @classmethod
    def load(cls, card: ModelCard, folder: Path) -> Self:
        net = network(transformers.AutoModelForZeroShotObjectDetection, card, folder)
        return cls(net, image_processor(card, folder, net.config), opened_tokenizer(card, folder))

    def compute(self, calls: Sequence[Call]) -> list[Output]:
        return [self._detect(open_picture(Path(call.inputs[0])), labels_of(call, 1)) for call in calls]

    def _detect(self, picture: "Image", labels: Sequence[str]) -> Output:
        pixels = prepared(self._prepare, self._network, images=[picture])
        found = self._grounded(pixels, labels) if self._is_grounded else self._matched(pixels, labels)
        least = GROUNDING_DINO_MIN_SCORE if self._is_grounded else OWL_MIN_SCORE
        size = torch.tensor([[picture.height, picture.width]], device=found.pred_boxes.device)
        (things,) = self._prepare.post_process_object_detection(found, threshold=least, target_sizes=size)
        rows = zip(things["labels"].tolist(), things["scores"].tolist(), things["boxes"].tolist(), strict=True)
        objects = [Found(labels[label], round(score, 4), inside(box, picture.size)) for label, score, box in rows]
        return findings(distinct([thing for thing in objects if _has_area(thing.box)]))

    def _matched(self, pixels: Any, labels: Sequence[str]) -> Any:
        """OWL: one query a label, in the words that it was trained with."""
        queries = [f"a photo of {_with_article(label)}" for label in labels]
        longest = self._network.config.text_config.max_position_embeddings
        tokens = self._tokenizer(queries, padding="max_length", max_length=longest, truncation=True, return_tensors="pt")
        with torch.inference_mode():
            found = self._network(**pixels, **all_moved(tokens, self._network))
        return SimpleNamespace(logits=found.logits.float(), pred_boxes=found.pred_boxes.float())

    def _grounded(self, pixels: Any, labels: Sequence[str]) -> Any:
        """Grounding DINO: one text of all labels, "a cat. a dog."; a label scores as its surest token."""
        text, spans = _sentence(labels)
        longest = self._network.config.max_text_len
        tokens = self._tokenizer(text, truncation=True, max_length=longest, return_offsets_mapping=True, return_tensors="pt")
        starts = tokens.pop("offset_mapping")[0, :, 0].tolist()
        words = tokens.word_ids(0)
        with torch.inference_mode():
            found = self._network(**pixels, **all_moved(tokens, self._network))
        places = [[i for i, start in enumerate(starts) if words[i] is not None and first <= start < last] for first, last in spans]
        if not all(places):
            raise ModelError(f"the labels are too long for this model: together at most {longest} tokens")
        logits = torch.stack([found.logits.float()[:, :, place].amax(dim=-1) for place in places], dim=-1)
        return SimpleNamespace(logits=logits, pred_boxes=found.pred_boxes.float())


def _output(labels: Sequence[str], scores: Sequence[float]) -> Output:
    ranked = ranking(zip(labels, scores, strict=True))
    return Output(in_words(ranked), {"labels": ranked})


def _sentence(labels: Sequence[str]) -> tuple[str, list[tuple[int, int]]]:
    """The labels as sentences in small letters, and the characters (first, after the last) of each."""
    text, spans = "", []
    for label in labels:
        words = label.lower().replace(".", " ").strip()
        spans.append((len(text), len(text) + len(words)))
        text += f"{words}. "
    return text.rstrip(), spans


def _with_article(label: str) -> str:
    return label if label.lower().startswith(("a ", "an ", "the ")) else f"a {label}"


def _has_area(box: Sequence[float]) -> bool:
    """What OWLv2 sees in the padding beside a picture has none."""
    return box[2] > box[0] and box[3] > box[1]
