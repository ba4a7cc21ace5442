"""Pictures out of video files and into them, with PyAV. Knows no model."""

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import av
import numpy as np
import numpy.typing as npt

from cluster.errors import ModelError

Frame = npt.NDArray[np.uint8]  # (height, width, 3), RGB

CONSTANT_QUALITY = "18"  # x264's scale: 0 is lossless, 18 looks so, 51 is the worst


def read_clips(path: Path, clips: int, frames: int, stride_s: float) -> tuple[list[list[Frame]], float]:
    """At most `clips` clips spread over a video, each of `frames` frames that lie `stride_s` apart, and its duration in seconds.

    Frames are upright, as a player shows them. Raises ModelError when the file holds no pictures that can be read.
    """
    try:
        with av.open(str(path)) as container:
            if not container.streams.video:
                raise ModelError(f"{path.name} holds no video")
            stream = container.streams.video[0]
            stream.thread_type = "AUTO"
            tick_s = float(stream.time_base or 0)
            stamps = sorted(stamp for packet in container.demux(stream) if (stamp := _stamp(packet)) is not None)
            if not stamps:
                raise ModelError(f"{path.name} holds no frames")
            times_s = [(stamp - stamps[0]) * tick_s for stamp in stamps]
            chosen = choose_frames(times_s, clips, frames, stride_s)
            pictures = [_decoded(container, stream, [stamps[place] for place in clip]) for clip in chosen]
    except (av.FFmpegError, OSError, ValueError) as exc:
        raise ModelError(f"{path.name} could not be read as a video") from exc
    return pictures, times_s[-1] + times_s[-1] / max(1, len(times_s) - 1)


def choose_frames(times_s: Sequence[float], clips: int, frames: int, stride_s: float) -> list[list[int]]:
    """Places among the frames' times, clip by clip. A video shorter than one clip gives one whose frames lie closer together."""
    last_s = times_s[-1]
    length_s = min((frames - 1) * stride_s, last_s)
    count = max(1, min(clips, int(last_s // length_s))) if length_s else 1
    starts = np.linspace(0, last_s - length_s, count) if count > 1 else [(last_s - length_s) / 2]
    return [[_nearest(times_s, start + offset) for offset in np.linspace(0, length_s, frames)] for start in starts]


def write_mp4(frames: Sequence[Frame], rate_hz: int) -> bytes:
    """H.264 in MP4, playable while it loads; an odd side loses one row or column, since the colours are stored at half the size."""
    height, width = (side - side % 2 for side in frames[0].shape[:2])
    with TemporaryDirectory() as folder:  # "faststart" reads the file again to put its table of contents first
        path = Path(folder) / "video.mp4"
        with av.open(str(path), "w", options={"movflags": "faststart"}) as container:
            stream = container.add_stream("libx264", rate=rate_hz, options={"crf": CONSTANT_QUALITY})
            stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
            for frame in frames:
                picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame[:height, :width]), format="rgb24")
                container.mux(stream.encode(picture))
            container.mux(stream.encode())
        return path.read_bytes()


def _nearest(times_s: Sequence[float], wanted_s: float) -> int:
    return int(np.abs(np.asarray(times_s) - wanted_s).argmin())


def _stamp(part: Any) -> int | None:
    """When a packet or frame is shown, in the stream's time base; AVI files say only when it is decoded."""
    stamp: int | None = part.dts if part.pts is None else part.pts
    return stamp


def _decoded(container: Any, stream: Any, stamps: Sequence[int]) -> list[Frame]:
    """The frames shown at these times, in order; for one that cannot be decoded stands the next, at the end the last."""
    container.seek(stamps[0], stream=stream)  # to the key frame before it
    found: list[Frame] = []
    for frame in container.decode(stream):
        shown = _stamp(frame)
        due = sum(stamp <= shown for stamp in stamps) - len(found) if shown is not None else 0
        found += [_upright(frame)] * due if due > 0 else []
        if len(found) == len(stamps):
            return found
    if not found:
        raise ValueError("no frame could be decoded")
    return found + found[-1:] * (len(stamps) - len(found))


def _upright(frame: Any) -> Frame:
    """A phone held upright films lying frames and writes their turn, in degrees counterclockwise, beside them."""
    return np.rot90(frame.to_ndarray(format="rgb24"), k=round(frame.rotation / 90) % 4)
