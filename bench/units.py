"""Amounts as people write them: `2GiB`, `10min`, `279k`; read into plain numbers and written as short as is honest."""

from __future__ import annotations

import math
import re

BYTES = {"b": 1, "": 1, "kib": 2**10, "mib": 2**20, "gib": 2**30, "kb": 10**3, "mb": 10**6, "gb": 10**9}
SECONDS = {"ms": 1e-3, "s": 1, "": 1, "min": 60, "h": 3600, "d": 86400}
UNMEASURED = "–"


def parse_bytes(text: str) -> int:
    """Bytes of `2GiB`, `500 MB` or a plain number; raises `ValueError`."""
    return int(_amount(text, BYTES, "not an amount of memory such as 2GiB or 500MB"))


def parse_seconds(text: str) -> float:
    """Seconds of `200ms`, `10 min` or a plain number; raises `ValueError`."""
    return _amount(text, SECONDS, "not a time such as 200ms, 90s, 10min or 2h")


def decimal(value: float | None) -> str:
    """A score or a share."""
    return UNMEASURED if value is None else f"{value:.3f}"


def signed(value: float | None) -> str:
    """A change, with its sign."""
    return UNMEASURED if value is None else f"{value:+.2f}"


def whole(value: float | None) -> str:
    """Without a decimal, thousands parted."""
    return UNMEASURED if value is None else f"{value:,.0f}"


def figures(value: float | None) -> str:
    """With a decimal where it says something."""
    return UNMEASURED if value is None else f"{value:.1f}" if value < 100 else f"{value:.0f}"


def count(value: float | None) -> str:
    """Two or three digits and a thousand's letter: 278528 → 279k."""
    return _short(value, 1000, ("", "k", "M", "G"))


def size(value: float | None) -> str:
    """Bytes with two or three digits: 1127687 → 1.1M."""
    return _short(value, 1024, ("B", "K", "M", "G"))


def time(value: float | None) -> str:
    """Seconds in the unit that leaves few digits: 0.12 → 120 ms, 5400 → 1.5 h."""
    if value is None:
        return UNMEASURED
    unit = "ms" if value < 1 else "s" if value < 120 else "min" if value < 7200 else "h" if value < 172800 else "d"
    scaled = value / SECONDS[unit]
    if 0 < value < 5e-5:
        return "<0.1 ms"
    fine = 0 < scaled < (1 if unit == "ms" else 10)
    return f"{scaled:.1f} {unit}" if fine else f"{scaled:,.0f} {unit}"


def about(value: float) -> int:
    """A whole number of which two digits are worth telling, rounded up: 8765 → 8800."""
    scale = 10 ** max(len(str(int(value))) - 2, 0)
    return int(math.ceil(value / scale) * scale)


def _amount(text: str, units: dict[str, float] | dict[str, int], complaint: str) -> float:
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([a-z]*)\s*", text.lower())
    if not found or found[2] not in units:
        raise ValueError(complaint)
    return float(found[1]) * units[found[2]]


def _short(value: float | None, base: int, units: tuple[str, ...]) -> str:
    if value is None:
        return UNMEASURED
    power = min(int(math.log(value, base)) if value >= 1 else 0, len(units) - 1)
    scaled = value / base**power
    return f"{scaled:.1f}{units[power]}" if power and scaled < 10 else f"{scaled:.0f}{units[power]}"
