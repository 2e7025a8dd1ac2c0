"""`bench models` says that a method fits exactly where a run would find batches that fit."""

from __future__ import annotations

import sys
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from bench.cli import app
from bench.execution import budget, feasibility
from bench.measurement import environment, memory_estimate
from bench.modeling.checkpoint import Checkpoint
from bench.training.micro_batch import RESERVE_BYTES

MIB = 2**20


def needs(lm: Any, free_bytes: int, **options: Any) -> dict[str, feasibility.MemoryNeed]:
    return {need.method: need for need in feasibility.estimate_memory_needs(lm, 64, free_bytes, 0, **options)}


def test_estimate_memory_needs_ladder_goes_down_to_one_row(lively: Checkpoint) -> None:
    lm = feasibility.build_empty_model(lively.folder, "float32")
    load = memory_estimate.model_bytes(lm.model)
    one_row = load + memory_estimate.generation_bytes(lm.model, 1, min(9 * 64, lm.context))
    full = needs(lm, 2**40)
    assert full["few-shot"].fits and full["few-shot"].answer_mib * MIB > 2 * one_row
    assert needs(lm, one_row)["few-shot"].fits, "answers are halved down to one row"
    assert not needs(lm, load - 1)["few-shot"].fits
    assert full["lora"].micro_batch == 16
    fit = load + RESERVE_BYTES + 40 * MIB
    small = needs(lm, fit)["lora"]
    assert small.fits and small.micro_batch is not None
    assert not needs(lm, load + RESERVE_BYTES)["lora"].fits
    assert needs(lm, 2**40, batch=4)["lora"].micro_batch == 4


def test_memory_need_where_no_row_fits_is_that_with_checkpointing() -> None:
    ladder = feasibility.Ladder(100, [900 * MIB, 800 * MIB, 400 * MIB], [100], [2, 1, 2], plain_rungs=2)
    needed = [feasibility.memory_need("full", ladder, free * MIB, 0, shrinks=True) for free in (1000, 900, 700, 300)]
    assert [(need.micro_batch, need.activation_checkpointing, need.fits) for need in needed] == [
        (2, False, True),
        (1, False, True),
        (2, True, True),
        (2, True, False),
    ]


def test_estimate_memory_needs_without_recovery_takes_full_batches(lively: Checkpoint) -> None:
    lm = feasibility.build_empty_model(lively.folder, "float32")
    one_row = memory_estimate.model_bytes(lm.model) + memory_estimate.generation_bytes(lm.model, 1, 256)
    free_bytes = 2 * one_row
    plain, limited = (needs(lm, free_bytes, shrinks=shrinks)["few-shot"] for shrinks in (False, True))
    assert (plain.fits, plain.fits_in_smaller_batches, limited.fits) == (False, True, True)
    assert plain.answer_mib > limited.answer_mib


def test_survey_model_on_gpu_counts_its_memory_and_not_the_hosts(
    lively: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(environment, "available_memory", lambda: 5 * MIB)
    monkeypatch.setattr(feasibility, "check_device", lambda device: None)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: ({"cuda": 7, "cuda:1": 9}[device] * 1024 * MIB, 0))

    def machine(device: str, text: str = "standard") -> Any:
        folder, limits = str(lively.folder), budget.parse_budget(text)
        facts = feasibility.survey_model(folder, "float32", 64, device, limits).machine
        return facts.device, facts.free_mib - facts.libraries_mib, facts.shrinks_batches

    assert machine("auto") == ("cuda", 7 * 1024, True)
    assert machine("cuda:1") == ("cuda", 9 * 1024, True)
    assert machine("cuda", "standard,memory=2GiB") == ("cuda", 2 * 1024, True)
    assert machine("cpu") == ("cpu", 5, False)


def test_survey_model_memory_budget_is_the_most_that_is_free(lively: Checkpoint) -> None:
    limits = budget.parse_budget("standard,memory=1GiB,batch=8")
    survey = feasibility.survey_model(str(lively.folder), "float32", 64, "cpu", limits)
    assert survey.machine.free_mib <= 1024 and survey.machine.shrinks_batches
    assert {need.micro_batch for need in survey.memory_needs} <= {None, 8, 4, 2, 1}


@pytest.mark.skipif(sys.platform != "linux", reason="memory is limited on Linux")
def test_models_command_names_the_limit_under_which_methods_fit(
    lively: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    load = 2 * MIB
    monkeypatch.setattr(environment, "available_memory", lambda: RESERVE_BYTES + 100 * MIB + load)
    arguments = ["models", str(lively.folder), "--device", "cpu", "--tokens", "256", "--budget"]
    plain = CliRunner().invoke(app, [*arguments, "quick,batch=64"])
    assert plain.exit_code == 0
    assert "fit in smaller batches: --budget quick,batch=64,memory=" in " ".join(plain.output.split())
    for options in (["nonsense"], ["standard", "--device", "tpu"]):
        assert CliRunner().invoke(app, [*arguments, *options]).exit_code != 0
