"""Opening a checkpoint folder as a network: data only, on the best device, refused when it was not made for the task.

Knows transformers and diffusers, no task.
"""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors import SafetensorError

from cluster.catalogue import ModelCard
from cluster.errors import ModelError
from deployments.model import Computation

transformers.utils.logging.disable_progress_bar()  # type: ignore[no-untyped-call]  # in a replica's log the bar is litter
transformers.utils.logging.set_verbosity_error()  # type: ignore[no-untyped-call]

# What a broken or lying checkpoint makes the libraries throw.
BROKEN = (OSError, ValueError, RuntimeError, KeyError, TypeError, AttributeError, ImportError, SafetensorError)


def device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def precision(published: Any = None) -> torch.dtype:
    """Half precision where a GPU computes in it; a CPU is slower in it than in full.

    A checkpoint published in bfloat16 keeps it where the GPU knows it: its values may be too large for float16.
    """
    if not torch.cuda.is_available():
        return torch.float32
    return torch.bfloat16 if published is torch.bfloat16 and torch.cuda.is_bf16_supported() else torch.float16


class Checkpoint(Computation):
    """A Model made of networks. `size_bytes` is what their tensors take in memory, measured."""

    def __init__(self, *networks: torch.nn.Module) -> None:
        super().__init__()
        self._networks = networks

    @property
    def size_bytes(self) -> int:
        return sum(tensor_bytes(network) for network in self._networks)


def tensor_bytes(network: torch.nn.Module) -> int:
    """Parameters and buffers, shared ones counted once."""
    tensors = {id(tensor): tensor for tensor in (*network.parameters(), *network.buffers())}
    return sum(tensor.nbytes for tensor in tensors.values())


def network(kinds: Any | Iterable[Any], card: ModelCard, folder: Path, unread: tuple[str, ...] = (), **options: Any) -> Any:
    """A network of the first of these transformers classes that knows the checkpoint, in evaluation mode, on the best device.

    Raises ModelError when none does, when the weights are not safetensors or are damaged, and when the checkpoint lacks weights of
    the class: such a network would answer with noise. Weights whose names contain one of `unread` may be lacking: the class has
    them, and what it is used for here never reads them.
    """
    kinds = tuple(kinds) if isinstance(kinds, (tuple, list)) else (kinds,)
    config = opened(transformers.AutoConfig, card, folder)
    kind = next((kind for kind in kinds if _knows(kind, config)), None)
    if kind is None:
        made_for = ", ".join(config.architectures or [config.model_type])
        raise ModelError(f"{card.id} is a checkpoint of {made_for}, which cannot do {' or '.join(card.tasks)}")
    # Weights of another size are told below in our words; refused by the library, they are told as "see the report above".
    safe = {"use_safetensors": True, "dtype": precision(config.dtype), "output_loading_info": True, "ignore_mismatched_sizes": True}
    loaded, report = opened(kind, card, folder, **(safe | options))
    missing = sorted(name for name in report["missing_keys"] if not any(part in name for part in unread))
    if lacking := missing + sorted(str(name) for name, *_ in report.get("mismatched_keys", ())):
        raise ModelError(f"{card.id} was not made for {' or '.join(card.tasks)}: its weights lack {lacking[0]} and {len(lacking) - 1} more")
    return loaded.to(device()).eval()


def opened(kind: Any, card: ModelCard, folder: Path, **options: Any) -> Any:
    """`kind.from_pretrained` of the folder alone, running no code out of it. Raises ModelError with the reason in one line."""
    return _guarded(lambda: kind.from_pretrained(folder, local_files_only=True, trust_remote_code=False, **options), card)


def _knows(kind: Any, config: Any) -> bool:
    """An Auto class by its mapping; a plain class by the configuration that it is built on."""
    mapping = getattr(kind, "_model_mapping", None)
    return type(config) in mapping if mapping is not None else isinstance(config, kind.config_class)


def _guarded(load: Callable[[], Any], card: ModelCard) -> Any:
    try:
        return load()
    except BROKEN as exc:
        reason = next((line.strip() for line in str(exc).splitlines() if line.strip()), type(exc).__name__)
        if isinstance(exc, ImportError):  # what is missing; the library goes on with how to install it
            reason = reason.split(". ")[0]
        raise ModelError(f"{card.id} could not be loaded: {reason[:200]}") from exc
