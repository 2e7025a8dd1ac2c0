"""Training by several ranks: steps, budget and results are those of one process."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import MakeTask, examples
from support import tiny_encoder

from bench.execution import fork_client, launcher, plan
from bench.execution.job import Job
from bench.modeling.checkpoint import Checkpoint
from bench.records import Record, comparability
from bench.training import distributed

CPU_CONFIG: dict[str, Any] = {"distributed_type": "MULTI_CPU", "use_cpu": True, "num_processes": 2}
# LoRA with one row at a time: a step takes several micro-batches, and one rank has no row for the last of them.
SINGLE_ROW_METHOD = """
from dataclasses import dataclass
from bench.methods.lora import LoRA

@dataclass
class SingleRow(LoRA):
    def fit(self, lm, data, budget):
        budget.micro_batch = 1
        return super().fit(lm, data, budget)
"""

# DPO whose curve has the lowest loss at step 2.
SECOND_STEP_IS_BEST_METHOD = """
from dataclasses import dataclass
from unittest.mock import patch
from bench.methods.dpo import DPO

@dataclass
class SecondBest(DPO):
    def fit(self, lm, data, budget):
        from bench.training.selection import WeightSelection
        add_point = WeightSelection.add_point

        def add_scripted_point(selection, step, loss, **kwargs):
            add_point(selection, step, 1.0 + abs(step - 2), **kwargs)

        with patch.object(WeightSelection, "add_point", add_scripted_point):
            return super().fit(lm, data, budget)
"""


@pytest.fixture(autouse=True)
def close_fork_servers() -> Iterator[None]:
    yield
    fork_client.close_servers()


def write_config(file: Path, config: dict[str, Any]) -> str:
    file.write_text(yaml.safe_dump(config), "utf-8")
    return str(file)


def plan_job(
    method: str, task: Path, base: Checkpoint, *settings: str, budget: str, accelerate: str | None = None
) -> Job:
    jobs = plan.plan_jobs(
        method,
        str(task),
        str(base.folder),
        budget_text=budget,
        seeds=1,
        settings=settings,
        accelerate=accelerate,
        device="cpu",
        save_artifacts=True,
    )
    return next(job for job in jobs if job.spec.method.ref == method)


def run(job: Job, out: Path) -> Record:
    record, _ = launcher.launch_run(job, out)
    assert record.status == "ok", record.error
    return record


def load_saved_weights(folder: Path) -> dict[str, Any]:
    from safetensors.torch import load_file

    (file,) = folder.glob("*/*.safetensors")
    return load_file(file)


def run_with_one_and_two_ranks(
    method: str, task: Path, base: Checkpoint, folder: Path, budget: str, *settings: str
) -> tuple[Record, Record]:
    """Run with one process into `one` and with two into `two`; check that both give the same."""
    accelerate = write_config(folder / "cpu.yaml", CPU_CONFIG)
    single = run(plan_job(method, task, base, *settings, budget=budget), folder / "one")
    double = run(plan_job(method, task, base, *settings, budget=budget, accelerate=accelerate), folder / "two")
    assert single.id == double.id
    assert single.env and double.env and (single.env.processes, double.env.processes) == (1, 2)
    assert single.env.threads == double.env.threads
    assert single.cost and double.cost and single.cost.budget_usage and double.cost.budget_usage
    for name in ("steps", "examples", "tokens", "epochs", "stopped_by"):
        assert getattr(single.cost.budget_usage, name) == getattr(double.cost.budget_usage, name), name
    assert [point.step for point in single.curve] == [point.step for point in double.curve]
    for point, other in zip(single.curve, double.curve, strict=True):
        assert (point.step, point.tokens) == (other.step, other.tokens)
        assert other.train_loss == point.train_loss or other.train_loss == pytest.approx(point.train_loss, rel=1e-4)
        assert other.validation_loss == pytest.approx(point.validation_loss, rel=1e-4)
    single_weights, double_weights = load_saved_weights(folder / "one"), load_saved_weights(folder / "two")
    assert single_weights.keys() == double_weights.keys()
    for name, weight in single_weights.items():
        # Attention does not depend on the key bias. Its gradient is rounding error, which AdamW scales to full steps.
        if not name.endswith("key.bias"):
            assert (double_weights[name] - weight).norm() <= 1e-3 * weight.norm(), name
    return single, double


def test_distributed_without_group_behaves_as_one_rank() -> None:
    assert (distributed.world_size(), distributed.rank(), distributed.local_rank(1)) == (1, 0, None)
    assert distributed.broadcast_from_first(lambda: "value") == "value"
    assert distributed.all_reduce_min(3) == 3
    assert distributed.leave_group() == 0.0
    distributed.barrier()
    distributed.join_group(1, "cpu")
    assert distributed.world_size() == 1


def test_local_rank_other_number_of_processes_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "3")
    with pytest.raises(RuntimeError, match="3 processes, but the run was planned with 2"):
        distributed.local_rank(2)


def test_two_ranks_give_the_results_of_one(
    make_task: MakeTask, lively: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "single_row.py").write_text(SINGLE_ROW_METHOD, "utf-8")
    method, budget = "./single_row.py", "steps=5,batch=4"
    task = make_task(tmp_path / "feelings", train=examples(0, 11))  # steps of 4, 4 and 3 rows
    single, double = run_with_one_and_two_ranks(method, task, lively, tmp_path, budget)
    assert [sample.raw for sample in single.samples] == [sample.raw for sample in double.samples]
    assert single.cost and double.cost and double.cost.budget_usage and single.cost.budget_usage
    assert single.cost.budget_usage.micro_batch == double.cost.budget_usage.micro_batch == 1
    assert single.cost.phases.keys() == double.cost.phases.keys()
    assert "processes" in comparability.environment_differences([single, double])
    same_job = plan_job(method, task, lively, budget=budget, accelerate=str(tmp_path / "cpu.yaml"))
    assert launcher.find_finished_record(same_job, tmp_path / "two") == double
    assert launcher.find_finished_record(same_job, tmp_path / "one") is None


@pytest.mark.slow
@pytest.mark.parametrize(
    "method", ["lora", "full", "qlora", "base-ft", "prefix", "prompt-tuning", "bitfit", "shuffled-labels"]
)
def test_two_ranks_give_the_results_of_one_for_method(
    make_task: MakeTask, lively: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    monkeypatch.chdir(tmp_path)
    run_with_one_and_two_ranks(method, make_task(tmp_path / "feelings"), lively, tmp_path, "epochs=2,batch=4")


@pytest.mark.slow
def test_two_ranks_give_the_results_of_one_for_dpo(
    make_task: MakeTask, lively: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    task = make_task(tmp_path / "feelings", train=examples(0, 11))
    settings = ("dpo.share=0.5", "dpo.pace=0.5")
    single, _ = run_with_one_and_two_ranks("dpo", task, lively, tmp_path, "steps=12,batch=4", *settings)
    assert single.cost and single.cost.budget_usage and single.cost.budget_usage.steps == 12
    assert any(point.train_loss is None for point in single.curve[1:])  # only DPO records no training loss


@pytest.mark.slow
@pytest.mark.parametrize(("keep", "patience"), [("best", 0), ("best", 1)])
def test_two_ranks_keep_the_weights_that_one_keeps(
    make_task: MakeTask, lively: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, keep: str, patience: int
) -> None:
    """The first rank decides. The second stage of DPO shows that both went on from the same weights."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "second_best.py").write_text(SECOND_STEP_IS_BEST_METHOD, "utf-8")
    task = make_task(tmp_path / "feelings", train=examples(0, 11))
    params = {"share": 0.5, "pace": 0.5, "keep": keep, "patience": patience}
    settings = [f"second-best.{name}={value}" for name, value in params.items()]
    records = run_with_one_and_two_ranks("./second_best.py", task, lively, tmp_path, "steps=12,batch=4", *settings)
    for record in records:
        assert record.kept_weights and record.cost and record.cost.budget_usage
        assert record.kept_weights.not_chosen == "training on preferences went on from the weights of step 2"
        assert (record.cost.budget_usage.stopped_by, record.cost.budget_usage.steps) == (
            ("patience", 10) if patience else ("steps", 12)
        )


@pytest.mark.slow
def test_two_ranks_give_the_results_of_one_for_encoder(
    make_task: MakeTask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    # Every rank has a random state of its own, so dropout would make a difference.
    base = tiny_encoder(tmp_path / "base", hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    task = make_task(tmp_path / "feelings", train=examples(0, 11), labels=["warm", "cold", "mild"])
    run_with_one_and_two_ranks("full", task, base, tmp_path, "epochs=2,batch=4")


@pytest.mark.slow
def test_two_ranks_stop_by_the_clock_of_the_first(
    make_task: MakeTask, tiny: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    accelerate = write_config(tmp_path / "cpu.yaml", CPU_CONFIG)
    budget = "epochs=10000,batch=4,seconds=5"
    job = plan_job("lora", make_task(tmp_path / "feelings"), tiny, budget=budget, accelerate=accelerate)
    record = run(job, tmp_path)
    assert record.cost is not None
    usage = record.cost.budget_usage
    assert usage and usage.stopped_by == "seconds" and 0 < usage.seconds < 60 and usage.steps > 0
