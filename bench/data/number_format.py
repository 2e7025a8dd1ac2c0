"""Numbers and dates as the cell of a spreadsheet shows them, by its number format."""

from __future__ import annotations

import datetime
import re
from decimal import ROUND_HALF_UP, Decimal

SIGNIFICANT_DIGITS = 15
"""Digits of a number that a spreadsheet program keeps."""
_BUILT_IN_SHORT_DATE = "mm-dd-yy"
"""The format of dates that follow the language of the computer; written as ISO 8601 here."""
_TOKENS = re.compile(
    r'"(?P<quoted>[^"]*)"|\\(?P<escaped>.)|_.|\*.|\[\$(?P<currency>[^\]-]*)[^\]]*\]|\[(?P<elapsed>h+|m+|s+)\]|\[[^\]]*\]'
    r"|(?P<half>AM/PM|am/pm|A/P)|(?P<era>e+)|(?P<date>y+|m+|d+|h+|s+(?:\.0+)?|a{3,4})|(?P<number>[0#?][0#?,]*(?:\.[0#?]*)?|\.[0#?]+)|(?P<literal>.)",
    re.IGNORECASE,
)
_WEEKDAYS = ("월", "화", "수", "목", "금", "토", "일")
_KOREAN_LOCALE = "-412]"
_HALF_DAYS = (("AM", "PM"), ("오전", "오후"))
Time = datetime.datetime | datetime.date | datetime.time | datetime.timedelta


def show_cell(value: bool | int | float | Time, number_format: str) -> str:
    """Return a value as its cell shows it; in a plain form if the format is not known."""
    if isinstance(value, bool):
        return "TRUE" if value else "FALSE"
    if isinstance(value, int | float):
        return _show_number(value, number_format)
    return _show_time(value, number_format)


def _show_number(value: float, number_format: str) -> str:
    """Return a number with the digits, percent sign, separators and texts of its format."""
    sections = _split_sections(number_format)
    if len(sections) > 1 and value < 0:
        section, amount = sections[1], Decimal(repr(abs(value)))
    else:
        section = sections[2] if len(sections) > 2 and value == 0 else sections[0]
        amount = Decimal(repr(value))
    tokens = list(_TOKENS.finditer(section))
    patterns = [token["number"] for token in tokens if token["number"]]
    if not patterns and any(token["quoted"] for token in tokens):
        return "".join(map(_literal_text, tokens)).strip()
    if not patterns or any(token["date"] or token["era"] or token["literal"] == "/" for token in tokens):
        return _plain_number(value)
    amount *= 100 ** sum(token["literal"] == "%" for token in tokens)
    if len(patterns) > 1:
        return _fill_pattern(tokens, amount) or _plain_number(value)
    sign = "-" if amount < 0 else ""
    texts = [
        _format_digits(abs(amount), token["number"]) if token["number"] else _literal_text(token) for token in tokens
    ]
    return (sign + "".join(texts)).strip()


def _format_digits(amount: Decimal, pattern: str) -> str:
    """Return the digits of a positive number by a pattern such as `#,##0.00`."""
    whole, _, decimals = pattern.partition(".")
    amount /= 1000 ** (len(whole) - len(whole.rstrip(",")))
    rounded = amount.quantize(Decimal(1).scaleb(-len(decimals)), rounding=ROUND_HALF_UP)
    digits, _, fraction = f"{rounded:f}".partition(".")
    min_decimals = len(decimals.rstrip("#?"))
    fraction = fraction[:min_decimals] + fraction[min_decimals:].rstrip("0")
    digits = digits.lstrip("0").rjust(sum(char == "0" for char in whole), "0")
    if "," in whole.rstrip(","):
        digits = f"{int(digits):,}" if digits else ""
    return f"{digits}.{fraction}" if fraction else digits


def _fill_pattern(tokens: list[re.Match[str]], amount: Decimal) -> str | None:
    """Return a whole number in a pattern such as `000-0000-0000`; None for others."""
    if amount != int(amount) or amount < 0:
        return None
    num_places = sum(len(token["number"]) for token in tokens if token["number"])
    digits = str(int(amount)).rjust(num_places, "0")
    position = len(digits) - num_places
    text = ""
    for token in tokens:
        if not token["number"]:
            text += _literal_text(token)
            continue
        start = 0 if not position or _has_no_digit(text) else position
        text += digits[start : position + len(token["number"])]
        position += len(token["number"])
    return text


def _has_no_digit(text: str) -> bool:
    """Tell if no digit has been written yet."""
    return not any(map(str.isdigit, text))


def _show_time(value: Time, number_format: str) -> str:
    """Return a date or a time in its format; in ISO 8601 if a part is not known."""
    if isinstance(value, datetime.timedelta):
        minutes, seconds = divmod(round(value.total_seconds()), 60)
        return f"{minutes // 60}:{minutes % 60:02}:{seconds:02}"
    section = _split_sections(number_format)[0]
    tokens = list(_TOKENS.finditer(section))
    if section.lower() in (_BUILT_IN_SHORT_DATE, "general") or not any(token["date"] for token in tokens):
        return _plain_time(value)
    if any(token["era"] or token["number"] or token["elapsed"] for token in tokens):
        return _plain_time(value)
    moment = _full_moment(value)
    has_half = any(token["half"] for token in tokens)
    is_korean = _KOREAN_LOCALE in section
    parts = [token["date"] and token["date"].lower() for token in tokens]
    text = ""
    for index, token in enumerate(tokens):
        if token["half"]:
            text += _HALF_DAYS[is_korean][moment.hour >= 12]
        elif part := parts[index]:
            text += _time_part(moment, part, has_half, is_korean, is_minute=_is_minute(parts, index))
        else:
            text += _literal_text(token)
    return text.strip()


def _is_minute(parts: list[str | None], index: int) -> bool:
    """Tell if an `m` is minutes, as after hours or before seconds, and not months."""
    before = next((part for part in reversed(parts[:index]) if part), "")
    after = next((part for part in parts[index + 1 :] if part), "")
    return before[:1] == "h" or after[:1] == "s"


def _time_part(moment: datetime.datetime, part: str, has_half: bool, is_korean: bool, *, is_minute: bool) -> str:
    """Return one part of a date or a time, such as `yyyy` or `hh`."""
    if part[0] == "a" or (is_korean and part in ("ddd", "dddd")):
        return _WEEKDAYS[moment.weekday()] + ("요일" if len(part) > 3 else "")
    if part[0] == "m" and len(part) > 2 and not is_minute:
        return moment.strftime("%b" if len(part) == 3 else "%B")
    if part[0] == "d" and len(part) > 2:
        return moment.strftime("%a" if len(part) == 3 else "%A")
    if part[0] == "y":
        return f"{moment.year:04}" if len(part) > 2 else f"{moment.year % 100:02}"
    hour = (moment.hour % 12 or 12) if has_half else moment.hour
    numbers = {"m": moment.minute if is_minute else moment.month, "d": moment.day, "h": hour, "s": moment.second}
    number = numbers[part[0]]
    return f"{number:02}" if len(part.partition(".")[0]) > 1 else str(number)


def _full_moment(value: Time) -> datetime.datetime:
    """Return a date or a time as date and time."""
    if isinstance(value, datetime.datetime):
        return value
    if isinstance(value, datetime.date):
        return datetime.datetime.combine(value, datetime.time())
    assert isinstance(value, datetime.time)
    return datetime.datetime.combine(datetime.date(1900, 1, 1), value)


def _plain_number(value: float) -> str:
    """Return a number without a format: 15 digits, no zeros behind the last decimal."""
    if value == int(value) and abs(value) < 10**SIGNIFICANT_DIGITS:
        return str(int(value))
    return f"{value:.{SIGNIFICANT_DIGITS}g}" if isinstance(value, float) else str(value)


def _plain_time(value: Time) -> str:
    """Return a date or a time in ISO 8601, without a time of midnight."""
    if isinstance(value, datetime.datetime):
        return str(value.date()) if value.time() == datetime.time() else str(value.replace(microsecond=0))
    return str(value)


def _literal_text(token: re.Match[str]) -> str:
    """Return the text that a part of a format other than digits and dates stands for."""
    return token["quoted"] or token["escaped"] or token["currency"] or token["literal"] or ""


def _split_sections(number_format: str) -> list[str]:
    """Return the sections of a format: for positive numbers, negative numbers, and zero."""
    return re.findall(r'((?:"[^"]*"|\\.|[^;])*)(?:;|$)', number_format)[:3] or ["General"]
