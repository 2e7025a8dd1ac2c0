"""What a run says beyond seconds and peaks: memory beforehand, operations, and what an adapter is worth in service."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import MakeTask

from bench import registry
from bench.execution import plan, worker
from bench.execution.budget import BudgetTracker
from bench.measurement import adapter_serving, environment, flops, memory_estimate
from bench.measurement.flops import FlopCounter
from bench.measurement.meter import FEWEST, QUERIES, measure_latency
from bench.modeling.checkpoint import Checkpoint
from bench.modeling.seed import seed_all
from bench.records.record import BudgetLimits
from bench.testing import QUESTIONS, tiny_training_data

LESSON = tiny_training_data()
ROOT = Path(__file__).parents[2]
MERGED = ("lora", "dora", "ia3")
linux = pytest.mark.skipif(sys.platform != "linux", reason="resident memory is read from /proc")


def fit(name: str, base: Checkpoint, **params: Any) -> tuple[Any, BudgetTracker]:
    method: Any = registry.find_method(name)(**params)
    seed_all(0)
    purse = BudgetTracker(BudgetLimits(steps=10, batch=4), len(LESSON.train))
    return method.fit(method.load(base), LESSON, purse), purse


@linux
@pytest.mark.parametrize("trained", ["all", "lora"])
def test_the_peak_of_training_is_as_forecast(trained: str) -> None:
    """Within a fifth, on a model whose tensors outweigh what the libraries hold, without an allocator's reserves."""
    script = f"""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM
    from peft import LoraConfig, get_peft_model
    from bench.measurement import memory_estimate
    from bench.measurement.meter import Meter
    torch.set_num_threads(1)
    shape = dict(hidden_size=384, intermediate_size=1024, num_hidden_layers=6, num_attention_heads=6, vocab_size=2000)
    model = LlamaForCausalLM(LlamaConfig(**shape, bos_token_id=None, eos_token_id=0))
    if {trained == "lora"}:
        model = get_peft_model(model, LoraConfig(task_type="CAUSAL_LM", target_modules="all-linear"))
    optimizer = torch.optim.AdamW([weight for weight in model.parameters() if weight.requires_grad])

    def step(rows, length):
        ids = torch.ones((rows, length), dtype=torch.long)
        model(input_ids=ids, labels=ids).loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    ready = [model(input_ids=torch.ones((1, 4), dtype=torch.long)).logits.sum().backward()]  # libraries load now
    model.zero_grad()
    told = memory_estimate.training(model, 16 * 160)
    meter = Meter()
    with meter.phase("fit"):
        step(16, 160)
        step(16, 160)
    fit = meter.phases["fit"]
    print(told / 2**20, fit.peak_mib - fit.start_mib)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)],
        cwd=ROOT,
        env=os.environ | {"MALLOC_MMAP_THRESHOLD_": str(2**20)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    told, measured = map(float, done.stdout.split()[-2:])
    assert 0.8 * measured < told < 1.25 * measured


def test_the_forecast_grows_with_the_tokens_and_with_what_is_trained(lively: Checkpoint) -> None:
    lora, _ = fit("lora", lively)
    full, _ = fit("full", lively)
    few, more, most = (memory_estimate.training_bytes(lora.lm_.model, tokens) for tokens in (100, 200, 300))
    assert more - few == pytest.approx(most - more, abs=2)
    assert few < more
    total = full.lm_.count()[0]
    states = memory_estimate.training_bytes(full.lm_.model, 0) - memory_estimate.training_bytes(lora.lm_.model, 0)
    trained = lora.lm_.count()[1]
    assert states == pytest.approx(12 * (total - trained), rel=0.02)


def test_forecasting_moves_no_dice_and_leaves_the_model_as_it_was(lively: Checkpoint) -> None:
    lora, _ = fit("lora", lively, dropout=0.1)
    before = {name: weight.clone() for name, weight in lora.lm_.model.named_parameters()}
    lora.lm_.model.eval()
    torch.manual_seed(3)
    wanted = torch.rand(1)
    torch.manual_seed(3)
    memory_estimate.training_bytes(lora.lm_.model, 100)
    assert torch.rand(1) == wanted
    assert not lora.lm_.model.training
    assert all(torch.equal(weight, before[name]) for name, weight in lora.lm_.model.named_parameters())
    assert all(weight.grad is None for weight in lora.lm_.model.parameters())


def test_held_bytes_count_shared_weights_once(lively: Checkpoint) -> None:
    model = lively.load().model
    assert memory_estimate.model_bytes(model) == sum({id(w): w.numel() * 4 for w in model.parameters()}.values()) + sum(
        buffer.numel() * buffer.element_size() for buffer in model.buffers()
    )


def test_the_first_pass_is_counted_and_scaled() -> None:
    counted, layer, rows = FlopCounter(), torch.nn.Linear(8, 5, bias=False), torch.rand(7, 8)
    for _ in range(3):
        with counted.count_once(7):
            layer(rows)
    assert counted.scaled_to(7) == 2 * 7 * 8 * 5
    assert counted.scaled_to(70) == 10 * counted.scaled_to(7)
    assert FlopCounter().scaled_to(70) == 0


def test_training_all_weights_takes_six_operations_per_weight_and_token(lively: Checkpoint) -> None:
    full, purse = fit("full", lively)
    weights = full.lm_.count()[0]
    assert purse.flops is not None
    # Padding is computed too, the embedding is tied, and logits are made for answers only.
    assert 0.6 < purse.flops / (6 * weights * purse.tokens) < 1.5


def test_a_frozen_base_takes_fewer_operations_and_frozen_features_fewest(lively: Checkpoint) -> None:
    per_token = {}
    for name, params in {"full": {}, "lora": {"rank": 1}, "features": {}}.items():
        _, purse = fit(name, lively, **params)
        assert purse.flops is not None
        per_token[name] = purse.flops / purse.tokens
    assert per_token["features"] < per_token["lora"] < per_token["full"]


def test_the_most_that_a_machine_does_is_a_rate() -> None:
    assert 1e8 < flops.measure_peak_flops("cpu") < 1e15


def test_questions_are_timed_one_by_one_and_few_where_each_takes_long() -> None:
    asked: list[list[str]] = []

    def answer(questions: list[str]) -> list[str]:
        asked.append(questions)
        return [question.upper() for question in questions]

    questions = [f"question {number}" for number in range(2 * QUERIES)]
    answers, times = measure_latency(answer, questions)
    assert answers == [question.upper() for question in questions[:QUERIES]]
    assert len(times) == QUERIES
    assert asked == [questions[:1], *([question] for question in questions[:QUERIES])]
    answers, times = measure_latency(answer, questions, seconds=0)
    assert len(answers) == len(times) == FEWEST
    assert measure_latency(answer, []) == ([], ())


@pytest.mark.parametrize("name", [*MERGED, "prefix", "prompt-tuning"])
def test_an_adapter_put_on_its_base_anew_answers_as_before(name: str, lively: Checkpoint, tmp_path: Path) -> None:
    method, _ = fit(name, lively)
    method.save(tmp_path)
    model = method.lm_.model
    assert adapter_serving.can_serve(model, tmp_path)
    alone, _ = measure_latency(method.predict, QUESTIONS)
    found = adapter_serving.measure_serving(model, tmp_path, QUESTIONS, alone, method.predict)
    assert (found.reload_agreement, found.queries) == (1, len(QUESTIONS))
    assert found.load_ms > found.switch_ms > 0
    if name in MERGED:
        assert found.merge_agreement == 1
        assert len(found.merged_latency_ms) == len(QUESTIONS)
        assert all(milliseconds > 0 for milliseconds in found.merged_latency_ms)
    else:
        assert found.merge_agreement is None
        assert found.merged_latency_ms == ()


def test_an_adapter_that_was_not_saved_as_it_is_is_found_out(lively: Checkpoint, tmp_path: Path) -> None:
    method, _ = fit("lora", lively, lr=5e-2)
    other, _ = fit("lora", lively, lr=1e-5)
    other.save(tmp_path)
    alone, _ = measure_latency(method.predict, QUESTIONS)
    found = adapter_serving.measure_serving(method.lm_.model, tmp_path, QUESTIONS, alone, method.predict)
    assert found.reload_agreement < 1


def test_what_is_no_adapter_is_not_put_in_service(lively: Checkpoint, tmp_path: Path) -> None:
    method, _ = fit("full", lively)
    method.save(tmp_path)
    assert not adapter_serving.can_serve(method.lm_.model, tmp_path)


def test_an_adapter_that_cannot_be_served_costs_no_run(
    lively: Checkpoint, make_task: MakeTask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any) -> None:
        raise KeyError("x")

    monkeypatch.setattr(adapter_serving, "serve", broken)
    task = make_task(tmp_path / "feelings")
    budget = "steps=1,batch=4"
    (job, *_) = plan.plan_jobs("lora", str(task), str(lively.folder), seeds=1, budget_text=budget, settings=[])
    record = worker.Run(job, lambda state: None).record()
    assert (record.status, len(record.samples)) == ("ok", 5)
    assert record.cost is not None
    assert (record.cost.adapter_serving, record.cost.adapter_serving_error) == (None, "KeyError: 'x'")


def test_a_record_tells_what_bounds_a_prompt_and_how_it_is_read(
    lively: Checkpoint, make_task: MakeTask, tmp_path: Path
) -> None:
    task = make_task(tmp_path / "feelings")
    jobs = plan.plan_jobs("few-shot", str(task), str(lively.folder), seeds=1, budget_text="quick", settings=[])
    records = {job.spec.method.name: worker.Run(job, lambda state: None).record() for job in jobs}
    few, none = records["few-shot"].cost, records["majority"].cost
    assert few and few.answering and none and none.answering
    assert (few.answering.context, few.answering.attention) == (256, "sdpa")
    assert (none.answering.context, none.answering.attention) == (None, None)


@pytest.mark.parametrize(("said", "wanted"), [("", 2), ("1", 1), ("7", 2), ("0", 2), ("many", 2)])
def test_a_run_computes_with_every_core_unless_the_user_says_fewer(
    monkeypatch: pytest.MonkeyPatch, said: str, wanted: int
) -> None:
    monkeypatch.setattr(environment, "available_cores", lambda: 2)
    monkeypatch.setenv("OMP_NUM_THREADS", said)
    assert environment.threads() == wanted
