"""Head only: a new classification layer, or the output layer; the rest is frozen."""

import json
import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, ClassVar, Self

from pydantic import PositiveFloat

from bench.i18n import Message, literal
from bench.method import LM, Budget, Diverged, TrainingData, Unsupported, param
from bench.modeling.hidden_states import extract_features
from bench.training.gradient import LABEL_LAYER_LR, REFERENCE_WIDTH, GradientMethod

from .features import POOL_HELP, PoolSetting, choose_pool, encode_prompts

if TYPE_CHECKING:
    from bench.training.selection import WeightSelection


SCALE_EXAMPLES = 16
"""Training examples whose hidden states decide the scale of the learning rate."""
LR_BY_SCALE = Message(
    "peak learning rate of AdamW for hidden states of RMS 1 and width {width}; others get lr / RMS * {width} / width",
    width=REFERENCE_WIDTH,
)


@dataclass
class Head(GradientMethod):
    """Linear probing by gradient descent.

    Trains a new classification layer if the task has labels, else the output layer of the language model.
    """

    changes_base_weights: ClassVar[bool] = False
    supports_ddp: ClassVar[bool] = False  # each question is encoded only once, so there is little work to divide

    lr: PositiveFloat = param(LABEL_LAYER_LR, help=LR_BY_SCALE, search=(1.4e-3, 4.2e-2), log=True)
    pool: PoolSetting = param("auto", help=Message("closed labels: {choice}", choice=literal(POOL_HELP)))

    def adapt(self, model: Any) -> Any:
        """Unfreeze the output layer for open answers.

        It is untied from the embedding first, whose training would change the input of the frozen layers.
        """
        from torch.nn import Parameter

        head = model.get_output_embeddings()
        if head is None:
            raise Unsupported("the model has no output layer of its own")
        if not head.weight.is_floating_point():
            raise Unsupported("the output layer is quantized, so it cannot be trained")
        head.weight = Parameter(head.weight.detach().clone())
        model.config.tie_word_embeddings = False
        # Trained weights are float32; hidden states of another precision are converted.
        head.register_forward_pre_hook(lambda module, inputs: (inputs[0].to(module.weight.dtype),))
        head.requires_grad_(True)
        return model

    def fit(self, lm: LM, data: TrainingData, budget: Budget) -> Self:
        """Train a classification layer on closed labels, or the output layer on open answers."""
        self.labels_ = data.labels
        if self.labels_ is None:
            return super().fit(lm, data, budget)
        from torch.nn import Linear
        from torch.nn.init import zeros_

        self.lm_, self.data_ = lm, data
        self.pool_ = choose_pool(lm, self.pool)
        layer = Linear(lm.model.config.get_text_config().hidden_size, len(self.labels_))
        for weight in layer.parameters():
            zeros_(weight)  # the loss is convex, so a random start has no advantage
        lm.model.add_module("labels", layer)  # as a part of the model its parameters are counted and saved
        self._train_classifier(layer, budget)
        # Training curves show the loss per answer token; the loss per label is not comparable with it.
        self.curve_ = []
        return self

    def predict(self, inputs: Sequence[str]) -> list[str]:
        """Return the highest-scoring label, or the continuation for open answers."""
        if self.labels_ is None:
            return super().predict(inputs)
        rows = encode_prompts(self.lm_, [self.data_.prompt(text) for text in inputs])
        best = self.lm_.model.labels(extract_features(self.lm_, rows, pool=self.pool_)).argmax(-1).tolist()
        return [self.labels_[index] for index in best]

    def peak_learning_rate(self, model: Any) -> float:
        """Return the peak learning rate for hidden states of this size and width.

        AdamW moves every weight by about the learning rate, so an output moves by the learning rate times the sum of
        the absolute hidden states.
        """
        examples = self.data_.train[:SCALE_EXAMPLES]
        rows = [self.lm_.encode(self.data_.prompt(example.input), "")[0] for example in examples]
        features = extract_features(self.lm_, rows, pool=choose_pool(self.lm_, self.pool))
        rms = float(features.square().mean().sqrt())
        return self.lr / rms * REFERENCE_WIDTH / int(model.config.get_text_config().hidden_size)

    def save(self, folder: Path) -> None:
        """Save the trained layer, the labels of its rows, and the pooling."""
        super().save(folder)
        if self.labels_ is not None:
            settings = {"answers": list(self.labels_), "pool": self.pool_}
            (folder / "labels.json").write_text(json.dumps(settings, ensure_ascii=False), "utf-8")

    def _train_classifier(self, layer: Any, budget: Budget) -> None:
        """Train the layer; it keeps its weights of the last step or of the lowest validation loss."""
        from bench.training.selection import WeightSelection

        with TemporaryDirectory() as scratch:
            weights = list(layer.parameters())
            selection = WeightSelection(weights, Path(scratch), keep=self.keep, patience=self.patience)
            self._take_steps(layer, budget, selection)
            self.kept_weights_ = selection.finish(budget.steps)

    def _take_steps(self, layer: Any, budget: Budget, selection: "WeightSelection") -> None:
        """Take the steps; a question is encoded, and its tokens spent, when first needed."""
        import torch
        from transformers import get_linear_schedule_with_warmup

        from bench.measurement.flops import FlopCounter
        from bench.training.curve import MAX_POINTS

        assert self.labels_ is not None
        train = self.data_.train
        rows = [self.lm_.encode(self.data_.prompt(example.input), "")[0] for example in train]
        targets = torch.tensor([self.labels_.index(example.target) for example in train])
        optimizer = torch.optim.AdamW(
            layer.parameters(), lr=self.peak_learning_rate(self.lm_.model), weight_decay=self.weight_decay
        )
        steps = budget.planned_steps
        schedule = get_linear_schedule_with_warmup(optimizer, round(self.warmup * steps), steps)
        features: dict[int, Any] = {}
        flop_counter = FlopCounter()
        validation = _Validation(self, layer, budget, selection)
        validation.add_point()
        interval = math.ceil(steps / MAX_POINTS)
        for batch in _endless_batches(len(train), budget.batch, self.data_.seed):
            new = [index for index in batch if index not in features]
            tokens = sum(len(rows[index]) for index in new)
            if not budget.can_afford(steps=1, examples=len(batch), tokens=tokens):
                break
            budget.spend(steps=1, examples=len(batch), tokens=tokens)
            if new:
                new_rows = [rows[index] for index in new]
                new_features = extract_features(self.lm_, new_rows, pool=self.pool_, flop_counter=flop_counter)
                features.update(zip(new, new_features, strict=True))
            budget.flops = flop_counter.scaled_to(budget.tokens)
            states = torch.stack([features[index] for index in batch])
            optimizer.zero_grad()
            loss = torch.nn.functional.cross_entropy(layer(states), targets[batch])
            if not torch.isfinite(loss):
                raise Diverged(budget.steps)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(layer.parameters(), 1.0)  # as in bench.training.trainer
            optimizer.step()
            schedule.step()
            if budget.steps % interval == 0:
                validation.add_point()
            if selection.should_stop:
                budget.stopped_by = budget.stopped_by or "patience"
                break
        validation.add_point()


class _Validation:
    """Validation loss of a classification layer, measured only if it decides something.

    The validation questions are encoded once. They are half as many as the training questions at most.

    Args:
        method: Method with its model and data.
        layer: Layer in training.
        budget: Budget of the run.
        selection: Receives the losses.
    """

    def __init__(self, method: Head, layer: Any, budget: Budget, selection: "WeightSelection") -> None:
        from bench.training.curve import MAX_ROWS

        self.method, self.layer, self.budget, self.selection = method, layer, budget, selection
        data = method.data_
        self.examples = data.validation[: min(MAX_ROWS, len(data.train) // 2)] if selection.decides else ()
        self._features: Any = None
        self._latest_step = -1

    def add_point(self) -> None:
        """Add the loss after the steps so far, unless it has been added.

        Raises:
            Diverged: The loss is not finite.
        """
        import torch

        step = self.budget.steps
        if not self.examples or self._latest_step == step:
            return
        with self.budget.validation(on_clock=True), torch.no_grad():
            if self._features is None:
                self._encode()
            loss = float(torch.nn.functional.cross_entropy(self.layer(self._features), self._targets))
        if not math.isfinite(loss):
            raise Diverged(step, "the validation loss")
        self._latest_step = step
        self.selection.add_point(step, loss)

    def _encode(self) -> None:
        """Compute the features of the questions and the indices of their labels."""
        import torch

        method, labels = self.method, self.method.labels_ or ()
        rows = [method.lm_.encode(method.data_.prompt(example.input), "")[0] for example in self.examples]
        self._features = extract_features(method.lm_, rows, pool=method.pool_)
        self._targets = torch.tensor([labels.index(example.target) for example in self.examples])


def _endless_batches(count: int, size: int, seed: int) -> Iterator[list[int]]:
    """Yield batches of indices below `count`, epoch after epoch in a new random order."""
    rng = random.Random(seed)
    while True:
        order = rng.sample(range(count), count)
        yield from (order[start : start + size] for start in range(0, count, size))
