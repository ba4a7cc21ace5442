"""`hgpt run` with a file that is no plan: one sentence, exit status 1, before anything is sent."""

from pathlib import Path

import pytest

from controller.cli import main

NOBODY = "http://127.0.0.1:9"


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "{path} is not JSON: Expecting value in line 1"),
        (b'{"steps": [}', "{path} is not JSON: Expecting value in line 1"),
        (b"\xff\xfe", "{path} is not JSON that can be read: it is not in UTF-8"),
        (b"[" * 100_000, "{path} is not JSON that can be read: it is nested too deeply"),
        (b"[" + b"9" * 5000 + b"]", "{path} is not JSON that can be read: it has a number of thousands of digits"),
        (b'{"steps": ["\\ud800"]}', r"{path} is not JSON that can be read: it has half a character (\ud800 to \udfff)"),
        (b'{"steps": [1e999]}', "the plan holds 1e999, which is too large a number"),
        (b'{"steps": [NaN]}', "the plan holds NaN, which is no number in JSON"),
        (b"[]", "{path} is no plan: `hgpt plan --json` prints one, an object with a list of steps"),
        (b'{"object": "plan"}', "{path} is no plan: `hgpt plan --json` prints one, an object with a list of steps"),
        (b'{"steps": []}', "the plan in {path} has no steps"),
        (b'\xef\xbb\xbf{"steps": [{}]}', f"no service answers at {NOBODY}; start one with `hgpt serve`"),
        (b'{"steps": [{}]}', f"no service answers at {NOBODY}; start one with `hgpt serve`"),
    ],
)
def test_a_file_that_is_no_plan_is_told_in_one_sentence(
    tmp_path: Path, content: bytes, sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "plan.json"
    path.write_bytes(content)
    assert main(["run", str(path), "--url", NOBODY]) == 1
    shown = capsys.readouterr()
    assert f"hgpt: {sentence.format(path=path)}\n" in shown.err
    assert "Traceback" not in shown.err and shown.out == ""


@pytest.mark.parametrize("url", ["", "127.0.0.1:8000", "ftp://here", "http://[::1"])
def test_an_address_that_is_none_is_one_sentence(tmp_path: Path, url: str, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "plan.json").write_text('{"steps": [{}]}')
    assert main(["run", str(tmp_path / "plan.json"), "--url", url]) == 1
    assert capsys.readouterr().err == f"hgpt: {url!r} is no address of a service; one reads http://127.0.0.1:8000\n"


def test_a_file_that_is_not_there_is_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", str(tmp_path / "plan.json"), "--url", NOBODY]) == 1
    assert capsys.readouterr().err == f"hgpt: {tmp_path / 'plan.json'} cannot be read: No such file or directory\n"
    assert main(["run", "plan\0.json", "--url", NOBODY]) == 1
    assert capsys.readouterr().err == "hgpt: 'plan\\x00.json' is no name of a file\n"
