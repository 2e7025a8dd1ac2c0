"""Result of one run (`Record`), its JSON file, and the search for such files."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import Field, ValidationError, ValidationInfo, model_validator

from bench.errors import UserError
from bench.i18n import Message
from bench.records import files
from bench.records.base import (
    CorpusScore,
    FrozenModel,
    Line,
    Loss,
    NonNegativeFloat,
    NonNegativeInt,
    Number,
    Params,
    PositiveInt,
    Score,
    describe_error,
)
from bench.records.cost import Cost, Phase
from bench.records.labels import AnswerLabels
from bench.records.samples import Samples, check_scores
from bench.records.schema_1 import starts_like_schema_1, upgrade_json
from bench.records.spec import SearchRange, Spec

if TYPE_CHECKING:
    from bench.records.corpus_metrics import CorpusMetric

Status = Literal["ok", "unsupported", "did-not-fit", "diverged", "timeout", "error"]
Keep = Literal["last", "best"]
"""Trained weights that a run keeps: those of the last step, or those of the lowest validation loss."""
BASELINE_MARKER = "BLESSED.md"
"""Name of the file that marks a folder as a baseline and lists the reason for each change of it."""


WITHOUT_SAMPLES = "without samples"
"""Validation context of a record whose samples are validated elsewhere."""


class CurvePoint(FrozenModel):
    """One point of the training curve.

    Losses are means in nats: per answer token for a decoder, per example for an encoder.
    """

    step: NonNegativeInt = Field(description="optimizer steps done")
    tokens: NonNegativeInt = Field(description="training tokens without padding, so far")
    seconds: NonNegativeFloat = Field(description="seconds of training so far (wall clock)")
    train_loss: Loss = Field(
        description="mean since the previous point; null: step 0, preference training, or the loss diverged"
    )
    validation_loss: Loss = Field(description="null: the loss diverged")
    next_token_accuracy: Score | None = Field(
        description="share of the answer tokens of the validation split predicted correctly"
    )


class KeptWeights(FrozenModel):
    """The trained weights that the run kept, saved and answered with."""

    keep: Keep = Field(description="rule: last step, or lowest validation loss of the training curve")
    step: NonNegativeInt = Field(description="optimizer steps after which the model had these weights")
    validation_loss: Loss = Field(description="validation loss at that step; null: not measured there")
    not_chosen: Line | None = Field(
        None, description="reason why the last step was kept although the rule is best; null: the rule was followed"
    )
    copied_mib: NonNegativeFloat | None = Field(
        None, description="MiB on disk of the copy of the trained weights during training; null: none was made"
    )


class Forgetting(FrozenModel):
    """Loss of the model on the same general text before and after training."""

    text: Line | None = Field(None, description="name of the user's file (--general-text); null: the shipped text")
    text_sha256: Line = Field(
        description="digest of the file with the general text; losses on different texts are not comparable"
    )
    tokens: PositiveInt = Field(description="tokens predicted in each of the two measurements")
    nats_before: Loss = Field(description="mean loss of the loaded model, nats per token; null: not finite")
    nats_after: Loss = Field(description="mean loss of the adapted model, nats per token; null: the loss diverged")
    before_measured: Line | None = Field(
        None,
        description="start of the earlier run with the same model whose nats_before was taken, ISO 8601, UTC; null: "
        "this run measured it",
    )
    before_cost: Phase | None = Field(
        None, description="what measuring nats_before cost in that earlier run; null: as above"
    )


class Env(FrozenModel):
    """Machine and software of the run."""

    started: Line = Field(description="start of the run, ISO 8601, UTC")
    adaptbench: Line = Field(description="version of adaptbench")
    revision: Line | None = Field(
        description="git revision of the checkout, with '+dirty' if changed; null: no checkout"
    )
    method_sha256: Line = Field(description="digest of the source code that defines the method")
    python: Line = Field(description="version of Python")
    platform: Line
    processor: Line
    cores: PositiveInt = Field(description="cores that the process may use")
    threads: PositiveInt | None = Field(description="compute threads of torch; null: torch was not used")
    memory_mib: PositiveInt = Field(description="memory of the machine, MiB")
    device: Line = Field(description="name of the GPU, or the torch device")
    processes: PositiveInt = Field(
        1, description="processes that trained together, one device each; the first did and measured everything else"
    )
    matmul_flops_per_s: NonNegativeFloat | None = Field(
        None,
        description="float32 operations per second of a large matrix product, measured after the run; "
        "null: torch was not used, or it could not be measured",
    )
    matmul_flops_per_s_by_dtype: dict[Line, NonNegativeFloat] | None = Field(
        None,
        description="operations per second of that product by dtype: float32, and the dtype of the run; null: not "
        "measured, or an old record without this field",
    )
    deterministic: bool | None = Field(
        None,
        description="true: on CUDA, all operations had a deterministic algorithm; false: some had none, so that equal "
        "settings may give other answers; null: not known (another device, or an old record)",
    )
    nondeterministic_operations: tuple[Line, ...] = Field(
        (), description="operations that had no deterministic algorithm, as torch names them"
    )
    background_cores: NonNegativeFloat = Field(description="mean number of cores that other processes kept busy")
    packages: dict[Line, Line] = Field(description="versions of the libraries that can change a result")


class Failure(FrozenModel):
    """The reason why the status of a run is not ok."""

    kind: str = Field(description="class of the exception, or the kind of the failure")
    message: str
    trace: str | None = Field(description="Python traceback; null: no exception was raised")


class Trial(FrozenModel):
    """One tuning trial: hyper-parameters and their score on the validation split."""

    params: Params
    status: Status
    score: CorpusScore | None = Field(description="main metric on validation; null: the trial failed or diverged")


class Tuning(FrozenModel):
    """The search for the hyper-parameters of a run."""

    ranges: dict[Line, SearchRange]
    trials: tuple[Trial, ...]


FitReport = dict[Line, bool | int | Number | Line]
"""Values that a method reports about its fit, by name."""


class ShiftedAnswers(FrozenModel):
    """Answers to the questions of `shifted.jsonl`, of another time or source than the test."""

    scores: dict[Line, Score] = Field(description="mean of each metric over these questions")
    corpus_scores: dict[Line, CorpusScore] | None = Field(
        None, description="metrics of all these answers together; null: there are none"
    )
    corpus_values: dict[Line, tuple[Number, ...]] | None = Field(
        None, description="jackknife values of the task's own metrics of all answers; null: the task has none"
    )
    samples: Samples

    @model_validator(mode="after")
    def _is_consistent(self) -> ShiftedAnswers:
        check_scores(self.scores, self.samples)
        return self


class Record(FrozenModel):
    """The complete record of one run, as stored in its JSON file."""

    schema_: Literal[2] = Field(2, alias="schema")
    id: str = Field(description="run id: task, method, digest of the settings, seed")
    status: Status
    spec: Spec
    command: tuple[str, ...] = Field(description="command line as typed")
    scores: dict[Line, Score] = Field(description="mean of each metric over all questions")
    corpus_scores: dict[Line, CorpusScore] | None = Field(
        None,
        description="metrics that are computed from all answers together, such as macro-f1 or bleu; null: there are "
        "none, the run failed, or an old record",
    )
    corpus_values: dict[Line, tuple[Number, ...]] | None = Field(
        None,
        description="of the task's own metrics of all answers and those of evaluate: a value per sample, in their "
        "order, whose mean is the metric and whose variance gives its standard error (jackknife); null: the task has "
        "none, or the run failed",
    )
    labels: AnswerLabels | None = Field(
        None, description="closed labels of the task; null: open answers, the run failed, or an old record"
    )
    rating_reports: dict[Line, dict[Line, Number]] | None = Field(
        None,
        description="of each metric by a model: seconds of loading and rating, which are no phase of the run; of judge "
        "also consistency, the share of answers on which its verdicts in both orders agree, and agreement_with_em; "
        "null: the task names no such metric, or the run failed",
    )
    cost: Cost | None
    env: Env | None
    curve: tuple[CurvePoint, ...]
    kept_weights: KeptWeights | None = Field(
        None, description="null: the method trains no weights step by step, the run failed, or an old record"
    )
    forgetting: Forgetting | None = Field(None, description="null: not measured, or the model was not trained")
    tuning: Tuning | None = Field(None, description="null: the hyper-parameters were not tuned")
    fit_report: FitReport | None = Field(
        None,
        description="what the method chose while fitting, and by which scores; null: it reported nothing, or an "
        "old record without this field",
    )
    error: Failure | None
    shifted: ShiftedAnswers | None = Field(
        None,
        exclude_if=lambda shifted: shifted is None,  # so that records of tasks without such questions stay the same
        description="answers to the questions of another time or source; missing: the task has none, or the run failed",
    )
    samples: Samples

    @property
    def on_shifted(self) -> Record | None:
        """The record with the shifted answers in place of those of the test; None without any."""
        if self.shifted is None:
            return None
        answers = {name: getattr(self.shifted, name) for name in ShiftedAnswers.model_fields}
        return self.model_copy(update=answers | {"shifted": None})

    @property
    def all_scores(self) -> dict[str, float]:
        """Means of the scores of single answers, then metrics of all answers together."""
        return self.scores | (self.corpus_scores or {})

    def corpus_metrics(self) -> dict[str, CorpusMetric]:
        """Return the metrics of all answers together that are computed from the samples, by name.

        A metric with `corpus_values` is none of them: only the task has its function.

        Raises:
            ValueError: The samples are not those of the task's labels, or have no references.
        """
        from bench.records import corpus_metrics  # The import of SciPy would slow every command down.

        names = (self.corpus_scores or {}).keys() - (self.corpus_values or {}).keys()
        return corpus_metrics.read_metrics(
            self.samples, corpus_metrics.answer_rules(self.labels, names, self.spec.decoding.stop)
        )

    def to_json(self) -> str:
        """Return the record as JSON: an indented header, then one line per sample.

        So `diff` and `grep` show single samples.
        """
        header = self.model_dump_json(indent=1, exclude={"samples"}).removesuffix("\n}")
        samples = ",\n  ".join(sample.model_dump_json() for sample in self.samples)
        return f'{header},\n "samples": [\n  {samples}\n ]\n}}\n' if samples else f'{header},\n "samples": []\n}}\n'

    @model_validator(mode="after")
    def _is_consistent(self, info: ValidationInfo) -> Record:
        _check_id(self.id, self.spec)
        if info.context != WITHOUT_SAMPLES:
            check_scores(self.scores, self.samples)
            if self.corpus_scores and self.samples:
                from bench.records import corpus_metrics  # The import of SciPy would slow every command down.

                corpus_metrics.check_corpus_scores(self.corpus_scores, self.corpus_metrics())
        return self

    def write(self, folder: Path) -> Path:
        """Write the record to `folder/<id>.json` atomically and return that path.

        The artifact folder that an earlier run saved under the same id is deleted once the record is written.

        Raises:
            UserError: If the id is not that of the settings, as in a record that another machine sent. The id names
                the file to write and the folder to delete, so it must not lead out of `folder`.
        """
        try:
            spec = Spec.model_validate(self.spec.model_dump())
            _check_id(self.id, spec)
        except ValidationError as error:
            raise UserError(Message("the record cannot be written: {problem}", problem=describe_error(error))) from None
        except ValueError as error:
            raise UserError(Message("the record cannot be written: {problem}", problem=error)) from None
        folder.mkdir(parents=True, exist_ok=True)
        target = folder / f"{self.id}.json"
        with files.set_aside(folder / self.id, f".{self.id}.kept.{os.getpid()}"):
            files.write_atomically(target, self.to_json())
        return target

    @classmethod
    def from_json(cls, content: bytes, context: str | None = None) -> Record:
        """Parse the JSON text of a record of schema 2 or schema 1.

        Args:
            content: The text.
            context: `WITHOUT_SAMPLES` if the samples of the record are left out of the text.

        Raises:
            pydantic.ValidationError: If the content is neither. For a schema-1 record the error has the field names of
                schema 2.
        """
        if not starts_like_schema_1(content):
            try:
                return cls.model_validate_json(content, strict=True, context=context)
            except ValidationError:
                pass  # It may be of schema 1 with its keys in another order.
        upgraded = upgrade_json(content)
        return cls.model_validate_json(content if upgraded is None else upgraded, strict=True, context=context)

    @classmethod
    def read(cls, path: Path) -> Record:
        """Read a record file with all its samples.

        Raises:
            UserError: If the file cannot be read.
            pydantic.ValidationError: If it is not a valid record of schema 2 or schema 1.
        """
        return cls.from_json(files.read_regular_file(path))


def _check_id(id: str, spec: Spec) -> None:
    if id != spec.id:
        raise ValueError(f"the id '{id}' is not that of the settings, '{spec.id}'")


def read_all(folder: Path) -> Iterator[Record]:
    """Read every record below `folder`, tuning trials included, in the order of their paths.

    Raises:
        pydantic.ValidationError: If a file is not a valid record.
    """
    yield from map(Record.read, find_records_below(folder))


def find_records_below(folder: Path) -> list[Path]:
    """Return the record files below a folder in the order of their paths.

    Files in the artifact folders of runs are not records. A baseline below `folder` is left out: it is read only if
    its own folder is given. Pipes and broken links are returned, so that reading fails and does not overlook them.
    """
    return [
        file
        for file in sorted(folder.rglob("*.json"))
        if not file.is_dir() and not _is_excluded(file.relative_to(folder), folder)
    ]


def _is_excluded(file: Path, root: Path) -> bool:
    """Tell if a file is hidden, in a baseline, or in an artifact folder.

    An artifact folder bears the name of the record file beside it.
    """
    if any(part.startswith(".") for part in file.parts):
        return True
    parents = [root / parent for parent in file.parents[:-1]]
    return any(
        (parent / BASELINE_MARKER).is_file() or parent.with_name(f"{parent.name}.json").is_file() for parent in parents
    )


def json_schema() -> str:
    """Return the JSON Schema of a record, as published in `docs/record.schema.json`."""
    return json.dumps(Record.model_json_schema(mode="serialization"), indent=2, ensure_ascii=False) + "\n"
