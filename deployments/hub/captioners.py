"""image-to-text: networks that put a picture into words, be it a caption, a line of handwriting or the fields of a receipt."""

import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import transformers

from cluster.catalogue import ModelCard
from cluster.errors import ModelError
from deployments.hub.checkpoint import Checkpoint, network
from deployments.hub.picture_writers import NEVER_READ, PictureWriter, generated, prepared, texts
from deployments.hub.pictures import image_processor
from deployments.hub.tokens import opened_tokenizer
from deployments.model import Call, Output
from deployments.vision import open_picture

if TYPE_CHECKING:
    from PIL.Image import Image

# These caption a picture that comes without a word: ViT + GPT-2 and TrOCR and Donut, BLIP, GIT, BLIP-2, Pix2Struct.
LOOKING = frozenset({"vision-encoder-decoder", "blip", "git", "blip-2", "pix2struct"})
# The others must be told to; these in the words that they were trained with, chat models in plain ones.
ORDERS = {"florence2": "<CAPTION>", "paligemma": "caption en", "kosmos-2": "<grounding>An image of"}
ORDER = "Describe this picture in one sentence."
CAPTION_TOKENS = 64  # where the checkpoint sets no limit; a caption of COCO has about 15

Describe = Callable[[Sequence["Image"]], list[Output]]


class Captioner(Checkpoint):
    """Captions, and transcriptions where the checkpoint was made for them."""

    def __init__(self, net: Any, describe: Describe, max_batch: int) -> None:
        super().__init__(net)
        self._describe, self.max_batch = describe, max_batch

    @classmethod
    def load(cls, card: ModelCard, folder: Path) -> Self:
        net = network(transformers.AutoModelForImageTextToText, card, folder, unread=NEVER_READ)
        if any(name.endswith("ForQuestionAnswering") for name in net.config.architectures or ()):  # BLIP's has a captioner's weights, too
            raise ModelError(f"{card.id} was not made for {' or '.join(card.tasks)}: it answers questions")
        if net.config.model_type not in LOOKING:
            writer = PictureWriter.load(net, card, folder)
            order = ORDERS.get(net.config.model_type, ORDER)
            return cls(net, lambda pictures: [_said(writer.write(picture, order)) for picture in pictures], 1)
        prepare, tokenizer = image_processor(card, folder, net.config), opened_tokenizer(card, folder)
        if getattr(net.config, "encoder", None) and net.config.encoder.model_type == "donut-swin":
            return cls(net, _Donut(net, prepare, tokenizer), 1)
        return cls(net, _Looker(net, prepare, tokenizer), 8)

    def compute(self, calls: Sequence[Call]) -> list[Output]:
        return self._describe([open_picture(Path(call.inputs[0])) for call in calls])


class _Looker:
    """Pictures of one size in, texts out."""

    def __init__(self, net: Any, prepare: Any, tokenizer: Any) -> None:
        self._network, self._prepare, self._tokenizer = net, prepare, tokenizer
        if net.config.model_type == "vision-encoder-decoder":
            _complete(net.generation_config, net.config.decoder, tokenizer)

    def __call__(self, pictures: Sequence["Image"]) -> list[Output]:
        features = prepared(self._prepare, self._network, images=list(pictures))
        return [_said(text) for text in texts(self._tokenizer, generated(self._network, features, CAPTION_TOKENS))]


class _Donut:
    """Donut (Kim et al., arXiv 2111.15664) writes what a document holds as tags around texts."""

    def __init__(self, net: Any, prepare: Any, tokenizer: Any) -> None:
        self._network, self._prepare = net, prepare
        kind: Any = transformers.DonutProcessor  # untyped upstream
        self._processor = kind(prepare, tokenizer)
        _complete(net.generation_config, net.config.decoder, tokenizer)

    def __call__(self, pictures: Sequence["Image"]) -> list[Output]:
        return [self._read(picture) for picture in pictures]

    def _read(self, picture: "Image") -> Output:
        features = prepared(self._prepare, self._network, images=[picture])
        longest = self._network.config.decoder.max_position_embeddings
        tokens = generated(self._network, features, longest - 1)
        (plain,) = texts(self._processor.tokenizer, tokens)
        fields = self._processor.token2json(self._tags(tokens))
        if not isinstance(fields, dict) or set(fields) <= {"text_sequence"}:
            return _said(plain)
        return Output(json.dumps(fields, ensure_ascii=False), {"text": plain, "fields": fields})

    def _tags(self, tokens: Any) -> str:
        """The text with its tags, without the one that names the task."""
        tokenizer = self._processor.tokenizer
        written: str = tokenizer.batch_decode(tokens)[0]
        for mark in filter(None, (tokenizer.bos_token, tokenizer.eos_token, tokenizer.pad_token)):
            written = written.replace(mark, "")
        return re.sub(r"<s_[^>]*>", "", written, count=1).strip()


def _complete(settings: Any, decoder: Any, tokenizer: Any) -> None:
    """The first token and the padding of a decoder, where the checkpoint is silent about them (GPT-2 has neither)."""
    if settings.decoder_start_token_id is None:
        choices = (settings.bos_token_id, getattr(decoder, "decoder_start_token_id", None), decoder.bos_token_id, tokenizer.bos_token_id)
        settings.decoder_start_token_id = next((choice for choice in choices if choice is not None), tokenizer.cls_token_id)
    if settings.eos_token_id is None:
        settings.eos_token_id = decoder.eos_token_id if decoder.eos_token_id is not None else tokenizer.eos_token_id
    if settings.pad_token_id is None:
        settings.pad_token_id = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else settings.eos_token_id


def _said(text: str) -> Output:
    return Output(text, {"text": text})
