"""The command ends as it would in any terminal: other encodings, closed pipes, control characters in texts."""

from __future__ import annotations

import contextlib
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import MakeRecord

from bench.cli.console import PlainConsole
from bench.cli.options import status_line
from bench.cli.terminal import SafeStream, check_arguments, print_json, safe_output
from bench.errors import UserError

CONTROLS = "\x1b[31m\x07\x9b"


def latin_1_terminal() -> io.TextIOWrapper:
    return io.TextIOWrapper(io.BytesIO(), encoding="latin-1")


def written(stream: io.TextIOWrapper) -> str:
    stream.flush()
    assert isinstance(stream.buffer, io.BytesIO)
    return stream.buffer.getvalue().decode(stream.encoding)


def test_safe_output_characters_that_the_encoding_lacks_are_replaced() -> None:
    terminal = latin_1_terminal()
    with contextlib.redirect_stdout(terminal), safe_output():
        print("26 °C – 한 👍 …")
        PlainConsole().print("a → 한")
    assert written(terminal) == "26 °C - \\ud55c \\ud83d\\udc4d ...\na -> \\ud55c\n"
    assert not isinstance(sys.stdout, SafeStream)


def test_print_json_in_latin_1_is_valid_and_equal() -> None:
    terminal = latin_1_terminal()
    document = {"a": "é – 한 👍" + CONTROLS}
    with contextlib.redirect_stdout(terminal), safe_output():
        print_json(document)
    assert json.loads(written(terminal)) == document


def test_safe_output_control_characters_are_escaped(capsys: pytest.CaptureFixture[str]) -> None:
    with safe_output():
        print(f"a{CONTROLS}\rb")
        print(f"a{CONTROLS}b", file=sys.stderr)
        console = PlainConsole()
        console.print(f"[red]{CONTROLS}[/blue] :smile:")
        console.print_sentences(["one\ntwo"])
    out, err = capsys.readouterr()
    assert out == "a\\u001b[31m\\u0007\\u009b\\u000db\n[red]\\u001b[31m\\u0007\\u009b[/blue] :smile:\none two\n"
    assert err == "a\\u001b[31m\\u0007\\u009bb\n"


def test_status_line_on_a_terminal_keeps_its_own_escape_sequences(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    terminal = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")
    monkeypatch.setattr(terminal, "isatty", lambda: True, raising=False)
    with contextlib.redirect_stderr(terminal), safe_output(), status_line() as on_progress:
        on_progress({"phase": f"[red]{CONTROLS}"})
        print("note", file=sys.stderr)
    text = written(terminal)
    assert "\x1b[2K" in text and "\\u001b[2K" not in text and "note" in text
    assert "\x07" not in text


def test_safe_output_in_github_actions_prints_no_command(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    with safe_output():
        print("::error::x")
        PlainConsole().print("::error::y")
    assert capsys.readouterr().out == "\\u003a:error::x\n\\u003a:error::y\n"


def test_safe_stream_closed_pipe_discards_the_rest() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w", encoding="utf-8") as pipe:
        stream = SafeStream(pipe)
        for _ in range(3):
            stream.write("text")
            stream.flush()


def test_bench_list_closed_pipe_ends_quietly(environment: dict[str, str]) -> None:
    command = f"{sys.executable} -m bench list | head -1; echo ${{PIPESTATUS[0]}}"
    result = subprocess.run(
        ["bash", "-c", command], env=environment, capture_output=True, encoding="utf-8", check=False, timeout=300
    )
    assert (result.stdout.split()[0], result.stdout.split()[-1], result.stderr) == ("Methods", "0", "")


@pytest.mark.parametrize("encoding", ["ascii", "cp949", "latin-1"])
def test_bench_advise_any_encoding_ends_as_in_utf_8(
    encoding: str, environment: dict[str, str], make_record: MakeRecord, tmp_path: Path
) -> None:
    make_record("lora").write(tmp_path / "results")
    make_record("한–👍").write(tmp_path / "results")
    for lang in ("en", "ko"):
        result = subprocess.run(
            [sys.executable, "-m", "bench", "advise", "--lang", lang],
            cwd=tmp_path,
            env=environment | {"PYTHONIOENCODING": encoding},
            capture_output=True,
            check=False,
            timeout=300,
        )
        assert (result.returncode, result.stderr) == (0, b"")
        assert b"lora" in result.stdout


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
def test_bench_full_output_device_is_an_error_without_trace(environment: dict[str, str], tmp_path: Path) -> None:
    buffered = {name: value for name, value in environment.items() if name != "PYTHONUNBUFFERED"}
    command = [sys.executable, "-m", "bench", "new", "method", "mine"]
    with open("/dev/full", "wb") as full:
        result = subprocess.run(
            command, cwd=tmp_path, env=buffered, stdout=full, stderr=subprocess.PIPE, encoding="utf-8", check=False
        )
    assert result.returncode == 1 and "standard output cannot be written" in result.stderr
    assert "Traceback" not in result.stderr and "Exception" not in result.stderr


def test_check_arguments_undecodable_argument_is_refused() -> None:
    check_arguments(["run", "내과제"])
    with pytest.raises(UserError, match=r"x\\udcff is not valid in the encoding"):
        check_arguments([os.fsdecode(b"x\xff")])
