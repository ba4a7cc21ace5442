"""Fine-tunes a LoRA adapter for the planner (Hu et al. 2021), on a CPU or a GPU.

    python -m benchmarks.planner_training.train --data train.jsonl --out FOLDER

The base model is the embedded GGUF, dequantised, so that the adapter learns around the very weights that llama.cpp runs. What comes out is
PEFT's form (adapter_config.json, adapter_model.safetensors), which vLLM loads as it is and deployments/adapters.py turns into llama.cpp's.
"""

import argparse
import json
import math
import random
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from torch.nn import functional
from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

from benchmarks.measure import machine, versions
from benchmarks.planner_training.packing import ATTENTION, IGNORED, Pack, SharedPrompt
from benchmarks.planner_training.samples import Teller, Told, from_task_table, from_taskbench, packs
from cluster.catalogue import BUILT_IN, Catalogue
from cluster.settings import models_folder
from deployments.store import ModelStore

CARD = "Qwen/Qwen2.5-Coder-0.5B-Instruct-GGUF"
TRAINED = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
WARM_UP_STEPS = 8
CLIP = 1.0
SAVE_EVERY_S = 600.0
RECORD = "training.json"  # beside the weights: every run that led to them


def main() -> None:
    args = _arguments()
    torch.manual_seed(args.seed)
    torch.set_num_threads(args.threads)
    shared = SharedPrompt()
    shared.register()
    model, tokenizer = _base(args)
    teller = Teller(tokenizer)
    taskbench = from_taskbench(args.data)
    synthetic = from_task_table(args.seed, args.synthetic)
    if not all(teller.agrees(told) for told in (*taskbench[:3], *synthetic[:3])):
        raise SystemExit("this model's chat template is another: samples would not be what the planner says at run time")
    steps = list(_steps(args, teller, taskbench, synthetic))
    print(f"{len(taskbench)} plans of TaskBench × {args.epochs}, {len(synthetic)} synthetic requests, {len(steps)} steps", flush=True)
    started = time.monotonic()
    losses = _train(args, model, shared, steps)
    _save(args, model, {"steps": len(steps), "taskbench": len(taskbench), "seconds": round(time.monotonic() - started), "losses": losses})


def _steps(args: argparse.Namespace, teller: Teller, taskbench: list[Told], synthetic: list[Told]) -> Iterator[Pack]:
    """Every plan of TaskBench once an epoch, the synthetic requests spread over all epochs."""
    shuffled = random.Random(args.seed)  # noqa: S311
    share = math.ceil(len(synthetic) / args.epochs)
    shuffled.shuffle(synthetic)
    for epoch in range(args.epochs):
        yield from packs([*taskbench, *synthetic[epoch * share : (epoch + 1) * share]], teller, args.batch, shuffled)


def _train(args: argparse.Namespace, model: Any, shared: SharedPrompt, steps: list[Pack]) -> list[float]:
    """Mean loss of every ten steps. Weights compute in `_dtype`; what is trained is kept in float32 beside."""
    computed = [p for p in model.parameters() if p.requires_grad]
    kept = [p.detach().float().clone() for p in computed]
    optimizer = torch.optim.AdamW(kept, lr=args.rate, weight_decay=args.decay)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _rate(step, len(steps)))
    losses: list[float] = []
    recent: list[float] = []
    started = saved = time.monotonic()
    for number, pack in enumerate(steps, 1):
        loss = _loss(model, shared, pack)
        loss.backward()  # type: ignore[no-untyped-call]
        for parameter, value in zip(computed, kept, strict=True):
            value.grad = parameter.grad.float()
            parameter.grad = None
        torch.nn.utils.clip_grad_norm_(kept, CLIP)
        optimizer.step()
        schedule.step()
        with torch.no_grad():
            for parameter, value in zip(computed, kept, strict=True):
                parameter.copy_(value)
        recent.append(loss.item())
        if number % 10 == 0 or number == len(steps):
            losses.append(round(sum(recent) / len(recent), 4))
            print(f"step {number}/{len(steps)}  loss {losses[-1]:.4f}  {time.monotonic() - started:.0f} s", flush=True)
            recent = []
        if time.monotonic() - saved > SAVE_EVERY_S:
            saved = time.monotonic()
            _save(args, model, {"steps": number, "losses": losses, "is_finished": False})
    return losses


def _loss(model: Any, shared: SharedPrompt, pack: Pack) -> torch.Tensor:
    shared.pack = pack
    inner = model.base_model.model
    states = inner.model(input_ids=pack.ids, position_ids=pack.positions, use_cache=False).last_hidden_state[0]
    learned = pack.targets != IGNORED
    return functional.cross_entropy(inner.lm_head(states[learned]).float(), pack.targets[learned])


def _rate(step: int, steps: int) -> float:
    """Share of the learning rate: a short rise, then a cosine down to a twentieth."""
    if step < WARM_UP_STEPS:
        return (step + 1) / WARM_UP_STEPS
    done = (step - WARM_UP_STEPS) / max(1, steps - WARM_UP_STEPS)
    return 0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * done))


def _base(args: argparse.Namespace) -> tuple[Any, Any]:
    card = Catalogue.read(BUILT_IN).card(args.model)
    folder = ModelStore(models_folder()).ensure(card)
    form = {"gguf_file": card.files[0].path}
    tokenizer = AutoTokenizer.from_pretrained(folder, **form)
    model = AutoModelForCausalLM.from_pretrained(
        folder, **form, dtype=_dtype(), attn_implementation=ATTENTION, quantization_config=GgufConfig(dequantize=True)
    )
    if args.start:
        started: Any = PeftModel.from_pretrained(model, args.start, is_trainable=True, autocast_adapter_dtype=False)
        layers = started.base_model.model.model.layers
        if args.from_layer >= len(layers):
            raise SystemExit(f"--from-layer {args.from_layer} leaves nothing to train: the model has {len(layers)} layers")
        for layer in layers[: args.from_layer]:
            layer.requires_grad_(False)
        return started, tokenizer
    config = LoraConfig(r=args.rank, lora_alpha=2 * args.rank, target_modules=TRAINED, task_type="CAUSAL_LM")
    return get_peft_model(model, config, autocast_adapter_dtype=False), tokenizer


def _dtype() -> torch.dtype:
    """bfloat16 where the processor multiplies in it; a CPU without AVX-512 took 7 to 100 times as long in it as in float32."""
    return torch.bfloat16 if torch.ops.mkldnn._is_mkldnn_bf16_supported() else torch.float32


def _save(args: argparse.Namespace, model: Any, record: dict[str, Any]) -> None:
    from safetensors.torch import load_file, save_file

    args.out.mkdir(parents=True, exist_ok=True)
    model.peft_config["default"].base_model_name_or_path = args.model.removesuffix("-GGUF")
    model.save_pretrained(args.out)
    weights = args.out / "adapter_model.safetensors"
    save_file({name: value.half() for name, value in load_file(weights).items()}, weights, {"format": "pt"})
    (args.out / "README.md").unlink(missing_ok=True)
    settings = {name: value for name, value in vars(args).items() if name not in {"out", "data", "start"}}
    earlier = json.loads((args.start / RECORD).read_text(encoding="utf-8")) if args.start else []
    runs = [*earlier, {"settings": settings, **record, "machine": machine(), "versions": versions()}]
    (args.out / RECORD).write_text(json.dumps(runs, indent=1) + "\n", encoding="utf-8")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else "")
    parser.add_argument("--data", type=Path, required=True, help="TaskBench's training records, one a line")
    parser.add_argument("--out", type=Path, required=True, help="folder of the adapter")
    parser.add_argument("--model", default=CARD, help="card of the base model, one GGUF file")
    parser.add_argument("--start", type=Path, help="folder of an adapter to go on from")
    parser.add_argument("--from-layer", type=int, default=0, help="with --start: layers below it stay as they are, which is faster")
    parser.add_argument("--synthetic", type=int, default=1200, help="synthetic requests over this project's task table")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--batch", type=int, default=16, help="requests a step")
    parser.add_argument("--rank", type=int, default=16)
    parser.add_argument("--rate", type=float, default=3e-4)
    parser.add_argument("--decay", type=float, default=0.01)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=7)
    args = parser.parse_args()
    if args.from_layer < 0 or (args.from_layer and not args.start):
        parser.error("--from-layer is the number of a layer from which on the adapter of --start is trained")
    return args


if __name__ == "__main__":
    main()
