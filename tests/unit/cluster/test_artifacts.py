"""The artifact store, in a folder and on a file system that is not one."""

import resource
import uuid
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path

import pytest

from cluster.artifacts import CHUNK_BYTES, PIECE_BYTES, ArtifactStore
from cluster.errors import NotFound
from cluster.messages import ArtifactRef

UNKNOWN = "0" * 64


@pytest.fixture(params=["folder", "remote"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> ArtifactStore:
    url = f"file://{tmp_path}/artifacts" if request.param == "folder" else f"memory://{uuid.uuid4().hex}"
    return ArtifactStore(url, cache=tmp_path / "cache")


def test_what_was_put_is_read_again(store: ArtifactStore) -> None:
    ref = store.put(b"a cat", "image/png", "cat.png")
    assert ref == ArtifactRef(sha256(b"a cat").hexdigest(), "image/png", 5, "cat.png")
    assert store.read(ref.sha256) == b"a cat"
    assert store.ref(ref.sha256) == ref


def test_a_large_artifact_comes_in_chunks_and_whole(store: ArtifactStore) -> None:
    content = bytes(range(256)) * (CHUNK_BYTES // 128)
    ref = store.put(content, "audio/wav", "speech.wav")
    chunks = list(store.chunks(ref.sha256))
    assert len(chunks) > 1
    assert b"".join(chunks) == content


def test_the_local_file_holds_the_bytes(store: ArtifactStore) -> None:
    ref = store.put(b"a cat", "image/png", "cat.png")
    assert store.local(ref).read_bytes() == b"a cat"


def test_a_remote_artifact_is_fetched_once(tmp_path: Path) -> None:
    store = ArtifactStore(f"memory://{uuid.uuid4().hex}", cache=tmp_path)
    ref = store.put(b"a cat", "image/png", "cat.png")
    first = store.local(ref)
    fetched_at = first.stat().st_mtime_ns
    assert store.local(ref) == first
    assert first.stat().st_mtime_ns == fetched_at
    assert [path.name for path in tmp_path.iterdir()] == [ref.sha256]


def test_the_same_bytes_twice_are_stored_once_under_their_first_name(store: ArtifactStore) -> None:
    first = store.put(b"a cat", "image/png", "cat.png")
    again = store.put(b"a cat", "image/png", "tom.png")
    assert again.sha256 == first.sha256
    assert store.ref(first.sha256).name == "cat.png"


def test_a_name_with_folders_loses_them(store: ArtifactStore) -> None:
    assert store.put(b"x", "text/plain", "../../etc/passwd").name == "passwd"


def test_an_unknown_id_is_not_found(store: ArtifactStore) -> None:
    for look in (store.ref, store.read):
        with pytest.raises(NotFound, match=UNKNOWN):
            look(UNKNOWN)


def test_looking_for_an_unknown_artifact_leaves_nothing_behind(store: ArtifactStore, tmp_path: Path) -> None:
    with pytest.raises(NotFound, match=UNKNOWN):
        store.local(ArtifactRef(UNKNOWN, "image/png", 1, "cat.png"))
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


@pytest.mark.parametrize("malformed", ["", "cat", "../../etc/passwd", "A" * 64, "0" * 63, "0" * 65, "０" * 64])
def test_a_malformed_id_is_not_found_and_touches_no_file(store: ArtifactStore, malformed: str) -> None:
    for look in (store.ref, store.read):
        with pytest.raises(NotFound, match="64 hex digits"):
            look(malformed)


def test_a_write_that_breaks_leaves_no_artifact(tmp_path: Path) -> None:
    """A reader sees the whole file or none: the bytes get their final name only when they are all there."""
    store = ArtifactStore(f"file://{tmp_path}")
    name = sha256(b"a cat").hexdigest()
    (tmp_path / name[:2]).mkdir()
    (tmp_path / name[:2] / f"{name}.0123.part").write_bytes(b"a c")  # what a killed writer leaves
    with pytest.raises(NotFound):
        store.read(name)
    store.put(b"a cat", "image/png", "cat.png")
    assert store.read(name) == b"a cat"


def test_a_full_disk_leaves_nothing_behind(tmp_path: Path) -> None:
    store = ArtifactStore(f"file://{tmp_path}/artifacts")
    resource.setrlimit(resource.RLIMIT_FSIZE, (PIECE_BYTES, resource.RLIM_INFINITY))
    try:
        with pytest.raises(OSError, match="File too large"):
            store.put(b"a cat" * PIECE_BYTES, "image/png", "cat.png")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_many_writers_of_the_same_bytes_do_not_disturb_each_other(store: ArtifactStore) -> None:
    with ThreadPoolExecutor(8) as threads:
        refs = list(threads.map(lambda _: store.put(b"a cat" * 10_000, "image/png", "cat.png"), range(32)))
    assert len(set(refs)) == 1
    assert store.read(refs[0].sha256) == b"a cat" * 10_000


def test_two_processes_share_a_folder(tmp_path: Path) -> None:
    ref = ArtifactStore(f"file://{tmp_path}").put(b"a cat", "image/png", "cat.png")
    assert ArtifactStore(f"file://{tmp_path}").read(ref.sha256) == b"a cat"
