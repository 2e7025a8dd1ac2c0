"""Learning from preferences: TRL's `DPOTrainer`, held by the same budget as all training."""

from __future__ import annotations

from collections.abc import Sequence
from tempfile import TemporaryDirectory
from typing import Any

from datasets import Dataset
from trl import DPOConfig, DPOTrainer

from bench.method import LM, Budget, TrainingData
from bench.records.record import CurvePoint
from bench.training.gradient import PreferencePair
from bench.training.sampler import LengthGroupedSampler, SamplerMixin
from bench.training.trainer import BudgetCallback, plan_memory, run_trainer, training_arguments

REFERENCE_ADAPTER = "ref"  # the name that TRL gives the adapter it compares with


class BudgetedDPOTrainer(SamplerMixin, DPOTrainer):
    """Takes token ids as they come: the prompt's are those of answering."""

    def _prepare_dataset(self, dataset: Any, *how: Any, **more: Any) -> Any:
        return dataset

    def compute_loss(self, *batch: Any, **named: Any) -> Any:
        """TRL's own. What else it reckons is read by nobody, and not gathered: processes may have unlike many rows."""
        self.accelerator.gather = self.accelerator.gather_for_metrics = lambda mine: mine
        try:
            return super().compute_loss(*batch, **named)  # type: ignore[no-untyped-call]
        finally:
            del self.accelerator.gather, self.accelerator.gather_for_metrics


def train_dpo(
    lm: LM,
    data: TrainingData,
    budget: Budget,
    pairs: Sequence[PreferencePair],
    *,
    lr: float,
    weight_decay: float,
    beta: float,
) -> list[CurvePoint]:
    """Train the adapter of `lm.model` on what is left of the budget; returns the curve.

    Direct preference optimization (https://arxiv.org/abs/2305.18290) against the adapter as it arrives. The curve has
    the validation loss only, since the loss that is trained on is of another kind.
    """
    lengths = [2 * len(head) + len(good) + len(bad) for head, good, bad in pairs]
    steps = budget.planned_steps - budget.steps
    warden = DPOBudgetCallback(lm, data, budget, lengths, examples=len(pairs), steps=steps, of=budget.planned_steps)
    columns = dict(zip(("prompt_ids", "chosen_ids", "rejected_ids"), map(list, zip(*pairs, strict=True)), strict=True))
    groups = [[(head, good), (head, bad)] for head, good, bad in pairs]
    plan_memory(lm, budget, groups, max(lengths))
    with TemporaryDirectory() as scratch:
        trainer = BudgetedDPOTrainer(
            model=lm.model,
            args=DPOConfig(
                **training_arguments(
                    budget,
                    data.seed,
                    scratch,
                    lm.model.device.type,
                    steps=warden.steps,
                    lr=lr,
                    warmup=0.0,
                    weight_decay=weight_decay,
                ),
                max_length=None,
                beta=beta,
            ),
            train_dataset=Dataset.from_dict(columns),
            processing_class=lm.tokenizer,
            callbacks=[warden],
            order=LengthGroupedSampler(lengths, budget.batch, data.seed),
        )
        run_trainer(trainer, warden)
    lm.model.delete_adapter(REFERENCE_ADAPTER)
    return warden.curve


class DPOBudgetCallback(BudgetCallback):
    """Keeps the train loss out of the curve."""

    def add_curve_point(self, train_loss: float | None) -> None:
        """Add a point to the curve, off the clock."""
        super().add_curve_point(None)
