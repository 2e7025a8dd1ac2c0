"""Full fine-tuning, from the base's weights and from random ones."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from bench import registry
from bench.execution.budget import BudgetTracker
from bench.modeling.checkpoint import Checkpoint
from bench.modeling.seed import seed_all
from bench.records import BudgetLimits
from bench.testing import QUESTIONS, tiny_training_data

METHODS = ("full", "random-weights")
PROMPTS = [tiny_training_data().prompt(question) for question in QUESTIONS]

Fit = Callable[[str], Any]


def load(name: str, base: Checkpoint, seed: int = 0) -> Any:
    """The model of a method just as the worker loads it."""
    seed_all(seed)
    return registry.find_method(name)().load(base)


def matrices(lm: Any) -> dict[str, torch.Tensor]:
    """Weights that are drawn by chance; norms start as ones everywhere."""
    return {name: weight.detach() for name, weight in lm.model.named_parameters() if weight.ndim > 1}


@pytest.fixture(scope="module")
def fitted(lively: Checkpoint) -> Fit:
    """A method after three steps of four examples, fitted once."""
    made: dict[str, Any] = {}

    def once(name: str) -> Any:
        if name not in made:
            lm, data = load(name, lively), tiny_training_data()
            budget = BudgetTracker(BudgetLimits(steps=3, batch=4), len(data.train))
            made[name] = registry.find_method(name)().fit(lm, data, budget)
            assert budget.steps == 3
        return made[name]

    return once


@pytest.mark.parametrize("name", METHODS)
def test_every_weight_is_trained_and_the_embedding_stays_tied(fitted: Fit, lively: Checkpoint, name: str) -> None:
    lm = fitted(name).lm_
    assert lm.count_parameters()[1] == lm.count_parameters()[0] == lively.load().count_parameters()[0]
    assert lm.model.lm_head.weight is lm.model.get_input_embeddings().weight
    before = dict(load(name, lively).model.named_parameters())
    assert not [key for key, weight in lm.model.named_parameters() if torch.equal(weight, before[key])]


@pytest.mark.parametrize("name", METHODS)
def test_what_is_saved_is_a_whole_model_with_the_same_answers(
    fitted: Fit, lively: Checkpoint, tmp_path: Path, name: str
) -> None:
    from transformers import AutoModelForCausalLM

    from bench.modeling.causal_lm import CausalLM

    method = fitted(name)
    answers = method.predict(QUESTIONS)
    assert lively.load().generate(PROMPTS) != answers, "training changed no answer, so this test could not fail"
    method.save(tmp_path)
    again = CausalLM(AutoModelForCausalLM.from_pretrained(tmp_path), method.lm_.tokenizer, lively.decoding)
    assert again.generate(PROMPTS) == answers
    assert again.count_parameters()[0] == method.lm_.count_parameters()[0]


@pytest.mark.parametrize(("width", "expected"), [(128, 2e-3), (256, 1e-3), (4096, 6.25e-5)])
def test_the_learning_rate_falls_as_the_model_grows_wider(width: int, expected: float) -> None:
    from transformers import GPT2Config, LlamaConfig

    class Model:
        def __init__(self, config: Any) -> None:
            self.config = config

    method: Any = registry.find_method("full")(lr=1e-3)
    assert method.peak_learning_rate(Model(LlamaConfig(hidden_size=width))) == pytest.approx(expected)
    assert method.peak_learning_rate(Model(GPT2Config(n_embd=width))) == pytest.approx(expected)


def test_the_peak_is_what_the_optimizer_gets(lively: Checkpoint) -> None:
    from torch.optim.optimizer import register_optimizer_step_pre_hook

    rates = []
    hook = register_optimizer_step_pre_hook(lambda optimizer, *_: rates.append(optimizer.param_groups[0]["lr"]))
    lm, data = lively.load(), tiny_training_data()
    method: Any = registry.find_method("full")(lr=1e-3, warmup=0.0)
    try:
        method.fit(lm, data, BudgetTracker(BudgetLimits(steps=1, batch=4), len(data.train)))
    finally:
        hook.remove()
    assert rates == pytest.approx([4e-3])  # the tiny base is 64 wide


def test_random_weights_keep_nothing_of_the_base(lively: Checkpoint) -> None:
    base, random = matrices(lively.load()), matrices(load("random-weights", lively))
    assert base.keys() == random.keys()
    for name, weight in random.items():
        # Padding is all zeros by the architecture's own rules, in the base too.
        assert float((weight == base[name]).float().mean()) < 0.01, name


def test_random_weights_are_drawn_as_wide_as_the_architecture_says(lively: Checkpoint) -> None:
    lm = load("random-weights", lively)
    wanted = lm.model.config.initializer_range
    assert all(float(weight.std()) == pytest.approx(wanted, rel=0.1) for weight in matrices(lm).values())


def test_random_weights_depend_on_the_seed_alone(lively: Checkpoint) -> None:
    first, again, other = (matrices(load("random-weights", lively, seed)) for seed in (0, 0, 1))
    assert all(torch.equal(weight, again[name]) for name, weight in first.items())
    assert not any(torch.equal(weight, other[name]) for name, weight in first.items())
