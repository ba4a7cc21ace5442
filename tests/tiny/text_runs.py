"""What the tests of the text runners share: tiny checkpoints opened as models, and their replies."""

import asyncio
import shutil
from pathlib import Path

from cluster.errors import ModelError
from cluster.messages import OptionValue
from cluster.tasks import TASKS, Task
from deployments.model import Call, Output
from tests.tiny.runs import Checkpoints, assert_alike, refused, task_of, told
from tests.tiny.text import CHECKPOINTS

OPTIONS: dict[str, OptionValue] = {"question": "Where?", "prompt": "Go on.", "labels": ("city", "food"), "language": "de"}
SHORT = "The text is about Berlin."
LONG = "Angela Merkel was born in Hamburg. She studied physics in Leipzig, and then went to Berlin!"  # longer than a window
TABLE = "name,city,age\nAnn,Berlin,31\nBob,Paris,45\nCy,Rome,7"


def call(task: Task, *texts: str, **options: OptionValue) -> Call:
    known = TASKS[task].options
    return Call(task, texts, {name: value for name, value in (OPTIONS | options).items() if name in known and value})


class Bench(Checkpoints):
    """Asks the models of the text tasks."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, CHECKPOINTS)

    def replies(self, key: str, *calls: Call) -> list[Output | ModelError]:
        return asyncio.run(self.model(key).run(calls))

    def give(self, key: str, *texts: str, **options: OptionValue) -> Output:
        return told(self.replies(key, call(task_of(key), *texts, **options))[0])

    def refusal(self, key: str, *texts: str, **options: OptionValue) -> str:
        return refused(self.replies(key, call(task_of(key), *texts, **options))[0])

    def assert_a_batch_is_as_single_calls(self, key: str, *calls: Call) -> None:
        together, alone = self.replies(key, *calls), [self.replies(key, each)[0] for each in calls]
        for one, other in zip(together, alone, strict=True):
            assert isinstance(one, Output), one
            assert isinstance(other, Output), other
            assert one.value == other.value
            assert_alike(dict(one.data), dict(other.data), rel=0, off=2e-4)
        assert len({str(reply) for reply in together}) == len(calls), "the texts make no difference"

    def assert_damage_and_lies_are_refused(self, key: str, liar: str) -> None:
        """Files of weights that are damaged, and a folder whose weights are those of another head."""
        self.assert_damage_is_refused(key)
        lying = self.copy(liar)
        shutil.copy(self.place(key) / "config.json", lying / "config.json")
        assert "tiny/x" in self.refused(key, lying)
