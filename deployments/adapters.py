"""LoRA adapters: kept in PEFT's form, which vLLM loads as it is; llama.cpp gets the same tensors in a GGUF file of its own.

The names and the shapes of that file are llama.cpp's (its convert_lora_to_gguf.py; Qwen2's tensors need no permutation).
"""

import json
import math
import os
import re
from hashlib import sha256
from pathlib import Path
from typing import Any

from cluster.errors import ModelUnavailable

SHIPPED = Path(__file__).with_name("adapters")  # `adapter: planner-0.5b` in a configuration names a folder here
WEIGHTS, CONFIG = "adapter_model.safetensors", "adapter_config.json"
# What PEFT can do to a LoRA beside its two matrices, where llama.cpp would silently compute something else.
_UNKNOWN_TO_LLAMA_CPP = ("use_rslora", "use_dora", "lora_bias", "alpha_pattern", "modules_to_save")
_BLOCK_PARTS = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
_TENSOR = re.compile(rf"base_model\.model\.model\.layers\.(\d+)\.({'|'.join(map(re.escape, _BLOCK_PARTS))})\.lora_([AB])\.weight")


def adapter_folder(name: str) -> Path:
    """The folder of a shipped adapter, or the path that was given. Raises ModelUnavailable where it holds none."""
    folder = Path(name).expanduser() if os.sep in name else SHIPPED / name
    if missing := [file for file in (WEIGHTS, CONFIG) if not (folder / file).is_file()]:
        raise ModelUnavailable(f"there is no LoRA adapter at {folder}: it has no {' and no '.join(missing)}")
    return folder


def as_gguf(folder: Path, cache: Path) -> Path:
    """The adapter as a GGUF file in `cache`, named by its bytes; written once. Raises ModelUnavailable for what llama.cpp cannot load."""
    try:
        weights, config = (folder / WEIGHTS).read_bytes(), (folder / CONFIG).read_bytes()
        made = cache / f"{folder.name}-{sha256(weights + config).hexdigest()[:16]}.gguf"
        if not made.exists():
            tensors, alpha = _tensors(weights, folder / WEIGHTS), _alpha(config, folder / CONFIG)
            cache.mkdir(parents=True, exist_ok=True)
            unfinished = made.with_suffix(f".{os.getpid()}")
            _write(tensors, alpha, unfinished)
            unfinished.replace(made)
    except OSError as exc:
        raise ModelUnavailable(f"the LoRA adapter {folder} cannot be used: {exc.filename}: {exc.strerror}") from exc
    return made


def _alpha(content: bytes, path: Path) -> float:
    """LoRA's scale, times the rank."""
    try:
        config = json.loads(content)
        alpha = config["lora_alpha"]
        special = [name for name in _UNKNOWN_TO_LLAMA_CPP if config.get(name)]
    except (ValueError, RecursionError, KeyError, TypeError, AttributeError) as exc:
        raise ModelUnavailable(f"{path} is no configuration of a LoRA adapter: it is not JSON with a lora_alpha") from exc
    if special:
        raise ModelUnavailable(f"{path}: llama.cpp cannot do what {special[0]} asks for")
    if isinstance(alpha, bool) or not isinstance(alpha, int | float) or not math.isfinite(alpha) or alpha <= 0:
        raise ModelUnavailable(f"{path}: lora_alpha is a number above 0, not {json.dumps(alpha)[:80]}")
    return float(alpha)


def _tensors(content: bytes, path: Path) -> dict[str, Any]:
    """NumPy arrays by llama.cpp's names: of each weight lora_a (rank, in) and lora_b (out, rank)."""
    from safetensors import SafetensorError
    from safetensors.numpy import load

    try:
        tensors = {_name(name, path): value for name, value in load(content).items()}
    except SafetensorError as exc:
        raise ModelUnavailable(f"{path} is no file of safetensors, or is cut short") from exc
    except (KeyError, TypeError) as exc:  # NumPy has no bfloat16
        raise ModelUnavailable(f"{path}: tensors are float16 or float32 here, not {exc.args[0]}") from exc
    for name in sorted({name.removesuffix("_a").removesuffix("_b") for name in tensors}):
        down, up = tensors.get(f"{name}_a"), tensors.get(f"{name}_b")
        if down is None or up is None or down.ndim != 2 or up.ndim != 2 or down.shape[0] != up.shape[1]:
            raise ModelUnavailable(f"{path}: {name} is no pair of matrices with one rank")
    if not tensors:
        raise ModelUnavailable(f"{path} holds no tensors")
    if odd := [name for name, value in tensors.items() if value.dtype.name not in ("float16", "float32")]:
        raise ModelUnavailable(f"{path}: tensors are float16 or float32 here, and {odd[0]} is {tensors[odd[0]].dtype}")
    return tensors


def _write(tensors: dict[str, Any], alpha: float, target: Path) -> None:
    import gguf

    writer = gguf.GGUFWriter(target, arch="qwen2")
    writer.add_type("adapter")
    writer.add_string("adapter.type", "lora")
    writer.add_float32("adapter.lora.alpha", alpha)
    for name, value in sorted(tensors.items()):
        writer.add_tensor(name, value)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _name(peft_name: str, path: Path) -> str:
    if (found := _TENSOR.fullmatch(peft_name)) is None:
        raise ModelUnavailable(f"{path}: llama.cpp has no place for the tensor {peft_name[:120]}")
    layer, part, side = found.groups()
    return f"blk.{layer}.{_BLOCK_PARTS[part]}.weight.lora_{side.lower()}"
