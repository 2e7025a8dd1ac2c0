"""Gradient training: start, trained weights, targets, budget, curve and repeatability."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import Clock

from bench import registry
from bench.execution.budget import BudgetTracker
from bench.measurement.determinism import seed_all
from bench.method import Method
from bench.modeling.causal_lm import CausalLM
from bench.modeling.checkpoint import Checkpoint
from bench.records import BudgetLimits
from bench.task import TaskTrainingData
from bench.testing import QUESTIONS, tiny_training_data

# The linear layers of the tiny base, per block: queries, keys, values, output, gate, up, down.
SHAPES = [(64, 64), (64, 32), (64, 32), (64, 64), (64, 128), (64, 128), (128, 64)]
BLOCKS = 2
METHODS = ("lora", "qlora")
PROMPTS = [tiny_training_data().prompt(question) for question in QUESTIONS]


@dataclass
class TrainingLog:
    """Batches and optimizer steps of a training."""

    rows: list[tuple[list[int], list[int], list[int]]] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)
    dtypes: set[torch.dtype] = field(default_factory=set)
    steps: int = 0
    before_batch: Callable[[], None] = lambda: None


@dataclass
class FitResult:
    method: Any
    lm: CausalLM
    budget: BudgetTracker
    log: TrainingLog
    changed: list[str]
    """Names of base weights that changed."""


@contextmanager
def record_training(log: TrainingLog) -> Iterator[None]:
    """Record every training batch and every optimizer step."""
    from torch.optim.optimizer import register_optimizer_step_post_hook
    from trl import SFTTrainer

    training_step = SFTTrainer.training_step

    def recorded_step(self: Any, model: Any, inputs: Any, *rest: Any, **named: Any) -> Any:
        columns = (inputs[key].tolist() for key in ("input_ids", "attention_mask", "labels"))
        rows = list(zip(*columns, strict=True))
        log.rows += rows
        log.sizes.append(len(rows))
        log.dtypes |= {weight.dtype for weight in model.parameters() if weight.requires_grad}
        log.before_batch()
        return training_step(self, model, inputs, *rest, **named)

    def count_step(*_: Any) -> None:
        log.steps += 1

    hook = register_optimizer_step_post_hook(count_step)
    SFTTrainer.training_step = recorded_step
    try:
        yield
    finally:
        SFTTrainer.training_step = training_step
        hook.remove()


def fit(
    name: str,
    base: Checkpoint,
    limits: BudgetLimits,
    *,
    seed: int = 0,
    pad_with_end: bool = False,
    before_batch: Callable[[], None] = lambda: None,
    **params: Any,
) -> FitResult:
    """Load and fit a method as a run does."""
    method: Method = registry.find_method(name)(**({"lr": 2e-2, "rank": 4} | params))
    data: TaskTrainingData = tiny_training_data(seed=seed)
    seed_all(seed)
    lm: Any = method.load(base)
    if pad_with_end:
        lm.tokenizer.pad_token = lm.tokenizer.eos_token
    frozen = [(name, weight, weight.detach().clone()) for name, weight in lm.model.named_parameters()]
    log = TrainingLog(before_batch=before_batch)
    seed_all(seed)
    budget = BudgetTracker(limits, len(data.train))
    with record_training(log):
        method.fit(lm, data, budget)
    budget.stop()
    changed = [name for name, weight, before in frozen if not torch.equal(weight, before)]
    return FitResult(method, lm, budget, log, changed)


Fit = Callable[[str], FitResult]


@pytest.fixture(scope="module")
def fitted(lively: Checkpoint) -> Fit:
    """A method after three steps of four examples, fitted once for all tests that do not change it."""
    results: dict[str, FitResult] = {}

    def fit_once(name: str) -> FitResult:
        if name not in results:
            results[name] = fit(name, lively, BudgetLimits(steps=3, batch=4))
        return results[name]

    return fit_once


def trained_weights(lm: CausalLM) -> dict[str, torch.Tensor]:
    return {name: weight for name, weight in lm.model.named_parameters() if weight.requires_grad}


@pytest.mark.parametrize("name", METHODS)
def test_adapt_does_not_change_the_output(lively: Checkpoint, name: str) -> None:
    method: Any = registry.find_method(name)()
    lm = method.load(lively)
    ids = torch.tensor([lm.tokens(PROMPTS[0])])
    with torch.inference_mode():
        before = lm.model(ids).logits
        after = method.adapt(lm.model).eval()(ids).logits
    assert torch.equal(before, after)


@pytest.mark.parametrize("name", METHODS)
def test_fit_leaves_frozen_weights_unchanged(fitted: Fit, name: str) -> None:
    assert fitted(name).changed == []


@pytest.mark.parametrize("name", METHODS)
def test_fit_trains_two_low_rank_matrices_per_linear_layer(fitted: Fit, name: str) -> None:
    run = fitted(name)
    rank = run.method.rank
    assert run.lm.count_parameters()[1] == BLOCKS * sum(rank * (inputs + outputs) for inputs, outputs in SHAPES)
    assert all("lora_" in weight for weight in trained_weights(run.lm))
    assert any(bool(weight.any()) for key, weight in trained_weights(run.lm).items() if "lora_B" in key), (
        "training must change the weights"
    )


@pytest.mark.parametrize("name", METHODS)
def test_fit_trained_weights_are_float32(fitted: Fit, name: str) -> None:
    assert fitted(name).log.dtypes == {torch.float32}


def test_qlora_quantizes_every_linear_layer_lora_none(fitted: Fit) -> None:
    from bitsandbytes.nn import Linear4bit

    layers = [module for module in fitted("qlora").lm.model.modules() if isinstance(module, Linear4bit)]
    assert len(layers) == BLOCKS * len(SHAPES)
    for layer in layers:
        assert layer.weight.dtype == torch.uint8
        assert layer.weight.quant_type == "nf4"
        assert layer.weight.quant_state.nested
        assert layer.compute_dtype == torch.float32
    assert not [module for module in fitted("lora").lm.model.modules() if isinstance(module, Linear4bit)]


def test_qlora_gradients_do_not_depend_on_earlier_answers(lively: Checkpoint) -> None:
    """On some CPUs bitsandbytes repacks weights for a kernel without gradient once a model answers."""

    def gradients(*, answers_first: bool) -> dict[str, torch.Tensor]:
        method: Any = registry.find_method("qlora")(rank=4)
        lm = method.load(lively)
        torch.manual_seed(0)
        lm.model = method.adapt(lm.model)
        for name, weight in lm.model.named_parameters():
            if "lora_B" in name:
                torch.nn.init.normal_(weight, std=0.1)
        if answers_first:
            lm.generate(PROMPTS[:1])
        ids = torch.tensor([lm.tokens(PROMPTS[0])])
        lm.model.train()(input_ids=ids, labels=ids).loss.backward()
        return {name: weight.grad for name, weight in lm.model.named_parameters() if weight.requires_grad}

    fresh, used = gradients(answers_first=False), gradients(answers_first=True)
    assert all(bool(gradient.any()) for gradient in fresh.values())
    assert all(torch.equal(gradient, used[name]) for name, gradient in fresh.items())


@pytest.mark.parametrize("name", METHODS)
def test_fit_targets_are_answer_and_end_token_only(fitted: Fit, name: str) -> None:
    run, data = fitted(name), tiny_training_data()
    end = run.lm.tokenizer.eos_token
    expected = {(data.prompt(row.input) + data.completion(row) + end, data.completion(row) + end) for row in data.train}
    seen = set()
    for ids, mask, labels in run.log.rows:
        real = [token for token, attended in zip(ids, mask, strict=True) if attended]
        targets = [label for label in labels if label != -100]
        assert mask == sorted(mask, reverse=True), "training must pad on the right"
        seen.add((run.lm.tokenizer.decode(real), run.lm.tokenizer.decode(targets)))
    assert seen == expected


def test_fit_end_token_that_also_pads_is_a_target_once(lively: Checkpoint) -> None:
    run = fit("lora", lively, BudgetLimits(epochs=1, batch=3), pad_with_end=True)
    data = tiny_training_data()
    pairs = [run.lm.encode(data.prompt(row.input), data.completion(row)) for row in data.train]
    targets = sorted([label for label in labels if label != -100] for _, _, labels in run.log.rows)
    assert targets == sorted(completion for _, completion in pairs)
    assert run.budget.tokens == sum(len(prompt) + len(completion) for prompt, completion in pairs)


@pytest.mark.parametrize("name", METHODS)
def test_fit_takes_exactly_the_steps_of_the_budget(fitted: Fit, name: str) -> None:
    run = fitted(name)
    assert run.log.steps == run.budget.steps == 3
    assert run.log.sizes == [4, 4, 4]
    assert run.budget.stopped_by == "steps"


def test_fit_epochs_show_every_example_that_often(lively: Checkpoint) -> None:
    run = fit("lora", lively, BudgetLimits(epochs=2, batch=3))
    assert run.log.sizes == [3, 3, 2] * 2
    assert run.log.steps == run.budget.steps == run.budget.planned_steps == 6
    assert run.budget.examples == 16
    assert run.budget.stopped_by == "epochs"
    examples = [tuple(token for token, real in zip(ids, mask, strict=True) if real) for ids, mask, _ in run.log.rows]
    assert len(set(examples[:8])) == 8
    assert set(examples[:8]) == set(examples[8:])


@pytest.mark.parametrize("tokens", [1, 200, 400])
def test_fit_limit_on_tokens_is_not_exceeded(lively: Checkpoint, tokens: int) -> None:
    run = fit("lora", lively, BudgetLimits(epochs=9, tokens=tokens, batch=4))
    real = sum(sum(mask) for _, mask, _ in run.log.rows)
    assert run.budget.tokens == real <= tokens
    assert run.budget.stopped_by == "tokens"
    assert run.log.steps == run.budget.steps
    assert (run.budget.steps == 0) == (tokens == 1)


def test_fit_limit_on_seconds_ends_training_in_time(lively: Checkpoint, clock: Clock) -> None:
    def advance_clock() -> None:
        clock.now += 0.3

    run = fit("lora", lively, BudgetLimits(epochs=9999, seconds=4.0), before_batch=advance_clock)
    assert run.budget.steps == run.log.steps == 13
    assert run.budget.seconds == pytest.approx(3.9)
    assert run.budget.stopped_by == "seconds"
    assert run.method.curve_[-1].step == run.budget.steps


@pytest.mark.parametrize("name", METHODS)
def test_fit_curve_covers_the_untrained_model_to_the_last_step(fitted: Fit, lively: Checkpoint, name: str) -> None:
    run = fitted(name)
    steps = [point.step for point in run.method.curve_]
    assert steps == sorted(set(steps))
    assert (steps[0], steps[-1]) == (0, run.budget.steps)
    first, *rest = run.method.curve_
    assert (first.train_loss, first.tokens) == (None, 0)
    data, untrained = tiny_training_data(), run.method.load(lively)
    held_out = [untrained.encode(data.prompt(row.input), data.completion(row)) for row in data.validation]
    loss, accuracy = untrained.evaluate_loss(held_out)
    assert first.validation_loss == pytest.approx(loss, abs=1e-3)
    assert first.next_token_accuracy == pytest.approx(accuracy, abs=1e-6)
    assert all(point.train_loss is not None and point.validation_loss is not None for point in rest)
    assert [point.tokens for point in rest] == sorted({point.tokens for point in rest})


def test_fit_train_loss_is_the_mean_over_answer_tokens(lively: Checkpoint) -> None:
    run = fit("lora", lively, BudgetLimits(steps=1, batch=8), lr=1e-9)
    data, untrained = tiny_training_data(), lively.load()
    seen = [untrained.encode(data.prompt(row.input), data.completion(row)) for row in data.train]
    assert run.method.curve_[-1].train_loss == pytest.approx(untrained.evaluate_loss(seen)[0], rel=1e-3)


@pytest.mark.parametrize("name", METHODS)
def test_save_adapter_gives_the_same_answers_with_peft(
    fitted: Fit, lively: Checkpoint, tmp_path: Path, name: str
) -> None:
    from peft import PeftModel

    run = fitted(name)
    answers = run.method.predict(QUESTIONS)
    base: Any = run.method.load(lively)
    assert base.generate(PROMPTS) != answers, "training must change an answer, or this test cannot fail"
    run.method.save(tmp_path)
    saved = CausalLM(PeftModel.from_pretrained(base.model, tmp_path), base.tokenizer, lively.decoding)
    assert saved.generate(PROMPTS) == answers
    from safetensors.torch import load_file

    saved_weights = load_file(tmp_path / "adapter_model.safetensors")
    assert sum(weight.numel() for weight in saved_weights.values()) == run.lm.count_parameters()[1]


@pytest.mark.parametrize("name", METHODS)
def test_fit_weights_depend_on_the_seed_only(fitted: Fit, lively: Checkpoint, name: str) -> None:
    first, repeated = fitted(name), fit(name, lively, BudgetLimits(steps=3, batch=4))
    other = fit(name, lively, BudgetLimits(steps=3, batch=4), seed=1)
    assert first.log.rows == repeated.log.rows != other.log.rows
    weights, repeated_weights, other_weights = (trained_weights(run.lm) for run in (first, repeated, other))
    assert weights.keys() == repeated_weights.keys()
    assert all(torch.equal(weight, repeated_weights[key]) for key, weight in weights.items())
    assert not all(torch.equal(weight, other_weights[key]) for key, weight in weights.items())


def test_fit_evaluation_does_not_count_as_training_time(lively: Checkpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    evaluate_loss, slept = CausalLM.evaluate_loss, 0.0

    def slow_evaluate_loss(lm: CausalLM, pairs: Any) -> tuple[float, float]:
        nonlocal slept
        slept += 0.3
        time.sleep(0.3)
        return evaluate_loss(lm, pairs)

    monkeypatch.setattr(CausalLM, "evaluate_loss", slow_evaluate_loss)
    start = time.perf_counter()
    run = fit("lora", lively, BudgetLimits(steps=2, batch=4))
    assert slept > 0.5
    assert run.budget.seconds <= time.perf_counter() - start - slept


def test_lora_hyper_parameters_reach_the_configuration(lively: Checkpoint) -> None:
    method: Any = registry.find_method("lora")(rank=2, alpha=6, dropout=0.05)
    model = method.adapt(lively.load().model)
    config = model.peft_config["default"]
    assert (config.r, config.lora_alpha, config.lora_dropout) == (2, 6, 0.05)
    assert {field.name for field in dataclasses.fields(method)} == {
        "lr", "warmup", "weight_decay", "keep", "patience", "rank", "alpha", "dropout",
    }  # fmt: skip
