"""Head only: a new classification layer, or the output layer, is trained; the body stays frozen."""

import json
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

from pydantic import PositiveFloat

from bench.method import LM, Budget, TrainingData, Unsupported, param
from bench.training import GradientMethod

from .features import encode, questions


@dataclass
class Head(GradientMethod):
    """Linear probing by gradient: a layer over the labels of a closed task, the output layer for open answers."""

    supports_ddp: ClassVar[bool] = False  # each question is encoded once, which leaves little to share

    lr: PositiveFloat = param(1e-2, help="peak learning rate of AdamW", search=(1e-3, 3e-2), log=True)

    def adapt(self, model: Any) -> Any:
        """Unfreeze the output layer, untied: tied to the embedding it would move the input of the body with it."""
        from torch.nn import Parameter

        head = model.get_output_embeddings()
        if head is None:
            raise Unsupported("the model has no output layer of its own")
        head.weight = Parameter(head.weight.detach().clone())
        model.config.tie_word_embeddings = False
        # What is trained is float32; a body of another precision hands its states over in that.
        head.register_forward_pre_hook(lambda module, inputs: (inputs[0].to(module.weight.dtype),))
        head.requires_grad_(True)
        return model

    def fit(self, lm: LM, data: TrainingData, budget: Budget) -> Self:
        """Train a layer of the kind that the task's answers need."""
        self.labels_ = data.labels
        if self.labels_ is None:
            return super().fit(lm, data, budget)
        from torch.nn import Linear
        from torch.nn.init import zeros_

        self.lm_, self.data_ = lm, data
        layer = Linear(lm.model.config.get_text_config().hidden_size, len(self.labels_))
        for weight in layer.parameters():
            zeros_(weight)  # the loss has one minimum, so chance need not enter
        lm.model.add_module("labels", layer)  # where it is counted with the model it belongs to
        self._classify(layer, budget)
        # Curves show the loss per answer token; a loss over labels would stand beside it as if it were one.
        self.curve_ = []
        return self

    def predict(self, inputs: Sequence[str]) -> list[str]:
        """The label that scores highest, or what the model continues."""
        if self.labels_ is None:
            return super().predict(inputs)
        rows = questions(self.lm_, [self.data_.prompt(text) for text in inputs])
        best = self.lm_.model.labels(encode(self.lm_, rows)).argmax(-1).tolist()
        return [self.labels_[place] for place in best]

    def save(self, folder: Path) -> None:
        """Save the trained layer alone, and the labels that its rows stand for."""
        super().save(folder)
        if self.labels_ is not None:
            (folder / "labels.json").write_text(json.dumps(list(self.labels_), ensure_ascii=False), "utf-8")

    def _classify(self, layer: Any, budget: Budget) -> None:
        """Train the layer step by step; a question is encoded, and its tokens drawn, only when first it is needed."""
        import torch
        from transformers import get_linear_schedule_with_warmup

        from bench.measurement.flops import FlopCounter

        assert self.labels_ is not None
        train = self.data_.train
        rows = [self.lm_.encode(self.data_.prompt(example.input), "")[0] for example in train]
        wanted = torch.tensor([self.labels_.index(example.target) for example in train])
        optimizer = torch.optim.AdamW(
            layer.parameters(), lr=self.peak_learning_rate(self.lm_.model), weight_decay=self.weight_decay
        )
        steps = budget.planned_steps
        schedule = get_linear_schedule_with_warmup(optimizer, round(self.warmup * steps), steps)
        known: dict[int, Any] = {}
        counted = FlopCounter()
        for places in _batches(len(train), budget.batch, self.data_.seed):
            new = [place for place in places if place not in known]
            tokens = sum(len(rows[place]) for place in new)
            if not budget.can_afford(steps=1, examples=len(places), tokens=tokens):
                return
            budget.spend(steps=1, examples=len(places), tokens=tokens)
            if new:
                with counted.count_once(tokens):
                    known |= zip(new, encode(self.lm_, [rows[place] for place in new]), strict=True)
            budget.flops = counted.scaled_to(budget.tokens)
            states = torch.stack([known[place] for place in places])
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(layer(states), wanted[places]).backward()
            torch.nn.utils.clip_grad_norm_(layer.parameters(), 1.0)  # as the training engine does
            optimizer.step()
            schedule.step()


def _batches(count: int, size: int, seed: int) -> Iterator[list[int]]:
    """Places of examples, pass after pass in an order by the seed, without end."""
    dice = random.Random(seed)
    while True:
        order = dice.sample(range(count), count)
        yield from (order[start : start + size] for start in range(0, count, size))
