"""Adapters: what PEFT saved is what llama.cpp is given, tensor by tensor."""

import json
from pathlib import Path

import gguf
import numpy as np
import pytest
from safetensors.numpy import save_file

from cluster.errors import ModelUnavailable
from deployments.adapters import SHIPPED, adapter_folder, as_gguf

PART = "base_model.model.model.layers.3.self_attn.q_proj"


def an_adapter(folder: Path, extra: str = "") -> Path:
    folder.mkdir()
    down, up = np.arange(12, dtype=np.float16).reshape(2, 6), np.ones((4, 2), dtype=np.float16)
    save_file({f"{PART}.lora_A.weight": down, f"{PART}{extra}.lora_B.weight": up}, folder / "adapter_model.safetensors")
    (folder / "adapter_config.json").write_text(json.dumps({"lora_alpha": 32, "r": 2}))
    return folder


def test_llama_cpp_gets_the_same_tensors_under_its_own_names(tmp_path: Path) -> None:
    made = as_gguf(an_adapter(tmp_path / "mine"), tmp_path / "cache")
    read = gguf.GGUFReader(made)
    tensors = {tensor.name: tensor.data for tensor in read.tensors}
    assert set(tensors) == {"blk.3.attn_q.weight.lora_a", "blk.3.attn_q.weight.lora_b"}
    assert tensors["blk.3.attn_q.weight.lora_a"].tolist() == np.arange(12).reshape(2, 6).tolist()
    assert read.fields["adapter.lora.alpha"].contents() == 32
    assert read.fields["general.type"].contents() == "adapter"


def test_it_is_written_once_and_again_when_the_adapter_changes(tmp_path: Path) -> None:
    folder = an_adapter(tmp_path / "mine")
    made = as_gguf(folder, tmp_path / "cache")
    assert as_gguf(folder, tmp_path / "cache").stat().st_mtime_ns == made.stat().st_mtime_ns
    save_file({f"{PART}.lora_A.weight": np.zeros((2, 6), np.float16)}, folder / "adapter_model.safetensors")
    assert as_gguf(folder, tmp_path / "cache") != made


def test_a_tensor_that_llama_cpp_has_no_place_for_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelUnavailable, match="no place for the tensor .*q_proj.sideways"):
        as_gguf(an_adapter(tmp_path / "mine", ".sideways"), tmp_path / "cache")
    assert not list((tmp_path / "cache").glob("*.gguf"))


def test_a_name_that_no_folder_bears_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelUnavailable, match="no LoRA adapter at"):
        adapter_folder("planner-of-dreams")
    assert adapter_folder(str(an_adapter(tmp_path / "mine"))) == tmp_path / "mine"


def test_every_shipped_adapter_can_be_converted(tmp_path: Path) -> None:
    names = [folder.name for folder in SHIPPED.iterdir()]
    assert names
    for name in names:
        assert as_gguf(adapter_folder(name), tmp_path).stat().st_size < 40_000_000
