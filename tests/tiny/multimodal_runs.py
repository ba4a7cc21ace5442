"""What the tests of the multimodal runners share: tiny checkpoints opened as models, pictures to show them, and their replies."""

from pathlib import Path

import numpy as np
from PIL import Image

from cluster.errors import ModelError
from cluster.messages import OptionValue
from cluster.tasks import Task
from deployments.model import Output
from tests.tiny.multimodal import CHECKPOINTS
from tests.tiny.runs import Checkpoints, assert_alike, refused, run, task_of, told

OPTIONS: dict[str, OptionValue] = {"question": "what is it?", "prompt": "Say what you see.", "labels": ("cat", "traffic light")}


def keys_of(task: Task) -> list[str]:
    return [key for key in CHECKPOINTS if task_of(key) == task]


class Bench(Checkpoints):
    """Shows pictures to the models of the multimodal tasks."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, CHECKPOINTS)

    def picture(self, number: int, width: int = 80, height: int = 60) -> Path:
        """Coarse noise, another for each number."""
        path = self.folder / f"{number}-{width}-{height}.png"
        noise = np.random.default_rng(number).integers(0, 255, (6, 8, 3), dtype=np.uint8)
        Image.fromarray(noise).resize((width, height), Image.Resampling.NEAREST).save(path)
        return path

    def replies(self, key: str, *paths: Path, **options: OptionValue) -> list[Output | ModelError]:
        return run(self.model(key), key, *paths, **(OPTIONS | options))

    def give(self, key: str, *paths: Path, **options: OptionValue) -> list[Output]:
        return [told(reply) for reply in self.replies(key, *paths, **options)]

    def refusal(self, key: str, path: Path, **options: OptionValue) -> str:
        return refused(self.replies(key, path, **options)[0])

    def assert_a_batch_is_as_single_calls(self, key: str) -> None:
        """Of pictures of different shapes."""
        paths = [self.picture(1), self.picture(2, 50, 90), self.picture(3)]
        together = self.give(key, *paths)
        alone = [self.give(key, path)[0] for path in paths]
        for one, other in zip(together, alone, strict=True):
            assert_alike(dict(one.data), dict(other.data))
        assert len({str(reply.data) for reply in together}) > 1, "the pictures make no difference"

    def assert_one_bad_picture_spoils_no_other(self, key: str) -> None:
        bad = self.folder / "bad.png"
        bad.write_bytes(b"no picture")
        first, second, third = self.replies(key, self.picture(1), bad, self.picture(2))
        assert "bad.png is not a picture" in refused(second)
        told(first)
        told(third)
