"""How full the memory is, of a container where there is one and of the machine."""

from pathlib import Path

import pytest

from cluster.memory_share import memory_share

MEMINFO = "MemTotal:       1000 kB\nMemFree:         100 kB\nMemAvailable:    400 kB\nHugePages_Total:       0\n"


@pytest.fixture
def meminfo(tmp_path: Path) -> Path:
    (tmp_path / "meminfo").write_text(MEMINFO)
    return tmp_path / "meminfo"


def a_cgroup(folder: Path, limit: str) -> Path:
    (folder / "memory.max").write_text(limit)
    (folder / "memory.current").write_text("900\n")
    (folder / "memory.stat").write_text("anon 700\ninactive_file 60\nactive_file 40\n")
    return folder


def test_of_the_machine_what_the_kernel_calls_available_is_not_used(tmp_path: Path, meminfo: Path) -> None:
    assert memory_share(tmp_path / "none", meminfo) == pytest.approx(0.6)


def test_the_container_counts_where_it_is_fuller_than_the_machine_without_its_file_pages(tmp_path: Path, meminfo: Path) -> None:
    assert memory_share(a_cgroup(tmp_path, "1000\n"), meminfo) == pytest.approx(0.8)
    assert memory_share(a_cgroup(tmp_path, "max\n"), meminfo) == pytest.approx(0.6)


def test_where_nothing_can_be_read_nothing_is_known_to_be_used(tmp_path: Path) -> None:
    assert memory_share(tmp_path, tmp_path / "none") == 0.0


def test_this_machine_has_some_used() -> None:
    assert 0 < memory_share() < 1
