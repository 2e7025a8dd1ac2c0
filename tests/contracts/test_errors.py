"""User errors: their printed form, their hints, and exit codes of the command line."""

from __future__ import annotations

import pickle

import pytest

from bench import cli
from bench.errors import UserError, did_you_mean


def test_user_error_prints_message_location_and_hint() -> None:
    error = UserError("no rows", location="train.jsonl:3", hint="add a row")
    assert str(error) == "no rows\nat: train.jsonl:3\nhint: add a row"
    assert (error.message, error.location, error.hint) == ("no rows", "train.jsonl:3", "add a row")
    assert str(UserError("no rows")) == "no rows"


def test_user_error_survives_pickling() -> None:
    """Errors of workers in other processes arrive pickled."""
    error = pickle.loads(pickle.dumps(UserError("no rows", location="train.jsonl:3", hint="add a row")))
    assert str(error) == "no rows\nat: train.jsonl:3\nhint: add a row"


@pytest.mark.parametrize(
    ("word", "hint"),
    [
        ("lroa", "did you mean 'lora'? Valid: full, lora"),
        ("xyz", "Valid: full, lora"),
    ],
)
def test_did_you_mean_close_word_is_suggested(word: str, hint: str) -> None:
    assert did_you_mean(word, ["lora", "full"]) == hint


def test_did_you_mean_without_valid_words_says_none() -> None:
    assert did_you_mean("lora", []) == "Valid: none"


def test_main_user_error_exits_with_2(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def fail() -> None:
        raise UserError("no rows", location="train.jsonl:3", hint="add a row")

    monkeypatch.setattr(cli, "app", fail)
    with pytest.raises(SystemExit) as exited:
        cli.main()
    assert exited.value.code == 2
    assert capsys.readouterr().err == "error: no rows\nat: train.jsonl:3\nhint: add a row\n"


def test_main_internal_error_exits_with_1(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def fail() -> None:
        raise KeyError("rows")

    monkeypatch.setattr(cli, "app", fail)
    with pytest.raises(SystemExit) as exited:
        cli.main()
    assert exited.value.code == 1
    error = capsys.readouterr().err
    assert "Traceback" in error and "KeyError: 'rows'" in error
    assert error.endswith("error: internal error; please report it with the trace above\n")
