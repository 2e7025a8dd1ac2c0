"""Help and usage errors in Korean."""

from __future__ import annotations

import re

import pytest
import typer
from rich.cells import cell_len
from typer.testing import CliRunner

from bench.cli import app, options

COMMANDS = sorted(typer.main.get_command(app).commands)  # type: ignore[attr-defined]
USAGE_ERRORS = {
    "no such command": (["rn"], "'rn' 명령이 없습니다. 혹시 'run'?"),
    "no close command": (["xyz"], "'xyz' 명령이 없습니다."),
    "no such option": (["run", "--foo"], "--foo 옵션이 없습니다(비슷한 옵션: --force, --format, --out)"),
    "no close option": (["list", "--zzz"], "--zzz 옵션이 없습니다"),
    "too small": (["run", "--methods", "a", "--task", "b", "--trials", "0"], "'--trials' 값이 잘못되었습니다: 1 이상"),
    "too large": (["advise", "--tolerance", "3"], "'--tolerance' 값이 잘못되었습니다: 1 이하"),
    "no integer": (["models", "--tokens", "many"], "'--tokens' 값이 잘못되었습니다: 정수여야 합니다"),
    "no number": (["advise", "--tolerance", "little"], "'--tolerance' 값이 잘못되었습니다: 숫자여야 합니다"),
    "no choice": (["list", "--format", "yaml"], "'yaml' 값은 다음 중 하나가 아닙니다"),
    "missing option": (["run", "--methods", "a"], "필수 옵션이 없습니다: '--task'"),
    "missing argument": (["compare", "old"], "필수 인자가 없습니다: 'new'"),
    "missing value": (["run", "--methods"], "'--methods' 옵션에 값이 필요합니다."),
    "extra argument": (["compare", "a", "b", "c"], "남는 인자가 있습니다(c)"),
    "flag with a value": (["run", "--force=1"], "'--force' 옵션은 값을 받지 않습니다."),
}


@pytest.fixture
def korean() -> None:
    options._chosen.language = "ko"


def output(*arguments: str) -> str:
    return CliRunner().invoke(app, arguments, env={"COLUMNS": "80", "TERMINAL_WIDTH": "80"}).output


@pytest.mark.usefixtures("korean")
@pytest.mark.parametrize("name", USAGE_ERRORS)
def test_usage_error_in_korean_names_the_problem(name: str) -> None:
    arguments, problem = USAGE_ERRORS[name]
    text = " ".join(re.sub("[│\n]", " ", output(*arguments)).split())
    assert problem in text
    assert "─ 오류 ─" in text


@pytest.mark.usefixtures("korean")
@pytest.mark.parametrize("command", COMMANDS)
def test_help_in_korean_is_korean_and_fits_in_80_columns(command: str) -> None:
    lines = output(command, "--help").splitlines()
    assert {"─ 옵션 ─"} <= {line[1:7] for line in lines}
    assert not [line for line in lines if re.search(r"\b(the|of|and|default|required|Usage)\b", line)]
    assert not [line for line in lines if cell_len(line) > 80]
    assert not [line for line in lines if re.search(" … *│$", line)]  # a word that was cut at the end of a line


def test_help_in_english_after_korean_is_english() -> None:
    options._chosen.language = "ko"
    output("list", "--help")
    options._chosen.language = "en"
    assert "─ Options ─" in output("list", "--help")


@pytest.mark.parametrize("arguments", [["--lang", "ko"], ["--lang=ko"], ["--lang", "ko_KR.UTF-8"]])
def test_start_language_reads_the_option_before_others(arguments: list[str]) -> None:
    options.start_language(["run", "--trials", "0", *arguments])
    assert options.language() == "ko"
