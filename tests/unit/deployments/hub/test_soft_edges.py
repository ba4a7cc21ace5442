from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from cluster.errors import ModelError
from cluster.tasks import Task
from deployments.hub.soft_edges import HED, WEIGHTS, scribbled
from tests.tiny.runs import give, opened, pixels
from tests.tiny.vision_runs import blots, built, loaded

HED_TASK, SCRIBBLE = Task.HED_CONTROL, Task.SCRIBBLE_CONTROL


def edges_by_hand(place: Path, path: Path) -> "np.ndarray[tuple[int, ...], np.dtype[np.float64]]":
    """The five side outputs, each from the weights' names, enlarged by OpenCV and averaged before the sigmoid."""
    weights = torch.load(place / WEIGHTS, weights_only=True)
    values = torch.from_numpy(np.asarray(Image.open(path)).astype(np.float32)).permute(2, 0, 1)[None] - weights["norm"]
    said = []
    for block, convolutions in enumerate((2, 2, 3, 3, 3), 1):
        if block > 1:
            values = torch.nn.functional.max_pool2d(values, 2, 2)
        for place_in_block in range(convolutions):
            name = f"block{block}.convs.{place_in_block}"
            values = torch.relu(torch.nn.functional.conv2d(values, weights[f"{name}.weight"], weights[f"{name}.bias"], padding=1))
        name = f"block{block}.projection"
        side = torch.nn.functional.conv2d(values, weights[f"{name}.weight"], weights[f"{name}.bias"])[0, 0].numpy()
        said.append(
            cv2.resize(side, (values.shape[3] * 2 ** (block - 1), values.shape[2] * 2 ** (block - 1)), interpolation=cv2.INTER_LINEAR)
        )
    return 1 / (1 + np.exp(-np.mean(said, axis=0).astype(np.float64)))


def test_the_edges_are_those_of_controlnet_s_network(tmp_path: Path) -> None:
    place, path = built(HED_TASK, tmp_path), blots(tmp_path, (96, 64))
    found = pixels(give(opened(HED_TASK, place), HED_TASK, path))
    expected = 255 * edges_by_hand(place, path)
    assert np.ptp(expected) > 20
    assert np.abs(found[:, :, 0] - expected).max() <= 1.01


def test_the_published_network_has_the_published_layout() -> None:
    """The names and shapes of ControlNetHED.pth: VGG's convolutions and a projection after each block."""
    network = HED([[3, 64, 64], [64, 128, 128], [128, 256, 256, 256], [256, 512, 512, 512], [512, 512, 512, 512]])
    shapes = {name: tuple(weights.shape) for name, weights in network.state_dict().items()}
    assert len(shapes) == 1 + 2 * (13 + 5)
    assert shapes["norm"] == (1, 3, 1, 1)
    assert shapes["block1.convs.0.weight"] == (64, 3, 3, 3)
    assert shapes["block5.convs.2.weight"] == (512, 512, 3, 3)
    assert shapes["block5.projection.weight"] == (1, 512, 1, 1)


def test_a_scribble_is_a_thick_line_along_the_ridge() -> None:
    soft = np.zeros((64, 64), dtype=np.uint8)
    soft[:, 28:37] = 255
    soft[10:12, :8] = 100  # too faint
    drawn = scribbled(soft)
    assert set(np.unique(drawn)) == {0, 255}
    columns = np.flatnonzero(drawn[32])
    assert columns.mean() == pytest.approx(32, abs=1)
    assert 9 <= len(columns) <= 23
    assert not drawn[:20, :8].any()


def test_a_large_photograph_is_drawn_at_controlnet_s_size(tmp_path: Path) -> None:
    assert pixels(give(loaded(SCRIBBLE, tmp_path), SCRIBBLE, blots(tmp_path, (1536, 1024)))).shape == (512, 768, 3)


@pytest.mark.parametrize(
    "content",
    [b"", b"no weights", {"block1.convs.0.weight": torch.zeros(4, 3, 3, 3)}, {"other": torch.zeros(1)}, torch.zeros(2)],
    ids=["empty", "no file of torch", "a part", "another network", "a tensor"],
)
def test_a_broken_file_is_refused_in_one_sentence(content: object, tmp_path: Path) -> None:
    if isinstance(content, bytes):
        (tmp_path / WEIGHTS).write_bytes(content)
    else:
        torch.save(content, tmp_path / WEIGHTS)
    with pytest.raises(ModelError, match="does not hold the weights of ControlNet's HED"):
        opened(HED_TASK, tmp_path)


def test_a_file_that_would_run_code_is_refused(tmp_path: Path) -> None:
    torch.save(HED([[3, 4]]), tmp_path / WEIGHTS)  # a pickled object, not tensors
    with pytest.raises(ModelError, match="does not hold the weights"):
        opened(HED_TASK, tmp_path)


def test_a_folder_without_the_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="tiny/x has no file ControlNetHED.pth"):
        opened(HED_TASK, tmp_path)
