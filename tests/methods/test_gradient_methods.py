"""Training: it starts from the base, changes only what it says, keeps to the budget, and can be had again."""

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
from bench.method import Method
from bench.modeling.causal_lm import CausalLM
from bench.modeling.checkpoint import Checkpoint
from bench.modeling.seed import seed_all
from bench.records.record import BudgetLimits
from bench.task import TaskTrainingData
from bench.testing import QUESTIONS, tiny_training_data
from bench.training import trainer

# The linear layers of the tiny base, per block: queries, keys, values, output, gate, up, down.
SHAPES = [(64, 64), (64, 32), (64, 32), (64, 64), (64, 128), (64, 128), (128, 64)]
BLOCKS = 2
METHODS = ("lora", "qlora")
PROMPTS = [tiny_training_data().prompt(question) for question in QUESTIONS]


@dataclass
class Seen:
    """What went through the model while it was trained."""

    rows: list[tuple[list[int], list[int], list[int]]] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)
    dtypes: set[torch.dtype] = field(default_factory=set)
    steps: int = 0
    working: Callable[[], None] = lambda: None


@dataclass
class Fitted:
    method: Any
    lm: CausalLM
    budget: BudgetTracker
    seen: Seen
    changed: list[str]


@contextmanager
def watching(seen: Seen) -> Iterator[None]:
    """Looks at every training batch and every optimizer step, whoever takes it."""
    from torch.optim.optimizer import register_optimizer_step_post_hook
    from trl import SFTTrainer

    training_step = SFTTrainer.training_step

    def spy(self: Any, model: Any, inputs: Any, *rest: Any, **named: Any) -> Any:
        columns = (inputs[key].tolist() for key in ("input_ids", "attention_mask", "labels"))
        rows = list(zip(*columns, strict=True))
        seen.rows += rows
        seen.sizes.append(len(rows))
        seen.dtypes |= {weight.dtype for weight in model.parameters() if weight.requires_grad}
        seen.working()
        return training_step(self, model, inputs, *rest, **named)

    def count(*_: Any) -> None:
        seen.steps += 1

    hook = register_optimizer_step_post_hook(count)
    SFTTrainer.training_step = spy
    try:
        yield
    finally:
        SFTTrainer.training_step = training_step
        hook.remove()


def fit(
    name: str,
    base: Checkpoint,
    grant: BudgetLimits,
    *,
    seed: int = 0,
    fills_with_end: bool = False,
    working: Callable[[], None] = lambda: None,
    **params: Any,
) -> Fitted:
    """Just as the worker does it."""
    method: Method = registry.find_method(name)(**({"lr": 2e-2, "rank": 4} | params))
    data: TaskTrainingData = tiny_training_data(seed=seed)
    seed_all(seed)
    lm: Any = method.load(base)
    if fills_with_end:
        lm.tokenizer.pad_token = lm.tokenizer.eos_token
    frozen = [(name, weight, weight.detach().clone()) for name, weight in lm.model.named_parameters()]
    seen = Seen(working=working)
    seed_all(seed)
    budget = BudgetTracker(grant, len(data.train))
    with watching(seen):
        method.fit(lm, data, budget)
    budget.stop()
    changed = [name for name, weight, before in frozen if not torch.equal(weight, before)]
    return Fitted(method, lm, budget, seen, changed)


Fit = Callable[[str], Fitted]


@pytest.fixture(scope="module")
def fitted(lively: Checkpoint) -> Fit:
    """A method fitted once for all tests that only look at it: three steps of four examples, two passes at most."""
    made: dict[str, Fitted] = {}

    def once(name: str) -> Fitted:
        if name not in made:
            made[name] = fit(name, lively, BudgetLimits(steps=3, batch=4))
        return made[name]

    return once


def trained(lm: CausalLM) -> dict[str, torch.Tensor]:
    return {name: weight for name, weight in lm.model.named_parameters() if weight.requires_grad}


@pytest.mark.parametrize("name", METHODS)
def test_training_starts_from_the_base_as_it_was_loaded(lively: Checkpoint, name: str) -> None:
    method: Any = registry.find_method(name)()
    lm = method.load(lively)
    ids = torch.tensor([lm.tokens(PROMPTS[0])])
    with torch.inference_mode():
        before = lm.model(ids).logits
        after = method.adapt(lm.model).eval()(ids).logits
    assert torch.equal(before, after)


@pytest.mark.parametrize("name", METHODS)
def test_the_frozen_weights_keep_every_bit(fitted: Fit, name: str) -> None:
    assert fitted(name).changed == []


@pytest.mark.parametrize("name", METHODS)
def test_what_is_trained_is_a_pair_of_low_rank_matrices_beside_each_linear_layer(fitted: Fit, name: str) -> None:
    run = fitted(name)
    rank = run.method.rank
    assert run.lm.count_parameters()[1] == BLOCKS * sum(rank * (wide + high) for wide, high in SHAPES)
    assert all("lora_" in weight for weight in trained(run.lm))
    assert any(bool(weight.any()) for key, weight in trained(run.lm).items() if "lora_B" in key), "nothing was learnt"


@pytest.mark.parametrize("name", METHODS)
def test_what_is_trained_is_held_in_float32(fitted: Fit, name: str) -> None:
    assert fitted(name).seen.dtypes == {torch.float32}


def test_qlora_holds_every_linear_layer_in_4_bits_and_lora_none(fitted: Fit) -> None:
    from bitsandbytes.nn import Linear4bit

    layers = [module for module in fitted("qlora").lm.model.modules() if isinstance(module, Linear4bit)]
    assert len(layers) == BLOCKS * len(SHAPES)
    for layer in layers:
        assert layer.weight.dtype == torch.uint8
        assert layer.weight.quant_type == "nf4"
        assert layer.weight.quant_state.nested
        assert layer.compute_dtype == torch.float32
    assert not [module for module in fitted("lora").lm.model.modules() if isinstance(module, Linear4bit)]


def test_qlora_learns_the_same_whether_or_not_the_model_has_answered_before(lively: Checkpoint) -> None:
    """bitsandbytes repacks weights for a kernel without a gradient once a model answers, on CPUs that have one."""

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
def test_the_labels_that_are_trained_on_are_answer_and_end_and_no_more(fitted: Fit, name: str) -> None:
    run, data = fitted(name), tiny_training_data()
    end = run.lm.tokenizer.eos_token
    expected = {
        (data.prompt(row.input) + data.completion(row) + end, data.completion(row) + end) for row in data.train
    }
    seen = set()
    for ids, mask, labels in run.seen.rows:
        real = [token for token, attended in zip(ids, mask, strict=True) if attended]
        learnt = [label for label in labels if label != -100]
        assert mask == sorted(mask, reverse=True), "training pads on the right"
        seen.add((run.lm.tokenizer.decode(real), run.lm.tokenizer.decode(learnt)))
    assert seen == expected


def test_an_end_that_also_fills_is_still_learnt_and_counted_once(lively: Checkpoint) -> None:
    run = fit("lora", lively, BudgetLimits(epochs=1, batch=3), fills_with_end=True)
    data = tiny_training_data()
    pairs = [run.lm.encode(data.prompt(row.input), data.completion(row)) for row in data.train]
    learnt = sorted([label for label in labels if label != -100] for _, _, labels in run.seen.rows)
    assert learnt == sorted(tail for _, tail in pairs)
    assert run.budget.tokens == sum(len(head) + len(tail) for head, tail in pairs)


@pytest.mark.parametrize("name", METHODS)
def test_a_budget_of_steps_is_used_up_and_not_exceeded(fitted: Fit, name: str) -> None:
    run = fitted(name)
    assert run.seen.steps == run.budget.steps == 3
    assert run.seen.sizes == [4, 4, 4]
    assert run.budget.stopped_by == "steps"


def test_a_budget_of_passes_shows_every_example_so_many_times(lively: Checkpoint) -> None:
    run = fit("lora", lively, BudgetLimits(epochs=2, batch=3))
    assert run.seen.sizes == [3, 3, 2] * 2
    assert run.seen.steps == run.budget.steps == run.budget.planned_steps == 6
    assert run.budget.examples == 16
    assert run.budget.stopped_by == "passes"
    shown = [tuple(token for token, real in zip(ids, mask, strict=True) if real) for ids, mask, _ in run.seen.rows]
    assert len(set(shown[:8])) == 8
    assert set(shown[:8]) == set(shown[8:])


@pytest.mark.parametrize("tokens", [1, 200, 400])
def test_a_budget_of_tokens_is_not_exceeded_by_one_step(lively: Checkpoint, tokens: int) -> None:
    run = fit("lora", lively, BudgetLimits(epochs=9, tokens=tokens, batch=4))
    real = sum(sum(mask) for _, mask, _ in run.seen.rows)
    assert run.budget.tokens == real <= tokens
    assert run.budget.stopped_by == "tokens"
    assert run.seen.steps == run.budget.steps
    assert (run.budget.steps == 0) == (tokens == 1)


def test_a_budget_of_seconds_ends_training_in_time(lively: Checkpoint, clock: Clock) -> None:
    def work() -> None:
        clock.now += 0.3

    run = fit("lora", lively, BudgetLimits(epochs=9999, seconds=4.0), working=work)
    assert run.budget.steps == run.seen.steps == 13
    assert run.budget.seconds == pytest.approx(3.9)
    assert run.budget.stopped_by == "seconds"
    assert run.method.curve_[-1].step == run.budget.steps


@pytest.mark.parametrize("name", METHODS)
def test_the_curve_goes_from_the_untrained_model_to_the_last_step(fitted: Fit, lively: Checkpoint, name: str) -> None:
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


def test_the_train_loss_is_the_mean_over_answer_tokens(lively: Checkpoint) -> None:
    run = fit("lora", lively, BudgetLimits(steps=1, batch=8), lr=1e-9)
    data, untrained = tiny_training_data(), lively.load()
    seen = [untrained.encode(data.prompt(row.input), data.completion(row)) for row in data.train]
    assert run.method.curve_[-1].train_loss == pytest.approx(untrained.evaluate_loss(seen)[0], rel=1e-3)


@pytest.mark.parametrize("name", METHODS)
def test_what_is_saved_gives_the_same_answers_with_peft_alone(
    fitted: Fit, lively: Checkpoint, tmp_path: Path, name: str
) -> None:
    from peft import PeftModel

    run = fitted(name)
    answers = run.method.predict(QUESTIONS)
    base: Any = run.method.load(lively)
    assert base.generate(PROMPTS) != answers, "training changed no answer, so this test could not fail"
    run.method.save(tmp_path)
    saved = CausalLM(PeftModel.from_pretrained(base.model, tmp_path), base.tokenizer, lively.decoding)
    assert saved.generate(PROMPTS) == answers
    from safetensors.torch import load_file

    kept = load_file(tmp_path / "adapter_model.safetensors")
    assert sum(weight.numel() for weight in kept.values()) == run.lm.count_parameters()[1]


@pytest.mark.parametrize("name", METHODS)
def test_the_seed_decides_what_is_learnt(fitted: Fit, lively: Checkpoint, name: str) -> None:
    first, again = fitted(name), fit(name, lively, BudgetLimits(steps=3, batch=4))
    other = fit(name, lively, BudgetLimits(steps=3, batch=4), seed=1)
    assert first.seen.rows == again.seen.rows != other.seen.rows
    learnt, relearnt, otherwise = (trained(run.lm) for run in (first, again, other))
    assert learnt.keys() == relearnt.keys()
    assert all(torch.equal(weight, relearnt[key]) for key, weight in learnt.items())
    assert not all(torch.equal(weight, otherwise[key]) for key, weight in learnt.items())


def test_evaluation_on_the_way_is_not_charged(lively: Checkpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    measure, slept = CausalLM.evaluate_loss, 0.0

    def slow(lm: CausalLM, pairs: Any) -> tuple[float, float]:
        nonlocal slept
        slept += 0.3
        time.sleep(0.3)
        return measure(lm, pairs)

    monkeypatch.setattr(CausalLM, "measure", slow)
    began = time.perf_counter()
    run = fit("lora", lively, BudgetLimits(steps=2, batch=4))
    assert slept > 0.5
    assert run.budget.seconds <= time.perf_counter() - began - slept


def test_hyper_parameters_do_what_they_say(lively: Checkpoint) -> None:
    method: Any = registry.find_method("lora")(rank=2, alpha=6, dropout=0.05)
    model = method.adapt(lively.load().model)
    shape = model.peft_config["default"]
    assert (shape.r, shape.lora_alpha, shape.lora_dropout) == (2, 6, 0.05)
    assert {field.name for field in dataclasses.fields(method)} == {
        "lr", "warmup", "weight_decay", "rank", "alpha", "dropout",
    }  # fmt: skip


def test_a_curve_reads_as_many_answers_as_tell_enough() -> None:
    short, long = ([1], [2, 3]), ([1], list(range(700)))
    assert trainer.enough([short] * 128) == [short] * 128
    assert trainer.enough([short, long, long, long, long]) == [short, long, long, long]
    assert trainer.enough([]) == []
