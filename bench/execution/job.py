"""Job: one planned run, handed to an executor and as a file to a worker."""

from __future__ import annotations

from pydantic import Field

from bench.measurement.general_text import GeneralText
from bench.records import FrozenModel, SearchRange, Spec, Tuning


class Job(FrozenModel):
    """A spec, the command it came from, and the settings that do not change the scores."""

    spec: Spec
    command: tuple[str, ...]
    """The command line that planned the job."""
    method_sha256: str
    """Digest of the source file of the method."""
    device: str = "auto"
    """Device as in `--device`. It decides seconds and memory and no scores, so it is no part of the spec."""
    ranges: dict[str, SearchRange] = Field(default_factory=dict)
    """Search ranges of the hyper-parameters that the user left open."""
    tuning: Tuning | None = None
    """Ranges and trials that the hyper-parameters of the spec came from; None if they were not tuned."""
    accelerate: str | None = None
    """Configuration file of accelerate if several processes train together."""
    processes: int = 1
    """Processes that train together. Like the device no part of the spec: scores differ only by rounding of sums."""
    file_digests: dict[str, str] = Field(default_factory=dict)
    """SHA-256 of the model's files by the identity of each file (`bench.modeling.file_digest`)."""
    general_text: GeneralText | None = None
    """The user's text for measuring forgetting; None for the shipped one. It changes no scores."""
    save_artifacts: bool | None = False
    """Keep the artifact beside the record; None keeps a small one (`bench.records.artifacts.record_writer`)."""
    questions: tuple[str, ...] | None = None
    """Questions to answer in place of the split, if a run is repeated for its artifact; nothing is measured then."""
    is_rehearsal: bool = False
    """Time a few steps and answers only, for a forecast; no record is written."""
