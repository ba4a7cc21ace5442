"""Which processes the memory benchmark counts."""

import os
from pathlib import Path

from benchmarks.memory import descendants

PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


def a_process(proc: Path, pid: int, parent: int, name: str, pages: int) -> None:
    folder = proc / str(pid)
    folder.mkdir()
    (folder / "stat").write_text(f"{pid} (a (b) c) S {parent} 1 1")
    (folder / "cmdline").write_bytes(name.encode() + b"\0")
    (folder / "statm").write_text(f"900 {pages} 3 1 0 1 0")


def test_rays_processes_below_this_one_are_counted_and_no_others(tmp_path: Path) -> None:
    a_process(tmp_path, 10, 1, "python", 50)
    a_process(tmp_path, 11, 10, "raylet", 60)
    a_process(tmp_path, 12, 11, "ray::ServeReplica:hugginggpt:fake", 7)
    a_process(tmp_path, 13, 11, "ray::ServeReplica:hugginggpt:fake", 8)
    a_process(tmp_path, 20, 1, "ray::ServeReplica:hugginggpt:fake", 9)  # of somebody else's Ray
    (tmp_path / "21").mkdir()  # has ended
    found = [(name, size // PAGE_BYTES) for name, size in descendants(10, tmp_path)]
    assert sorted(found) == [("ray::ServeReplica:hugginggpt:fake", 7), ("ray::ServeReplica:hugginggpt:fake", 8)]
