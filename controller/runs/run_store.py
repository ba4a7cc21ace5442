"""RunStore: the records of runs, beside the artifacts, until they expire. Knows nothing of what is in a record.

A record lies at `{url}/{day}/{run id}.json`, the day being the one that the id tells, so that a whole day expires as one folder. Records
are written behind the run's back, some at a time: a store that is slow or gone costs records, which is logged once, and holds up no run.
"""

import asyncio
import time
import uuid
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import date
from pathlib import PurePosixPath

import fsspec

from cluster.logs import logger
from cluster.run_ids import began_s, day

MOST_UNWRITTEN, MOST_UNWRITTEN_BYTES = 1000, 64_000_000
SWEEP_S = 3600.0  # between two looks for days that have expired


class RunStore:
    """On any fsspec file system. `keep_s`: how long after its run began a record is readable; 0: none is kept."""

    def __init__(self, url: str, keep_s: float, clock: Callable[[], float] = time.time) -> None:
        self._fs, self._root = fsspec.core.url_to_fs(url)
        self._keep_s = keep_s
        self._clock = clock
        self._unwritten: dict[str, bytes] = {}
        self._unwritten_bytes = 0
        self._has_work = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._is_failing = False

    def keep(self, run_id: str, record: bytes) -> None:
        """In the place of an earlier one of the run. From within the event loop; returns at once."""
        if not self._keep_s:
            return
        if not self._tasks:
            self._tasks = [asyncio.create_task(self._write_on()), asyncio.create_task(self._sweep_on())]
        more_bytes = len(record) - len(self._unwritten.get(run_id, b""))
        is_one_more = run_id not in self._unwritten
        if len(self._unwritten) + is_one_more > MOST_UNWRITTEN or self._unwritten_bytes + more_bytes > MOST_UNWRITTEN_BYTES:
            self._failed("it takes them too slowly")
            return
        self._unwritten_bytes += more_bytes
        self._unwritten[run_id] = record
        self._has_work.set()

    def unwritten(self, run_id: str) -> bytes | None:
        """What waits to be written."""
        return self._unwritten.get(run_id)

    async def get(self, run_id: str) -> bytes | None:
        """None for a run that is not there, not any longer, or cannot be read."""
        if (record := self.unwritten(run_id)) is not None:
            return record
        if (start_s := began_s(run_id)) is None or self._clock() - start_s > self._keep_s:
            return None
        try:
            return await asyncio.to_thread(self._fs.cat_file, self._path(run_id, start_s))
        except FileNotFoundError:
            return None
        except Exception as exc:  # noqa: BLE001 - other people's file systems: each throws errors of its own
            self._failed(f"{type(exc).__name__}: {exc}")
            return None

    def sweep(self) -> None:
        """Removes the days of which no record is readable any more. Blocks."""
        first = day(self._clock() - self._keep_s)
        with suppress(FileNotFoundError):
            for folder in self._fs.ls(self._root, detail=False):
                if (its_day := _as_day(PurePosixPath(folder).name)) and its_day < first:
                    self._fs.rm(folder, recursive=True)

    async def _write_on(self) -> None:
        while True:
            await self._has_work.wait()
            self._has_work.clear()
            batch = dict(self._unwritten)
            if reason := await asyncio.to_thread(self._write, batch):
                self._failed(reason)
            else:
                self._is_failing = False
            for run_id, record in batch.items():
                if self._unwritten[run_id] is record:  # and not a later one of the same run
                    del self._unwritten[run_id]
                    self._unwritten_bytes -= len(record)

    async def _sweep_on(self) -> None:
        while True:
            try:
                await asyncio.to_thread(self.sweep)
            except Exception as exc:  # noqa: BLE001 - as above
                self._failed(f"{type(exc).__name__}: {exc}")
            await asyncio.sleep(SWEEP_S)

    def _write(self, records: Mapping[str, bytes]) -> str:
        """Each by itself; gives why the last that failed did, "" where none."""
        reason = ""
        for run_id, record in records.items():
            try:
                self._write_one(self._path(run_id, began_s(run_id) or self._clock()), record)
            except Exception as exc:  # noqa: BLE001 - as above
                reason = f"{type(exc).__name__}: {exc}"
        return reason

    def _write_one(self, path: str, record: bytes) -> None:
        """Under a passing name first: nobody reads half a record."""
        passing = f"{path}.{uuid.uuid4().hex}.part"
        self._fs.makedirs(str(PurePosixPath(path).parent), exist_ok=True)
        self._fs.pipe_file(passing, record)
        self._fs.mv(passing, path)

    def _path(self, run_id: str, start_s: float) -> str:
        return f"{self._root}/{day(start_s)}/{run_id}.json"

    def _failed(self, reason: str) -> None:
        if not self._is_failing:
            logger.warning("records of runs are not kept", extra={"reason": reason})
        self._is_failing = True


def _as_day(name: str) -> date | None:
    try:
        return date.fromisoformat(name)
    except ValueError:
        return None
