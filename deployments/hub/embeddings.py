"""Embeddings of texts from the hub: what sentence-transformers computes, and the plain mean for other encoders."""

import inspect
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import torch
import transformers
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from cluster.catalogue import ModelCard
from cluster.errors import ModelError
from cluster.tasks import Task
from deployments.hub.checkpoint import Checkpoint, network, opened
from deployments.hub.tokens import Tokens, text_of
from deployments.model import Call, Output

SHOWN = 5  # numbers of a vector that a person sees; the data have all
# The keys of 1_Pooling/config.json; newer folders name the mode instead. Several at once would be joined end to end: not done here.
POOLING_KEYS = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_lasttoken": "lasttoken",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_mean_tokens": "mean",
}
ACTIVATIONS = {"Tanh": torch.nn.Tanh, "Identity": torch.nn.Identity, "ReLU": torch.nn.ReLU, "GELU": torch.nn.GELU}


class SentenceEmbedder(Checkpoint):
    """Unit vectors of texts. Folders of sentence-transformers say how token vectors become one; for others it is their mean.

    A text longer than the window is the mean of its pieces' vectors, weighted by their tokens.
    """

    max_batch = 16

    def __init__(self, network: Any, tokens: Tokens, pooling: str, dense: torch.nn.Module, prompt: str) -> None:
        super().__init__(network, dense)
        self._network, self._tokens = network, tokens
        self._pooling, self._dense, self._prompt = pooling, dense, prompt

    @classmethod
    def load(cls, card: ModelCard, folder: Path) -> Self:
        net = _encoder(card, folder)
        tokens = Tokens.of(net, card, folder)
        if longest := _settings(card, folder / "sentence_bert_config.json").get("max_seq_length"):
            tokens.window = min(tokens.window, int(longest))
        modules = _modules(card, folder)
        pooling = next((_pooling(card, _settings(card, path / "config.json")) for kind, path in modules if kind == "Pooling"), "mean")
        dense = torch.nn.Sequential(*[_dense(card, path) for kind, path in modules if kind == "Dense"])
        return cls(net, tokens, pooling, dense.to(net.device, net.dtype).eval(), _prompt(card, folder))

    def compute(self, calls: Sequence[Call]) -> list[Output]:
        texts = [[text_of(call, place) for place in range(len(call.inputs))] for call in calls]
        vectors = iter(self.embed([text for group in texts for text in group]))
        return [_output(call, [next(vectors) for _ in group]) for call, group in zip(calls, texts, strict=True)]

    def embed(self, texts: Sequence[str]) -> Tensor:
        """(texts, dimensions), each of length 1."""
        pieces = [self._tokens.rows(self._prompt + text) for text in texts]
        rows = [row for group in pieces for row in group]
        vectors = torch.cat([self._pooled(batch) for batch in self._tokens.passes(rows, self.max_batch)])
        weighted = torch.nn.functional.normalize(vectors) * torch.tensor([[float(len(row["input_ids"]))] for row in rows])
        sums = [part.sum(dim=0) for part in torch.split_with_sizes(weighted, [len(group) for group in pieces])]
        return torch.nn.functional.normalize(torch.stack(sums))

    def _pooled(self, batch: Any) -> Tensor:
        mask = batch["attention_mask"]
        with torch.inference_mode():
            hidden = self._network(**batch).last_hidden_state
            pooled = _POOLINGS[self._pooling](hidden.float(), mask.unsqueeze(-1).float())
            found: Tensor = self._dense(pooled.to(hidden.dtype)).float().cpu()
        return found


def _output(call: Call, vectors: Sequence[Tensor]) -> Output:
    match call.task:
        case Task.SENTENCE_SIMILARITY:
            score = round(float(vectors[0] @ vectors[1]), 4)
            return Output(f"{score:.2f} (0 unrelated, 1 same meaning)", {"similarity": score})
        case Task.FEATURE_EXTRACTION:
            numbers = [round(value, 6) for value in vectors[0].tolist()]
            shown = ", ".join(f"{value:.4f}" for value in numbers[:SHOWN])
            return Output(f"a vector of {len(numbers)} numbers: {shown} …", {"embedding": numbers})
        case _:
            raise ModelError(f"embeddings cannot do the task {call.task}")


def _encoder(card: ModelCard, folder: Path) -> Any:
    """The network without its head: of an encoder-decoder the encoder, of T5 the class that has no decoder."""
    config = opened(transformers.AutoConfig, card, folder)
    kinds = (transformers.AutoModelForTextEncoding, transformers.AutoModel)
    kind = next((kind._model_mapping[type(config)] for kind in kinds if type(config) in kind._model_mapping), transformers.AutoModel)
    has_pooler = inspect.isclass(kind) and "add_pooling_layer" in inspect.signature(kind.__init__).parameters
    options = {"add_pooling_layer": False} if has_pooler else {}
    net = network(kind, card, folder, unread=("pooler.",), **options)
    return (
        net.get_encoder()
        if net.config.is_encoder_decoder and kind not in transformers.AutoModelForTextEncoding._model_mapping.values()
        else net
    )


def _modules(card: ModelCard, folder: Path) -> list[tuple[str, Path]]:
    """(Pooling, folder/1_Pooling) …: the steps after the network, of a folder of sentence-transformers."""
    steps = _settings(card, folder / "modules.json") or []
    return [(str(step["type"]).rpartition(".")[2], folder / Path(str(step["path"])).name) for step in steps]


def _pooling(card: ModelCard, settings: dict[str, Any]) -> str:
    modes = [mode for key, mode in POOLING_KEYS.items() if settings.get(key)]
    named = str(settings.get("pooling_mode") or " and ".join(modes) or "mean")
    if named not in _POOLINGS:
        raise ModelError(f"{card.id} cannot be used: it pools token vectors by {named}, which is unknown here")
    return named


def _dense(card: ModelCard, folder: Path) -> torch.nn.Module:
    """A layer that sentence-transformers puts after pooling: linear, then its activation."""
    settings = _settings(card, folder / "config.json")
    activation = ACTIVATIONS.get(str(settings.get("activation_function", "Identity")).rpartition(".")[2])
    try:
        weights = {name.removeprefix("linear."): tensor for name, tensor in load_file(folder / "model.safetensors").items()}
        layer = torch.nn.Linear(settings["in_features"], settings["out_features"], bias=bool(settings.get("bias", True)))
        layer.load_state_dict(weights)
    except (OSError, KeyError, RuntimeError, SafetensorError) as exc:
        raise ModelError(
            f"{card.id} could not be loaded: {folder.name} does not hold the layer that it should ({type(exc).__name__})"
        ) from exc
    if activation is None:
        raise ModelError(f"{card.id} could not be loaded: its activation {settings['activation_function']} is unknown")
    return torch.nn.Sequential(layer, activation())


def _prompt(card: ModelCard, folder: Path) -> str:
    """What the checkpoint wants before every text unless told otherwise."""
    settings = _settings(card, folder / "config_sentence_transformers.json")
    return str((settings.get("prompts") or {}).get(settings.get("default_prompt_name")) or "")


def _settings(card: ModelCard, path: Path) -> Any:
    """A JSON file of the folder; nothing where there is none."""
    try:
        return json.loads(path.read_text("utf-8")) if path.is_file() else {}
    except ValueError as exc:
        raise ModelError(f"{card.id} could not be loaded: {path.name} is not JSON") from exc


def _mean(hidden: Tensor, mask: Tensor) -> Tensor:
    return (hidden * mask).sum(dim=1) / mask.sum(dim=1)


def _weighted_mean(hidden: Tensor, mask: Tensor) -> Tensor:
    """Later tokens weigh more (SGPT, arXiv:2202.08904)."""
    weights = mask * torch.arange(1, hidden.shape[1] + 1, device=hidden.device)[None, :, None]
    return (hidden * weights).sum(dim=1) / weights.sum(dim=1)


def _last(hidden: Tensor, mask: Tensor) -> Tensor:
    places = mask.squeeze(-1).sum(dim=1).long() - 1  # rows are padded on the right
    return hidden[torch.arange(len(hidden), device=hidden.device), places]


# Hidden states (texts, tokens, dimensions) and mask (texts, tokens, 1) to (texts, dimensions).
_POOLINGS = {
    "cls": lambda hidden, mask: hidden[:, 0],
    "mean": _mean,
    "max": lambda hidden, mask: hidden.masked_fill(mask == 0, -torch.inf).max(dim=1).values,
    "mean_sqrt_len_tokens": lambda hidden, mask: (hidden * mask).sum(dim=1) / mask.sum(dim=1).sqrt(),
    "weightedmean": _weighted_mean,
    "lasttoken": _last,
}
