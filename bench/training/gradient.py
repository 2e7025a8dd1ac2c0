"""Methods that train by gradient: each says what is trained, one engine (`bench.train`) does the rest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Self

from pydantic import Field, NonNegativeFloat, PositiveFloat

from bench.method import LM, Budget, Method, TrainingData, param
from bench.records.artifacts import save_prompt
from bench.records.record import CurvePoint

Rows = list[tuple[list[int], list[int]]]
PreferencePair = tuple[list[int], list[int], list[int]]
"""Token ids of a prompt, of the answer that is wanted, and of one that is not."""

REFERENCE_WIDTH = 256  # of the model for which learning rates by width are named
LR_BY_WIDTH = f"peak learning rate of AdamW at a width of {REFERENCE_WIDTH}; a model of another gets lr * {REFERENCE_WIDTH} / width"


def task_type(model: Any) -> str:
    """PEFT's word for what a model does: write, or tell labels apart."""
    return "CAUSAL_LM" if model.can_generate() else "SEQ_CLS"


@dataclass
class GradientMethod(Method):
    """Trains what `adapt` unfreezes on prompt and answer, with the loss on the answer and its end token only."""

    supports_ddp: ClassVar[bool] = True
    preload_modules: ClassVar[tuple[str, ...]] = ("bench.modeling.causal_lm", "bench.training.trainer")
    scale_lr_by_width: ClassVar[bool] = False
    """Whether `lr` is right at a width of `WIDTH` and a wider model gets less (https://arxiv.org/abs/2203.03466): Adam
    moves every weight by about its learning rate, and a wider layer adds up more of such moves."""
    export_template = "generate"

    lr: PositiveFloat = param(1e-3, help="peak learning rate of AdamW", search=(1e-5, 1e-1), log=True)
    warmup: Annotated[float, Field(ge=0, le=1)] = param(0.06, help="share of the steps that warm up")
    weight_decay: NonNegativeFloat = param(0.0, help="AdamW weight decay")

    def adapt(self, model: Any) -> Any:
        """The model with that unfrozen or added which is to be trained; all of `model` arrives frozen, but
        for a new output layer where the model is an encoder.

        `lm_` and `data_` are there already, for what starts from the task's own text.
        """
        raise NotImplementedError

    def peak_learning_rate(self, model: Any) -> float:
        """The peak learning rate for this model."""
        return (
            self.lr * REFERENCE_WIDTH / int(model.config.get_text_config().hidden_size)
            if self.scale_lr_by_width
            else self.lr
        )

    def training_rows(self) -> Rows | None:
        """Token ids (read, learnt) of each training row; None for prompt and answer of every example."""
        return None

    def fit(self, lm: LM, data: TrainingData, budget: Budget) -> Self:
        """Train; what was learnt lives in `lm_.model`, the training curve in `curve_`."""
        from bench.training.trainer import train

        self.lm_, self.data_ = lm, data
        lm.prepare(data)
        lm.model = self.adapt(lm.model)
        lr = self.peak_learning_rate(lm.model)
        how = {"lr": lr, "warmup": self.warmup, "weight_decay": self.weight_decay}
        self.curve_: list[CurvePoint] = train(lm, data, budget, rows=self.training_rows(), **how)
        return self

    def predict(self, inputs: Sequence[str]) -> list[str]:
        """Answer as the base would: same template, same decoding."""
        return self.lm_.generate([self.data_.prompt(text) for text in inputs])

    def save(self, folder: Path) -> None:
        """Save what was trained: PEFT's adapter, or the whole model, or those weights alone, named as in the model.

        Beside it the prompt that it was trained on, with a hole where the question goes.
        """
        save_prompt(folder, self.data_.prompt("{input}"))
        model = self.lm_.model
        if hasattr(model, "peft_config") or all(weight.requires_grad for weight in model.parameters()):
            model.save_pretrained(folder)
            return
        from safetensors.torch import save_file

        weights = {name: w.data.contiguous() for name, w in model.named_parameters() if w.requires_grad}
        save_file(weights, folder / "trained.safetensors")
