"""What one run was told to do (`Spec`) and what came of it (`Record`): all that running and reading share."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt, ValidationError

from bench.records.cost import Cost, FrozenModel
from bench.records.samples import Samples
from bench.records.schema_1 import upgrade_json

Dtype = Literal["float32", "bfloat16", "float16"]
Status = Literal["ok", "unsupported", "did-not-fit", "timeout", "error"]
BASELINE_MARKER = "BLESSED.md"  # the sign of a baseline: why it is what it is


class MethodSpec(FrozenModel):
    """Which method, with every hyper-parameter resolved."""

    name: str
    ref: str = Field(description="what finds the method again: its name, a path, or module:Class")
    control: bool = Field(description="what others have to beat, not a contender")
    negative_control: bool = Field(
        False, description="a control that shows what learning nothing looks like: not to be used"
    )
    params: dict[str, Any]


class TaskSpec(FrozenModel):
    """Which task, down to the bytes of its card and data."""

    name: str
    ref: str = Field(description="what finds the task again: its name or a folder")
    version: int
    sha256: str
    metric: str = Field(description="the main metric: tables are sorted by it, gates look at it")


class BaseSpec(FrozenModel):
    """Which base model, down to the bytes of its weights and tokenizer."""

    ref: str = Field(description="what finds the model again: a shipped model's name, a folder, or a hub name")
    revision: str | None = Field(None, description="commit of the hub that the name stood for; null: not of the hub")
    sha256: str
    dtype: Dtype

    @property
    def name(self) -> str:
        """What it is called beside others: the last part of what finds it."""
        return Path(self.ref).name


class BudgetLimits(FrozenModel):
    """The budget every method of a comparison is granted alike; null means no limit."""

    examples: PositiveInt | None = Field(None, description="training examples, drawn by the seed")
    epochs: PositiveInt | None = Field(None, description="passes over the training examples")
    steps: PositiveInt | None = Field(None, description="optimizer steps")
    tokens: PositiveInt | None = Field(None, description="non-padding tokens trained on")
    seconds: PositiveFloat | None = Field(
        None, allow_inf_nan=False, description="wall seconds of adapting; evaluation is off the clock"
    )
    memory: PositiveInt | None = Field(
        None, description="bytes: resident memory of the process on a CPU, held by tensors on a GPU"
    )
    trials: PositiveInt | None = Field(
        None, description="hyper-parameters tried on validation before the run; null: those of the spec, untried"
    )
    batch: PositiveInt = Field(16, description="examples per optimizer step (effective batch)")
    new_tokens: PositiveInt | None = Field(None, description="tokens per answer; null takes the task's own limit")


class Decoding(FrozenModel):
    """Every setting that decides how answers are decoded; nothing is inherited from a model's own configuration."""

    do_sample: Literal[False] = False
    num_beams: Literal[1] = 1
    repetition_penalty: float = 1.0
    max_new_tokens: PositiveInt
    stop: tuple[str, ...] = Field(description="texts that end an answer, besides the end-of-sequence token")


class Spec(FrozenModel):
    """One run, fully resolved: equal specs give equal answers on one machine with one set of libraries."""

    task: TaskSpec
    method: MethodSpec
    base: BaseSpec
    budget: BudgetLimits
    decoding: Decoding
    seed: NonNegativeInt
    split: Literal["test", "validation"] = Field("test", description="the split that is answered; trials see no other")

    @cached_property
    def key(self) -> str:
        """Digest of everything that decides the outcome except the seed; specs with equal keys differ by seed only."""
        unused: Any = {
            "seed": True,
            "task": {"ref"},
            "method": {"ref", "negative_control"},
            "base": {"ref", "revision"},
        }
        identity = self.model_dump(mode="json", exclude=unused)
        # The names of schema 1, so that the ids of earlier records stay valid.
        identity["exam"] = identity.pop("split")
        identity["budget"]["passes"] = identity["budget"].pop("epochs")
        return hashlib.sha256(json.dumps(identity, sort_keys=True, ensure_ascii=False).encode()).hexdigest()[:12]

    @property
    def id(self) -> str:
        """The run's name, which is also its file's name."""
        return f"{self.task.name}-{self.method.name.replace(':', '-')}-{self.key}-s{self.seed}"


class CurvePoint(FrozenModel):
    """One point of the training curve: loss in nats per token learnt, of an encoder per row."""

    step: NonNegativeInt
    tokens: NonNegativeInt
    seconds: NonNegativeFloat
    train_loss: float | None = Field(
        description="mean since the point before; null at step 0, where preferences are learnt, and where it diverged"
    )
    validation_loss: float | None = Field(description="null where it diverged")
    next_token_accuracy: float | None = Field(description="share of answer tokens predicted right on validation")


class Forgetting(FrozenModel):
    """What adapting did to the model's grasp of general text: the same text, read before and after."""

    text_sha256: str = Field(description="digest of the file of general text")
    tokens: PositiveInt = Field(description="tokens predicted, each time")
    nats_before: float | None = Field(description="mean loss per token of the model as loaded; null: not finite")
    nats_after: float | None = Field(description="the same of the model as adapted; null where it diverged")


class Env(FrozenModel):
    """Where and with what the run was made."""

    started: str = Field(description="ISO 8601, UTC")
    adaptbench: str
    revision: str | None = Field(description="git revision of the checkout, '+dirty' if changed")
    method_sha256: str = Field(description="digest of the source that defines the method")
    python: str
    platform: str
    processor: str
    cores: PositiveInt
    threads: PositiveInt | None
    memory_mib: PositiveInt
    device: str
    processes: PositiveInt = Field(
        1, description="that trained together, on a device each; all but training was done, and measured, by the first"
    )
    matmul_flops_per_s: NonNegativeFloat | None = Field(
        None, description="of a large float32 matrix product, measured after the run; null: no torch was used"
    )
    background_cores: NonNegativeFloat = Field(description="cores that other processes kept busy meanwhile, on average")
    packages: dict[str, str]


class Failure(FrozenModel):
    """Why a run is not ok, in words a user can act on."""

    kind: str
    message: str
    trace: str | None


class SearchRange(FrozenModel):
    """Where a hyper-parameter is looked for: between two bounds, or among choices."""

    low: float | None = None
    high: float | None = None
    integer: bool = Field(False, description="whole numbers only")
    log: bool = Field(False, description="looked for by factors, not by differences")
    choices: tuple[str | float | int | bool, ...] | None = None


class Trial(FrozenModel):
    """One trial: what was tried and what validation made of it."""

    params: dict[str, Any]
    status: Status
    score: float | None = Field(description="main metric on validation; null: it failed or diverged")


class Tuning(FrozenModel):
    """How the hyper-parameters of a run were found."""

    ranges: dict[str, SearchRange]
    trials: tuple[Trial, ...]


class Record(FrozenModel):
    """One run, whole. Header first, samples last, one sample per line."""

    schema_: Literal[2] = Field(2, alias="schema")
    id: str
    status: Status
    spec: Spec
    command: tuple[str, ...] = Field(description="the command as typed")
    scores: dict[str, float] = Field(description="mean of every per-example score")
    cost: Cost | None
    env: Env | None
    curve: tuple[CurvePoint, ...]
    forgetting: Forgetting | None = Field(None, description="null: not measured, or the model was not trained")
    tuning: Tuning | None = Field(None, description="null: the hyper-parameters were not tuned")
    error: Failure | None
    samples: Samples

    def to_json(self) -> str:
        """The record as JSON: readable header, then one sample per line (so that diffs and `grep` work)."""
        header = self.model_dump_json(indent=1, exclude={"samples"}).removesuffix("\n}")
        samples = ",\n  ".join(sample.model_dump_json() for sample in self.samples)
        return f'{header},\n "samples": [\n  {samples}\n ]\n}}\n' if samples else f'{header},\n "samples": []\n}}\n'

    def write(self, folder: Path) -> Path:
        """Put the record into `folder` under its id, whole or not at all; what an earlier run of it had kept goes."""
        folder.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(folder / self.id, ignore_errors=True)
        place = folder / f"{self.id}.json"
        fresh = folder / f".{self.id}.{os.getpid()}.part"
        try:
            with fresh.open("w", encoding="utf-8") as file:
                file.write(self.to_json())
                file.flush()
                os.fsync(file.fileno())
            fresh.replace(place)
        finally:
            fresh.unlink(missing_ok=True)
        return place

    @classmethod
    def from_json(cls, content: bytes) -> Record:
        """Parse a record of this schema or of schema 1.

        Raises:
            pydantic.ValidationError: If the content is neither.
        """
        try:
            return cls.model_validate_json(content)
        except ValidationError:
            upgraded = upgrade_json(content)
            if upgraded is None:
                raise
        return cls.model_validate_json(upgraded)

    @classmethod
    def read(cls, path: Path) -> Record:
        """The record in `path`; raises `pydantic.ValidationError` if it is none of this schema."""
        return cls.from_json(path.read_bytes())


def read_all(folder: Path) -> Iterator[Record]:
    """Every record below `folder`, in the order of their paths."""
    yield from map(Record.read, record_files(folder))


def record_files(folder: Path) -> list[Path]:
    """The files of records in a folder and below, without what runs have kept beside theirs, and without baselines:
    those are read where they are named.
    """
    return [
        file
        for file in sorted(folder.rglob("*.json"))
        if file.is_file() and not _hidden(file.relative_to(folder), folder)
    ]


def _hidden(file: Path, folder: Path) -> bool:
    """Whether a file is in the making, of a baseline's folder, or of one that bears the name of a record."""
    above = [folder / place for place in file.parents[:-1]]
    return any(part.startswith(".") for part in file.parts) or any(
        (place / BASELINE_MARKER).is_file() or place.with_name(f"{place.name}.json").is_file() for place in above
    )


def json_schema() -> str:
    """The record's JSON schema, as published in `docs/record.schema.json`."""
    return json.dumps(Record.model_json_schema(mode="serialization"), indent=2, ensure_ascii=False) + "\n"
