"""Costs of one run: training (once), inference (per query) and storage (per task)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Self

from pydantic import Field, model_validator

from bench.records.base import FrozenModel, Line, NonNegativeFloat, NonNegativeInt, PositiveInt, Score

CUDA_ALLOCATOR = "cuda-allocator"
"""`memory_source` of runs on a CUDA device, whose memory is apart from that of the process."""


class Phase(FrozenModel):
    """Time, memory and energy of one phase of a run."""

    wall_s: NonNegativeFloat = Field(description="seconds (wall clock)")
    cpu_s: NonNegativeFloat = Field(description="CPU seconds, user and system, of all threads")
    start_mib: NonNegativeFloat | None = Field(description="MiB held when the phase began; null: not measured")
    peak_mib: NonNegativeFloat | None = Field(description="peak MiB held during the phase; null: not measured")
    host_peak_mib: NonNegativeFloat | None = Field(
        None,
        description="on a CUDA device: peak MiB of the process in the memory of the machine, where peak_mib is that on "
        "the device; null: peak_mib is that of the process, or not measured",
    )
    reserved_mib: NonNegativeFloat | None = Field(
        description="peak MiB reserved by the CUDA allocator; null: not on a CUDA device"
    )
    estimated_mib: NonNegativeFloat | None = Field(
        None, description="peak MiB as estimated before the phase: start_mib plus what the phase adds; null: none"
    )
    energy_j: NonNegativeFloat | None = Field(
        None,
        description="joules drawn by the whole device during the phase; null: not measured, for the reason in "
        "cost.energy_unmeasured",
    )

    def as_host_phase(self) -> Phase:
        """Return this phase, measured on the host, as one of a run on a CUDA device."""
        return self.model_copy(
            update={"start_mib": None, "peak_mib": None, "host_peak_mib": self.peak_mib, "energy_j": None}
        )

    def continued_from(self, earlier: Phase | None) -> Phase:
        """Return this phase with an earlier part of it added, as if one process had done both.

        Times are added; the peak memory is the higher one.
        """
        if earlier is None:
            return self
        peaks = [phase.peak_mib for phase in (earlier, self) if phase.peak_mib is not None]
        return self.model_copy(
            update={
                "wall_s": round(earlier.wall_s + self.wall_s, 6),
                "cpu_s": round(earlier.cpu_s + self.cpu_s, 6),
                "peak_mib": max(peaks, default=None),
            }
        )


class Parameters(FrozenModel):
    """Parameter counts; a 4-bit weight counts as one parameter."""

    total: NonNegativeInt = Field(description="parameters of the adapted model")
    trainable: NonNegativeInt = Field(description="parameters that training changes")
    saved: NonNegativeInt | None = Field(
        description="numbers in the safetensors files of the artifact; null: the artifact has other binary files"
    )


class BudgetUsage(FrozenModel):
    """The part of the training budget that the method used."""

    train_size: PositiveInt | None = Field(
        None, description="training examples available; null: an old record without this field"
    )
    examples: NonNegativeInt = Field(description="training examples seen; an example counts again in each epoch")
    epochs: NonNegativeFloat
    steps: NonNegativeInt = Field(description="optimizer steps")
    tokens: NonNegativeInt = Field(description="training tokens without padding")
    seconds: NonNegativeFloat = Field(
        description="seconds of training (wall clock), without validation that decides nothing"
    )
    micro_batch: PositiveInt | None = Field(
        None, description="examples per forward pass while training; null: no gradient training"
    )
    tried_memory: bool | None = Field(
        None,
        description="true: a step was tried before training to find micro_batch; false: its estimate left room; null: "
        "neither, because running out of memory would end the process, no gradient training, or an old record",
    )
    activation_checkpointing: bool | None = Field(
        None,
        description="true: a training step did not fit into memory otherwise, so layers kept only their inputs and "
        "were computed again in the backward pass; null: no gradient training, or an old record without this field",
    )
    flops: NonNegativeFloat | None = Field(
        None,
        description="floating-point operations of training: counted in the first training step, scaled "
        "to all tokens; null: not counted",
    )
    stopped_by: Line | None = Field(
        description="budget limit that ended training, or 'patience': the validation loss no longer fell; null: the "
        "method ended by itself"
    )
    validation_s: NonNegativeFloat | None = Field(
        None,
        description="seconds of validation (wall clock): of the training curve's points, part of `seconds` only if "
        "they decided which weights are kept or when training stopped; of questions that prompting asks, always part "
        "of `seconds`; null: an old record without this field",
    )


class Answering(FrozenModel):
    """Measurements of answering the questions of the split, without any statistics."""

    queries: NonNegativeInt
    prompt_tokens: NonNegativeInt | None = Field(None, description="tokens of all prompts; null: no model was used")
    answer_tokens: NonNegativeInt | None = Field(None, description="tokens of all answers; null: no model was used")
    truncated_prompts: NonNegativeInt | None = Field(
        None, description="prompts longer than the context, truncated at the start"
    )
    longest_prompt_tokens: NonNegativeInt | None = Field(None, description="tokens of the longest prompt")
    shared_prefix_tokens: NonNegativeInt | None = Field(
        None, description="tokens of the prefix common to all prompts, computed once and cached"
    )
    generated_answers: NonNegativeInt | None = Field(
        None, description="answers generated as text; null: no text was generated, or an old record without this field"
    )
    cut_answers: NonNegativeInt | None = Field(
        None, description="generated answers that reached the token limit before they ended; null: as above"
    )
    repeating_answers: NonNegativeInt | None = Field(
        None,
        description="cut answers that end in one n-gram of up to 16 tokens, at least 4 times and over at least 8 "
        "tokens; null: as above",
    )
    context: PositiveInt | None = Field(
        None, description="maximum tokens of a prompt and its answer together; null: no limit, or not measured"
    )
    attention: Line | None = Field(None, description="attention implementation of transformers: sdpa, eager, …")
    unused_fast_paths: tuple[Line, ...] | None = Field(
        None,
        description="fast ways of reading that gave other logits than plain forward passes and were not used: padding, "
        "batches, cache, cached_labels, shared_prefix; null: no decoder, or an old record",
    )
    latency_ms: tuple[NonNegativeFloat, ...] = Field(
        description="milliseconds of single queries, one at a time, after warm-up"
    )


class AdapterServing(FrozenModel):
    """Measurements of serving the adapter on a loaded base model with the latency queries."""

    queries: NonNegativeInt
    load_ms: NonNegativeFloat = Field(
        description="milliseconds to load the adapter files onto the loaded base model and activate them"
    )
    switch_ms: NonNegativeFloat = Field(description="milliseconds to switch from one loaded adapter to another")
    reload_agreement: Score = Field(description="share of answers unchanged after saving and loading the adapter")
    merge_agreement: Score | None = Field(
        None,
        description="share of answers unchanged after merging the adapter into the base model; null: cannot be merged",
    )
    merged_latency_ms: tuple[NonNegativeFloat, ...] = Field(
        (), description="milliseconds of single queries after merging, one at a time"
    )


class Cost(FrozenModel):
    """All costs of a run: training (once), inference (per query) and storage (per task)."""

    phases: dict[Line, Phase] = Field(
        description="by name, in order: import, load, general_text_before, fit, predict, shifted, latency, "
        "general_text_after, adapter_serving; phases that were not reached are missing"
    )
    memory_source: Line = Field(
        description="VmHWM, cuda-allocator or psutil-sampling; values of different sources are not comparable"
    )
    host_memory_source: Line | None = Field(
        None,
        description="source of host_peak_mib on a CUDA device: VmHWM or psutil-sampling; null: not on a CUDA device, "
        "or an old record",
    )
    context_mib: NonNegativeFloat | None = Field(
        None,
        description="MiB that the run took on the CUDA device outside of the allocator: the context of CUDA and its "
        "libraries; null: not on a CUDA device, NVML cannot be read, or other programs changed what they held",
    )
    energy_unmeasured: Line | None = Field(
        None, description="reason why energy was not measured; null: it was, or an old record without this field"
    )
    parameters: Parameters | None = Field(description="null: no model was loaded, or the run failed earlier")
    budget_usage: BudgetUsage | None = Field(description="null: the run failed before training")
    answering: Answering | None = Field(description="null: the run failed before the answers")
    artifact_bytes: NonNegativeInt | None = Field(
        description="bytes on disk of everything the method saves; null: nothing was saved"
    )
    adapter_serving: AdapterServing | None = Field(
        None, description="null: the method trains no adapter, or it could not be measured"
    )
    adapter_serving_error: str | None = Field(None, description="error message if measuring the adapter failed")

    @model_validator(mode="after")
    def _separate_host_memory(self) -> Self:
        """Move the memory of imports from device to host; old records have it there."""
        imports = self.phases.get("import")
        if self.memory_source == CUDA_ALLOCATOR and imports and imports.peak_mib is not None:
            self.phases["import"] = imports.as_host_phase()
        return self

    @property
    def device_peak_mib(self) -> float | None:
        """Peak MiB on the CUDA device over all phases; None if the run used none, or not measured."""
        if self.memory_source != CUDA_ALLOCATOR:
            return None
        return _maximum(phase.peak_mib for phase in self.phases.values())

    @property
    def host_peak_mib(self) -> float | None:
        """Peak MiB of the process over all phases; None if not measured."""
        on_device = self.memory_source == CUDA_ALLOCATOR
        return _maximum(phase.host_peak_mib if on_device else phase.peak_mib for phase in self.phases.values())


def _maximum(values: Iterable[float | None]) -> float | None:
    """Return the highest of the measured values, or None if there are none."""
    return max((value for value in values if value is not None), default=None)
