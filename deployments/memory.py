"""The process's memory, where libraries hide it: giving freed bytes back, and telling that there were too few."""

import ctypes
import gc
import sys
import traceback

# What CPU allocators say; they throw plain RuntimeErrors. Sources: c10/core/impl/alloc_cpu.cpp, onnxruntime's bfc_arena.cc.
_SAID_BY_ALLOCATORS = ("can't allocate memory", "not enough memory", "failed to allocate memory", "cuda out of memory")


def give_back() -> None:
    """After models were dropped: frees what cycles still hold, torch's cached blocks on the GPU, and the C heap's free pages."""
    gc.collect()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        torch.cuda.empty_cache()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc's; others return pages by themselves
    if trim is not None:
        trim(0)


class Libraries:
    """Takes what imported modules hold out of the garbage collector's sight: half a million objects, 0.3 s for every model let go.

    Only when modules have come since, so that what happens to be alive beside them is few; only when no model is there, since the
    cycles of a model that was taken along would never be freed.
    """

    def __init__(self) -> None:
        self._modules = 0

    def spare(self) -> None:
        if len(sys.modules) > self._modules:
            self._modules = len(sys.modules)
            gc.freeze()


def drop_frames(exc: BaseException | None) -> None:
    """Clears the variables of the functions that an error came through, so that it does not keep their tensors alive."""
    while exc is not None:
        traceback.clear_frames(exc.__traceback__)
        exc = exc.__cause__


def ran_out_of_memory(exc: BaseException | None) -> bool:
    """Whether this error, or one that it was raised from, is a lack of memory. By name: torch need not be imported to ask."""
    while exc is not None:
        if isinstance(exc, MemoryError) or type(exc).__name__ == "OutOfMemoryError":
            return True
        if isinstance(exc, RuntimeError) and any(said in str(exc).lower() for said in _SAID_BY_ALLOCATORS):
            return True
        exc = exc.__cause__
    return False
