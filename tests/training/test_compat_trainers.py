"""Uses of transformers, TRL and accelerate beyond their documented interfaces."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from transformers import Trainer
from trl import DPOTrainer

from bench.execution.budget import BudgetTracker
from bench.modeling.checkpoint import Checkpoint
from bench.records import BudgetLimits
from bench.testing import tiny_training_data
from bench.training import compat
from bench.training.dpo_trainer import train_dpo
from bench.training.sampler import LengthGroupedSampler
from bench.training.trainer import CausalTrainer, encode_examples, training_arguments


@pytest.fixture
def trainer(lively: Checkpoint, tmp_path: Path) -> CausalTrainer:
    """A trainer of all weights, with two micro-batches of two rows per step, for one step."""
    data = tiny_training_data()
    lm: Any = lively.load()
    lm.model.requires_grad_(True)
    budget = BudgetTracker(BudgetLimits(steps=1, batch=4), len(data.train))
    budget.micro_batch = 2
    rows = encode_examples(lm, data, data.train)
    arguments = training_arguments(budget, 0, str(tmp_path), "cpu", steps=1, lr=1e-3, warmup=0.0, weight_decay=0.0)
    lengths = [len(prompt) + len(completion) for prompt, completion in rows]
    return CausalTrainer(lm, rows, arguments, train_sampler=LengthGroupedSampler(lengths, 4, 0))


def test_train_sampler_mixin_decides_the_order_of_rows(trainer: CausalTrainer) -> None:
    order = list(trainer.train_sampler)
    assert order != sorted(order)
    (first_batch, *_) = trainer.get_train_dataloader()
    rows = [trainer.train_dataset[index]["input_ids"] for index in order[:2]]
    ids = [
        row[mask.bool()].tolist()
        for row, mask in zip(first_batch["input_ids"], first_batch["attention_mask"], strict=True)
    ]
    assert ids == rows


def test_trainer_wrappers_surround_every_micro_batch(trainer: CausalTrainer) -> None:
    events: list[str] = []

    @contextmanager
    def record(name: str) -> Iterator[None]:
        events.append(f"begin {name}")
        yield
        events.append(f"end {name}")

    def wrap(loss_function: Any) -> Any:
        def compute_loss(*args: Any, **kwargs: Any) -> Any:
            events.append("loss")
            return loss_function(*args, **kwargs)

        return compute_loss

    compat.set_loss_context(trainer, lambda: record("context"))
    compat.wrap_training_step(trainer, lambda inputs: record(f"step of {len(inputs['input_ids'])}"))
    compat.wrap_loss(trainer, wrap)
    trainer.train()
    assert events == 2 * ["begin step of 2", "begin context", "loss", "end context", "end step of 2"]


def test_average_over_micro_batches_divides_the_loss(trainer: CausalTrainer) -> None:
    gradients = []
    for divides in (False, True):
        assert trainer.model_accepts_loss_kwargs is not divides
        trainer.current_gradient_accumulation_steps = 2
        batch = next(iter(trainer.get_train_dataloader()))
        trainer.model.zero_grad()
        trainer.training_step(trainer.model, batch, torch.tensor(10))
        gradients.append(torch.cat([weight.grad.flatten() for weight in trainer.model.parameters()]))
        compat.average_over_micro_batches(trainer)
    assert torch.allclose(gradients[0], 2 * gradients[1], rtol=1e-4)


def test_repeat_training_step_drops_gradients_of_failed_step(trainer: CausalTrainer) -> None:
    model, batch = trainer.model.eval(), next(iter(trainer.get_train_dataloader()))
    trainer.current_gradient_accumulation_steps = 1
    monitored = next(weight for weight in model.parameters() if weight.requires_grad)

    def run(step: Any, undo: Any) -> Any:
        step()
        undo()
        return step()

    gradients = []
    for repeats in (False, True):
        model.zero_grad()
        if repeats:
            compat.repeat_training_step(trainer, run)
        trainer.training_step(model, batch, torch.tensor(10))
        gradients.append(monitored.grad.clone())
    assert torch.allclose(gradients[0], gradients[1])
    with pytest.raises(RuntimeError, match="unlike the others"):  # the gradients above would be lost
        trainer.training_step(model, batch, torch.tensor(10))


def test_model_for_loss_is_restored_after_an_error(lively: Checkpoint) -> None:
    lm: Any = lively.load()
    original, wrapper = lm.model, torch.nn.Identity()
    with pytest.raises(ValueError, match="x"), compat.model_for_loss(lm, wrapper):
        assert lm.model is wrapper
        raise ValueError("x")
    assert lm.model is original


def test_metrics_not_gathered_replaces_only_while_open() -> None:
    accelerator = Accelerator(cpu=True)
    with compat.metrics_not_gathered(accelerator):
        assert accelerator.gather("value") == accelerator.gather_for_metrics("value") == "value"
    assert accelerator.gather.__func__ is Accelerator.gather
    assert accelerator.gather_for_metrics.__func__ is Accelerator.gather_for_metrics


def test_dpo_trainer_gathers_by_the_replaced_functions_only() -> None:
    source = inspect.getsource(DPOTrainer._compute_loss)
    assert "self.accelerator.gather" in source
    assert not [name for name in ("all_gather", "all_reduce", "accelerator.reduce", "pad_across") if name in source]


def test_private_methods_of_trainers_exist() -> None:
    assert list(inspect.signature(Trainer._get_train_sampler).parameters) == ["self", "train_dataset"]
    assert list(inspect.signature(DPOTrainer._prepare_dataset).parameters)[:2] == ["self", "dataset"]


def test_train_dpo_takes_token_ids_and_removes_reference_adapter(
    lively: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    from bench import registry

    data = tiny_training_data()
    lm: Any = lively.load()
    lm.model = registry.find_method("lora")().adapt(lm.model)
    adapters_in_loss, prompts_in_loss = set(), []
    compute_loss = DPOTrainer.compute_loss

    def record_inputs(self: Any, model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        adapters_in_loss.update(model.peft_config)
        prompts_in_loss.extend(
            row[mask.bool()].tolist() for row, mask in zip(inputs["input_ids"], inputs["attention_mask"], strict=True)
        )
        return compute_loss(self, model, inputs, *args, **kwargs)

    monkeypatch.setattr(DPOTrainer, "compute_loss", record_inputs)
    prompt, chosen = lm.encode(data.prompt("red one"), " warm")
    rejected = lm.encode(data.prompt("red one"), " cold")[1]
    budget = BudgetTracker(BudgetLimits(steps=1, batch=1), 1)
    train_dpo(lm, data, budget, [(prompt, chosen, rejected)], lr=1e-3, weight_decay=0.0, beta=0.1, steps=1)
    assert adapters_in_loss == {"default", compat.TRL_REFERENCE_ADAPTER}
    assert prompts_in_loss == [prompt + chosen, prompt + rejected]
    assert set(lm.model.peft_config) == {"default"}
