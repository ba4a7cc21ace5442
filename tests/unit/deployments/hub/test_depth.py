from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import AutoModelForDepthEstimation, DepthAnythingConfig, DPTConfig, GLPNConfig, ZoeDepthImageProcessorPil, pipeline

from cluster.tasks import Task
from deployments.hub.depth import is_metric, normals
from tests.tiny.runs import give, opened, pixels
from tests.tiny.vision_runs import blots, built, loaded

# transformers compiles a part of ZoeDepth with torch.jit when it is imported.
pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:DeprecationWarning")
DEPTH = Task.DEPTH_ESTIMATION
RELATIVE = [str(DEPTH), str(Task.DEPTH_CONTROL)]
METRIC = [f"{DEPTH}/metric", f"{DEPTH}/glpn"]


@pytest.mark.parametrize("name", RELATIVE + METRIC)
def test_near_is_white_whatever_the_network_says(name: str, tmp_path: Path) -> None:
    """The library's pipeline paints what is large white: near for disparities, far for metres."""
    place, path, task = built(name, tmp_path), blots(tmp_path), Task(name.partition("/")[0])
    said = np.asarray(pipeline("depth-estimation", model=str(place), image_processor=str(place))(str(path))["predicted_depth"])
    near = 1 / said if name in METRIC else said
    expected = 255 * (near - near.min()) / (near.max() - near.min())
    found = pixels(give(opened(task, place), task, path))
    assert np.abs(found.reshape(*expected.shape, -1)[:, :, 0] - expected).max() <= 2
    assert found.ndim == (3 if task == Task.DEPTH_CONTROL else 2)


@pytest.mark.parametrize("name", [*METRIC, f"{DEPTH}/zoedepth"])
def test_metres_are_told_where_the_network_knows_them(name: str, tmp_path: Path) -> None:
    data = give(loaded(name, tmp_path), DEPTH, blots(tmp_path)).data
    assert data["white_is"] == "near"
    assert 0 < data["nearest_m"] < data["farthest_m"] <= 20


def test_disparities_have_no_metres(tmp_path: Path) -> None:
    assert "nearest_m" not in give(loaded(DEPTH, tmp_path), DEPTH, blots(tmp_path)).data


def test_which_networks_tell_metres() -> None:
    on_dinov2 = DPTConfig(backbone_config={"model_type": "dinov2"}, backbone_out_indices=[1, 2, 3, 4])
    assert [is_metric(config) for config in (DPTConfig(), on_dinov2, GLPNConfig(), DepthAnythingConfig())] == [False, True, True, False]
    assert is_metric(DepthAnythingConfig(depth_estimation_type="metric"))


def test_zoedepth_s_margin_is_cut_off(tmp_path: Path) -> None:
    """Its processor mirrors 3 × √(side / 2) pixels around the picture; what the network says of those is no part of the answer."""
    place, path = built(f"{DEPTH}/zoedepth", tmp_path), blots(tmp_path, (200, 128))
    processor, network = ZoeDepthImageProcessorPil.from_pretrained(place), AutoModelForDepthEstimation.from_pretrained(place).eval()
    with torch.inference_mode():
        said = network(**processor(Image.open(path), return_tensors="pt")).predicted_depth
    padded = torch.nn.functional.interpolate(said[None], (128 + 2 * 24, 200 + 2 * 30), mode="bicubic", align_corners=False)[0, 0]
    near = 1 / padded[24:-24, 30:-30].numpy()
    expected = 255 * (near - near.min()) / (near.max() - near.min())
    assert np.abs(pixels(give(opened(DEPTH, place), DEPTH, path)) - expected).max() <= 2


def test_a_slope_leans_the_same_way_all_over_and_what_is_far_is_flat() -> None:
    slope = np.tile(np.arange(8, dtype=np.float32), (5, 1))  # nearer to the right, one unit a pixel: a Sobel gradient of 8
    far = np.zeros_like(slope, dtype=bool)
    far[:, :4] = True
    found = normals(slope, far)
    length = np.hypot(8, 2 * np.pi)
    assert found[2, 6].tolist() == [int(127.5 + 127.5 * 8 / length), 127, int(127.5 + 127.5 * 2 * np.pi / length)]
    assert found[2, 2].tolist() == [127, 127, 255]


@pytest.mark.parametrize("name", [str(Task.NORMAL_CONTROL), str(Task.DEPTH_CONTROL)])
def test_normals_point_at_the_viewer_and_have_length_1(name: str, tmp_path: Path) -> None:
    """The second network is no MiDaS: its disparities are brought to MiDaS' range, or all normals would come out flat."""
    found = pixels(give(opened(Task.NORMAL_CONTROL, built(name, tmp_path)), Task.NORMAL_CONTROL, blots(tmp_path))) / 127.5 - 1
    assert found.shape == (60, 90, 3)
    assert found[:, :, 2].min() > -0.01
    assert np.linalg.norm(found, axis=2) == pytest.approx(np.ones((60, 90)), abs=0.05)
    if name == Task.DEPTH_CONTROL:
        assert np.abs(found[:, :, :2]).max() > 0.5
