"""Supervised fine-tuning within a budget, with the loss on completions only."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import AbstractContextManager
from heapq import nlargest
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

from datasets import Dataset
from transformers import DataCollatorWithPadding, PrinterCallback, Trainer, TrainerCallback, TrainingArguments
from trl import SFTConfig, SFTTrainer

from bench.measurement import determinism, memory_estimate, memory_limit
from bench.measurement.flops import FlopCounter
from bench.measurement.meter import exclude_from_peak
from bench.method import LM, Budget, Diverged, TrainingData
from bench.modeling.scoring import IGNORE_INDEX
from bench.records import CurvePoint, Keep, KeptWeights
from bench.training import checkpointing, compat, curve, distributed, label_layer, optimizer, precision
from bench.training.curve import CurveSchedule
from bench.training.gradient import Rows
from bench.training.micro_batch import RowGroup, find_micro_batch, leaves_room, shortest_row
from bench.training.optimizer import OptimizerName
from bench.training.sampler import LengthGroupedSampler, SamplerMixin
from bench.training.selection import WeightSelection

MODEL_INPUTS = ("input_ids", "attention_mask", "labels")


class Training(NamedTuple):
    """Result of a training loop beside the trained model."""

    curve: list[CurvePoint]
    """The training curve; empty if its points would take too much of a short training."""
    kept_weights: KeptWeights


def train(
    lm: LM,
    data: TrainingData,
    budget: Budget,
    *,
    lr: float,
    warmup: float,
    weight_decay: float,
    rows: Rows | None = None,
    step_fraction: float = 1.0,
    keep: Keep = "last",
    patience: int = 0,
    optimizer_name: OptimizerName = "adamw",
) -> Training:
    """Train the weights of `lm.model` that require gradients until the budget ends.

    The loss is the mean cross-entropy in nats over completion tokens, end-of-sequence included. The optimizer is AdamW
    (https://arxiv.org/abs/1711.05101) with linear warm-up and decay. The seed of the data decides the order of rows.

    Args:
        lm: Model to train.
        data: Training and validation examples.
        budget: Budget of the run.
        lr: Peak learning rate.
        warmup: Fraction of the steps for warm-up.
        weight_decay: Weight decay of AdamW.
        rows: Token ids (prompt, completion) made from the training examples; None for one row per example.
        step_fraction: Fraction of the budget's steps to take.
        keep: Weights to keep: of the last step, or of the lowest validation loss.
        patience: Points of the curve without a lower loss after which training stops; 0 for never.
        optimizer_name: AdamW, or AdamW with 8-bit moments.
    """
    if rows is None:
        rows = encode_examples(lm, data, data.train)
    lengths = [len(prompt) + len(completion) for prompt, completion in rows]
    planned_steps = budget.plan_steps(len(rows))
    steps = round(step_fraction * planned_steps)
    plan_memory(lm, budget, [[row] for row in rows], max(lengths), optimizer_name)
    with TemporaryDirectory() as scratch:
        callback = BudgetCallback(
            lm,
            data,
            budget,
            lengths,
            examples=len(data.train),
            steps=steps,
            planned_steps=planned_steps,
            selection=select_weights(lm, Path(scratch), keep=keep, patience=patience),
        )
        arguments = training_arguments(
            budget,
            data.seed,
            scratch,
            lm.model.device.type,
            steps=steps,
            lr=lr,
            warmup=warmup,
            weight_decay=weight_decay,
            optimizer_name=optimizer_name,
        )
        sampler = LengthGroupedSampler(lengths, budget.batch, data.seed)
        trainer_class = CausalTrainer if lm.can_generate else LabelTrainer
        trainer = trainer_class(lm, rows, arguments, train_sampler=sampler, callbacks=[callback])
        kept_weights = run_trainer(trainer, callback)
    return Training(callback.curve, kept_weights)


def select_weights(lm: LM, folder: Path, *, keep: Keep, patience: int) -> WeightSelection:
    """Return a selection of the trained weights of a model, which it casts to float32."""
    precision.cast_trainable_to_float32(lm.model)
    weights = [weight for weight in lm.model.parameters() if weight.requires_grad]
    return WeightSelection(weights, folder, keep=keep, patience=patience)


class CausalTrainer(SamplerMixin, SFTTrainer):
    """Trainer of a decoder: TRL's, without the metrics that it computes beside the loss."""

    loss_is_row_mean = False

    def __init__(self, lm: LM, rows: Rows, arguments: dict[str, Any], **kwargs: Any) -> None:
        self.lm = lm
        columns = {
            "input_ids": [prompt + completion for prompt, completion in rows],
            "labels": [mask_prompt(row) for row in rows],
        }
        super().__init__(
            model=lm.model,
            args=SFTConfig(**arguments, max_length=None, packing=False),
            train_dataset=Dataset.from_dict(columns),
            processing_class=lm.tokenizer,
            **kwargs,
        )

    def compute_loss(
        self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """Return the summed cross-entropy (nats) of a micro-batch over `num_items_in_batch`.

        Args:
            model: The model, or DistributedDataParallel around it.
            inputs: Collated micro-batch.
            return_outputs: Not used.
            num_items_in_batch: Completion tokens of the whole optimizer step; None for those of the micro-batch.
        """
        with compat.model_for_loss(self.lm, model):
            return self.lm.summed_loss(**{key: inputs[key] for key in MODEL_INPUTS}, count=num_items_in_batch)


class LabelTrainer(SamplerMixin, Trainer):
    """Trainer of an encoder that classifies."""

    def __init__(self, lm: LM, rows: Rows, arguments: dict[str, Any], **kwargs: Any) -> None:
        self.lm: Any = lm
        columns = {"input_ids": [prompt for prompt, _ in rows], "labels": [completion[0] for _, completion in rows]}
        super().__init__(
            model=lm.model,
            args=TrainingArguments(**arguments),
            train_dataset=Dataset.from_dict(columns),
            data_collator=DataCollatorWithPadding(lm.tokenizer),
            processing_class=lm.tokenizer,
            **kwargs,
        )
        compat.average_over_micro_batches(self)
        self.label_layer_lr = label_layer.learning_rate(lm, [prompt for prompt, _ in rows])

    def create_optimizer(self, *arguments: Any, **options: Any) -> Any:
        """Return the optimizer, in which the new output layer has a learning rate of its own."""
        created = super().create_optimizer(*arguments, **options)
        label_layer.give_own_rate(created, self.model, self.lm.output_layer, self.label_layer_lr)
        return created

    def compute_loss(
        self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """Return the mean cross-entropy (nats) over the rows of a micro-batch.

        Args:
            model: The model, or DistributedDataParallel around it.
            inputs: Collated micro-batch.
            return_outputs: Not used.
            num_items_in_batch: Not used.
        """
        with compat.model_for_loss(self.lm, model):
            return self.lm.batch_loss(inputs, inputs["labels"])


def run_trainer(trainer: Any, callback: BudgetCallback) -> KeptWeights:
    """Train until the budget ends; count the operations and set the model to evaluation mode.

    Returns:
        The weights that the model has now: those of the last step, or of an earlier one that was better.
    """
    lm, budget = callback.lm, callback.budget
    trainer.remove_callback(PrinterCallback)
    compat.set_loss_context(trainer, lambda: precision.autocast(trainer.model))
    precision.cast_trainable_to_float32(lm.model)
    callback.add_first_point()
    compat.observe_training_losses(trainer, callback.note_loss)
    if callback.can_afford_step(step=0):
        counter = _count_first_step(trainer)
        compat.repeat_training_step(trainer, determinism.run_strictly)
        try:
            trainer.train()
        finally:
            compat.free_optimizer_state(trainer)
        budget.flops = (budget.flops or 0.0) + counter.scaled_to(callback.tokens)
    checkpointing.disable_checkpointing(lm.model)
    kept_weights = callback.selection.finish(budget.steps)
    precision.cast_trained_to_model_dtype(lm.model)
    lm.model.eval()
    return kept_weights


def plan_memory(
    lm: LM, budget: Budget, groups: Sequence[RowGroup], longest_group: int, optimizer_name: OptimizerName = "adamw"
) -> None:
    """Find the micro-batch that fits into memory, and estimate the memory of training.

    The micro-batch is that of the rank with the least memory. If not even one group of rows fits there, activation
    checkpointing is turned on until the end of the training. All this is written into the budget. No step is tried if
    running out of memory would end the process, or if the estimate leaves room (`micro_batch.leaves_room`).

    Args:
        lm: Model to train.
        budget: Budget of the run.
        groups: Rows that must go through the model together.
        longest_group: Tokens of the longest group.
        optimizer_name: Optimizer, whose state takes memory too.

    Raises:
        Unsupported: If the model cannot be trained in its precision.
    """
    precision.check_precision(lm.model)
    fixed_bytes = precision.cast_trainable_to_float32(lm.model) + distributed.gradient_bucket_bytes(lm.model)
    group_rows = max(map(len, groups))
    max_micro_batch = budget.micro_batch or budget.batch // distributed.world_size()
    if lm.padding_side is None:
        max_micro_batch = 1  # rows of different lengths cannot be read together

    def estimate_bytes(micro_batch: int) -> int:
        tokens, rows = micro_batch * longest_group, micro_batch * group_rows
        estimator = memory_estimate.training_estimator(
            lm.model,
            optimizer.state_bytes(lm.model, optimizer_name),
            on_host=lm.model.device.type != "cuda",
        )
        return fixed_bytes + estimator(tokens, rows, logit_tokens(groups, micro_batch))

    with precision.autocast(lm.model):
        budget.micro_batch, budget.estimated_bytes = max_micro_batch, estimate_bytes(max_micro_batch)
        if not memory_limit.can_recover_from_oom(str(lm.model.device)):
            return
        budget.tried_memory = budget.must_try_memory or not leaves_room(lm, budget.estimated_bytes)
        if not budget.tried_memory:
            return
        # This is the least that training takes. The record of the failure shows it if even that does not fit.
        budget.estimated_bytes = estimate_bytes(1)
        with exclude_from_peak():
            micro_batch = find_micro_batch(lm, groups, max_micro_batch, optimizer_name, must_fit=False)
            micro_batch = distributed.all_reduce_min(micro_batch)
        if not micro_batch:
            with exclude_from_peak():
                if checkpointing.enable_checkpointing(lm, shortest_row(groups)):
                    budget.activation_checkpointing = True
                    budget.estimated_bytes = estimate_bytes(1)
                micro_batch = find_micro_batch(lm, groups, max_micro_batch, optimizer_name)
                micro_batch = distributed.all_reduce_min(micro_batch)
        budget.micro_batch = micro_batch
        budget.estimated_bytes = estimate_bytes(micro_batch)


def logit_tokens(groups: Sequence[RowGroup], micro_batch: int) -> int:
    """Return the tokens of the longest micro-batch, padding included, with needed logits.

    They begin before the first token of the earliest completion. Preference training computes all logits.
    """
    longest_groups = nlargest(micro_batch, groups, key=lambda group: sum(map(_row_length, group)))
    rows = [row for group in longest_groups for row in group]
    first = max(min(len(prompt) for prompt, _ in rows) - 1, 0) if len(rows) == len(longest_groups) else 0
    return len(rows) * (max(map(_row_length, rows)) - first)


def _row_length(row: tuple[list[int], list[int]]) -> int:
    prompt, completion = row
    return len(prompt) + len(completion)


def _count_first_step(trainer: Any) -> FlopCounter:
    """Return a counter of the operations of the trainer's first micro-batch."""
    counter = FlopCounter()

    def count(inputs: Any) -> AbstractContextManager[None]:
        return counter.count_once(int(inputs["attention_mask"].sum()))

    compat.wrap_training_step(trainer, count)
    return counter


def encode_examples(lm: LM, data: TrainingData, examples: Any) -> Rows:
    """Return token ids (prompt, completion) of examples, with prompts as for generation."""
    return [lm.encode(data.prompt(example.input), data.completion(example)) for example in examples]


def mask_prompt(row: tuple[list[int], list[int]]) -> list[int]:
    """Return training labels in which the prompt is ignored.

    The prompt is masked by position and not by padding id, because many tokenizers pad with the end token.
    """
    prompt, completion = row
    return [IGNORE_INDEX] * len(prompt) + completion


class BudgetCallback(TrainerCallback):
    """Callback that spends the budget, stops training in time and records the training curve.

    Args:
        lm: Model in training.
        data: Training data, of which the validation examples are used.
        budget: Budget of the run.
        lengths: Tokens of each training row.
        examples: Examples that the rows show.
        steps: Optimizer steps of this training.
        planned_steps: Optimizer steps of the whole budget.
        selection: Selection of the weights to keep, by the losses of the curve.
    """

    def __init__(
        self,
        lm: LM,
        data: TrainingData,
        budget: Budget,
        lengths: Sequence[int],
        *,
        examples: int,
        steps: int,
        planned_steps: int,
        selection: WeightSelection,
    ) -> None:
        self.lm, self.budget, self.selection = lm, budget, selection
        self.schedule = CurveSchedule.plan(
            lm,
            data,
            budget,
            encode_examples(lm, data, data.validation[: curve.MAX_ROWS]),
            steps=planned_steps,
            share=curve.DECISION_SHARE if selection.decides else curve.CURVE_SHARE,
        )
        self.rows, self.examples = len(lengths), examples
        self.longest_step = sum(nlargest(budget.batch, lengths))
        self.steps = steps
        self.tokens = 0
        self.step_loss: Any = 0.0
        self.curve: list[CurvePoint] = []

    def examples_after(self, steps: int) -> int:
        """Return the examples shown by `steps` steps; the last step of an epoch may have fewer."""
        epochs, remaining_steps = divmod(steps, math.ceil(self.rows / self.budget.batch))
        rows = min(remaining_steps * self.budget.batch, self.rows)
        return epochs * self.examples + rows * self.examples // self.rows

    def examples_in_step(self, step: int) -> int:
        """Return the examples of the step after `step` steps."""
        return self.examples_after(step + 1) - self.examples_after(step)

    def can_afford_step(self, step: int) -> bool:
        """Tell if the budget allows the step after `step` steps, even with the longest rows.

        Rank 0 decides for all ranks, so that they stop at the same step.
        """
        examples = self.examples_in_step(step)
        return distributed.broadcast_from_first(
            lambda: self.budget.can_afford(steps=1, examples=examples, tokens=self.longest_step)
        )

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Spend the step and its examples."""
        self.budget.spend(steps=1, examples=self.examples_in_step(state.global_step))

    def note_loss(self, loss: Any) -> None:
        """Add the loss of a micro-batch to that of the step; one that is not finite stays so."""
        self.step_loss = self.step_loss + loss

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Spend the tokens of the step, and stop if no further step can be afforded.

        Raises:
            Diverged: The loss of the step is not finite on some rank. All ranks raise it.
        """
        is_finite = math.isfinite(self.step_loss)
        self.step_loss = 0.0
        if not distributed.all_reduce_min(is_finite):
            raise Diverged(self.budget.steps)
        tokens_seen = int(state.num_input_tokens_seen)
        self.budget.spend(tokens=tokens_seen - self.tokens)
        self.tokens = tokens_seen
        control.should_training_stop |= not self.can_afford_step(state.global_step)
        control.should_log = control.should_training_stop or self.schedule.is_due(state.global_step)

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        """Add a point to the curve with the mean training loss since the previous point.

        Training stops if the selection of weights has lost its patience.
        """
        if not logs or "loss" not in logs:
            return
        self.add_curve_point(float(logs["loss"]), is_last=control.should_training_stop)
        if self.selection.patience and distributed.broadcast_from_first(lambda: self.selection.should_stop):
            control.should_training_stop = True
            self.budget.stopped_by = self.budget.stopped_by or "patience"

    def add_first_point(self) -> None:
        """Add the point before training to the curve, if it has one."""
        if self.budget.steps == 0 and self.schedule.has_start:
            self.add_curve_point(None)

    def add_curve_point(self, train_loss: float | None, *, is_last: bool = False) -> None:
        """Add a point with the validation loss to the curve; only rank 0 does.

        Args:
            train_loss: Mean training loss since the previous point; None for none.
            is_last: True if training ends with this point.

        Raises:
            Diverged: The validation loss is not finite, even if the training loss of the latest step was.
        """
        if distributed.rank() > 0 or not (rows := self.schedule.take_rows(self.budget.tokens)):
            return
        with self.budget.validation(on_clock=self.selection.decides), precision.autocast(self.lm.model):
            loss, accuracy = self.lm.evaluate_loss(rows)
        if not math.isfinite(loss):
            raise Diverged(self.budget.steps, "the validation loss")
        self.selection.add_point(self.budget.steps, loss, is_last=is_last)
        self.curve.append(
            CurvePoint(
                step=self.budget.steps,
                tokens=self.budget.tokens,
                seconds=round(self.budget.seconds, 4),
                train_loss=train_loss,
                validation_loss=round(loss, 6),
                next_token_accuracy=round(accuracy, 6),
            )
        )


def training_arguments(
    budget: Budget,
    seed: int,
    scratch: str,
    device: str,
    *,
    steps: int,
    lr: float,
    warmup: float,
    weight_decay: float,
    optimizer_name: OptimizerName = "adamw",
) -> dict[str, Any]:
    """Return the arguments of a transformers or TRL trainer.

    They include all settings whose defaults may change with a version of these libraries.

    Args:
        budget: Budget with the batch and micro-batch sizes.
        seed: Seed of training.
        scratch: Empty folder for the trainer's files.
        device: Torch device type.
        steps: Optimizer steps to take.
        lr: Peak learning rate.
        warmup: Fraction of the steps for warm-up.
        weight_decay: Weight decay of AdamW.
        optimizer_name: AdamW, or AdamW with 8-bit moments.
    """
    rank_batch = budget.batch // distributed.world_size()
    micro_batch = budget.micro_batch or rank_batch
    return dict(
        output_dir=scratch,
        max_steps=steps,
        per_device_train_batch_size=micro_batch,
        gradient_accumulation_steps=rank_batch // micro_batch,
        learning_rate=lr,
        warmup_steps=round(warmup * steps),
        weight_decay=weight_decay,
        lr_scheduler_type="linear",
        optim=optimizer.trainer_option(device, optimizer_name),
        max_grad_norm=1.0,
        seed=seed,
        data_seed=seed,
        bf16=False,
        fp16=False,
        use_cpu=device == "cpu",
        gradient_checkpointing=False,
        dataloader_pin_memory=False,
        include_num_input_tokens_seen="non_padding",
        average_tokens_across_devices=True,
        logging_strategy="no",
        logging_nan_inf_filter=False,
        save_strategy="no",
        eval_strategy="no",
        report_to="none",
        disable_tqdm=True,
    )
