"""Opening a checkpoint folder as a diffusers pipeline, and running it so that it can be stopped. Knows no task."""

import asyncio
import hashlib
import inspect
import json
import re
import threading
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import diffusers
import torch

from cluster.catalogue import ModelCard
from cluster.errors import ModelError
from deployments.hub.checkpoint import BROKEN, Checkpoint, opened, precision, tensor_bytes
from deployments.model import Call, Output

diffusers.utils.logging.disable_progress_bar()
diffusers.utils.logging.set_verbosity_error()

INDEX = "model_index.json"
DENOISERS = ("unet", "transformer", "transformer_2")  # transformer_2: Wan 2.2 hands over to a second one halfway
STEPS = 25  # enough for the solvers that checkpoints come with; fewer where the pipeline itself takes fewer
DISTILLED_STEPS = 4  # what turbo and lightning models were distilled for is 1 to 4
DISTILLED = re.compile(r"turbo|lightning|schnell|lcm", re.IGNORECASE)
WORKING_BYTES = 4 * 2**30  # what one picture needs on the GPU besides the weights, roughly: attention and the decoder
LATENT_SIDE, LATENT_FACTOR = 64, 8  # latents a side and pixels a latent, where a pipeline does not say


class Diffusion(Checkpoint):
    """A pipeline as a Model: the same call gives the same result, and a call that is cancelled stops at its next denoising step."""

    def __init__(self, card: ModelCard, pipeline: Any) -> None:
        super().__init__(*_networks(pipeline))
        self.pipeline = pipeline
        self._taken = call_parameters(type(pipeline))
        self._distilled = is_distilled(card, pipeline)
        self._cancelled = threading.Event()
        for network in filter(None, (getattr(pipeline, name, None) for name in DENOISERS)):
            network.register_forward_pre_hook(self._stop_when_cancelled)

    async def run(self, calls: Sequence[Call]) -> list[Output | ModelError]:
        cancelled = threading.Event()
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, self._compute_until, cancelled, calls)
        except asyncio.CancelledError:
            cancelled.set()
            raise

    def generate(self, call: Call, **arguments: Any) -> Any:
        """What the pipeline gives for those of the arguments that it takes; its pictures as arrays of 0..1.

        Raises ModelError when its safety checker objects or the GPU's memory does not suffice.
        """
        wanted = {**self._pace(), "output_type": "np", **arguments}
        known = {name: value for name, value in wanted.items() if name in self._taken}
        try:
            made = self.pipeline(generator=torch.Generator().manual_seed(seed(call)), **known)
        except torch.OutOfMemoryError as exc:
            torch.cuda.empty_cache()
            raise ModelError("the GPU has too little free memory for this model; try again when less runs there") from exc
        if any(getattr(made, "nsfw_content_detected", None) or ()):
            raise ModelError("the model's safety checker held the picture back, perhaps by mistake; describe it in other words")
        return made

    def _pace(self) -> dict[str, Any]:
        """The number of steps; a distilled model has its guidance built in, unless it takes it as an input (LCM)."""
        usual = self._taken["num_inference_steps"].default if "num_inference_steps" in self._taken else STEPS
        if not self._distilled:
            return {"num_inference_steps": min(STEPS, usual)}
        embedded = _denoiser_config(self.pipeline).get("time_cond_proj_dim")
        return {"num_inference_steps": min(DISTILLED_STEPS, usual), **({} if embedded else {"guidance_scale": 0.0})}

    def _compute_until(self, cancelled: threading.Event, calls: Sequence[Call]) -> list[Output | ModelError]:
        self._cancelled = cancelled  # only the model's own thread comes here, one run after the other
        return self._compute_each(calls)

    def _stop_when_cancelled(self, *_: Any) -> None:
        if self._cancelled.is_set():
            raise ModelError("the request was cancelled")


def pipeline_class(card: ModelCard, folder: Path) -> Any:
    """The class that the folder's model_index.json names. Raises ModelError when there is none that diffusers has."""
    try:
        name = json.loads((folder / INDEX).read_text(encoding="utf-8"))["_class_name"]
    except FileNotFoundError as exc:
        raise ModelError(f"{card.id} has no {INDEX}, so it is no whole diffusers pipeline") from exc
    except (OSError, ValueError, LookupError, TypeError) as exc:
        raise ModelError(f"{card.id} has a {INDEX} that names no pipeline") from exc
    kind = getattr(diffusers, name, None) if isinstance(name, str) else None
    if packages := getattr(kind, "_backends", None):  # diffusers' stand-in for a class whose packages are not installed
        raise ModelError(f"{card.id} needs the pipeline {name}, which needs the packages {', '.join(packages)}")
    if not (inspect.isclass(kind) and issubclass(kind, diffusers.DiffusionPipeline)):
        raise ModelError(f"{card.id} needs the pipeline {name}, which diffusers {diffusers.__version__} does not have")
    return kind


def wrong_pipeline(card: ModelCard, kind: Any) -> ModelError:
    return ModelError(f"{card.id} is a checkpoint for {kind.__name__}, which cannot do {' or '.join(card.tasks)}")


def open_pipeline(kind: Any, card: ModelCard, folder: Path, **components: Any) -> Any:
    """The folder as a pipeline of this class on the best device; parts that may be missing (a safety checker) are.

    Raises ModelError when a part is missing, damaged, not safetensors or of a class that nobody has.
    """
    index = json.loads((folder / INDEX).read_text(encoding="utf-8"))
    absent = {name: None for name in kind._optional_components if name in index and not (folder / name).is_dir()}
    options = {"use_safetensors": True, "dtype": _precision(index), "variant": variant_of(folder), **absent, **components}
    try:
        pipeline = opened(kind, card, folder, **options)
    except IndexError as exc:  # diffusers 0.42 splits every file's name at a dot when a variant is asked for
        raise ModelError(f"{card.id} could not be loaded: a file without a suffix lies among its weights") from exc
    for network in _networks(pipeline):
        refuse_gaps(card, network)
    pipeline.set_progress_bar_config(disable=True)
    return _placed(card, pipeline)


def refuse_gaps(card: ModelCard, network: torch.nn.Module) -> None:
    """Weights that a checkpoint lacks stay without data (device "meta") where diffusers loads it; it only logs that."""
    if lacking := [name for name, tensor in network.state_dict().items() if tensor.is_meta]:
        task = " or ".join(card.tasks)
        raise ModelError(f"{card.id} was not made for {task}: its weights lack {lacking[0]} and {len(lacking) - 1} more")


def call_parameters(kind: Any) -> dict[str, inspect.Parameter]:
    """What a pipeline takes when it is called, by name."""
    parameters = inspect.signature(kind.__call__).parameters
    return {name: p for name, p in parameters.items() if name != "self" and p.kind is not p.VAR_KEYWORD}


def auto_pipelines() -> Any:
    """diffusers' tables of the pipelines of a task, by model. Imported late: it imports every pipeline there is, some with a warning."""
    return import_module("diffusers.pipelines.auto_pipeline")


def variant_of(folder: Path) -> str | None:
    """fp16 where a part has no other weights; elsewhere the plain files."""
    parts = [folder, *(path for path in folder.iterdir() if path.is_dir())]
    return "fp16" if any(_has_only_half(part) for part in parts) else None


def is_distilled(card: ModelCard, pipeline: Any) -> bool:
    """By its name, or by the schedule that Stability's turbo models come with: Euler with the timesteps trailing."""
    scheduler = getattr(pipeline, "scheduler", None)
    config = getattr(scheduler, "config", {})
    trailing = config.get("timestep_spacing") == "trailing" and not config.get("rescale_betas_zero_snr")
    return bool(DISTILLED.search(card.id)) or (trailing and type(scheduler).__name__.startswith("Euler"))


def native_side_px(pipeline: Any) -> int:
    """The side of the square pictures that the checkpoint was trained on."""
    size = getattr(pipeline, "default_sample_size", None) or _denoiser_config(pipeline).get("sample_size") or LATENT_SIDE
    return int((max(size) if isinstance(size, (list, tuple)) else size) * getattr(pipeline, "vae_scale_factor", LATENT_FACTOR))


def seed(call: Call) -> int:
    """Of the inputs and options alone, a seed that was asked for among them, so that the same request gives the same picture."""
    digest = hashlib.sha256()
    for part in (*call.inputs, *(f"{name}={value}" for name, value in sorted(call.options.items()))):
        digest.update(hashlib.sha256(part.read_bytes() if isinstance(part, Path) else part.encode()).digest())
    return int.from_bytes(digest.digest()[:8], "big")


def _denoiser_config(pipeline: Any) -> Mapping[str, Any]:
    found = next(filter(None, (getattr(pipeline, name, None) for name in DENOISERS)), None)
    return getattr(found, "config", {})


def _networks(pipeline: Any) -> list[torch.nn.Module]:
    return [part for part in pipeline.components.values() if isinstance(part, torch.nn.Module)]


def _precision(index: dict[str, Any]) -> torch.dtype:
    """Diffusion transformers overflow in float16 and were trained in bfloat16."""
    wide = "transformer" in index and torch.cuda.is_available() and torch.cuda.is_bf16_supported()
    return torch.bfloat16 if wide else precision()


def _has_only_half(part: Path) -> bool:
    weights = [path.name for path in part.glob("*.safetensors")]
    return bool(weights) and all(".fp16" in name for name in weights)


def _placed(card: ModelCard, pipeline: Any) -> Any:
    """On the GPU as a whole, or, where its memory is short, part by part as each one's turn comes."""
    if not torch.cuda.is_available():
        return pipeline
    try:
        if sum(map(tensor_bytes, _networks(pipeline))) + WORKING_BYTES < torch.cuda.mem_get_info()[0]:
            return pipeline.to("cuda")
        pipeline.enable_attention_slicing()
        enable_tiling: Callable[[], None] = getattr(getattr(pipeline, "vae", None), "enable_tiling", lambda: None)
        enable_tiling()
        pipeline.enable_model_cpu_offload()
    except BROKEN as exc:
        raise ModelError(f"{card.id} does not fit on the GPU: {str(exc).splitlines()[0][:200]}") from exc
    return pipeline
