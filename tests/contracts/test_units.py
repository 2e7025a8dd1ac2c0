"""Parsing of amounts as people write them, and their short formats."""

from __future__ import annotations

import pytest

from bench import units


@pytest.mark.parametrize(
    ("text", "value"),
    [("2GiB", 2 * 2**30), ("500 MB", 500 * 10**6), ("1.5kib", 1536), ("7", 7)],
)
def test_parse_bytes_returns_bytes(text: str, value: int) -> None:
    assert units.parse_bytes(text) == value


@pytest.mark.parametrize(("text", "value"), [("200ms", 0.2), ("10min", 600), ("2 h", 7200), ("90", 90), ("1d", 86400)])
def test_parse_seconds_returns_seconds(text: str, value: float) -> None:
    assert units.parse_seconds(text) == pytest.approx(value)


@pytest.mark.parametrize("text", ["", "fast", "3 weeks", "-1s", "1e3", "ms"])
def test_parse_invalid_amount_raises(text: str) -> None:
    for parse in (units.parse_bytes, units.parse_seconds):
        with pytest.raises(ValueError, match="not a"):
            parse(text)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, "–"), (0, "0 ms"), (0.00002, "<0.1 ms"), (0.0004, "0.4 ms"), (0.1234, "123 ms"), (0.9996, "1.0 s"),
        (5.04, "5.0 s"), (42, "42 s"), (150, "2.5 min"), (3000, "50 min"), (9000, "2.5 h"), (400_000, "4.6 d"),
    ],
)  # fmt: skip
def test_format_seconds_chooses_the_unit(seconds: float | None, text: str) -> None:
    assert units.format_seconds(seconds) == text


@pytest.mark.parametrize(("value", "text"), [(None, "–"), (0, "0"), (950, "950"), (4097, "4.1k"), (278_528, "279k")])
def test_format_count_is_short(value: float | None, text: str) -> None:
    assert units.format_count(value) == text


@pytest.mark.parametrize(("value", "text"), [(None, "–"), (0, "0B"), (1127687, "1.1M"), (12 * 2**20, "12M")])
def test_format_bytes_is_short(value: float | None, text: str) -> None:
    assert units.format_bytes(value) == text
