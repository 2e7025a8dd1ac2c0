"""Fast reader of many record files that leaves the texts of samples on disk."""

from __future__ import annotations

import gc
from array import array
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from functools import cache, partial
from multiprocessing import get_context
from pathlib import Path
from typing import Annotated, Any, NamedTuple, overload

import msgspec
from pydantic import ValidationError

from bench.cpu import available_cores
from bench.errors import UserError
from bench.i18n import Message
from bench.records.base import describe_error
from bench.records.files import read_regular_file
from bench.records.labels import AnswerLabels
from bench.records.record import WITHOUT_SAMPLES, Record
from bench.records.samples import (
    AnswerRule,
    Sample,
    Samples,
    answer_metric,
    check_scores,
    digest_answers,
    read_groups,
)
from bench.records.schema_1 import ROOT_NAMES

FILES_PER_BATCH = 50
"""Files that one task of the process pool reads."""
MAX_FILES_WITHOUT_POOL = 2 * FILES_PER_BATCH
"""Up to this number of files, one process is faster than a pool."""

QuestionIds = tuple[str, ...]


_ParsedScore = Annotated[float, msgspec.Meta(ge=0, le=1)]


class _ParsedSample(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """A `Sample` as msgspec parses and checks it, in a tenth of the time that Pydantic takes."""

    id: str
    references: tuple[str, ...]
    raw: str
    answer: str | None
    scores: dict[str, _ParsedScore]
    group: str | None = None


class _ParsedTask(msgspec.Struct):
    metric: str


class _ParsedDecoding(msgspec.Struct):
    stop: tuple[str, ...]


class _ParsedSpec(msgspec.Struct):
    task: _ParsedTask
    decoding: _ParsedDecoding


_HEADER_KEYS = [field.alias or name for name, field in Record.model_fields.items() if name != "samples"]
_HEADER_KEYS += ROOT_NAMES
_ParsedRecord = msgspec.defstruct(
    "_ParsedRecord",
    [("samples", list[_ParsedSample]), *((name, msgspec.Raw, msgspec.Raw()) for name in _HEADER_KEYS)],
    forbid_unknown_fields=True,
    kw_only=True,
    gc=False,
)
_record_decoder: msgspec.json.Decoder[Any] = msgspec.json.Decoder(_ParsedRecord)
_spec_decoder = msgspec.json.Decoder(_ParsedSpec)
_scores_decoder = msgspec.json.Decoder(dict[str, _ParsedScore])
_corpus_values_decoder = msgspec.json.Decoder(dict[str, msgspec.Raw] | None)
_corpus_scores_decoder = msgspec.json.Decoder(dict[str, Annotated[float, msgspec.Meta(ge=-1, le=1)]] | None)


class RecordSummary(NamedTuple):
    """The parts of a record file that stay in memory: all but the texts of its samples."""

    header: bytes
    """The record as JSON, with an empty list of samples."""
    ids: QuestionIds
    digest: bytes
    """Digest of the raw answers (`digest_answers`)."""
    metric: str
    """The main metric, or the score of single answers that stands for it (`answer_metric`)."""
    scores: array[float]
    """That score of each sample."""
    codes: dict[AnswerRule[Any], Any]
    """What metrics of all answers count, by the rule that reads it."""
    groups: tuple[str, ...] | None
    """Group of the question of each sample; None without groups."""


def read_files(files: Sequence[Path]) -> Iterator[Record]:
    """Read record files on all cores, in their order.

    The texts of the samples stay in the files and are read when they are used.

    Raises:
        UserError: At the first file that is not a valid record.
    """
    known_ids: dict[QuestionIds, QuestionIds] = {}  # All records of a task answer the same questions.
    with _gc_disabled():
        for file, summary in zip(files, _summaries(files), strict=True):
            yield _lazy_record(file, summary, known_ids) if summary else read_file(file)


def read_file(file: Path) -> Record:
    """Read a record file with all its samples.

    Raises:
        UserError: If the file is not a valid record; the message names the first invalid field.
    """
    try:
        return Record.read(file)
    except ValidationError as error:
        raise UserError(
            Message("not a valid record for this version of adaptbench: {problem}", problem=describe_error(error)),
            location=str(file),
            hint=Message("move the file out of the folder, or read it with the version that wrote it"),
        ) from None


def _lazy_record(file: Path, summary: RecordSummary, known_ids: dict[QuestionIds, QuestionIds]) -> Record:
    """Return a record that reads its sample texts from the file only when needed."""
    try:
        record = Record.from_json(summary.header, WITHOUT_SAMPLES)
    except ValidationError:
        return read_file(file)  # It raises the error that names the file and the field.
    ids = known_ids.setdefault(summary.ids, summary.ids)
    groups = None if summary.groups is None else known_ids.setdefault(summary.groups, summary.groups)
    load_samples = partial(_LazySamples.load, file, summary.digest)
    samples = Samples(ids, summary.digest, {summary.metric: summary.scores}, load_samples, summary.codes, groups)
    return record.model_copy(update={"samples": samples})


class _LazySamples(Sequence[Sample]):
    """The parsed samples of a file; each becomes a `Sample` when it is accessed."""

    def __init__(self, parsed: Sequence[_ParsedSample]) -> None:
        self._parsed = parsed

    @classmethod
    def load(cls, file: Path, digest: bytes) -> _LazySamples:
        """Read the samples of a file again.

        Raises:
            UserError: If the answers do not have the expected digest.
        """
        try:
            parsed: list[_ParsedSample] = _record_decoder.decode(read_regular_file(file)).samples
        except (UserError, msgspec.MsgspecError, ValueError, RecursionError):
            parsed = []
        if digest_answers([sample.raw for sample in parsed]) != digest:
            raise UserError(
                Message("the record file changed while it was read"),
                location=str(file),
                hint=Message("try again after the run has ended"),
            )
        return cls(parsed)

    def __len__(self) -> int:
        return len(self._parsed)

    @overload
    def __getitem__(self, index: int) -> Sample: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Sample]: ...
    def __getitem__(self, index: int | slice) -> Sample | Sequence[Sample]:
        if isinstance(index, slice):
            return [self[inner] for inner in range(*index.indices(len(self)))]
        # msgspec has checked the types, so Pydantic need not check them again.
        return Sample.model_construct(**msgspec.structs.asdict(self._parsed[index]))


def _summaries(files: Sequence[Path]) -> Iterator[RecordSummary | None]:
    """Yield the summary of each file, in their order; None for an invalid one."""
    cores = available_cores()
    if len(files) <= MAX_FILES_WITHOUT_POOL or cores == 1:
        yield from _summarize_batch(files)
        return
    batches = [files[first : first + FILES_PER_BATCH] for first in range(0, len(files), FILES_PER_BATCH)]
    with ProcessPoolExecutor(cores, get_context("fork")) as pool:
        for batch in pool.map(_summarize_batch, batches):
            yield from batch


def _summarize_batch(files: Sequence[Path]) -> list[RecordSummary | None]:
    known_ids: dict[QuestionIds, QuestionIds] = {}
    with _gc_disabled():
        return [_summarize(read_regular_file(file), known_ids) for file in files]


def _summarize(content: bytes, known_ids: dict[QuestionIds, QuestionIds]) -> RecordSummary | None:
    """Return the summary of a record file; None if its structure or its samples are invalid."""
    try:
        parsed = _record_decoder.decode(content)
        spec = _spec_decoder.decode(parsed.spec)
        samples: list[_ParsedSample] = parsed.samples
        means = _scores_decoder.decode(parsed.scores)
        check_scores(means, samples)
        metric = answer_metric(spec.task.metric, means)
        scores = array("d", [sample.scores[metric] for sample in samples])
        codes = _read_codes(parsed, spec.decoding.stop, samples)
        groups = read_groups(samples)
    except (msgspec.MsgspecError, ValueError, KeyError, RecursionError):
        return None  # `Record.from_json` describes the problem, or reads another layout of a record.
    ids = tuple([sample.id for sample in samples])
    digest = digest_answers([sample.raw for sample in samples])
    header = [b'"%b":%b' % (name.encode(), raw) for name in _HEADER_KEYS if (raw := bytes(getattr(parsed, name)))]
    header_json = b"{%b}" % b",".join([*header, b'"samples":[]'])
    return RecordSummary(header_json, known_ids.setdefault(ids, ids), digest, metric, scores, codes, groups)


def _read_codes(parsed: Any, stop: tuple[str, ...], samples: Sequence[Any]) -> dict[AnswerRule[Any], Any]:
    """Return what metrics of all answers count, and check these metrics.

    Raises:
        ValueError: The labels, or metrics computed from the answers, are invalid.
    """
    labels = _parse_labels(bytes(parsed.labels))
    scores = _corpus_scores_decoder.decode(parsed.corpus_scores or b"null")
    if not scores:
        return {} if labels is None else {labels: labels.read_codes(samples)}
    from bench.records import corpus_metrics  # The import of SciPy would slow reading down where it is not used.

    own_values = _corpus_values_decoder.decode(parsed.corpus_values or b"null") or {}
    rules = corpus_metrics.answer_rules(labels, scores.keys() - own_values.keys(), stop)
    codes = {rule: rule.read_codes(samples) for rule in rules}
    for rule in rules:
        corpus_metrics.check_corpus_scores(scores, corpus_metrics.metrics_of(rule, codes[rule]))
    return codes


@cache
def _parse_labels(content: bytes) -> AnswerLabels | None:
    """Parse the labels of a record; many records have the same."""
    return None if content in (b"", b"null") else AnswerLabels.model_validate_json(content, strict=True)


@contextmanager
def _gc_disabled() -> Iterator[None]:
    """Disable garbage collection while records are read.

    Records have no reference cycles and live until exit, so each collection would only cost time.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if was_enabled:
            gc.enable()
