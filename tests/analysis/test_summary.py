"""Summaries of methods: the mean over the seeds, the order, and the highest memory peak."""

from __future__ import annotations

from typing import Any

from conftest import MakeRecord, cuda_cost

from bench.analysis.summary import summarize_methods
from bench.records import Record

FAILED: dict[str, Any] = {
    "cost": None,
    "samples": [],
    "scores": {},
    "error": {"kind": "K", "message": "out of disk space", "trace": None},
}


def forgetting(before: float, after: float | None) -> dict[str, Any]:
    return {"text_sha256": "c" * 64, "tokens": 9, "nats_before": before, "nats_after": after}


def test_summarize_methods_puts_best_first(make_record: MakeRecord) -> None:
    records = [make_record(name, em) for name, em in (("lora", 0.5), ("few-shot", 0.25), ("qlora", 0.75))]
    assert [summary.method for summary in summarize_methods(records)] == ["qlora", "lora", "few-shot"]


def test_summarize_methods_sorts_by_the_main_metric_of_the_task(make_record: MakeRecord) -> None:
    first = make_record("first", task__metric="f1", scores={"em": 0.9, "f1": 0.1})
    second = make_record("second", task__metric="f1", scores={"em": 0.1, "f1": 0.9})
    assert [summary.method for summary in summarize_methods([first, second])] == ["second", "first"]


def test_summarize_methods_ignores_the_order_of_records(make_record: MakeRecord) -> None:
    records = [make_record(name, 0.5, seed=seed) for name in ("b", "a", "c") for seed in (0, 1)]
    assert summarize_methods(records) == summarize_methods(records[::-1])


def test_summarize_methods_keeps_a_failed_seed_apart(make_record: MakeRecord) -> None:
    records = [make_record("lora", 0.5), make_record("lora", seed=1, status="error", **FAILED)]
    completed, failed = summarize_methods(records)
    assert (completed.status, completed.seeds, completed.scores["em"]) == ("ok", [0], 0.5)
    assert (failed.status, failed.seeds) == ("error", [1])


def test_summarize_methods_averages_seeds(make_record: MakeRecord) -> None:
    (summary,) = summarize_methods([make_record(em=0.25), make_record(em=0.75, seed=1)])
    assert summary.scores["em"] == 0.5
    assert summary.seeds == [0, 1]


def test_summarize_methods_keeps_hyper_parameters_apart(make_record: MakeRecord) -> None:
    assert len(summarize_methods([make_record(), make_record(method__params={"rank": 8, "lr": 2e-3})])) == 2


def test_summarize_methods_leaves_diverged_loss_out_of_the_mean(make_record: MakeRecord) -> None:
    records = [make_record(forgetting=forgetting(2.0, 2.5)), make_record(seed=1, forgetting=forgetting(2.0, None))]
    (summary,) = summarize_methods(records)
    assert summary.forgetting_nats == 0.5


def test_summarize_methods_takes_highest_measured_peak(make_record: MakeRecord) -> None:
    cost = make_record().model_dump(mode="json")["cost"]
    peaks = [phase["peak_mib"] for phase in cost["phases"].values()]
    cost["phases"]["fit"]["peak_mib"] = None
    cost["phases"]["predict"] = cost["phases"]["fit"] | {"peak_mib": 5000.0}
    (summary,) = summarize_methods([make_record(), make_record(seed=1, cost=cost)])
    assert summary.peak_mib == 5000.0
    (summary,) = summarize_methods([make_record()])
    assert summary.peak_mib == max(peaks)


def test_summarize_methods_keeps_memory_of_gpu_and_host_apart(make_record: MakeRecord) -> None:
    records = [make_record(), make_record(seed=1, cost=cuda_cost(make_record(), device_mib=400.0, host_mib=3000.0))]
    (summary,) = summarize_methods(records)
    assert (summary.device_peak_mib, summary.host_peak_mib, summary.peak_mib) == (400.0, 3000.0, 400.0)
    (summary,) = summarize_methods(records[:1])
    assert (summary.device_peak_mib, summary.host_peak_mib, summary.peak_mib) == (None, 700.0, 700.0)


def test_summarize_methods_old_cuda_record_has_imports_on_the_host(make_record: MakeRecord) -> None:
    cost = cuda_cost(make_record(), device_mib=400.0, host_mib=3000.0)
    for phase in cost["phases"].values():
        del phase["host_peak_mib"]
    del cost["host_memory_source"], cost["context_mib"]
    cost["phases"]["import"]["peak_mib"] = 900.0
    record = make_record(cost=cost)
    (summary,) = summarize_methods([record])
    assert (summary.device_peak_mib, summary.host_peak_mib) == (400.0, 900.0)
    assert record.cost is not None
    assert record.cost.phases["import"].peak_mib is None
    assert Record.from_json(record.model_dump_json().encode()) == record
