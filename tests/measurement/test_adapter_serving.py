"""Loading, switching and merging of a saved adapter."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
from conftest import MakeTask
from support import fit_method

from bench.execution import plan, worker
from bench.measurement import adapter_serving
from bench.measurement.meter import measure_latency
from bench.modeling.checkpoint import Checkpoint
from bench.testing import QUESTIONS

MERGEABLE = ("lora", "dora", "ia3")


@pytest.mark.parametrize("name", [*MERGEABLE, "prefix", "prompt-tuning"])
def test_measure_serving_reloaded_adapter_gives_same_answers(name: str, lively: Checkpoint, tmp_path: Path) -> None:
    method, _ = fit_method(name, lively, steps=10)
    method.save(tmp_path)
    model = method.lm_.model
    assert adapter_serving.can_serve(model, tmp_path)
    answers, _ = measure_latency(method.predict, QUESTIONS)
    serving = adapter_serving.measure_serving(model, tmp_path, QUESTIONS, answers, method.predict)
    assert (serving.reload_agreement, serving.queries) == (1, len(QUESTIONS))
    assert serving.load_ms > serving.switch_ms > 0
    if name in MERGEABLE:
        assert serving.merge_agreement == 1
        assert len(serving.merged_latency_ms) == len(QUESTIONS)
        assert all(milliseconds > 0 for milliseconds in serving.merged_latency_ms)
    else:
        assert serving.merge_agreement is None
        assert serving.merged_latency_ms == ()


def test_measure_serving_times_include_queued_work(
    lively: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    method, _ = fit_method("lora", lively, steps=1)
    method.save(tmp_path)
    queued_s = 0.1  # what the device still does when the function that queued it has returned
    monkeypatch.setattr(adapter_serving, "synchronize", lambda device: time.sleep(queued_s))
    serving = adapter_serving.measure_serving(method.lm_.model, tmp_path, QUESTIONS, QUESTIONS, method.predict)
    assert serving.load_ms > 1000 * queued_s
    assert serving.switch_ms > 1000 * queued_s / adapter_serving.SWITCH_COUNT


def test_measure_serving_other_adapter_saved_is_noticed(lively: Checkpoint, tmp_path: Path) -> None:
    method, _ = fit_method("lora", lively, steps=10, lr=5e-2)
    other_method, _ = fit_method("lora", lively, steps=10, lr=1e-5)
    other_method.save(tmp_path)
    answers, _ = measure_latency(method.predict, QUESTIONS)
    serving = adapter_serving.measure_serving(method.lm_.model, tmp_path, QUESTIONS, answers, method.predict)
    assert serving.reload_agreement < 1


def test_can_serve_without_adapter_is_false(lively: Checkpoint, tmp_path: Path) -> None:
    method, _ = fit_method("full", lively, steps=10)
    method.save(tmp_path)
    assert not adapter_serving.can_serve(method.lm_.model, tmp_path)


def test_run_failed_adapter_serving_keeps_other_results(
    lively: Checkpoint, make_task: MakeTask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise KeyError("x")

    monkeypatch.setattr(adapter_serving, "measure_serving", fail)
    task = make_task(tmp_path / "feelings")
    budget = "steps=1,batch=4"
    (job, *_) = plan.plan_jobs("lora", str(task), str(lively.folder), seeds=1, budget_text=budget, settings=[])
    record = worker.run_job(job, lambda event: None)
    assert (record.status, len(record.samples)) == ("ok", 5)
    assert record.cost is not None
    assert (record.cost.adapter_serving, record.cost.adapter_serving_error) == (None, "KeyError: 'x'")
