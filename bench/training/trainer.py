"""The one training engine: TRL's `SFTTrainer`, held by the budget, loss on the answer only."""

from __future__ import annotations

from collections.abc import Sequence
from heapq import nlargest
from itertools import accumulate
from math import ceil
from tempfile import TemporaryDirectory
from typing import Any

from datasets import Dataset
from transformers import DataCollatorWithPadding, PrinterCallback, Trainer, TrainerCallback, TrainingArguments
from trl import SFTConfig, SFTTrainer

from bench.measurement import memory_estimate
from bench.measurement.flops import FlopCounter
from bench.method import LM, Budget, TrainingData
from bench.modeling.causal_lm import IGNORE_INDEX
from bench.records.record import CurvePoint
from bench.training import distributed, precision
from bench.training.micro_batch import RowGroup, find_micro_batch
from bench.training.sampler import LengthGroupedSampler, SamplerMixin

MAX_CURVE_POINTS = 10  # at the most, and the start
TRAINING_PER_CURVE_POINT = 4  # times as much training as a point takes, at the least, before the next
MAX_CURVE_EXAMPLES, MAX_CURVE_TOKENS = 128, 1500  # of validation at the most, and answer tokens that are enough
MODEL_INPUTS = ("input_ids", "attention_mask", "labels")

Pairs = list[tuple[list[int], list[int]]]


def train(
    lm: LM,
    data: TrainingData,
    budget: Budget,
    *,
    lr: float,
    warmup: float,
    weight_decay: float,
    rows: Pairs | None = None,
    step_fraction: float = 1.0,
) -> list[CurvePoint]:
    """Train what is unfrozen in `lm.model` until the budget ends; returns the training curve.

    The loss is the mean cross-entropy (nats) over answer tokens, end-of-sequence included, of every training example,
    or over what follows the heads of `rows` made from them. The seed of the lesson fixes the order; AdamW
    (https://arxiv.org/abs/1711.05101), linear decay after a warm-up. `share` of the steps are taken.
    """
    rows = encode_examples(lm, data, data.train) if rows is None else rows
    lengths = [len(head) + len(tail) for head, tail in rows]
    whole = budget.plan_steps(len(rows))
    steps = round(step_fraction * whole)
    warden = BudgetCallback(lm, data, budget, lengths, examples=len(data.train), steps=steps, of=whole)
    plan_memory(lm, budget, [[pair] for pair in rows], max(lengths))
    with TemporaryDirectory() as scratch:
        said = training_arguments(
            budget,
            data.seed,
            scratch,
            lm.model.device.type,
            steps=steps,
            lr=lr,
            warmup=warmup,
            weight_decay=weight_decay,
        )
        order = LengthGroupedSampler(lengths, budget.batch, data.seed)
        run_trainer(
            (CausalTrainer if lm.can_generate else LabelTrainer)(lm, rows, said, order=order, callbacks=[warden]),
            warden,
        )
    return warden.curve


class CausalTrainer(SamplerMixin, SFTTrainer):
    """Learns to write what follows: TRL's trainer, without what it computes and nobody here reads."""

    by_rows = False

    def __init__(self, lm: LM, rows: Pairs, said: dict[str, Any], **named: Any) -> None:
        self.lm = lm
        columns = {"input_ids": [head + tail for head, tail in rows], "labels": [mask_prompt(pair) for pair in rows]}
        super().__init__(
            model=lm.model,
            args=SFTConfig(**said, max_length=None, packing=False),
            train_dataset=Dataset.from_dict(columns),
            processing_class=lm.tokenizer,
            **named,
        )

    def compute_loss(
        self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """Mean cross-entropy (nats) over the tokens to be learnt; `num_items_in_batch` are those of the whole step."""
        plain, self.lm.model = self.lm.model, model  # the same, or what adds up its gradients over several processes
        try:
            return self.lm.summed_loss(**{key: inputs[key] for key in MODEL_INPUTS}, count=num_items_in_batch)
        finally:
            self.lm.model = plain


class LabelTrainer(SamplerMixin, Trainer):
    """Learns to tell labels apart."""

    def __init__(self, lm: LM, rows: Pairs, said: dict[str, Any], **named: Any) -> None:
        columns = {"input_ids": [head for head, _ in rows], "labels": [tail[0] for _, tail in rows]}
        super().__init__(
            model=lm.model,
            args=TrainingArguments(**said),
            train_dataset=Dataset.from_dict(columns),
            data_collator=DataCollatorWithPadding(lm.tokenizer),
            processing_class=lm.tokenizer,
            **named,
        )


def run_trainer(trainer: Any, callback: BudgetCallback) -> None:
    """Train as the warden allows, and leave the model ready to answer."""
    trainer.remove_callback(PrinterCallback)
    trainer.compute_loss_context_manager = lambda: precision.autocast(trainer.model)
    precision.cast_trainable_to_float32(callback.lm.model)
    callback.add_curve_point(None)
    if callback.can_afford_step(step=0):
        counted = _counting(trainer)
        trainer.train()
        callback.budget.flops = (callback.budget.flops or 0.0) + counted.scaled_to(callback.tokens)
    precision.cast_trained_to_model_dtype(callback.lm.model)
    callback.lm.model.eval()


def plan_memory(lm: LM, budget: Budget, groups: Sequence[RowGroup], longest: int) -> None:
    """Tell how much memory training should take, and find how many rows at once the memory of every process holds.

    `longest` are the tokens of the longest group.
    """
    precision.check_precision(lm.model)
    grown = precision.cast_trainable_to_float32(lm.model) + distributed.gradient_bucket_bytes(lm.model)
    with precision.autocast(lm.model):
        # the least that it takes, should that be too much
        budget.estimated_bytes = grown + memory_estimate.training_bytes(lm.model, longest)
        most = budget.micro_batch or budget.batch // distributed.world_size()
        budget.micro_batch = distributed.all_reduce_min(find_micro_batch(lm, groups, most))
        budget.estimated_bytes = grown + memory_estimate.training_bytes(lm.model, budget.micro_batch * longest)


def _counting(trainer: Any) -> FlopCounter:
    """Counts the operations of the trainer's first pass, forward and back."""
    counted, step = FlopCounter(), trainer.training_step

    def training_step(model: Any, inputs: Any, *more: Any, **named: Any) -> Any:
        with counted.count_once(int(inputs["attention_mask"].sum())):
            return step(model, inputs, *more, **named)

    trainer.training_step = training_step
    return counted


def encode_examples(lm: LM, lesson: TrainingData, examples: Any) -> Pairs:
    """Token ids of prompt and completion of every example, just as answering encodes the prompt."""
    return [lm.encode(lesson.prompt(example.input), lesson.completion(example)) for example in examples]


def take_curve_rows(rows: Pairs) -> Pairs:
    """The first of them that have `CURVE_TOKENS` to be learnt between them: a curve needs no more."""
    sums = accumulate(len(tail) for _, tail in rows)
    return rows[: next((place for place, tokens in enumerate(sums, start=1) if tokens >= MAX_CURVE_TOKENS), None)]


def mask_prompt(pair: tuple[list[int], list[int]]) -> list[int]:
    """Training labels: the completion by position (never by id, which would lose an end token used as padding)."""
    head, tail = pair
    return [IGNORE_INDEX] * len(head) + tail


class BudgetCallback(TrainerCallback):
    """Draws on the budget before each step, stops training in time, and keeps the training curve."""

    def __init__(
        self,
        lm: LM,
        lesson: TrainingData,
        budget: Budget,
        lengths: Sequence[int],
        *,
        examples: int,
        steps: int,
        of: int,
    ) -> None:
        """`lengths` are the rows' tokens; the rows show so many `examples`; `steps` are to come, `of`
        all that the budget has.
        """
        self.lm, self.budget = lm, budget
        self.validation = take_curve_rows(encode_examples(lm, lesson, lesson.validation[:MAX_CURVE_EXAMPLES]))
        self.rows, self.examples = len(lengths), examples
        self.longest_step = sum(nlargest(budget.batch, lengths))
        self.steps = steps
        # A row that is only read takes a third of one that is learnt.
        self.grid = max(
            ceil(of / MAX_CURVE_POINTS), ceil(TRAINING_PER_CURVE_POINT * len(self.validation) / (3 * budget.batch))
        )
        self.tokens = 0
        self.curve: list[CurvePoint] = []

    def examples_after(self, steps: int) -> int:
        """Examples that so many steps show: those in their rows, of which the last batch of a pass may have fewer."""
        passes, rest = divmod(steps, ceil(self.rows / self.budget.batch))
        rows = min(rest * self.budget.batch, self.rows)
        return passes * self.examples + rows * self.examples // self.rows

    def examples_in_step(self, step: int) -> int:
        """Examples of the step that follows `step` steps."""
        return self.examples_after(step + 1) - self.examples_after(step)

    def can_afford_step(self, step: int) -> bool:
        """Whether the step that follows `step` steps is within the budget, however long its examples are."""
        coming = self.examples_in_step(step)
        return distributed.broadcast_from_first(
            lambda: self.budget.can_afford(steps=1, examples=coming, tokens=self.longest_step)
        )

    def on_step_begin(self, args: Any, state: Any, control: Any, **rest: Any) -> None:
        """Draw before working."""
        self.budget.spend(steps=1, examples=self.examples_in_step(state.global_step))

    def on_step_end(self, args: Any, state: Any, control: Any, **rest: Any) -> None:
        """Count the tokens seen and stop where no further step is affordable."""
        seen = int(state.num_input_tokens_seen)
        self.budget.spend(tokens=seen - self.tokens)
        self.tokens = seen
        control.should_training_stop |= not self.can_afford_step(state.global_step)
        control.should_log = control.should_training_stop or state.global_step % self.grid == 0

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **rest: Any) -> None:
        """The trainer tells its mean loss since the point before."""
        if logs and "loss" in logs:
            self.add_curve_point(float(logs["loss"]))

    def add_curve_point(self, train_loss: float | None) -> None:
        """Add a point to the curve, off the clock; of several processes the first does."""
        if distributed.rank() > 0:
            return
        with self.budget.off_clock(), precision.autocast(self.lm.model):
            loss, accuracy = self.lm.evaluate_loss(self.validation)
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
    budget: Budget, seed: int, scratch: str, device: str, *, steps: int, lr: float, warmup: float, weight_decay: float
) -> dict[str, Any]:
    """Everything that a trainer of TRL would otherwise choose by itself is said here."""
    at_once = budget.micro_batch or budget.batch // distributed.world_size()
    return dict(
        output_dir=scratch,
        max_steps=steps,
        per_device_train_batch_size=at_once,
        gradient_accumulation_steps=budget.batch // distributed.world_size() // at_once,
        learning_rate=lr,
        warmup_steps=round(warmup * steps),
        weight_decay=weight_decay,
        lr_scheduler_type="linear",
        optim="adamw_torch",
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
        save_strategy="no",
        eval_strategy="no",
        report_to="none",
        disable_tqdm=True,
    )
