"""`hgpt ask` when things go wrong: one sentence, exit status 1, and no file overwritten."""

from pathlib import Path

import pytest

from controller.ask_command import _free
from controller.cli import main

NOBODY = "http://127.0.0.1:9"


def test_a_name_that_is_taken_gets_a_number(tmp_path: Path) -> None:
    for name in ("cat.png", "cat-2.png", "cat-3.png"):
        assert _free(tmp_path / "cat.png") == tmp_path / name
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
