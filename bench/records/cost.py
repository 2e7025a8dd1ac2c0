"""What a run cost: adapting once, answering per query, keeping per task."""

from __future__ import annotations

from functools import cache
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, NonNegativeFloat, NonNegativeInt, PositiveInt


class FrozenModel(BaseModel):
    """A closed, unchangeable piece of a record: an unknown key is an error, never silently kept."""

    model_config = ConfigDict(frozen=True, extra="forbid", serialize_by_alias=True, ser_json_inf_nan="null")

    def model_post_init(self, context: Any, /) -> None:
        """Share the set of fields that were given: nobody asks for it, and one for each piece is half of a record."""
        object.__setattr__(self, "__pydantic_fields_set__", _given(type(self)))


@cache
def _given(kind: type[FrozenModel]) -> set[str]:
    return set(kind.model_fields)


class Phase(FrozenModel):
    """Cost of one phase of a run (import, load, remember, fit, predict, latency, forget, serve)."""

    wall_s: NonNegativeFloat
    cpu_s: NonNegativeFloat = Field(description="user and system seconds of all threads")
    start_mib: NonNegativeFloat | None = Field(description="memory held when the phase began")
    peak_mib: NonNegativeFloat | None = Field(description="highest memory held during the phase")
    reserved_mib: NonNegativeFloat | None = Field(description="highest memory the CUDA allocator had reserved")
    estimated_mib: NonNegativeFloat | None = Field(
        None,
        description="the peak as reckoned beforehand: what was held at the start and what the phase should add",
    )
    energy_j: NonNegativeFloat | None = Field(
        None, description="drawn by the whole device meanwhile; null: the machine does not tell"
    )

    def continued_from(self, earlier: Phase | None) -> Phase:
        """The whole of a phase that began elsewhere, as if one process had done both."""
        if earlier is None:
            return self
        peaks = [part.peak_mib for part in (earlier, self) if part.peak_mib is not None]
        seconds = {name: round(getattr(earlier, name) + getattr(self, name), 6) for name in ("wall_s", "cpu_s")}
        return self.model_copy(update=seconds | {"peak_mib": max(peaks, default=None)})


class Parameters(FrozenModel):
    """Parameter counts; 4-bit weights count as the numbers they stand for."""

    total: NonNegativeInt = Field(description="in the model as adapted")
    trainable: NonNegativeInt = Field(description="trained while fitting")
    saved: NonNegativeInt | None = Field(
        description="in the artifact's safetensors files; null: in files of another kind"
    )


class BudgetUsage(FrozenModel):
    """What the method drew of its grant."""

    train_size: PositiveInt | None = Field(
        None, description="training examples at hand; null: the record is older than this field"
    )
    examples: NonNegativeInt
    epochs: NonNegativeFloat
    steps: NonNegativeInt
    tokens: NonNegativeInt
    seconds: NonNegativeFloat
    micro_batch: PositiveInt | None = Field(
        None, description="examples that went through the model at once while training; null: nothing was trained so"
    )
    flops: NonNegativeFloat | None = Field(
        None, description="of adapting: counted in the first pass, scaled to all tokens; null: not counted"
    )
    stopped_by: str | None = Field(description="the limit that ended adapting, null if the method ended by itself")


class Answering(FrozenModel):
    """What answering the questions of the exam took; raw values, statistics are computed when read."""

    queries: NonNegativeInt
    prompt_tokens: NonNegativeInt | None = Field(None, description="null: no model was asked")
    answer_tokens: NonNegativeInt | None = None
    truncated_prompts: NonNegativeInt | None = Field(
        None, description="prompts that exceeded the context and lost their head"
    )
    longest_prompt_tokens: NonNegativeInt | None = Field(None, description="tokens of the longest prompt")
    shared_prefix_tokens: NonNegativeInt | None = Field(
        None, description="tokens that all prompts begin with, which were read and kept once"
    )
    context: PositiveInt | None = Field(None, description="tokens that a prompt and its answer may take together")
    attention: str | None = Field(None, description="how transformers computes attention: sdpa, eager, …")
    latency_ms: tuple[NonNegativeFloat, ...] = Field(description="one query at a time, after warm-up")


class AdapterServing(FrozenModel):
    """An adapter in service on one loaded base; the answers compared are those to the latency queries."""

    queries: NonNegativeInt
    load_ms: NonNegativeFloat = Field(description="from its files onto the loaded base, and switched on")
    switch_ms: NonNegativeFloat = Field(description="from one loaded adapter to another")
    reload_agreement: float = Field(description="share of answers that the saved adapter, loaded anew, gives again")
    merge_agreement: float | None = Field(
        None, description="share of answers that stay as they are when it is merged into the base; null: cannot be"
    )
    merged_latency_ms: tuple[NonNegativeFloat, ...] = Field((), description="one query at a time, after merging")


class Cost(FrozenModel):
    """The three ledgers: adapting (once), answering (per query), keeping (per task)."""

    phases: dict[str, Phase]
    memory_source: str
    parameters: Parameters | None
    budget_usage: BudgetUsage | None
    answering: Answering | None
    artifact_bytes: NonNegativeInt | None
    adapter_serving: AdapterServing | None = Field(
        None, description="null: what was learnt is no adapter beside a base"
    )
    adapter_serving_error: str | None = Field(
        None, description="why an adapter's service could not be measured, if it failed"
    )
