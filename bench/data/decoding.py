"""Text of a file in UTF-8, UTF-16, UTF-32 or the Korean encoding cp949."""

from __future__ import annotations

import codecs
import re
import shlex
from pathlib import Path

from bench.errors import UserError
from bench.i18n import Message

SAVE_AS_CSV = "open it in the spreadsheet program and save it as CSV UTF-8"
_SIGNATURES = (
    (b"PK\x03\x04", "an Excel workbook or another zip archive", "if it is a workbook, rename it to NAME.xlsx"),
    (b"\xd0\xcf\x11\xe0", "an old or encrypted Excel workbook", f"{SAVE_AS_CSV}, without a password"),
    (b"PAR1", "a Parquet file", "rename it to NAME.parquet"),
    (b"\x1f\x8b", "compressed with gzip", "unpack it: gunzip"),
    (b"\x28\xb5\x2f\xfd", "compressed with zstd", "unpack it: unzstd"),
    (b"BZh", "compressed with bzip2", "unpack it: bunzip2"),
    (b"%PDF", "a PDF document", "export the rows as CSV"),
    (b"SQLite format 3", "an SQLite database", "export the rows as CSV"),
    (b"version https://git-lfs", "a pointer of Git LFS", "fetch the data: git lfs pull"),
)
_MARKUP_BEGINNINGS = (b"<!doctype", b"<html", b"<head", b"<body", b"<table", b"<meta", b"<?xml")
_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
"""Byte order marks; those of UTF-32 come first because that of UTF-16 begins like one of them."""
_HANGUL = re.compile(r"[가-힣ㄱ-ㆎ]")
_COMMON_SYLLABLES = frozenset(
    "이다는가에을의하고지은로를한어도서자나리기사아시대니요있으해그들인만수라일정스주게면보부여안습없했것상예"
)
_FIRST_KS_X_1001_BYTE = 0xA1
MIN_COMMON_SHARE = 0.06
"""Share of the Hangul that are common syllables; about half in Korean, and 2 % in other encodings read as cp949."""
MIN_HANGUL_SHARE = 0.5
"""Share of the letters outside ASCII that are Hangul in a text that is really cp949."""
MAX_RARE_SHARE = 0.1
"""Share of the Hangul that only cp949 has, and not the older KS X 1001; other encodings read as cp949 have more."""
MAX_ZERO_SHARE = 0.01
"""Share of zero bytes from which a text may be UTF-16 without a mark."""


def read_text(path: Path) -> tuple[str, list[str]]:
    """Return a file's text without a byte order mark, and a note if it is not in UTF-8.

    Raises:
        UserError: The file is of another type than its name says, or is in none of the known encodings.
    """
    content = path.read_bytes()
    check_signature(content, path)
    encoding = _marked_encoding(content)
    if encoding is None:
        encoding = _utf_16_without_mark(content)
        if encoding is None:
            _check_zero_bytes(content, path)
    try:
        text = content.decode(encoding or "utf-8-sig").removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        if encoding is not None:
            raise UserError(
                f"marked as {encoding.upper()}, but not valid in it: {error.reason}",
                location=f"{path}, byte {error.start}",
                hint="copy or export the file again",
            ) from None
        encoding, text = "cp949", _decode_korean(content, path, error)
    if encoding is None:
        return text, []
    if encoding == "cp949":
        note = Message("{file} was read as cp949, the encoding of Korean Windows, and not as UTF-8", file=path.name)
    else:
        note = Message("{file} was read as {encoding} and not as UTF-8", file=path.name, encoding=encoding.upper())
    return text, [note]


def check_signature(content: bytes, path: Path) -> None:
    """Raise `UserError` for a file that is of another type than its name says."""
    beginning = content[:256].removeprefix(codecs.BOM_UTF8).lstrip().lower()
    for signature, kind, hint in _SIGNATURES:
        if content.startswith(signature):
            raise UserError(f"not {path.suffix}: the file is {kind}", location=str(path), hint=hint)
    if beginning.startswith(_MARKUP_BEGINNINGS):
        hint = f"it may be an error page of a download; if it is a spreadsheet, {SAVE_AS_CSV}"
        raise UserError(f"not {path.suffix}: the file is HTML or XML", location=str(path), hint=hint)


def _marked_encoding(content: bytes) -> str | None:
    return next((encoding for mark, encoding in _MARKS if content.startswith(mark)), None)


def _utf_16_without_mark(content: bytes) -> str | None:
    """Return the encoding of UTF-16 without a byte order mark; None for another encoding."""
    zeros = {"utf-16be": content[::2].count(0), "utf-16le": content[1::2].count(0)}
    encoding = max(zeros, key=lambda name: zeros[name])
    is_utf_16 = zeros[encoding] > max(1, 2 * min(zeros.values()), len(content) * MAX_ZERO_SHARE)
    return encoding if is_utf_16 and _decode(content, encoding) is not None else None


def _check_zero_bytes(content: bytes, path: Path) -> None:
    """Raise `UserError` for zero bytes, which interrupted copies contain."""
    position = content.find(b"\0")
    if position < 0:
        return
    num_zeros, num_trailing = content.count(b"\0"), len(content) - len(content.rstrip(b"\0\r\n"))
    where = "at its end, as after an interrupted copy" if position >= len(content) - num_trailing else "in it"
    command = f"tr -d '\\000' < {shlex.quote(str(path))} > {shlex.quote(f'new{path.suffix}')}"
    raise UserError(
        f"the file has {num_zeros} zero bytes {where}",
        location=_byte_location(content, path, position),
        hint=f"copy the file again, or remove them: {command}",
    )


def _decode_korean(content: bytes, path: Path, error: UnicodeDecodeError) -> str:
    """Return the text of a file in cp949.

    Args:
        content: The bytes of the file, which are not valid UTF-8.
        path: The file, for messages.
        error: The error of reading it as UTF-8.

    Raises:
        UserError: Some lines are UTF-8, or the file is not cp949 either.
    """
    location = _byte_location(content, path, error.start)
    if _has_utf_8_lines(content):
        hint = "some lines are UTF-8 and some are not: correct these, or export the file again"
        raise UserError("not UTF-8", location=location, hint=hint)
    text = _decode(content, "cp949")
    if text is not None and _is_korean(text):
        return text
    readable = content.decode("cp949", errors="replace")
    if text is None and _is_korean(readable):
        broken = readable.index("\ufffd")
        raise UserError(
            "neither UTF-8 nor cp949, the encoding of Korean Windows, but nearly the latter: a character is broken",
            location=f"{path}:{readable.count(chr(10), 0, broken) + 1}",
            hint="correct this line, or export the file again as UTF-8",
        )
    hint = "save it as UTF-8 in the program that made it"
    if text is not None:
        hint += f"; if that is Korean: iconv -f cp949 -t utf-8 {shlex.quote(str(path))} > new{path.suffix}"
    raise UserError("not UTF-8", location=location, hint=hint)


def _has_utf_8_lines(content: bytes) -> bool:
    """Tell if some lines can only be UTF-8, beside others that are not.

    Two bytes of cp949 may be valid UTF-8 by chance; three are not.
    """
    lines = (_decode(line, "utf-8") for line in content.split(b"\n") if not line.isascii())
    return any(line is not None and max(line) >= "\u0800" for line in lines)


def _is_korean(text: str) -> bool:
    """Tell if a text that was decoded as cp949 is Korean, and not another encoding."""
    letters = [char for char in text if not char.isascii() and char != "\ufffd" and char.isalpha()]
    hangul = [char for char in letters if _HANGUL.match(char)]
    num_common = sum(char in _COMMON_SYLLABLES for char in hangul)
    num_rare = sum(min(char.encode("cp949")) < _FIRST_KS_X_1001_BYTE for char in hangul)
    return (
        bool(hangul)
        and len(hangul) >= MIN_HANGUL_SHARE * len(letters)
        and num_common >= MIN_COMMON_SHARE * len(hangul)
        and num_rare <= MAX_RARE_SHARE * len(hangul)
    )


def _byte_location(content: bytes, path: Path, position: int) -> str:
    return f"{path}:{content.count(bytes([10]), 0, position) + 1}, byte {position}"


def _decode(content: bytes, encoding: str) -> str | None:
    """Return decoded bytes; None if they are not valid in the encoding."""
    try:
        return content.decode(encoding)
    except UnicodeDecodeError:
        return None
