"""Which models give way to another. A pure function over their sizes; knows no model."""

from collections.abc import Sequence


def earliest(sizes_bytes: Sequence[int], needed_bytes: int) -> list[int] | None:
    """Places of those to evict so that so many bytes are free: the earliest, less those that then need not go after all.

    None when all of them together are not enough.
    """
    chosen: list[int] = []
    spare_bytes = -needed_bytes
    for place, size_bytes in enumerate(sizes_bytes):
        if spare_bytes >= 0:
            break
        chosen.append(place)
        spare_bytes += size_bytes
    if spare_bytes < 0:
        return None
    for place in reversed(chosen.copy()):
        if sizes_bytes[place] <= spare_bytes:
            chosen.remove(place)
            spare_bytes -= sizes_bytes[place]
    return chosen
