"""The report that every benchmark writes: the machine, the versions, the figures. Knows nothing of what is measured."""

import argparse
import json
import os
import platform
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

PACKAGES = ("hugginggpt-cluster", "ray", "fastapi", "openai", "locust", "torch", "transformers", "peft", "xllamacpp", "vllm")


def arguments(question: str) -> argparse.ArgumentParser:
    """A parser with the options that all benchmarks share."""
    parser = argparse.ArgumentParser(description=question)
    parser.add_argument("--out", type=Path, help="write the JSON report here")
    return parser


def report(figures: Mapping[str, float], out: Path | None) -> None:
    """Prints the figures as a table, and writes them as JSON with the machine and the versions. Units stand in the names."""
    width = max(map(len, figures))
    for name, figure in figures.items():
        print(f"{name:<{width}}  {figure:.4g}")
    if out is not None:
        rounded = {name: round(figure, 5) for name, figure in figures.items()}
        out.parent.mkdir(parents=True, exist_ok=True)
        text = json.dumps({"machine": machine(), "versions": versions(), "figures": rounded}, indent=2)
        out.write_text(f"{text}\n", encoding="utf-8")


def machine() -> dict[str, str | int | float]:
    """Load is the kernel's average over the last minute, this benchmark's own work included."""
    return {
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "load_1min": round(os.getloadavg()[0], 2),
        "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or "unknown"
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown")
