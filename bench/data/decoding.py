"""Text of a file in UTF-8, UTF-16, UTF-32 or the Korean encoding cp949."""

from __future__ import annotations

import codecs
import re
import shlex
from pathlib import Path

from bench.errors import UserError
from bench.i18n import Message

SAVE_AS_CSV = Message("open it in the spreadsheet program and save it as CSV UTF-8")
_SIGNATURES = (
    (
        b"PK\x03\x04",
        Message("an Excel workbook or another zip archive"),
        Message("if it is a workbook, rename it to NAME.xlsx"),
    ),
    (
        b"\xd0\xcf\x11\xe0",
        Message("an old or encrypted Excel workbook"),
        Message("{advice}, without a password", advice=SAVE_AS_CSV),
    ),
    (b"PAR1", Message("a Parquet file"), Message("rename it to NAME.parquet")),
    (b"\x1f\x8b", Message("compressed with gzip"), Message("unpack it: {command}", command="gunzip")),
    (b"\x28\xb5\x2f\xfd", Message("compressed with zstd"), Message("unpack it: {command}", command="unzstd")),
    (b"BZh", Message("compressed with bzip2"), Message("unpack it: {command}", command="bunzip2")),
    (b"%PDF", Message("a PDF document"), Message("export the rows as CSV")),
    (b"SQLite format 3", Message("an SQLite database"), Message("export the rows as CSV")),
    (b"version https://git-lfs", Message("a pointer of Git LFS"), Message("fetch the data: git lfs pull")),
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
                Message(
                    "marked as {encoding}, but not valid in it: {reason}",
                    encoding=encoding.upper(),
                    reason=error.reason,
                ),
                location=Message("{path}, byte {start}", path=path, start=error.start),
                hint=Message("copy or export the file again"),
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
            raise UserError(
                Message("not {suffix}: the file is {kind}", suffix=path.suffix, kind=kind),
                location=str(path),
                hint=hint,
            )
    if beginning.startswith(_MARKUP_BEGINNINGS):
        hint = Message("it may be an error page of a download; if it is a spreadsheet, {advice}", advice=SAVE_AS_CSV)
        raise UserError(
            Message("not {suffix}: the file is HTML or XML", suffix=path.suffix), location=str(path), hint=hint
        )


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
    is_at_end = position >= len(content) - num_trailing
    where = Message("at its end, as after an interrupted copy") if is_at_end else Message("in it")
    command = f"tr -d '\\000' < {shlex.quote(str(path))} > {shlex.quote(f'new{path.suffix}')}"
    raise UserError(
        Message("the file has {number} zero bytes {where}", number=num_zeros, where=where),
        location=_byte_location(content, path, position),
        hint=Message("copy the file again, or remove them: {command}", command=command),
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
        hint = Message("some lines are UTF-8 and some are not: correct these, or export the file again")
        raise UserError(Message("not UTF-8"), location=location, hint=hint)
    text = _decode(content, "cp949")
    if text is not None and _is_korean(text):
        return text
    readable = content.decode("cp949", errors="replace")
    if text is None and _is_korean(readable):
        broken = readable.index("\ufffd")
        raise UserError(
            Message(
                "neither UTF-8 nor cp949, the encoding of Korean Windows, but nearly the latter: a character is broken"
            ),
            location=f"{path}:{readable.count(chr(10), 0, broken) + 1}",
            hint=Message("correct this line, or export the file again as UTF-8"),
        )
    hint = Message("save it as UTF-8 in the program that made it")
    if text is not None:
        command = f"iconv -f cp949 -t utf-8 {shlex.quote(str(path))} > new{path.suffix}"
        hint = Message("{hint}; if that is Korean: {command}", hint=hint, command=command)
    raise UserError(Message("not UTF-8"), location=location, hint=hint)


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
