"""Adapters: what PEFT saved is what llama.cpp is given, tensor by tensor."""

from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
from safetensors.numpy import save_file

from cluster.errors import ModelUnavailable
from deployments.adapters import SHIPPED, adapter_folder, as_gguf

PART = "base_model.model.model.layers.3.self_attn.q_proj"


DOWN, UP = np.arange(12, dtype=np.float16).reshape(2, 6), np.ones((4, 2), dtype=np.float16)


def an_adapter(folder: Path, extra: str = "", down: Any = DOWN, up: Any = UP, config: str = '{"lora_alpha": 32, "r": 2}') -> Path:
    folder.mkdir()
    save_file({f"{PART}.lora_A.weight": down, f"{PART}{extra}.lora_B.weight": up}, folder / "adapter_model.safetensors")
    (folder / "adapter_config.json").write_text(config)
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
    (folder / "adapter_config.json").write_text('{"lora_alpha": 64}')
    stronger = as_gguf(folder, tmp_path / "cache")
    assert stronger != made and gguf.GGUFReader(stronger).fields["adapter.lora.alpha"].contents() == 64
    save_file({f"{PART}.lora_A.weight": DOWN * 2, f"{PART}.lora_B.weight": UP}, folder / "adapter_model.safetensors")
    assert as_gguf(folder, tmp_path / "cache") not in (made, stronger)


def test_a_tensor_that_llama_cpp_has_no_place_for_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelUnavailable, match="no place for the tensor .*q_proj.sideways"):
        as_gguf(an_adapter(tmp_path / "mine", ".sideways"), tmp_path / "cache")
    assert not list((tmp_path / "cache").glob("*.gguf"))


def test_a_name_that_no_folder_bears_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelUnavailable, match="no LoRA adapter at"):
        adapter_folder("planner-of-dreams")
    assert adapter_folder(str(an_adapter(tmp_path / "mine"))) == tmp_path / "mine"


@pytest.mark.parametrize(
    ("config", "fault"),
    [
        ("{", "is no configuration of a LoRA adapter"),
        ("[1]", "is no configuration of a LoRA adapter"),
        ('{"r": 2}', "is no configuration of a LoRA adapter"),
        ('{"lora_alpha": "32"}', 'lora_alpha is a number above 0, not "32"'),
        ('{"lora_alpha": 0}', "lora_alpha is a number above 0, not 0"),
        ('{"lora_alpha": NaN}', "lora_alpha is a number above 0, not NaN"),
        ('{"lora_alpha": true}', "lora_alpha is a number above 0, not true"),
        ('{"lora_alpha": 32, "use_rslora": true}', "llama.cpp cannot do what use_rslora asks for"),
        ('{"lora_alpha": 32, "alpha_pattern": {"q_proj": 8}}', "llama.cpp cannot do what alpha_pattern asks for"),
    ],
)
def test_a_configuration_that_would_give_another_model_is_refused(tmp_path: Path, config: str, fault: str) -> None:
    with pytest.raises(ModelUnavailable, match=fault):
        as_gguf(an_adapter(tmp_path / "mine", config=config), tmp_path / "cache")
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize(
    ("matrices", "fault"),
    [
        ({"up": UP[:, :1].copy()}, "is no pair of matrices with one rank"),
        ({"down": DOWN[0]}, "is no pair of matrices with one rank"),
        ({"down": DOWN.astype(np.int64)}, "is int64"),
    ],
)
def test_tensors_that_are_no_adapter_are_refused(tmp_path: Path, matrices: dict[str, Any], fault: str) -> None:
    with pytest.raises(ModelUnavailable, match=fault):
        as_gguf(an_adapter(tmp_path / "mine", **matrices), tmp_path / "cache")


def test_a_half_downloaded_adapter_is_told(tmp_path: Path) -> None:
    folder = an_adapter(tmp_path / "mine")
    weights = folder / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-5])
    with pytest.raises(ModelUnavailable, match="is cut short"):
        as_gguf(folder, tmp_path / "cache")
    (folder / "adapter_config.json").unlink()
    with pytest.raises(ModelUnavailable, match=r"no LoRA adapter at .*: it has no adapter_config.json$"):
        adapter_folder(str(folder))


def test_a_cache_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "cache").touch()
    with pytest.raises(ModelUnavailable, match="cannot be used: .*cache"):
        as_gguf(an_adapter(tmp_path / "mine"), tmp_path / "cache")


def test_every_shipped_adapter_can_be_converted(tmp_path: Path) -> None:
    names = [folder.name for folder in SHIPPED.iterdir()]
    assert names
    for name in names:
        assert as_gguf(adapter_folder(name), tmp_path).stat().st_size < 40_000_000
