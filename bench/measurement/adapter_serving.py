"""What an adapter is worth in service: how fast it is put on a loaded base, and what merging it into the base saves."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial
from math import inf
from pathlib import Path
from typing import Any

from bench.measurement.meter import measure_latency
from bench.records.cost import AdapterServing

ANEW = "anew"
SWITCHES = 5

Answer = Callable[[Sequence[str]], list[str]]


def can_serve(model: Any, saved: Path) -> bool:
    """Whether the model is a base with an adapter beside it that was saved alone."""
    return hasattr(model, "peft_config") and (saved / "adapter_config.json").is_file()


def measure_serving(
    model: Any, saved: Path, questions: Sequence[str], expected: Sequence[str], answer: Answer
) -> AdapterServing:
    """Put the saved adapter on its loaded base a second time, switch between both, and merge the first into the base.

    `answer` asks the model as it is by then; one by one it gave the `expected` answers to the questions. The model
    stays merged. Where PEFT cannot merge, what merging does is not measured.
    """
    first, ask = model.active_adapter, partial(measure_latency, answer, questions, inf)
    began = time.perf_counter()
    model.load_adapter(saved, adapter_name=ANEW)
    model.set_adapter(ANEW)
    loaded = time.perf_counter() - began
    same = _share(expected, ask()[0])
    began = time.perf_counter()
    for place in range(SWITCHES):
        model.set_adapter(first if place % 2 == 0 else ANEW)
    switched = (time.perf_counter() - began) / SWITCHES
    model.set_adapter(first)
    model.delete_adapter(ANEW)
    found = AdapterServing(load_ms=_ms(loaded), switch_ms=_ms(switched), reload_agreement=same, queries=len(expected))
    if model.active_peft_config.is_prompt_learning or not _merged(model):
        return found
    merged, latency = ask()
    return found.model_copy(update={"merge_agreement": _share(expected, merged), "merged_latency_ms": latency})


def _merged(model: Any) -> bool:
    """Merge the adapter into the weights it stands beside, where PEFT knows how."""
    try:
        model.merge_adapter()
    except (AttributeError, NotImplementedError, ValueError, TypeError):
        return False
    return True


def _share(expected: Sequence[str], answers: Sequence[str]) -> float:
    return sum(one == other for one, other in zip(expected, answers, strict=True)) / max(len(expected), 1)


def _ms(seconds: float) -> float:
    return round(1000 * seconds, 3)
