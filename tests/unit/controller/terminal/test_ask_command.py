"""`hgpt ask` when things go wrong: one sentence, exit status 1, and no file overwritten."""

import os
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from controller.cli import main
from controller.terminal.client import free

NOBODY = "http://127.0.0.1:9"


@pytest.fixture(
    params=[
        (404, "text/html", "<h1>Nothing here</h1>"),
        (200, "text/html", "<h1>Welcome to nginx</h1>"),
        (200, "application/json", '{"object": "list", "data": [{"id": "llama"}]}'),
        (401, "application/json", '{"error": {"message": "Which key?"}}'),
        (200, "application/json", "[1]"),
    ],
    ids=lambda reply: f"{reply[0]} {reply[2]}",
)
def stranger(request: pytest.FixtureRequest) -> Iterator[tuple[str, int]]:
    """The address and the status of a server that is something else."""
    status, media_type, text = request.param

    class Stranger(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.send_header("content-type", media_type)
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, *_: object) -> None: ...

    with HTTPServer(("127.0.0.1", 0), Stranger) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", status
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("command", ["ask", "plan"])
def test_another_server_is_told_apart(stranger: tuple[str, int], command: str, capsys: pytest.CaptureFixture[str]) -> None:
    url, status = stranger
    assert main([command, "hello", "--file", __file__, "--url", url]) == 1
    err = capsys.readouterr().err
    assert f"hgpt: what answers at {url} is no HuggingGPT service: GET {url}/v1/models gave HTTP {status}" in err


def test_a_folder_that_cannot_be_saved_in_is_found_before_anything_is_asked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").touch()
    for target in (tmp_path / "file", tmp_path / "file" / "folder"):
        assert main(["ask", "hello", "--save", str(target), "--url", NOBODY]) == 1
        assert capsys.readouterr().err == f"hgpt: files cannot be saved in {target}: {tmp_path / 'file'} is no folder\n"
    assert main(["ask", "hello", "--save", str(tmp_path / "new" / "folder"), "--url", NOBODY]) == 1
    assert "no service answers" in capsys.readouterr().err
    assert not (tmp_path / "new").exists()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_leave_to_write_is_found_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tmp_path.chmod(0o500)
    assert main(["ask", "hello", "--save", str(tmp_path / "new"), "--url", NOBODY]) == 1
    assert f"you may not write in {tmp_path}" in capsys.readouterr().err


def test_an_unusable_name_is_told_without_its_error_number(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ask", "hello", "--save", "x" * 300, "--url", NOBODY]) == 1
    assert capsys.readouterr().err == f"hgpt: {'x' * 300}: File name too long\n"


def test_a_name_that_is_taken_gets_a_number(tmp_path: Path) -> None:
    for name in ("cat.png", "cat-2.png", "cat-3.png"):
        assert free(tmp_path / "cat.png") == tmp_path / name
        (tmp_path / name).touch()


@pytest.mark.parametrize("command", ["ask", "plan"])
def test_nobody_listening_is_one_sentence(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([command, "hello", "--url", NOBODY]) == 1
    shown = capsys.readouterr()
    assert f"hgpt: no service answers at {NOBODY}; start one with `hgpt serve`" in shown.err
    assert "Traceback" not in shown.err
    assert shown.out == ""


@pytest.mark.parametrize("command", ["ask", "plan"])
def test_a_missing_file_is_one_sentence(command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    missing = tmp_path / "speech.txt"
    assert main([command, "Sum it up.", "--file", str(missing), "--url", NOBODY]) == 1
    assert f"hgpt: {missing} cannot be read: No such file or directory" in capsys.readouterr().err
