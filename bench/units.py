"""Amounts as people write them (`2GiB`, `10min`, `279k`): parsing and short formatting."""

from __future__ import annotations

import math
import re

BYTES_PER_UNIT = {"b": 1, "": 1, "kib": 2**10, "mib": 2**20, "gib": 2**30, "kb": 10**3, "mb": 10**6, "gb": 10**9}
SECONDS_PER_UNIT = {"ms": 1e-3, "s": 1, "": 1, "min": 60, "h": 3600, "d": 86400}
UNMEASURED = "–"
"""Text of a value that is None."""


def parse_bytes(text: str) -> int:
    """Return the bytes of `2GiB`, `500 MB` or a plain number.

    Raises:
        ValueError: The text is not an amount of memory.
    """
    return int(_parse_amount(text, BYTES_PER_UNIT, "not an amount of memory such as 2GiB or 500MB"))


def parse_seconds(text: str) -> float:
    """Return the seconds of `200ms`, `10 min` or a plain number.

    Raises:
        ValueError: The text is not a duration.
    """
    return _parse_amount(text, SECONDS_PER_UNIT, "not a time such as 200ms, 90s, 10min or 2h")


def count(number: int, noun: str) -> str:
    """Return a number with its noun, e.g. `1 row` or `1,200 rows`."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def format_score(value: float | None, metric: str = "") -> str:
    """Format a score from 0 to 1 in per cent with one decimal, `87.5 %`, and MCC as `0.875`."""
    if value is None:
        return UNMEASURED
    return f"{100 * value:.1f} %" if is_percentage(metric) else f"{value:.3f}"


def format_interval(low: float, high: float, metric: str = "") -> str:
    """Format an interval of scores in per cent, `76.7–87.2 %`, of MCC as `-0.02–0.31`."""
    return f"{format_metric_interval(metric, low, high)} %" if is_percentage(metric) else f"{low:.2f}–{high:.2f}"


def format_share(value: float, metric: str = "") -> str:
    """Format a share from 0 to 1 in per cent without decimals, `24 %`, and MCC as `0.24`."""
    return f"{100 * value:.0f} %" if is_percentage(metric) else f"{value:.2f}"


def is_percentage(metric: str) -> bool:
    """Tell if a metric is written in per cent; MCC is not, because it may be negative."""
    return metric != "mcc"


def metric_head(metric: str) -> str:
    """Return the head of a column of a main metric, with its unit."""
    return f"{metric}\n%" if is_percentage(metric) else metric


def format_metric(metric: str, value: float) -> str:
    """Format a main metric: in per cent with one decimal, MCC with three decimals."""
    return f"{100 * value:.1f}" if is_percentage(metric) else f"{value:.3f}"


def format_metric_interval(metric: str, low: float, high: float) -> str:
    """Format the bounds of a main metric: `75.5–86.1`, of MCC `-0.02–0.31`."""
    return f"{100 * low:.1f}–{100 * high:.1f}" if is_percentage(metric) else f"{low:.2f}–{high:.2f}"


def format_change(value: float | None) -> str:
    """Format a difference with its sign and two decimals: `+0.12`."""
    return UNMEASURED if value is None else f"{value:+.2f}"


def format_integer(value: float | None) -> str:
    """Format a number without decimals and with commas between thousands: `12,345`."""
    return UNMEASURED if value is None else f"{value:,.0f}"


def format_number(value: float | None) -> str:
    """Format a number with one decimal below 100 and without decimals from 100 on."""
    if value is None:
        return UNMEASURED
    return f"{value:.1f}" if value < 100 else f"{value:.0f}"


def format_count(value: float | None) -> str:
    """Format a count with two or three digits and a suffix for thousands: 278528 → `279k`."""
    return _format_scaled(value, 1000, ("", "k", "M", "G"))


def format_bytes(value: float | None) -> str:
    """Format bytes with two or three digits and a binary suffix: 1127687 → `1.1M`."""
    return _format_scaled(value, 1024, ("B", "K", "M", "G"))


def format_seconds(value: float | None) -> str:
    """Format seconds in the unit with the fewest digits: 5400 → `90 min`."""
    if value is None:
        return UNMEASURED
    if 0 < value < 5e-5:
        return "<0.1 ms"
    unit = "ms" if value < 0.9995 else "s" if value < 120 else "min" if value < 7200 else "h" if value < 172800 else "d"
    scaled = value / SECONDS_PER_UNIT[unit]
    needs_decimal = 0 < scaled < (1 if unit == "ms" else 10)
    return f"{scaled:.1f} {unit}" if needs_decimal else f"{scaled:,.0f} {unit}"


def round_up_to_two_digits(value: float) -> int:
    """Round up to an integer with two significant digits: 8765 → 8800."""
    scale = 10 ** max(len(str(int(value))) - 2, 0)
    return int(math.ceil(value / scale) * scale)


def _parse_amount(text: str, units: dict[str, float] | dict[str, int], problem: str) -> float:
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([a-z]*)\s*", text.lower())
    if not match or match[2] not in units:
        raise ValueError(problem)
    return float(match[1]) * units[match[2]]


def _format_scaled(value: float | None, base: int, suffixes: tuple[str, ...]) -> str:
    if value is None:
        return UNMEASURED
    power = min(int(math.log(value, base)) if value >= 1 else 0, len(suffixes) - 1)
    scaled = value / base**power
    return f"{scaled:.1f}{suffixes[power]}" if power and scaled < 10 else f"{scaled:.0f}{suffixes[power]}"
