"""Networks that write about a picture as told: the chat models, and those whose prompt is a bare text. Knows no task."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import torch
import transformers
from transformers.models.auto.processing_auto import PROCESSOR_MAPPING

from cluster.catalogue import ModelCard
from cluster.errors import ModelError
from deployments.hub.checkpoint import opened
from deployments.hub.tensors import all_moved
from deployments.hub.tokens import refuse_without_vocabulary

if TYPE_CHECKING:
    from PIL.Image import Image

# What a checkpoint may lack: VisionEncoderDecoder builds its encoder with a pooler, and the decoder reads the patches (microsoft/trocr-*).
NEVER_READ = ("encoder.pooler.",)
MAX_NEW_TOKENS = 256
MAX_SIDE_PIXELS = 2048
MAX_PROMPT_CHARACTERS = 8000  # about 2000 tokens: what the small ones have beside a picture's


class PictureWriter:
    """A network of AutoModelForImageTextToText with its processor. Greedy, or the beams that its makers chose."""

    def __init__(self, net: Any, processor: Any) -> None:
        self.network, self._processor = net, processor
        self._template = getattr(processor, "chat_template", None) or getattr(processor.tokenizer, "chat_template", None)

    @classmethod
    def load(cls, net: Any, card: ModelCard, folder: Path) -> Self:
        return cls(net, opened_processor(net.config, card, folder))

    @property
    def chats(self) -> bool:
        return self._template is not None

    def write(self, picture: "Image", prompt: str) -> str:
        """What the network writes after the picture and the prompt. Raises ModelError when it writes nothing."""
        features = self._features(picture, self._plain(prompt))
        written = generated(self.network, features)
        given = features.get("input_ids")
        if given is not None and written[:, : given.shape[1]].equal(given):  # some give the prompt back, some do not
            written = written[:, given.shape[1] :]
        return texts(self._processor.tokenizer, written)[0]

    def _features(self, picture: "Image", prompt: str) -> Mapping[str, Any]:
        if self.chats:
            content = [{"type": "image"}, {"type": "text", "text": prompt}]
            options = {"chat_template": self._template, "add_generation_prompt": True, "tokenize": False}
            prompt = self._processor.apply_chat_template([{"role": "user", "content": content}], **options)
        begins_itself = self.chats and _starts_a_text(self._processor.tokenizer, prompt)
        options = {"add_special_tokens": False} if begins_itself else {}
        return prepared(self._processor, self.network, images=[_not_huge(picture)], text=[prompt], **options)

    def _plain(self, prompt: str) -> str:
        """Cut to what a model can take, and without the marks that stand for pictures."""
        marks = [getattr(self._processor, f"{kind}_token", None) for kind in ("image", "video")]
        for mark in filter(None, map(str, filter(None, marks))):
            prompt = prompt.replace(mark, " ")
        return prompt[:MAX_PROMPT_CHARACTERS].strip()


def opened_processor(config: Any, card: ModelCard, folder: Path) -> Any:
    """What takes a picture with a text. Raises ModelError when the checkpoint has none, or one without words."""
    processor = _as_published(config, card, folder)
    if not hasattr(processor, "image_processor") or not hasattr(processor, "tokenizer"):
        raise ModelError(f"{card.id} has no processor that takes a picture with a text")
    refuse_without_vocabulary(processor.tokenizer, card)
    return processor


def generated(net: Any, features: Mapping[str, Any], max_new_tokens: int = MAX_NEW_TOKENS, **options: Any) -> torch.Tensor:
    """(texts, tokens). The checkpoint's own limit of tokens and its number of beams stand; nothing is drawn by lot."""
    settings = net.generation_config
    limit = {} if settings.max_new_tokens or settings.max_length else {"max_new_tokens": max_new_tokens}
    with torch.inference_mode():
        tokens: torch.Tensor = net.generate(**features, do_sample=False, **limit, **options)
    return tokens


def texts(tokenizer: Any, tokens: torch.Tensor) -> list[str]:
    """Without special tokens. Raises ModelError when one is empty."""
    written = [text.strip() for text in tokenizer.batch_decode(tokens, skip_special_tokens=True)]
    if not all(written):
        raise ModelError("the model wrote nothing about the picture")
    return written


def prepared(processor: Any, net: Any, **inputs: Any) -> Mapping[str, Any]:
    """What a processor makes of pictures and texts, ready for the network. Raises ModelError when it cannot take them."""
    try:
        return all_moved(processor(**inputs, return_tensors="pt"), net)
    except ValueError as exc:
        raise ModelError(f"the picture cannot be prepared for this model: {str(exc).splitlines()[0][:200]}") from exc


def _not_huge(picture: "Image") -> "Image":
    """Networks that see a picture in its own size take as many tokens as it has patches: of 12 megapixels, 16,000."""
    shrunk = picture.copy()
    shrunk.thumbnail((MAX_SIDE_PIXELS, MAX_SIDE_PIXELS))
    return shrunk


def _starts_a_text(tokenizer: Any, prompt: str) -> bool:
    """Whether a chat template wrote the first token already, which the tokenizer would write again."""
    return bool(tokenizer.bos_token) and prompt.startswith(tokenizer.bos_token)


class _WithoutVideos:
    """A processor whose video part, which needs torchvision, stays empty."""

    @staticmethod
    def check_argument_for_proper_class(name: str, argument: Any) -> None:
        """What transformers checks here is the class of the parts; the ones below come from its own Auto classes."""


def _as_published(config: Any, card: ModelCard, folder: Path) -> Any:
    try:
        kind: Any = PROCESSOR_MAPPING.get(type(config), None)
    except ImportError as exc:  # Gemma 4's needs torchvision, whatever it is to read (5.19)
        raise ModelError(f"{card.id} could not be loaded: {str(exc).splitlines()[0]}") from exc
    if kind is None or "video_processor" not in kind.get_attributes():
        return opened(transformers.AutoProcessor, card, folder)
    if kind is transformers.SmolVLMProcessor:  # for pictures the same, and its own wants num2words for videos
        kind = transformers.Idefics3Processor
    kinds = {"image_processor": transformers.AutoImageProcessor, "tokenizer": transformers.AutoTokenizer}
    parts = [opened(kinds[part], card, folder) if part in kinds else None for part in kind.get_attributes()]
    settings, _ = kind.get_processor_dict(folder, local_files_only=True)
    without_videos: Any = type(kind.__name__, (_WithoutVideos, kind), {})
    return without_videos.from_args_and_dict(parts, settings)
