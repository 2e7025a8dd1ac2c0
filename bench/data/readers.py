"""Rows of a file as people have them, in the shapes that fine-tuning data come in: what is asked, what is wanted."""

from __future__ import annotations

import codecs
import csv
import json
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from bench import hub
from bench.data.text import match_key, plain
from bench.errors import UserError, did_you_mean

FIELD_LIMIT = 10_000_000


@dataclass(frozen=True)
class SourceRow:
    """One row: where it stands, what is asked, which answers are accepted."""

    location: str
    input: str
    targets: tuple[str, ...]
    rationale: str | None = None


@dataclass(frozen=True)
class RowSource:
    """All rows of a file, and how they were understood."""

    shape: str
    rows: tuple[SourceRow, ...]
    instruction: str | None
    """The same for all rows, if there is one."""


Unpack = Callable[[dict[str, Any]], tuple[Any, Any, str | None]]
"""A row's input, its target or targets, and its instruction."""


def read_source(text: str, input: str | None = None, target: str | None = None) -> RowSource:
    """The rows of `data.jsonl`, `.json`, `.csv`, `.tsv` or `.parquet`, or of a hub's data set: `hf:NAME[@revision]`.

    `input` and `target` name columns; without them the shape is told from the keys. Raises `UserError` where the source
    cannot be read, its shape is not known, or a row has no text where one is needed.
    """
    rows = list(_hub(text.removeprefix("hf:")) if text.startswith("hf:") else _file(Path(text)))
    if not rows:
        raise UserError(f"{text}: no rows", hint="one example per row, with what is asked and what is wanted")
    shape, unpack = _shape(rows[0][1], text, input, target)
    pairs, instructions = [], set()
    for where, row in rows:
        asked, wanted, instruction = unpack(row)
        targets = wanted if isinstance(wanted, list) else [wanted]
        for name, value in [("input", asked), *(("target", one) for one in targets or [None])]:
            if not isinstance(value, str) or not value.strip():
                told = "is empty" if value in (None, "") or isinstance(value, str) else f"is {value!r}, no text"
                raise UserError(f"the {name} {told}", location=where, hint="fill it in, or drop the row")
        pairs.append(SourceRow(where, asked, tuple(targets)))
        instructions.add(instruction)
    common = instructions.pop() if len(instructions) == 1 else None
    if common is None and instructions:
        # Instructions that differ are part of what is asked.
        pairs = [
            SourceRow(pair.location, "\n".join(filter(None, [unpack(row)[2], pair.input])), pair.targets)
            for pair, (_, row) in zip(pairs, rows, strict=True)
        ]
    return RowSource(shape, tuple(pairs), common)


def deduplicate(pairs: Sequence[SourceRow]) -> tuple[list[SourceRow], int]:
    """Every question once, with all its answers, without what nobody sees; and how many rows were cleaned of that."""
    first: dict[str, SourceRow] = {}
    answers: dict[str, list[str]] = defaultdict(list)
    changed = 0
    for pair in pairs:
        asked, wanted = plain(pair.input), [plain(target) for target in pair.targets]
        changed += asked != pair.input or wanted != list(pair.targets)
        place = match_key(asked)
        first.setdefault(place, replace(pair, input=asked))
        answers[place] += [target for target in dict.fromkeys(wanted) if target not in answers[place]]
    return [replace(pair, targets=tuple(answers[place])) for place, pair in first.items()], changed


def _shape(row: dict[str, Any], text: str, input: str | None, target: str | None) -> tuple[str, Unpack]:
    """How a row is to be understood, by its keys."""
    if input or target:
        asked, wanted = input or "input", target or "target"
        for name, option in ((asked, "--input"), (wanted, "--target")):
            if name not in row:
                raise UserError(f"{option} {name}: {text} has no such column", hint=did_you_mean(name, row))
        return f"{asked} → {wanted}", lambda row: (row.get(asked), row.get(wanted), None)
    if "messages" in row:
        return "messages", _messages
    if "contents" in row:
        return "contents (Gemini)", _contents
    if {"instruction", "output"} <= set(row):
        return "instruction, input → output", _instruction
    for asked, wanted in (("question", "answer"), ("prompt", "completion"), ("input", "target"), ("text", "label")):
        if {asked, wanted} <= set(row):
            return _shape(row, text, asked, wanted)
    raise UserError(
        f"{text}: which column is asked and which is wanted? It has {', '.join(map(str, row))}",
        hint="say so: --input COLUMN --target COLUMN",
    )


def _messages(row: dict[str, Any]) -> tuple[str, Any, str | None]:
    """A conversation: the last answer is wanted, what was said before is asked."""
    said = [(str(turn.get("role")), turn.get("content")) for turn in row["messages"] or []]
    system = next((content for role, content in said if role == "system"), None)
    turns = [str(content) for role, content in said if role != "system"]
    return "\n".join(turns[:-1]), turns[-1] if turns else None, system


def _contents(row: dict[str, Any]) -> tuple[str, Any, str | None]:
    """Gemini's tuning format: parts of texts by turns."""

    def text(turn: Any) -> str:
        return "".join(part.get("text", "") for part in (turn or {}).get("parts", []))

    turns = [text(turn) for turn in row["contents"] or []]
    system = row.get("systemInstruction") or row.get("system_instruction")
    return "\n".join(turns[:-1]), turns[-1] if turns else None, text(system) or None


def _instruction(row: dict[str, Any]) -> tuple[str, Any, str | None]:
    """Alpaca's format: an instruction, and often an input it is about."""
    if (row.get("input") or "").strip():
        return row["input"], row["output"], row["instruction"]
    return row["instruction"], row["output"], None


def _file(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    if not path.is_file():
        raise UserError(f"--from {path}: no such file", hint="a .jsonl, .json, .csv, .tsv or .parquet file, or hf:NAME")
    suffix = path.suffix.lower()
    if suffix == ".parquet":
        import pyarrow.parquet

        try:
            table = pyarrow.parquet.ParquetFile(path)
            _check_head(table.schema_arrow.names, str(path))
            rows = table.read().to_pylist()
        except (OSError, ValueError) as error:
            raise UserError(f"no Parquet: {str(error).partition(chr(10))[0]}", location=str(path)) from None
        yield from _dicts(path, rows)
    elif suffix in (".csv", ".tsv"):
        yield from _table(path, "\t" if suffix == ".tsv" else ",")
    elif suffix in (".jsonl", ".ndjson"):
        lines = enumerate(_text(path).split("\n"), start=1)
        yield from ((f"{path}:{number}", _json(line, f"{path}:{number}")) for number, line in lines if line.strip())
    elif suffix == ".json":
        whole = _json(_text(path), str(path), list)
        yield from _dicts(path, whole)
    else:
        raise UserError(f"--from {path}: not a .jsonl, .json, .csv, .tsv or .parquet file")


def _table(path: Path, delimiter: str) -> Iterator[tuple[str, dict[str, Any]]]:
    csv.field_size_limit(FIELD_LIMIT)
    lines = csv.reader(_text(path).splitlines(keepends=True), delimiter=delimiter, strict=True)
    try:
        head = next(lines, [])
        _check_head(head, f"{path}:1")
        for cells in lines:
            if cells:
                if len(cells) != len(head):
                    raise UserError(
                        f"{len(cells)} cells where the head has {len(head)}",
                        location=f"{path}:{lines.line_num}",
                        hint='a comma or a line break inside a text needs quotes around the text: "a, b"',
                    )
                yield f"{path}:{lines.line_num}", dict(zip(head, cells, strict=True))
    except csv.Error as error:
        raise UserError(
            f"no table: {error}", location=f"{path}:{lines.line_num}", hint="save it as CSV in UTF-8"
        ) from None


def _check_head(names: Sequence[str], where: str) -> None:
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise UserError(f"two columns have one name: '{twice}'", location=where, hint="rename or drop one of them")


def _text(path: Path) -> str:
    """A file's text, a byte order mark left off."""
    content = path.read_bytes()
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        where = f"{path}:{line}, byte {error.start}"
        raise UserError("not UTF-8", location=where, hint=_encoding(content, path)) from None


def _encoding(content: bytes, path: Path) -> str:
    """How a file that is no UTF-8 may be mended: by what it can be read as from end to end."""
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return f"iconv -f utf-16 -t utf-8 {path} > new{path.suffix}, since it says that it is UTF-16"
    lines = content.split(b"\n")
    if any(_reads(line, "utf-8") and not line.isascii() for line in lines):
        return "some of its lines are UTF-8 and some are not: mend these, or make the file anew from its sources"
    if _reads(content, "cp949"):
        return f"iconv -f cp949 -t utf-8 {path} > new{path.suffix}, if a Korean spreadsheet saved it"
    return "save it as UTF-8 where it was made"


def _reads(content: bytes, encoding: str) -> bool:
    try:
        content.decode(encoding)
    except UnicodeDecodeError:
        return False
    return True


def _json(line: str, where: str, kind: type = dict) -> Any:
    try:
        found = json.loads(line, object_pairs_hook=_single)
    except ValueError as error:
        raise UserError(f"not valid JSON: {error}", location=where) from None
    if not isinstance(found, kind):
        raise UserError(f"a JSON {'object' if kind is dict else 'list of objects'} is wanted here", location=where)
    return found


def _single(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object, unless a key of it stands twice: one of the two would be lost."""
    made = dict(pairs)
    if len(made) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"the key '{next(name for name in names if names.count(name) > 1)}' stands twice")
    return made


def _dicts(path: Path, rows: Sequence[Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for number, row in enumerate(rows, start=1):
        if not isinstance(row, dict):
            raise UserError("a row must be an object with keys", location=f"{path}, row {number}")
        yield f"{path}, row {number}", row


def _hub(text: str) -> Iterator[tuple[str, dict[str, Any]]]:
    name, _, revision = text.partition("@")
    (found,) = hub.fetch_dataset(name, None, revision or None, ["train"])
    for number, row in enumerate(found, start=1):
        yield f"hf:{text}, row {number}", dict(row)
