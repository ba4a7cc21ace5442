"""LoRA adapters: kept in PEFT's form, which vLLM loads as it is; llama.cpp gets the same tensors in a GGUF file of its own.

The names and the shapes of that file are llama.cpp's (its convert_lora_to_gguf.py; Qwen2's tensors need no permutation).
"""

import json
import os
import re
from hashlib import sha256
from pathlib import Path

from cluster.errors import ModelUnavailable

SHIPPED = Path(__file__).with_name("adapters")  # `adapter: planner-0.5b` in a configuration names a folder here
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
    folder = Path(name) if os.sep in name else SHIPPED / name
    if not (folder / "adapter_model.safetensors").is_file():
        raise ModelUnavailable(f"there is no LoRA adapter at {folder}: adapter_model.safetensors and adapter_config.json make one")
    return folder


def as_gguf(folder: Path, cache: Path) -> Path:
    """The adapter as a GGUF file in `cache`, named by its bytes; written once. Raises ModelUnavailable for what llama.cpp cannot load."""
    weights = folder / "adapter_model.safetensors"
    made = cache / f"{folder.name}-{sha256(weights.read_bytes()).hexdigest()[:16]}.gguf"
    if not made.exists():
        cache.mkdir(parents=True, exist_ok=True)
        unfinished = made.with_suffix(f".{os.getpid()}")
        _convert(weights, json.loads((folder / "adapter_config.json").read_text(encoding="utf-8")), unfinished)
        unfinished.replace(made)
    return made


def _convert(weights: Path, config: dict[str, object], target: Path) -> None:
    import gguf
    from safetensors.numpy import load_file

    tensors = {_name(name, weights): value for name, value in load_file(weights).items()}
    writer = gguf.GGUFWriter(target, arch="qwen2")
    writer.add_type("adapter")
    writer.add_string("adapter.type", "lora")
    writer.add_float32("adapter.lora.alpha", float(str(config["lora_alpha"])))
    for name, value in sorted(tensors.items()):
        writer.add_tensor(name, value)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _name(peft_name: str, weights: Path) -> str:
    if (found := _TENSOR.fullmatch(peft_name)) is None:
        raise ModelUnavailable(f"{weights}: llama.cpp has no place for the tensor {peft_name}")
    layer, part, side = found.groups()
    return f"blk.{layer}.{_BLOCK_PARTS[part]}.weight.lora_{side.lower()}"
