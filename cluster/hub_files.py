"""Which files of a hub repository a runner needs, and what they are pinned to. Plain lists in, plain lists out.

transformers: the settings, vocabularies and chat templates at the top, the folders that sentence-transformers adds, and one set of
safetensors. diffusers: model_index.json and each component's folder with one set of safetensors, fp16 only where there is no other. Never
a single-file checkpoint, another framework's weights, or a pickle.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatch
from pathlib import PurePosixPath
from typing import Any

from huggingface_hub.hf_api import RepoSibling

from cluster.catalogue import ModelFile

INDEX = "model_index.json"
SETTINGS = frozenset({".json", ".txt", ".model", ".spm", ".jinja", ".vocab", ".codes"})
# Traces of the training, and indexes of weights that are not taken.
UNNEEDED = (
    "*results.json",
    "trainer_state.json",
    "*.bin.index.json",
    "*.h5.index.json",
    "*.msgpack.index.json",
    "requirements*.txt",
    "README*",
)
# "model-00001-of-00003.safetensors", "diffusion_pytorch_model.fp16-00001-of-00002.safetensors", "model.safetensors"
WEIGHTS = re.compile(
    r"(?P<stem>model|diffusion_pytorch_model)(?P<half>\.fp16)?(-(?P<part>\d{5})-of-(?P<total>\d{5}))?(?P<half_after>\.fp16)?\.safetensors"
)
WEIGHTS_INDEX = re.compile(r"(model|diffusion_pytorch_model)(\.fp16)?\.safetensors\.index(\.fp16)?\.json")
PICKLES = frozenset({".bin", ".pt", ".pth", ".ckpt", ".pkl", ".joblib", ".pickle"})
SENTENCE_FOLDER = re.compile(r"\d+_\w+")  # "1_Pooling", "2_Dense"


def transformers_files(names: Sequence[str]) -> list[str]:
    """What transformers and sentence-transformers read, in a fixed order; without weights when there are no safetensors at the top."""
    folders = {parts[0] for name in names if len(parts := name.split("/")) == 2 and SENTENCE_FOLDER.fullmatch(parts[0])}
    chosen = _settings_in(names, "") + _weights_in(names, "")
    for folder in sorted(folders):
        chosen += _settings_in(names, folder) + _weights_in(names, folder)
    return sorted(chosen)


def diffusers_files(names: Sequence[str], index: Mapping[str, Any]) -> tuple[list[str], list[str]]:
    """The files, and the components that have weights, but no safetensors. `index` is what model_index.json says.

    A component without a folder of its own lies at the top (the first DDPM checkpoints).
    """
    chosen, lacking = {INDEX}, []
    for component in components(index):
        folder = component if any(name.startswith(f"{component}/") for name in names) else ""
        settings = [name for name in _settings_in(names, folder) if name != INDEX]
        weights = _weights_in(names, folder)
        chosen |= {*settings, *weights}
        if not weights and has_pickles(names, folder):
            lacking.append(component)
    return sorted(chosen), lacking


def components(index: Mapping[str, Any]) -> dict[str, str]:
    """A pipeline's parts that are there, and the library of each."""
    return {
        name: str(entry[0])
        for name, entry in index.items()
        if isinstance(entry, list) and len(entry) == 2 and all(isinstance(part, str) for part in entry)
    }


def matching(names: Sequence[str], patterns: Iterable[str]) -> list[str]:
    return sorted({name for name in names for pattern in patterns if fnmatch(name, pattern)})


def has_safetensors(names: Iterable[str]) -> bool:
    return any(name.endswith(".safetensors") for name in names)


def has_weights(names: Iterable[str]) -> bool:
    return any(name.endswith((".safetensors", ".pth")) for name in names)


def has_pickles(names: Iterable[str], folder: str | None = None) -> bool:
    """In one folder ("" is the top), or anywhere."""
    return any(PurePosixPath(name).suffix in PICKLES for name in names if folder in (None, _folder_of(name)))


def pinned(sibling: RepoSibling, **changes: Any) -> ModelFile:
    """The file as the hub knows it: a large one by its sha256, a small one by its git hash."""
    entry = {"path": sibling.rfilename, "size_bytes": sibling.lfs.size if sibling.lfs else sibling.size or 0}
    pin = {"sha256": sibling.lfs.sha256} if sibling.lfs else {"git_blob": sibling.blob_id}
    return ModelFile.model_validate(entry | pin | changes)


def _settings_in(names: Sequence[str], folder: str) -> list[str]:
    there = [name for name in names if _folder_of(name) == folder and PurePosixPath(name).suffix in SETTINGS]
    plain = [name for name in there if not any(fnmatch(PurePosixPath(name).name, pattern) for pattern in UNNEEDED)]
    return [name for name in plain if ".safetensors.index." not in name]


def _weights_in(names: Sequence[str], folder: str) -> list[str]:
    """One whole set: in full precision before fp16, one file before several (as the libraries prefer)."""
    there = [name for name in names if _folder_of(name) == folder]
    sets: dict[tuple[bool, str, str], list[str]] = {}
    for name in there:
        if found := WEIGHTS.fullmatch(PurePosixPath(name).name):
            is_half = bool(found["half"] or found["half_after"])
            sets.setdefault((is_half, found["total"] or "", found["stem"]), []).append(name)
    for (is_half, total, _), weights in sorted(sets.items()):
        if not total:
            return weights
        if len(weights) == int(total):
            indexes = [name for name in there if WEIGHTS_INDEX.fullmatch(PurePosixPath(name).name)]
            return weights + [name for name in indexes if (".fp16" in name) == is_half]
    return []


def _folder_of(name: str) -> str:
    parent = PurePosixPath(name).parent.as_posix()
    return "" if parent == "." else parent
