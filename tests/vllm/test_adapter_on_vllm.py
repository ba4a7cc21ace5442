"""A LoRA adapter in the form that this project ships loads into vLLM's own server as it is, and changes what the model says.

`ray.serve.llm` takes adapters from buckets only (Ray 2.60), so a planner with one is a server beside it, asked through `planner_llm`.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import torch
from conftest import LOOPBACK, free_port
from safetensors.torch import save_file

SHIPPED = Path(__file__).parents[2] / "deployments" / "adapters" / "planner-0.5b"
READY_S = 300.0
SERVER = ("-m", "vllm.entrypoints.openai.api_server", "--enforce-eager", "--dtype", "float32", "--max-model-len", "2048")

pytestmark = pytest.mark.vllm


@pytest.fixture(scope="module")
def adapter(vllm_model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shipped adapter's configuration, with random matrices that fit the tiny Llama."""
    folder = tmp_path_factory.mktemp("adapter")
    config = json.loads((SHIPPED / "adapter_config.json").read_text(encoding="utf-8"))
    (folder / "adapter_config.json").write_text(json.dumps(config), encoding="utf-8")
    shape = json.loads((vllm_model_folder / "config.json").read_text(encoding="utf-8"))
    hidden, inner = shape["hidden_size"], shape["intermediate_size"]
    sizes = {"gate_proj": (hidden, inner), "up_proj": (hidden, inner), "down_proj": (inner, hidden)}
    torch.manual_seed(3)
    tensors = {}
    for layer in range(shape["num_hidden_layers"]):
        for name in config["target_modules"]:
            into, out = sizes.get(name, (hidden, hidden))
            part = "mlp" if name in sizes else "self_attn"
            path = f"base_model.model.model.layers.{layer}.{part}.{name}"
            tensors[f"{path}.lora_A.weight"] = torch.randn(config["r"], into).half()
            tensors[f"{path}.lora_B.weight"] = torch.randn(out, config["r"]).half()
    save_file(tensors, folder / "adapter_model.safetensors", {"format": "pt"})
    return folder


@pytest.fixture(scope="module")
def server(vllm_model_folder: Path, adapter: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    address = f"http://{LOOPBACK}:{(port := free_port())}"
    options = ["--model", str(vllm_model_folder), "--served-model-name", "base", "--host", LOOPBACK, "--port", str(port)]
    lora = ["--enable-lora", "--lora-modules", f"planner={adapter}"]
    log = tmp_path_factory.mktemp("server") / "log"
    with log.open("w") as output:
        process = subprocess.Popen(
            [sys.executable, *SERVER, *options, *lora], stdout=output, stderr=output, env={**os.environ, "VLLM_CPU_KVCACHE_SPACE": "1"}
        )
    try:
        _wait_until_ready(address, process, log)
        yield address
    finally:
        process.terminate()
        process.wait(60)


def test_the_adapter_is_a_model_of_its_own_and_says_something_else(server: str) -> None:
    with httpx.Client(base_url=f"{server}/v1", timeout=120) as client:
        assert {model["id"] for model in client.get("/models").json()["data"]} == {"base", "planner"}
        said = {name: _said(client, name) for name in ("base", "planner")}
    assert said["base"] != said["planner"]


def _said(client: httpx.Client, model: str) -> str:
    asked: dict[str, Any] = {"messages": [{"role": "user", "content": "Translate it."}], "temperature": 0, "max_tokens": 24}
    reply = client.post("/chat/completions", json={"model": model, **asked})
    assert reply.status_code == 200, reply.text
    return str(reply.json()["choices"][0]["message"]["content"])


def _wait_until_ready(address: str, process: "subprocess.Popen[bytes]", log: Path) -> None:
    """Asks until the server answers; a process that ended, or took too long, fails the test with the end of its log."""
    ends = time.monotonic() + READY_S
    while process.poll() is None and time.monotonic() < ends:
        try:
            if httpx.get(f"{address}/health", timeout=2).is_success:
                return
        except httpx.TransportError:
            time.sleep(1)
    pytest.fail(f"vLLM's server did not become ready: {log.read_text(errors='replace')[-3000:]}")
