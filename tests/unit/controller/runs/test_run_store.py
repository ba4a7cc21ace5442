"""Records of runs on a real file system: readable after the fact, by another process too, until they expire."""

import asyncio
import logging
import threading
import time
from pathlib import Path

import pytest

from cluster.logs import logger
from cluster.run_ids import began_s, day, new_run_id
from controller.runs.run_store import RunStore

DAY_S = 86_400.0


async def kept(store: RunStore, run_id: str, record: bytes = b"{}") -> None:
    """Once it is written."""
    store.keep(run_id, record)
    async with asyncio.timeout(5):
        while store._unwritten:  # noqa: ASYNC110 - nobody is told
            await asyncio.sleep(0.01)


def test_ids_are_uuids_of_version_7_that_sort_by_time() -> None:
    first, second = new_run_id(), (time.sleep(0.002), new_run_id())[1]
    assert first < second and len(first) == 32 and first[12] == "7"
    assert abs((began_s(first) or 0) - time.time()) < 5


@pytest.mark.parametrize("text", ["", "nonsense", "../../etc/passwd", "f" * 32, "f" * 12 + "7000" + "8" + "0" * 15, new_run_id() + "/x"])
async def test_what_is_no_id_of_a_run_is_not_looked_for(text: str, tmp_path: Path) -> None:
    assert began_s(text) is None
    assert await RunStore(f"file://{tmp_path}/runs", DAY_S).get(text) is None


async def test_a_record_is_read_by_another_process(tmp_path: Path) -> None:
    run_id = new_run_id()
    await kept(RunStore(f"file://{tmp_path}/runs", DAY_S), run_id, b'{"answer": "yes"}')
    assert await RunStore(f"file://{tmp_path}/runs", DAY_S).get(run_id) == b'{"answer": "yes"}'
    assert {path.suffix for path in tmp_path.rglob("*") if path.is_file()} == {".json"}  # noqa: ASYNC240 - a test's own folder


async def test_a_record_can_be_read_before_it_is_written(tmp_path: Path) -> None:
    store, run_id = RunStore(f"file://{tmp_path}/runs", DAY_S), new_run_id()
    store.keep(run_id, b"{}")
    assert await store.get(run_id) == b"{}"


async def test_a_later_record_of_a_run_takes_the_place_of_the_first_also_while_that_is_written(tmp_path: Path) -> None:
    store, run_id = RunStore(f"file://{tmp_path}/runs", DAY_S), new_run_id()
    write, writing, may_go_on = store._write_one, threading.Event(), threading.Event()

    def slow(path: str, record: bytes) -> None:
        writing.set()
        assert may_go_on.wait(5)
        write(path, record)

    store._write_one = slow  # type: ignore[method-assign]
    store.keep(run_id, b'"begun"')
    assert await asyncio.to_thread(writing.wait, 5)
    store.keep(run_id, b'"ended"')
    may_go_on.set()
    async with asyncio.timeout(5):
        while store._unwritten:  # noqa: ASYNC110 - nobody is told
            await asyncio.sleep(0.01)
    assert store._unwritten_bytes == 0
    assert await RunStore(f"file://{tmp_path}/runs", DAY_S).get(run_id) == b'"ended"'


async def test_a_record_expires_and_its_day_is_removed(tmp_path: Path) -> None:
    run_id = new_run_id()
    await kept(RunStore(f"file://{tmp_path}/runs", DAY_S), run_id)
    folder = tmp_path / "runs" / str(day(time.time()))
    later = RunStore(f"file://{tmp_path}/runs", DAY_S, clock=lambda: time.time() + 1.5 * DAY_S)
    assert await later.get(run_id) is None
    other = tmp_path / "runs" / "somebody's"
    other.mkdir()
    RunStore(f"file://{tmp_path}/runs", DAY_S).sweep()
    assert folder.is_dir()
    RunStore(f"file://{tmp_path}/runs", DAY_S, clock=lambda: time.time() + 3 * DAY_S).sweep()
    assert not folder.exists() and other.is_dir()


async def test_with_no_time_to_keep_nothing_is_written(tmp_path: Path) -> None:
    store, run_id = RunStore(f"file://{tmp_path}/runs", 0), new_run_id()
    store.keep(run_id, b"{}")
    assert await store.get(run_id) is None
    assert not (tmp_path / "runs").exists()


class Said(logging.Handler):
    """What is logged while it lasts."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())

    def __enter__(self) -> "Said":
        logger.addHandler(self)
        return self

    def __exit__(self, *_error: object) -> None:
        logger.removeHandler(self)


async def test_a_store_that_is_gone_is_said_once_and_is_used_again_when_it_is_back(tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("a file in the place of the folder")
    store, run_id = RunStore(f"file://{tmp_path}/runs", DAY_S), new_run_id()
    with Said() as said:
        for _ in range(3):
            await kept(store, new_run_id())
    assert said.lines == ["records of runs are not kept"]
    assert await store.get(run_id) is None
    (tmp_path / "runs").unlink()
    await kept(store, run_id)
    assert await store.get(run_id) == b"{}"


async def test_a_record_that_cannot_be_written_costs_no_other(tmp_path: Path) -> None:
    store, ids = RunStore(f"file://{tmp_path}/runs", DAY_S), [new_run_id() for _ in range(3)]
    folder = tmp_path / "runs" / str(day(time.time()))
    (folder / f"{ids[1]}.json").mkdir(parents=True)
    (folder / f"{ids[1]}.json" / "in the way").touch()
    for run_id in ids:
        store.keep(run_id, b"{}")
    await kept(store, new_run_id())
    other = RunStore(f"file://{tmp_path}/runs", DAY_S)
    assert [await other.get(run_id) for run_id in (ids[0], ids[2])] == [b"{}", b"{}"]
