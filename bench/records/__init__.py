"""Records of runs (settings and results): data model, files, reading and comparability."""

from __future__ import annotations

from bench.records.artifacts import save_numbers, save_prompt
from bench.records.base import FrozenModel
from bench.records.collect import find_record_files, read_records
from bench.records.cost import AdapterServing, Answering, BudgetUsage, Cost, Parameters, Phase
from bench.records.record import (
    BASELINE_MARKER,
    CurvePoint,
    Env,
    Failure,
    FitReport,
    Forgetting,
    Keep,
    KeptWeights,
    Record,
    Status,
    Trial,
    Tuning,
    read_all,
)
from bench.records.samples import Sample, Samples
from bench.records.spec import (
    AnswerConstraint,
    BaseSpec,
    BudgetLimits,
    Decoding,
    Dtype,
    MethodSpec,
    MetricModel,
    PromptSpec,
    SearchRange,
    Spec,
    TaskSpec,
)

__all__ = [
    "BASELINE_MARKER",
    "AdapterServing",
    "AnswerConstraint",
    "Answering",
    "BaseSpec",
    "BudgetLimits",
    "BudgetUsage",
    "Cost",
    "CurvePoint",
    "Decoding",
    "Dtype",
    "Env",
    "Failure",
    "FitReport",
    "Forgetting",
    "FrozenModel",
    "Keep",
    "KeptWeights",
    "MethodSpec",
    "MetricModel",
    "Parameters",
    "Phase",
    "PromptSpec",
    "Record",
    "Sample",
    "Samples",
    "SearchRange",
    "Spec",
    "Status",
    "TaskSpec",
    "Trial",
    "Tuning",
    "find_record_files",
    "read_all",
    "read_records",
    "save_numbers",
    "save_prompt",
]
