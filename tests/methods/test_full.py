"""Full fine-tuning, from the weights of the base model and from random weights."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from bench import registry
from bench.execution.budget import BudgetTracker
from bench.measurement.determinism import seed_all
from bench.modeling.checkpoint import Checkpoint
from bench.records import BudgetLimits
from bench.testing import QUESTIONS, tiny_training_data

METHODS = ("full", "random-weights")
PROMPTS = [tiny_training_data().prompt(question) for question in QUESTIONS]

Fit = Callable[[str], Any]


def load(name: str, base: Checkpoint, seed: int = 0) -> Any:
    """Load the model of a method as a run does."""
    seed_all(seed)
    return registry.find_method(name)().load(base)


def matrices(lm: Any) -> dict[str, torch.Tensor]:
    """Randomly initialized weights; those of norms always start as ones."""
    return {name: weight.detach() for name, weight in lm.model.named_parameters() if weight.ndim > 1}


@pytest.fixture(scope="module")
def fitted(lively: Checkpoint) -> Fit:
    """A method after three steps of four examples, fitted once."""
    methods: dict[str, Any] = {}

    def fit_once(name: str) -> Any:
        if name not in methods:
            lm, data = load(name, lively), tiny_training_data()
            budget = BudgetTracker(BudgetLimits(steps=3, batch=4), len(data.train))
            methods[name] = registry.find_method(name)().fit(lm, data, budget)
            assert budget.steps == 3
        return methods[name]

    return fit_once


@pytest.mark.parametrize("name", METHODS)
def test_fit_trains_every_weight_and_keeps_the_embedding_tied(fitted: Fit, lively: Checkpoint, name: str) -> None:
    lm = fitted(name).lm_
    assert lm.count_parameters()[1] == lm.count_parameters()[0] == lively.load().count_parameters()[0]
    assert lm.model.lm_head.weight is lm.model.get_input_embeddings().weight
    before = dict(load(name, lively).model.named_parameters())
    assert not [key for key, weight in lm.model.named_parameters() if torch.equal(weight, before[key])]


@pytest.mark.parametrize("name", METHODS)
def test_save_writes_a_complete_model_with_the_same_answers(
    fitted: Fit, lively: Checkpoint, tmp_path: Path, name: str
) -> None:
    from transformers import AutoModelForCausalLM

    from bench.modeling.causal_lm import CausalLM

    method = fitted(name)
    answers = method.predict(QUESTIONS)
    assert lively.load().generate(PROMPTS) != answers, "training must change an answer, or this test cannot fail"
    method.save(tmp_path)
    loaded = CausalLM(AutoModelForCausalLM.from_pretrained(tmp_path), method.lm_.tokenizer, lively.decoding)
    assert loaded.generate(PROMPTS) == answers
    assert loaded.count_parameters()[0] == method.lm_.count_parameters()[0]


@pytest.mark.parametrize(("width", "expected"), [(128, 2e-3), (256, 1e-3), (4096, 6.25e-5)])
def test_peak_learning_rate_falls_with_the_width(width: int, expected: float) -> None:
    from transformers import GPT2Config, LlamaConfig

    class Model:
        def __init__(self, config: Any) -> None:
            self.config = config

    method: Any = registry.find_method("full")(lr=1e-3)
    assert method.peak_learning_rate(Model(LlamaConfig(hidden_size=width))) == pytest.approx(expected)
    assert method.peak_learning_rate(Model(GPT2Config(n_embd=width))) == pytest.approx(expected)


def test_fit_optimizer_gets_the_peak_learning_rate(lively: Checkpoint) -> None:
    from torch.optim.optimizer import register_optimizer_step_pre_hook

    rates = []
    hook = register_optimizer_step_pre_hook(lambda optimizer, *_: rates.append(optimizer.param_groups[0]["lr"]))
    lm, data = lively.load(), tiny_training_data()
    method: Any = registry.find_method("full")(lr=1e-3, warmup=0.0)
    try:
        method.fit(lm, data, BudgetTracker(BudgetLimits(steps=1, batch=4), len(data.train)))
    finally:
        hook.remove()
    assert rates == pytest.approx([4e-3])  # the tiny base has a width of 64


def test_random_weights_differ_from_the_base(lively: Checkpoint) -> None:
    base, random = matrices(lively.load()), matrices(load("random-weights", lively))
    assert base.keys() == random.keys()
    for name, weight in random.items():
        # The embedding of the padding token is zero in both.
        assert float((weight == base[name]).float().mean()) < 0.01, name


def test_random_weights_have_the_std_of_the_initializer(lively: Checkpoint) -> None:
    lm = load("random-weights", lively)
    expected = lm.model.config.initializer_range
    assert all(float(weight.std()) == pytest.approx(expected, rel=0.1) for weight in matrices(lm).values())


def test_random_weights_depend_on_the_seed_only(lively: Checkpoint) -> None:
    first, repeated, other = (matrices(load("random-weights", lively, seed)) for seed in (0, 0, 1))
    assert all(torch.equal(weight, repeated[name]) for name, weight in first.items())
    assert not any(torch.equal(weight, other[name]) for name, weight in first.items())
