"""How much of the memory that this process may use is used: of its cgroup where that has a limit, else of the machine. Linux."""

from pathlib import Path

MEMINFO = Path("/proc/meminfo")
CGROUP = Path("/sys/fs/cgroup")


def memory_share(cgroup: Path = CGROUP, meminfo: Path = MEMINFO) -> float:
    """0 to 1, the larger of the two; 0 where neither can be read. File pages that the kernel would give back do not count as used."""
    return max(_of_cgroup(cgroup), _of_machine(meminfo))


def _of_cgroup(cgroup: Path) -> float:
    """Of version 2, whose memory.max says «max» where there is no limit."""
    try:
        limit_bytes = int((cgroup / "memory.max").read_text())
        used_bytes = int((cgroup / "memory.current").read_text())
        stat = dict(line.split() for line in (cgroup / "memory.stat").read_text().splitlines())
        return (used_bytes - int(stat["inactive_file"]) - int(stat["active_file"])) / limit_bytes
    except (OSError, ValueError, KeyError, ZeroDivisionError):
        return 0.0


def _of_machine(meminfo: Path) -> float:
    try:
        lines = (line.split() for line in meminfo.read_text().splitlines())
        kilobytes = {name.rstrip(":"): int(number) for name, number, *_ in lines}
        return 1 - kilobytes["MemAvailable"] / kilobytes["MemTotal"]
    except (OSError, ValueError, KeyError, ZeroDivisionError):
        return 0.0
