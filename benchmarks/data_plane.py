"""What do large artifacts cost? Recordings of 1 kB to 100 MB through three steps that each read one and make another of the same size.

Beside the time of the steps stand one memcpy of the same bytes and the hashing that content addressing needs, three sha256, measured
in the same rounds; the upload, which decodes the file, is reported by itself. Artifacts lie in the folder for temporary files (TMPDIR).
"""

import hashlib
import os
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import httpx

from benchmarks.fakes import PORT, fake_service, message
from benchmarks.measure import arguments, report
from deployments.speech import as_wav

STEPS = 3
RATE_HZ = 48_000
TIMEOUT_S = 120.0
WAV_HEAD_BYTES = 44


@dataclass(frozen=True, slots=True)
class Size:
    size_bytes: int
    rounds: int  # after one to warm up


SIZES = {
    "1kb": Size(1_000, 15),
    "100kb": Size(100_000, 15),
    "1mb": Size(1_000_000, 15),
    "10mb": Size(10_000_000, 7),
    "100mb": Size(100_000_000, 5),
}


def main() -> None:
    parser = arguments(__doc__ or "")
    parser.add_argument("--port", type=int, default=PORT)
    args = parser.parse_args()
    print(f"artifacts lie on {file_system(Path(tempfile.gettempdir()))}")
    with fake_service(args.port, limits={"max_upload_bytes": 2 * SIZES["100mb"].size_bytes}) as url:
        figures = measured(url)
    report(figures, args.out)


def measured(url: str) -> dict[str, float]:
    """Medians. The memcpy writes into memory that is there already: the least that moving these bytes can cost."""
    figures: dict[str, float] = {}
    with httpx.Client(base_url=url, timeout=TIMEOUT_S, headers={"Cache-Control": "no-store"}) as client:
        for name, size in SIZES.items():
            took_s = defaultdict(list)
            for number in range(-1, size.rounds):
                for what, seconds in round_of(client, size.size_bytes).items():
                    if number >= 0:
                        took_s[what].append(seconds)
            median_s = {what: statistics.median(seconds) for what, seconds in took_s.items()}
            figures |= {f"{what}_{name}_s": seconds for what, seconds in median_s.items()}
            figures[f"data_{name}_over_memcpy"] = median_s["data"] / (median_s["memcpy"] + STEPS * median_s["hash"])
    return figures


def round_of(client: httpx.Client, size_bytes: int) -> dict[str, float]:
    """Seconds of the steps, the upload, one memcpy and one sha256, of bytes that were never seen before."""
    recording = as_wav(os.urandom(size_bytes - WAV_HEAD_BYTES), RATE_HZ)
    room = bytearray(size_bytes)
    memcpy_s = _timed(lambda: memoryview(room).__setitem__(slice(None), recording))
    hash_s = _timed(lambda: hashlib.sha256(recording))
    started = time.perf_counter()
    upload = client.post("/v1/files", files={"file": ("recording.wav", recording)}).raise_for_status().json()
    upload_s = time.perf_counter() - started
    plan = {f"s{n}": ["audio-to-audio", "f1" if n == 1 else f"s{n - 1}"] for n in range(1, STEPS + 1)}
    parts = [{"type": "file", "file": {"file_id": upload["id"]}}, {"type": "text", "text": message(plan)}]
    reply = client.post("/v1/chat/completions", json={"messages": [{"role": "user", "content": parts}]})
    run = reply.raise_for_status().json()["run"]
    expected = recording[:-1] + bytes([(recording[-1] + STEPS) % 256])
    if run["results"][-1].get("artifact", {}).get("sha256") != hashlib.sha256(expected).hexdigest():
        raise RuntimeError(f"the last step did not give the recording with {STEPS} changes: {run['results'][-1]}")
    return {"data": run["seconds"]["execute"], "upload": upload_s, "memcpy": memcpy_s, "hash": hash_s}


def file_system(folder: Path) -> str:
    """Its kind, such as "ext4", by the longest mount point above it."""
    mounts = [line.split()[1:3] for line in Path("/proc/mounts").read_text().splitlines()]
    above = [(point, kind) for point, kind in mounts if folder.resolve().is_relative_to(point)]
    return max(above, key=lambda mount: len(mount[0]))[1]


def _timed(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
