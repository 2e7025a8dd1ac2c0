"""`shuffled-labels`, which trains as LoRA does on shuffled answers."""

from __future__ import annotations

from collections import Counter
from typing import Any

from bench import registry
from bench.execution.budget import BudgetTracker
from bench.measurement.determinism import seed_all
from bench.modeling.checkpoint import Checkpoint
from bench.records import BudgetLimits
from bench.testing import tiny_training_data
from bench.training.trainer import encode_examples

DATA = tiny_training_data()


def fit(name: str, base: Checkpoint, *, data: Any = DATA, steps: int = 20) -> Any:
    method: Any = registry.find_method(name)()
    seed_all(0)
    return method.fit(method.load(base), data, BudgetTracker(BudgetLimits(steps=steps, batch=4), len(data.train)))


def test_shuffled_labels_keep_questions_and_shuffle_answers(lively: Checkpoint) -> None:
    train = fit("shuffled-labels", lively, steps=1).data_.train
    assert [example.input for example in train] == [example.input for example in DATA.train]
    assert Counter(example.target for example in train) == Counter(example.target for example in DATA.train)
    assert [example.target for example in train] != [example.target for example in DATA.train]
    other = fit("shuffled-labels", lively, data=tiny_training_data(seed=1), steps=1).data_.train
    assert [example.target for example in other] != [example.target for example in train]


def test_shuffled_labels_have_a_higher_loss_than_lora(lively: Checkpoint) -> None:
    lora, shuffled = (fit(name, lively, steps=80).lm_ for name in ("lora", "shuffled-labels"))
    pairs = encode_examples(lora, DATA, DATA.train)
    assert lora.evaluate_loss(pairs)[0] < 0.8 * shuffled.evaluate_loss(pairs)[0]
