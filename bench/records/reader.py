"""Records of many files, read on all cores: headers whole, samples as columns."""

from __future__ import annotations

import gc
import os
from array import array
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple, overload

import msgspec
from pydantic import ValidationError

from bench.errors import UserError
from bench.records.record import Record
from bench.records.samples import Sample, Samples, digest_answers

SHELF = 50  # files that a process reads at a time
FEW = 2 * SHELF  # files for which no process is worth its start

Ids = tuple[str, ...]


class _Sample(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """A sample of `bench.samples` as a file has it, checked as it is parsed, in a tenth of the time."""

    id: str
    references: tuple[str, ...]
    raw: str
    answer: str | None
    scores: dict[str, float]


class _Task(msgspec.Struct):
    metric: str


class _Spec(msgspec.Struct):
    task: _Task


_HEADER = [field.alias or name for name, field in Record.model_fields.items() if name != "samples"]
_HEADER += ["asked"]  # the name of `command` in schema 1
_Whole = msgspec.defstruct(
    "_Whole",
    [("samples", list[_Sample]), *((name, msgspec.Raw, msgspec.Raw()) for name in _HEADER)],
    forbid_unknown_fields=True,
    kw_only=True,
    gc=False,
)
_whole: msgspec.json.Decoder[Any] = msgspec.json.Decoder(_Whole)
_spec = msgspec.json.Decoder(_Spec)


class Page(NamedTuple):
    """What is kept of a record's file: its header as it stands there, and of its samples what tells them apart."""

    header: bytes
    ids: Ids
    said: bytes
    metric: str
    scores: array[float]


def read_files(files: Sequence[Path]) -> Iterator[Record]:
    """The record of each file, in their order; raises `UserError` at the first that is none of this version."""
    kept: dict[Ids, Ids] = {}  # all records of a task answer the very same questions
    with _standing():
        for file, page in zip(files, _pages(files), strict=True):
            yield _record(file, page, kept) if page else read_file(file)


def read_file(file: Path) -> Record:
    """The record in a file, with all its texts; raises `UserError` if it is none of this version."""
    try:
        return Record.read(file)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or "the file"
        raise UserError(
            f"no record of this version of adaptbench: {place}: {first['msg'].lower()}",
            location=str(file),
            hint="take the file out of the folder, or read it with the version that wrote it",
        ) from None


def _record(file: Path, page: Page, kept: dict[Ids, Ids]) -> Record:
    """A record whose texts stay in its file."""
    try:
        record = Record.from_json(page.header)
    except ValidationError:
        return read_file(file)  # which refuses it
    ids, whole = kept.setdefault(page.ids, page.ids), partial(_Texts.of, file, page.said)
    return record.model_copy(update={"samples": Samples(ids, page.said, {page.metric: page.scores}, whole)})


class _Texts(Sequence[Sample]):
    """The samples of a file; one becomes a `Sample` when it is looked at."""

    def __init__(self, parsed: Sequence[_Sample]) -> None:
        self._parsed = parsed

    @classmethod
    def of(cls, file: Path, said: bytes) -> _Texts:
        """Raises `UserError` where they are not those that were read before."""
        try:
            parsed: list[_Sample] = _whole.decode(file.read_bytes()).samples
        except (OSError, msgspec.MsgspecError, UnicodeDecodeError):
            parsed = []
        if digest_answers([one.raw for one in parsed]) != said:
            raise UserError(
                "the record changed while it was read", location=str(file), hint="read it when its run is over"
            )
        return cls(parsed)

    def __len__(self) -> int:
        return len(self._parsed)

    @overload
    def __getitem__(self, place: int) -> Sample: ...
    @overload
    def __getitem__(self, place: slice) -> Sequence[Sample]: ...
    def __getitem__(self, place: int | slice) -> Sample | Sequence[Sample]:
        if isinstance(place, slice):
            return [self[one] for one in range(*place.indices(len(self)))]
        return Sample.model_construct(**msgspec.structs.asdict(self._parsed[place]))  # checked when it was parsed


def _pages(files: Sequence[Path]) -> Iterator[Page | None]:
    cores = len(os.sched_getaffinity(0))
    if len(files) <= FEW or cores == 1:
        yield from _shelf(files)
        return
    shelves = [files[first : first + SHELF] for first in range(0, len(files), SHELF)]
    with ProcessPoolExecutor(cores, get_context("fork")) as pool:
        for shelf in pool.map(_shelf, shelves):
            yield from shelf


def _shelf(files: Sequence[Path]) -> list[Page | None]:
    kept: dict[Ids, Ids] = {}
    with _standing():
        return [_page(file.read_bytes(), kept) for file in files]


def _page(content: bytes, kept: dict[Ids, Ids]) -> Page | None:
    """What is kept of a file; None where its samples are not as they should be."""
    try:
        whole = _whole.decode(content)
        metric = _spec.decode(whole.spec).task.metric
        samples: list[_Sample] = whole.samples
        scores = array("d", [one.scores[metric] for one in samples])
    except (msgspec.MsgspecError, UnicodeDecodeError, KeyError):
        return None
    ids, said = tuple([one.id for one in samples]), digest_answers([one.raw for one in samples])
    header = [b'"%b":%b' % (name.encode(), raw) for name in _HEADER if (raw := bytes(getattr(whole, name)))]
    return Page(b"{%b}" % b",".join([*header, b'"samples":[]']), kept.setdefault(ids, ids), said, metric, scores)


@contextmanager
def _standing() -> Iterator[None]:
    """Spare what is read from the collector of cycles: it has none, and stays to the end."""
    there = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if there:
            gc.enable()
