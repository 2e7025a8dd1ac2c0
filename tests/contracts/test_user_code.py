"""Exceptions of user code become errors with file and line; an interruption by the user does not."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.user_code import UserCodeError, describe_exception, is_interrupt, report_user_code


@pytest.fixture(autouse=True)
def interruptible() -> Iterator[None]:
    """Let SIGINT interrupt this process, which ignores it if a shell has started it in the background."""
    earlier = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, earlier)


def test_is_interrupt_signal_and_raise_statement_are_told_apart() -> None:
    with pytest.raises(KeyboardInterrupt) as interrupted:
        os.kill(os.getpid(), signal.SIGINT)
        for _ in range(10**6):
            pass
    assert is_interrupt(interrupted.value)
    with pytest.raises(KeyboardInterrupt) as raised:
        raise KeyboardInterrupt
    assert not is_interrupt(raised.value)
    assert not is_interrupt(SystemExit(0))


def test_report_user_code_interruption_is_raised_unchanged(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), report_user_code(tmp_path / "mine.py", "fails"):
        os.kill(os.getpid(), signal.SIGINT)
        for _ in range(10**6):
            pass


def test_report_user_code_exception_with_broken_message_is_reported(tmp_path: Path) -> None:
    class Broken(Exception):
        def __str__(self) -> str:
            raise SystemExit(0)

    assert describe_exception(Broken()) == "Broken"
    with pytest.raises(UserCodeError, match="fails: Broken"), report_user_code(tmp_path / "mine.py", "fails"):
        raise Broken


def test_report_user_code_kept_exception_is_raised_unchanged() -> None:
    with pytest.raises(AssertionError, match="kept"), report_user_code(None, "fails", keep=(AssertionError,)):
        raise AssertionError("kept")
