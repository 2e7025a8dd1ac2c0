"""Language of the output: `--lang`, the locale, and outputs that stay English."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from conftest import Bench, MakeTask
from support import run_commands

from bench.cli import options

KOREAN = {"LC_MESSAGES": "ko_KR.UTF-8", "PYTHONIOENCODING": "utf-8"}


@pytest.fixture(scope="module")
def outputs(
    environment: dict[str, str], make_task: MakeTask, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, str]:
    """Standard output and error of several commands in a Korean locale."""
    folder = tmp_path_factory.mktemp("outputs")
    make_task(folder / "mytask")
    make_task(folder / "broken", labels=["warm", "warm"])
    rows = "".join(f"question {number},{'yes' if number % 2 else 'no'}\n" for number in range(40))
    (folder / "rows.csv").write_text("question,answer\n" + rows, "utf-8")
    commands = {
        "list": ["list"],
        "models": ["models"],
        "validate": ["validate", "./mytask"],
        "validate json": ["validate", "./mytask", "--format", "json"],
        "english after": ["validate", "./mytask", "--lang", "en"],
        "english before": ["--lang", "en", "validate", "./mytask"],
        "new task": ["new", "task", "made", "--from", "rows.csv"],
        "new method": ["new", "method", "mine"],
        "again": ["models"],
        "unknown method": ["run", "--methods", "lroa", "--task", "kdc"],
        "unknown task": ["run", "--methods", "lora", "--task", "./none"],
        "invalid amount": ["advise", "--max-memory", "lots"],
        "invalid hyper-parameter": ["run", "--methods", "lora", "--task", "kdc", "--set", "lora.rank=x"],
        "invalid card": ["validate", "./broken"],
        "invalid card json": ["validate", "./broken", "--format", "json"],
        "english error": ["run", "--methods", "lroa", "--task", "kdc", "--lang", "en"],
    }
    results = run_commands(commands, folder, environment | KOREAN)
    return {name: result.out + result.err for name, result in results.items()}


@pytest.mark.parametrize(
    ("command", "korean"),
    [
        ("list", "과제"),
        ("models", "폴더나 허브 이름도"),
        ("validate", "테스트 행이 적어"),
        ("new task", "- 정해진 답: 레이블 2개"),
        ("new method", "mine.py 파일을 만들었습니다"),
        ("again", "폴더나 허브 이름도"),
    ],
)
def test_command_in_korean_locale_speaks_korean(outputs: dict[str, str], command: str, korean: str) -> None:
    assert korean in outputs[command]


@pytest.mark.parametrize(
    ("command", "lines"),
    [
        ("unknown method", ["오류: 'lroa' 방법이 없습니다", "도움말: 혹시 'lora'입니까? 사용 가능: adapter,"]),
        ("unknown task", ["오류: 과제 폴더 './none'이(가) 없습니다", "위치: /", "도움말: 있는 폴더를 지정하십시오"]),
        ("invalid amount", ["오류: --max-memory lots: 메모리 크기가 아닙니다(예: 2GiB, 500MB)"]),
        ("invalid hyper-parameter", ["오류: --set lora.rank=x: ", "도움말: rank: 업데이트의 랭크; 기본값 16"]),
        (
            "invalid card",
            ["키 'labels': 서로 다른 레이블이 두 개 이상 필요하며", "위치: broken/task.yaml", "./broken: 오류 있음"],
        ),
        ("english error", ["error: method 'lroa' not found", "hint: did you mean 'lora'? Valid: adapter,"]),
    ],
)
def test_error_in_korean_locale_speaks_korean(outputs: dict[str, str], command: str, lines: list[str]) -> None:
    assert not [line for line in lines if f"\n{line}" not in f"\n{outputs[command]}"]


def test_json_of_an_invalid_card_in_korean_locale_stays_english(outputs: dict[str, str]) -> None:
    (finding,) = json.loads(outputs["invalid card json"])["findings"]
    assert "at least two different labels are needed" in finding["message"]
    assert "\nat: broken/task.yaml" in finding["message"]


@pytest.mark.parametrize("command", ["english after", "english before"])
def test_lang_before_or_after_the_command_beats_the_locale(outputs: dict[str, str], command: str) -> None:
    assert "Few test rows" in outputs[command]


def test_json_in_korean_locale_stays_english(outputs: dict[str, str]) -> None:
    findings = json.loads(outputs["validate json"])["findings"]
    assert any(finding["message"].startswith("Few test rows") for finding in findings)


@pytest.mark.parametrize(("language", "hint"), [("kr", "did you mean 'ko'?"), ("xx", "Valid: en, ko")])
@pytest.mark.parametrize("is_first", [True, False])
def test_lang_unknown_language_exits_2(run_bench: Bench, language: str, hint: str, is_first: bool) -> None:
    option = ["--lang", language]
    completed = run_bench(*([*option, "list"] if is_first else ["list", *option]))
    assert (completed.returncode, hint in completed.stderr) == (2, True)


@pytest.mark.parametrize("name", ["ko", "KO", "ko_KR", "ko-KR", "ko_KR.UTF-8"])
def test_require_language_names_of_korean_are_equal(name: str) -> None:
    assert options.require_language(name) == "ko"


def test_korean_locale_in_a_terminal_without_hangul_is_english(run_bench: Bench) -> None:
    completed = run_bench("models", LC_MESSAGES="ko_KR.UTF-8", PYTHONIOENCODING="ascii")
    assert "A folder or a hub name works too." in completed.stdout


def test_record_command_has_no_options_before_the_command(run_bench: Bench, tmp_path: Path) -> None:
    completed = run_bench(
        "--lang", "ko", "run", "--methods", "majority", "--task", "kdc", "--budget", "ci", "--out", "r"
    )
    assert completed.returncode == 0
    assert "판정" in completed.stdout
    record = json.loads(next((tmp_path / "r").glob("*.json")).read_text("utf-8"))
    assert record["command"][:3] == ["run", "--methods", "majority"]
