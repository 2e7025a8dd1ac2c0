"""Direct preference optimization by TRL's `DPOTrainer`, within the budget of the run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from datasets import Dataset
from trl import DPOConfig, DPOTrainer

from bench.method import LM, Budget, TrainingData
from bench.training import compat
from bench.training.gradient import PreferencePair
from bench.training.sampler import LengthGroupedSampler, SamplerMixin
from bench.training.trainer import (
    BudgetCallback,
    Training,
    plan_memory,
    run_trainer,
    select_weights,
    training_arguments,
)


class BudgetedDPOTrainer(SamplerMixin, compat.TokenizedDatasetMixin, DPOTrainer):
    """TRL's DPO trainer on token ids, so that prompts are tokenized as for generation."""

    def compute_loss(self, *args: Any, **kwargs: Any) -> Any:
        """Return TRL's loss.

        Its metrics are not gathered across ranks: they are unused, and ranks may hold different numbers of rows.
        """
        with compat.metrics_not_gathered(self.accelerator):
            return super().compute_loss(*args, **kwargs)  # type: ignore[no-untyped-call]


def train_dpo(
    lm: LM,
    data: TrainingData,
    budget: Budget,
    pairs: Sequence[PreferencePair],
    *,
    lr: float,
    weight_decay: float,
    beta: float,
    steps: int,
) -> Training:
    """Train the adapter of `lm.model` by DPO with the rest of the budget.

    The reference model is the adapter before this training (https://arxiv.org/abs/2305.18290). The weights of the last
    step are kept, because the validation loss is not what is trained.

    Args:
        lm: Model with a PEFT adapter.
        data: Training data; only its validation examples and its seed are used.
        budget: Budget of the run.
        pairs: Prompts with a preferred and a rejected answer.
        lr: Peak learning rate.
        weight_decay: Weight decay of AdamW.
        beta: Weight of staying near the reference model.
        steps: Optimizer steps to take.

    Returns:
        The training curve, with the validation loss only: the training loss is that of DPO, and the
        two cannot be compared.
    """
    lengths = [2 * len(prompt) + len(chosen) + len(rejected) for prompt, chosen, rejected in pairs]
    prompts, chosen_answers, rejected_answers = map(list, zip(*pairs, strict=True))
    dataset = Dataset.from_dict({"prompt_ids": prompts, "chosen_ids": chosen_answers, "rejected_ids": rejected_answers})
    groups = [[(prompt, chosen), (prompt, rejected)] for prompt, chosen, rejected in pairs]
    plan_memory(lm, budget, groups, max(lengths))
    with TemporaryDirectory() as scratch:
        callback = DPOBudgetCallback(
            lm,
            data,
            budget,
            lengths,
            examples=len(pairs),
            steps=steps,
            planned_steps=budget.planned_steps,
            selection=select_weights(lm, Path(scratch), keep="last", patience=0),
        )
        arguments = training_arguments(
            budget,
            data.seed,
            scratch,
            lm.model.device.type,
            steps=steps,
            lr=lr,
            warmup=0.0,
            weight_decay=weight_decay,
        )
        trainer = BudgetedDPOTrainer(
            model=lm.model,
            args=DPOConfig(**arguments, max_length=None, beta=beta),
            train_dataset=dataset,
            processing_class=lm.tokenizer,
            callbacks=[callback],
            train_sampler=LengthGroupedSampler(lengths, budget.batch, data.seed),
        )
        kept_weights = run_trainer(trainer, callback)
    lm.model.delete_adapter(compat.TRL_REFERENCE_ADAPTER)
    return Training(callback.curve, kept_weights)


class DPOBudgetCallback(BudgetCallback):
    """Budget callback that leaves the training loss out of the curve."""

    def add_curve_point(self, train_loss: float | None, *, is_last: bool = False) -> None:
        """Add a point with the validation loss to the curve."""
        super().add_curve_point(None, is_last=is_last)
