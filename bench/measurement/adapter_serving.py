"""Measurements of a saved adapter in service: loading, switching and merging it."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from math import inf
from pathlib import Path
from typing import Any

from bench.measurement.meter import measure_latency, synchronize
from bench.records import AdapterServing

RELOADED_ADAPTER = "reloaded"  # name of the second copy of the adapter
SWITCH_COUNT = 5

Predict = Callable[[Sequence[str]], list[str]]
"""Answers one query per input, in order, with the model as it is at the moment of the call."""


def can_serve(model: Any, saved: Path) -> bool:
    """Tell if the model has a PEFT adapter that was saved without the base."""
    return hasattr(model, "peft_config") and (saved / "adapter_config.json").is_file()


def measure_serving(
    model: Any, saved: Path, questions: Sequence[str], expected: Sequence[str], predict: Predict
) -> AdapterServing:
    """Measure loading, switching and merging of a saved adapter; the model stays merged.

    The saved adapter is loaded beside the fitted one, both are activated in turn, and the fitted one is merged into
    the base weights.

    Args:
        model: PEFT model with the fitted adapter.
        saved: Folder of the saved adapter.
        questions: Queries to answer one at a time.
        expected: Answers of the fitted adapter to `questions`, given one at a time.
        predict: Answers queries with `model`.

    Returns:
        Milliseconds of loading and of one switch, and the share of answers that agree with `expected`. The merged
        figures are None and empty if PEFT cannot merge this adapter.
    """
    fitted_adapter = model.active_adapter
    load_start = _synchronized_time(model)
    model.load_adapter(saved, adapter_name=RELOADED_ADAPTER)
    model.set_adapter(RELOADED_ADAPTER)
    load_seconds = _synchronized_time(model) - load_start
    # Alone and without a warm-up: their times are not recorded, and in a batch the last digits could differ.
    reloaded_answers = [answer for question in questions for answer in predict([question])]
    switch_seconds = _measure_switch(model, fitted_adapter)
    model.set_adapter(fitted_adapter)
    model.delete_adapter(RELOADED_ADAPTER)
    serving = AdapterServing(
        load_ms=_milliseconds(load_seconds),
        switch_ms=_milliseconds(switch_seconds),
        reload_agreement=_agreement(expected, reloaded_answers),
        queries=len(expected),
    )
    if model.active_peft_config.is_prompt_learning or not _try_merge(model):
        return serving
    merged_answers, merged_latency_ms = measure_latency(predict, questions, inf)
    return serving.model_copy(
        update={"merge_agreement": _agreement(expected, merged_answers), "merged_latency_ms": merged_latency_ms}
    )


def _measure_switch(model: Any, fitted_adapter: str) -> float:
    """Return the mean seconds of activating the other one of two loaded adapters."""
    start = _synchronized_time(model)
    for index in range(SWITCH_COUNT):
        model.set_adapter(fitted_adapter if index % 2 == 0 else RELOADED_ADAPTER)
    return (_synchronized_time(model) - start) / SWITCH_COUNT


def _synchronized_time(model: Any) -> float:
    """Return the time in seconds once the device of the model has done all work queued so far."""
    synchronize(str(model.device))
    return time.perf_counter()


def _try_merge(model: Any) -> bool:
    """Merge the active adapter into the base; return False if PEFT cannot merge this type."""
    try:
        model.merge_adapter()
    except (AttributeError, NotImplementedError, ValueError, TypeError):
        return False
    return True


def _agreement(expected: Sequence[str], answers: Sequence[str]) -> float:
    """Return the share of answers that are the same text."""
    same = sum(answer == expected_answer for answer, expected_answer in zip(answers, expected, strict=True))
    return same / max(len(expected), 1)


def _milliseconds(seconds: float) -> float:
    return round(1000 * seconds, 3)
