import asyncio
import json
import shutil
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from PIL import Image, ImageOps
from safetensors.torch import load_file, save_file

from cluster.errors import ModelError
from cluster.tasks import SEED_OPTION, TASKS, Family, Media, Option, Task
from deployments.hub.diffusion import DISTILLED_STEPS, STEPS, seed
from deployments.hub.painters import as_picture, fitted
from deployments.model import Call, Output
from tests.tiny.image_generation import rewrite_json, unet
from tests.tiny.runs import Folder, opened, pixels, refused

# One task a runner: the eight ControlNet tasks differ in the weights alone.
IMAGE_TASKS = list({spec.runner: task for task, spec in reversed(TASKS.items()) if spec.family is Family.IMAGE_GENERATION}.values())
# Of the checkpoints' own pictures, and of those made from a lying one.
SIZES_PX = {
    Task.TEXT_TO_IMAGE: (32, 32),
    Task.IMAGE_TO_IMAGE: (32, 16),
    Task.IMAGE_EDITING: (32, 16),
    Task.UNCONDITIONAL_IMAGE_GENERATION: (16, 16),
    Task.CANNY_TEXT_TO_IMAGE: (32, 16),
}
# numpy 2.4 about diffusers' Euler scheduler, which makes an array of a tensor.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A lying one of 90 × 60 pixels and a standing one of 40 × 80."""
    folder = tmp_path_factory.mktemp("pictures")
    grey = Image.radial_gradient("L")
    grey.convert("RGB").resize((90, 60)).save(folder / "lying.png")
    grey.rotate(30).convert("RGB").resize((40, 80)).save(folder / "standing.jpg")
    return folder / "lying.png", folder / "standing.jpg"


def call_of(task: Task, text: str, path: Path) -> Call:
    inputs = tuple(text if media is Media.TEXT else path for media in TASKS[task].inputs)
    return Call(task, inputs, {Option.PROMPT: text} if Option.PROMPT in TASKS[task].options else {})


def own(kind: Any, folder: Path, **parts: Any) -> Any:
    """The same pipeline as diffusers' documentation opens it."""
    pipeline = kind.from_pretrained(folder, **parts)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def drawn_by(pipeline: Any, call: Call, **arguments: Any) -> np.ndarray:
    return np.asarray(pipeline(generator=torch.Generator().manual_seed(seed(call)), **arguments).images[0])


def rewrite_weights(path: Path, change: Callable[[dict[str, torch.Tensor]], Mapping[str, torch.Tensor]]) -> None:
    save_file(dict(change(load_file(path))), path, {"format": "pt"})


@pytest.mark.parametrize("task", IMAGE_TASKS)
def test_every_task_gives_a_picture_and_a_batch_gives_what_single_runs_give(
    task: Task, checkpoint: Folder, pictures: tuple[Path, Path]
) -> None:
    model = opened(task, checkpoint(task))
    calls = [call_of(task, "a red fox", pictures[0]), call_of(task, "a blue sea", pictures[1])]
    both, single = model.compute(calls), model.compute(calls[1:])
    assert (pixels(both[1]) == pixels(single[0])).all()
    width, height = SIZES_PX[task]
    assert both[0].data == {"width_px": width, "height_px": height}
    assert pixels(both[0]).shape == (height, width, 3)
    assert pixels(both[0]).std() > 0
    assert model.size_bytes > 100_000 and model.max_batch == 1


def test_sdxl_draws_what_diffusers_draws(checkpoint: Folder, pictures: tuple[Path, Path]) -> None:
    folder, call = checkpoint("text-to-image/sdxl"), Call(Task.TEXT_TO_IMAGE, ("a red fox",))
    pipeline = own(diffusers.StableDiffusionXLPipeline, folder, add_watermarker=False)
    (output,) = opened(Task.TEXT_TO_IMAGE, folder).compute([call])
    assert (pixels(output) == drawn_by(pipeline, call, prompt="a red fox", num_inference_steps=STEPS)).all()
    call = call_of(Task.IMAGE_TO_IMAGE, "a red fox", pictures[0])
    (output,) = opened(Task.IMAGE_TO_IMAGE, folder).compute([call])
    assert pixels(output).shape == (16, 32, 3)


def test_another_text_or_picture_gives_another_result(checkpoint: Folder, pictures: tuple[Path, Path]) -> None:
    model = opened(Task.IMAGE_TO_IMAGE, checkpoint("image-to-image"))
    calls = [call_of(Task.IMAGE_TO_IMAGE, text, picture) for text in ("a red fox", "a blue sea") for picture in pictures]
    assert len({output.value.content for output in model.compute(calls)}) == 4


@pytest.mark.parametrize("task", [Task.TEXT_TO_IMAGE, Task.UNCONDITIONAL_IMAGE_GENERATION])
def test_another_seed_draws_another_picture_and_the_same_seed_the_same(task: Task, checkpoint: Folder) -> None:
    model = opened(task, checkpoint(task))
    words = ("a red fox",) if task is Task.TEXT_TO_IMAGE else ()
    drawn = model.compute([Call(task, words, options) for options in ({}, {}, {SEED_OPTION: "1"}, {SEED_OPTION: "1"}, {SEED_OPTION: "2"})])
    unasked, again, one, one_again, two = (output.value.content for output in drawn)
    assert unasked == again and one == one_again and len({unasked, one, two}) == 3


def test_stable_diffusion_draws_what_diffusers_draws(checkpoint: Folder) -> None:
    folder, call = checkpoint("text-to-image"), Call(Task.TEXT_TO_IMAGE, ("a red fox",))
    pipeline = own(diffusers.StableDiffusionPipeline, folder)
    (output,) = opened(Task.TEXT_TO_IMAGE, folder).compute([call])
    assert (pixels(output) == drawn_by(pipeline, call, prompt="a red fox", num_inference_steps=STEPS)).all()


def test_an_edit_draws_what_diffusers_draws(checkpoint: Folder, pictures: tuple[Path, Path]) -> None:
    folder, call = checkpoint("image-editing"), Call(Task.IMAGE_EDITING, ("make it red", pictures[0]))
    pipeline = own(diffusers.StableDiffusionInstructPix2PixPipeline, folder)
    (output,) = opened(Task.IMAGE_EDITING, folder).compute([call])
    given = fitted(Image.open(pictures[0]), 32)
    assert (pixels(output) == drawn_by(pipeline, call, prompt="make it red", image=given, num_inference_steps=STEPS)).all()


def test_a_controlnet_draws_what_diffusers_draws_and_its_control_image_counts(checkpoint: Folder, pictures: tuple[Path, Path]) -> None:
    folder, call = checkpoint("canny-text-to-image"), Call(Task.CANNY_TEXT_TO_IMAGE, (pictures[0], "a red fox"))
    network = diffusers.ControlNetModel.from_pretrained(folder)
    pipeline = own(diffusers.StableDiffusionControlNetPipeline, folder / "base", controlnet=network)
    (output,) = opened(Task.CANNY_TEXT_TO_IMAGE, folder).compute([call])
    control = fitted(Image.open(pictures[0]), 32)
    same = {"prompt": "a red fox", "num_inference_steps": STEPS}
    assert (pixels(output) == drawn_by(pipeline, call, image=control, **same)).all()
    assert (pixels(output) != drawn_by(pipeline, call, image=ImageOps.invert(control), **same)).any()


def test_a_ddpm_checkpoint_is_drawn_with_ddim(checkpoint: Folder, pictures: tuple[Path, Path]) -> None:
    folder, call = checkpoint("unconditional-image-generation"), Call(Task.UNCONDITIONAL_IMAGE_GENERATION, ())
    (output,) = opened(Task.UNCONDITIONAL_IMAGE_GENERATION, folder).compute([call])
    pipeline = own(diffusers.DDIMPipeline, folder)
    assert (pixels(output) == drawn_by(pipeline, call)).all()


@pytest.mark.parametrize(
    ("task", "given"),
    [
        (Task.IMAGE_EDITING, "text-to-image"),
        (Task.TEXT_TO_IMAGE, "image-editing"),
        (Task.TEXT_TO_IMAGE, "unconditional-image-generation"),
        (Task.IMAGE_TO_IMAGE, "unconditional-image-generation"),
        (Task.UNCONDITIONAL_IMAGE_GENERATION, "text-to-image/sdxl"),
    ],
)
def test_a_pipeline_of_another_task_is_refused(task: Task, given: str, checkpoint: Folder) -> None:
    with pytest.raises(ModelError, match=rf"^tiny/x is a checkpoint for \w+Pipeline, which cannot do {task}$"):
        opened(task, checkpoint(given))


def test_a_pipeline_that_claims_another_task_is_refused_by_what_its_unet_reads(copy: Folder) -> None:
    folder = copy("image-editing")
    rewrite_json(folder / "model_index.json", _class_name="StableDiffusionPipeline")
    with pytest.raises(ModelError, match="was not made for text-to-image: its U-Net reads 8 channels, not 4$"):
        opened(Task.TEXT_TO_IMAGE, folder)


def test_an_instruction_pipeline_redraws_too(checkpoint: Folder, pictures: tuple[Path, Path]) -> None:
    model = opened(Task.IMAGE_TO_IMAGE, checkpoint("image-editing"))
    (output,) = model.compute([call_of(Task.IMAGE_TO_IMAGE, "make it red", pictures[1])])
    assert output.data == {"width_px": 16, "height_px": 32}


@pytest.mark.parametrize(
    ("index", "says"),
    [
        (None, "tiny/x has no model_index.json, so it is no whole diffusers pipeline"),
        ("{", "tiny/x has a model_index.json that names no pipeline"),
        ("[]", "tiny/x has a model_index.json that names no pipeline"),
        ('{"_class_name": "FuturePipeline"}', "tiny/x needs the pipeline FuturePipeline, which diffusers"),
        ('{"_class_name": ["pipeline", "OwnPipeline"]}', "tiny/x needs the pipeline"),
        ('{"_class_name": "UNet2DModel"}', "tiny/x needs the pipeline UNet2DModel, which diffusers"),
        (
            '{"_class_name": "AudioDiffusionPipeline"}',
            "tiny/x needs the pipeline AudioDiffusionPipeline, which needs the packages .*librosa",
        ),
    ],
)
def test_a_folder_without_a_pipeline_that_is_known_is_refused(index: str | None, says: str, tmp_path: Path) -> None:
    if index is not None:
        (tmp_path / "model_index.json").write_text(index)
    with pytest.raises(ModelError, match=f"^{says}"):
        opened(Task.TEXT_TO_IMAGE, tmp_path)


def test_a_part_of_a_class_that_nobody_has_is_named(copy: Folder) -> None:
    folder = copy("text-to-image")
    rewrite_json(folder / "model_index.json", unet=["diffusers", "FutureUNet"])
    with pytest.raises(ModelError, match="^tiny/x could not be loaded: .*FutureUNet"):
        opened(Task.TEXT_TO_IMAGE, folder)


def test_weights_that_are_damaged_incomplete_or_pickled_are_refused(copy: Folder) -> None:
    folder = copy("text-to-image")
    weights = folder / "unet" / "diffusion_pytorch_model.safetensors"
    whole = weights.read_bytes()
    rewrite_weights(weights, lambda tensors: {name: tensor for name, tensor in tensors.items() if name != "conv_in.bias"})
    with pytest.raises(ModelError, match="^tiny/x was not made for text-to-image: its weights lack conv_in.bias and 0 more$"):
        opened(Task.TEXT_TO_IMAGE, folder)
    weights.write_bytes(whole[:1000])
    with pytest.raises(ModelError, match="^tiny/x could not be loaded: "):
        opened(Task.TEXT_TO_IMAGE, folder)
    torch.save({}, weights.with_suffix(".bin"))
    weights.unlink()
    with pytest.raises(ModelError, match=r"^tiny/x could not be loaded: .*safetensors"):
        opened(Task.TEXT_TO_IMAGE, folder)


def test_half_precision_files_are_taken_where_there_are_no_others(checkpoint: Folder, tmp_path: Path) -> None:
    call = Call(Task.TEXT_TO_IMAGE, ("a red fox",))
    half = diffusers.StableDiffusionPipeline.from_pretrained(checkpoint("text-to-image"), dtype=torch.float16)
    half.save_pretrained(tmp_path, variant="fp16")
    assert not (tmp_path / "unet" / "diffusion_pytorch_model.safetensors").exists()
    (exact,) = opened(Task.TEXT_TO_IMAGE, checkpoint("text-to-image")).compute([call])
    (rounded,) = opened(Task.TEXT_TO_IMAGE, tmp_path).compute([call])
    assert np.abs(pixels(exact).astype(float) - pixels(rounded)).mean() < 3


def test_a_picture_that_the_safety_checker_holds_back_is_an_error_and_the_model_goes_on(copy: Folder) -> None:
    folder, call = copy("text-to-image"), Call(Task.TEXT_TO_IMAGE, ("a red fox",))
    rewrite_json(folder / "model_index.json", feature_extractor=["transformers", "CLIPFeatureExtractor"])  # its name until 2023
    weights = folder / "safety_checker" / "model.safetensors"
    rewrite_weights(weights, lambda tensors: {**tensors, "concept_embeds_weights": torch.full((17,), -2.0)})
    model = opened(Task.TEXT_TO_IMAGE, folder)
    for _ in range(2):
        (reply,) = asyncio.run(model.run([call]))
        assert "safety checker held the picture back" in refused(reply)
    shutil.rmtree(folder / "safety_checker")
    (output,) = opened(Task.TEXT_TO_IMAGE, folder).compute([call])
    assert pixels(output).std() > 0


@pytest.mark.parametrize(
    ("spacing", "model_id", "steps"), [("trailing", "tiny/x", 4), ("leading", "tiny/x-Turbo", 4), ("leading", "tiny/x", 25)]
)
def test_a_distilled_model_draws_in_few_steps_and_without_guidance(copy: Folder, spacing: str, model_id: str, steps: int) -> None:
    folder = copy("text-to-image")
    rewrite_json(folder / "model_index.json", scheduler=["diffusers", "EulerDiscreteScheduler"])
    rewrite_json(folder / "scheduler" / "scheduler_config.json", _class_name="EulerDiscreteScheduler", timestep_spacing=spacing)
    model = opened(Task.TEXT_TO_IMAGE, folder, model_id)
    model.compute([Call(Task.TEXT_TO_IMAGE, ("a red fox",))])
    assert len(model.pipeline.scheduler.timesteps) == steps
    assert model.pipeline.do_classifier_free_guidance == (steps > DISTILLED_STEPS)


def test_flux_is_drawn_without_arguments_of_stable_diffusion(tmp_path: Path) -> None:
    flux(tmp_path)
    model = opened(Task.TEXT_TO_IMAGE, tmp_path, "tiny/flux-schnell")
    (output,) = model.compute([Call(Task.TEXT_TO_IMAGE, ("a red fox",))])
    assert output.data == {"width_px": 256, "height_px": 256}  # Flux takes 128 latents a side, here of 2 × 2 pixels
    assert len(model.pipeline.scheduler.timesteps) == DISTILLED_STEPS


@pytest.mark.parametrize("task", [Task.TEXT_TO_IMAGE, Task.IMAGE_TO_IMAGE, Task.CANNY_TEXT_TO_IMAGE])
def test_an_empty_description_is_an_error_and_a_very_long_one_is_cut(task: Task, checkpoint: Folder, pictures: tuple[Path, Path]) -> None:
    model = opened(task, checkpoint(task))
    empty, long = asyncio.run(model.run([call_of(task, " \n", pictures[0]), call_of(task, "a red fox 狐狸 🦊 " * 300, pictures[0])]))
    assert refused(empty) == "the description of the picture is empty"
    assert isinstance(long, Output)


def test_a_file_that_is_no_picture_is_an_error_and_the_model_goes_on(
    checkpoint: Folder, pictures: tuple[Path, Path], tmp_path: Path
) -> None:
    (tmp_path / "notes.png").write_text("no picture")
    model = opened(Task.IMAGE_EDITING, checkpoint("image-editing"))
    paths = (tmp_path / "notes.png", pictures[1])
    broken, good = asyncio.run(model.run([Call(Task.IMAGE_EDITING, ("make it red", path)) for path in paths]))
    assert refused(broken) == "notes.png is not a picture that can be read"
    assert isinstance(good, Output)


def test_a_cancelled_call_stops_at_its_next_step_and_leaves_the_model_usable(checkpoint: Folder) -> None:
    model = opened(Task.TEXT_TO_IMAGE, checkpoint("text-to-image"))
    first_step, go_on, steps = threading.Event(), threading.Event(), []

    def watch(*_: Any) -> None:
        steps.append(1)
        first_step.set()
        go_on.wait(60)

    model.pipeline.unet.register_forward_pre_hook(watch)
    call = Call(Task.TEXT_TO_IMAGE, ("a red fox",))

    async def cancel_then_draw() -> list[Output | ModelError]:
        drawing = asyncio.create_task(model.run([call]))
        await asyncio.to_thread(first_step.wait, 60)
        drawing.cancel()
        await asyncio.wait([drawing])
        assert drawing.cancelled()
        go_on.set()
        assert await model.run([]) == []  # the thread is free again
        assert len(steps) == 1
        replies: list[Output | ModelError] = await model.run([call])
        return replies

    (reply,) = asyncio.run(cancel_then_draw())
    assert isinstance(reply, Output)
    assert len(steps) > STEPS


def test_a_controlnet_without_its_base_or_with_another_is_refused(copy: Folder) -> None:
    folder = copy("canny-text-to-image")
    torch.manual_seed(0)
    diffusers.ControlNetModel.from_unet(unet(4, cross_attention_dim=24)).save_pretrained(folder)
    with pytest.raises(ModelError, match="steers a model with text vectors of 24 numbers, and the one in base/ has 16$"):
        opened(Task.CANNY_TEXT_TO_IMAGE, folder)
    rewrite_json(folder / "config.json", _class_name="UNet2DConditionModel")
    with pytest.raises(
        ModelError, match="is a UNet2DConditionModel beside a StableDiffusionPipeline, which cannot do canny-text-to-image$"
    ):
        opened(Task.CANNY_TEXT_TO_IMAGE, folder)
    (folder / "config.json").unlink()
    with pytest.raises(ModelError, match="has no config.json that names a ControlNet$"):
        opened(Task.CANNY_TEXT_TO_IMAGE, folder)
    shutil.rmtree(folder / "base")
    with pytest.raises(ModelError, match="lacks the folder base/ with the pipeline that the ControlNet steers$"):
        opened(Task.CANNY_TEXT_TO_IMAGE, folder)


@pytest.mark.parametrize(
    ("size", "expected"), [((4000, 3000), (512, 384)), ((300, 301), (512, 512)), ((10, 3000), (16, 512)), ((64, 64), (512, 512))]
)
def test_a_picture_keeps_its_proportions_within_the_native_square(size: tuple[int, int], expected: tuple[int, int]) -> None:
    assert fitted(Image.new("RGB", size), 512).size == expected


def test_numbers_that_are_no_colours_are_refused_and_grey_is_drawn() -> None:
    with pytest.raises(ModelError, match="numbers that are no colours"):
        as_picture(np.full((8, 8, 3), np.nan, np.float32))
    assert as_picture(np.full((8, 8, 1), 0.5, np.float32)).getpixel((0, 0)) == (128, 128, 128)


def flux(folder: Path) -> None:
    from transformers import PreTrainedTokenizerFast, T5Config, T5EncoderModel

    from tests.tiny.image_generation import text_encoder, tokenizer

    torch.manual_seed(0)
    blocks = {"down_block_types": ("DownEncoderBlock2D",) * 2, "up_block_types": ("UpDecoderBlock2D",) * 2, "block_out_channels": (8, 16)}
    vae = diffusers.AutoencoderKL(
        **blocks, norm_num_groups=4, latent_channels=1, use_quant_conv=False, use_post_quant_conv=False, shift_factor=0.1
    )
    sizes = {"in_channels": 4, "num_layers": 1, "num_single_layers": 1, "attention_head_dim": 16, "num_attention_heads": 2}
    transformer = diffusers.FluxTransformer2DModel(**sizes, joint_attention_dim=16, pooled_projection_dim=16, axes_dims_rope=(4, 4, 8))
    backend = json.loads(tokenizer().backend_tokenizer.to_str())
    (folder / "words.json").write_text(json.dumps(backend))
    words = PreTrainedTokenizerFast(tokenizer_file=str(folder / "words.json"), pad_token="<|endoftext|>", model_max_length=512)
    t5 = T5EncoderModel(T5Config(vocab_size=514, d_model=16, d_kv=8, d_ff=16, num_layers=1, num_heads=2))
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler()
    diffusers.FluxPipeline(scheduler, vae, text_encoder(), tokenizer(), t5, words, transformer).save_pretrained(folder)
