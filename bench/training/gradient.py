"""Base class of methods that train by gradient; a subclass says which weights are trained."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Self

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat

from bench.i18n import Message
from bench.method import LM, Budget, Method, TrainingData, Unsupported, param
from bench.records import CurvePoint, Keep, KeptWeights, save_prompt
from bench.training.optimizer import OptimizerName

Rows = list[tuple[list[int], list[int]]]
"""Token ids (prompt, completion) of training rows; the loss is on the completion only."""
PreferencePair = tuple[list[int], list[int], list[int]]
"""Token ids of a prompt, the preferred answer and the rejected answer."""

REFERENCE_WIDTH = 256
"""Hidden size of the model for which learning rates that scale with the width are given."""
LABEL_LAYER_LR = 1.4e-2
"""Peak learning rate of AdamW of a new layer over labels, for inputs of RMS 1 and width `REFERENCE_WIDTH`."""
LR_BY_WIDTH = Message(
    "peak learning rate of AdamW at a width of {width}; a model of another gets lr * {width} / width",
    width=REFERENCE_WIDTH,
)
"""Help text of `lr` for methods whose learning rate scales with the width."""


def task_type(model: Any) -> str:
    """Return PEFT's task type: `CAUSAL_LM` for a decoder, `SEQ_CLS` for an encoder."""
    return "CAUSAL_LM" if model.can_generate() else "SEQ_CLS"


def head_modules(model: Any) -> list[str]:
    """Return the modules of an encoder that are trained as a whole; none for a decoder.

    They are the modules outside of the body, whatever the architecture calls them, and unfrozen ones inside of it.
    """
    body = model.base_model
    if model.can_generate() or body is model:
        return []
    children = [name for name, module in model.named_children() if module is not body and list(module.parameters())]
    unfrozen = [name.rpartition(".")[0] for name, weight in model.named_parameters() if weight.requires_grad]
    return children + list(dict.fromkeys(name for name in unfrozen if name.partition(".")[0] not in children))


def adapter_fields(model: Any) -> dict[str, Any]:
    """Return the fields of a PEFT configuration that depend on the kind of model.

    An adapter of an encoder saves the head, which is trained, and adds nothing to the head's layers.
    """
    head = head_modules(model)
    fields: dict[str, Any] = {"task_type": task_type(model)}
    return fields | {"modules_to_save": head, "exclude_modules": head_pattern(head)} if head else fields


def add_virtual_tokens(model: Any, config: Any) -> Any:
    """Return the model with a prompt-learning adapter of PEFT.

    Raises:
        Unsupported: PEFT cannot add virtual tokens to this architecture. An encoder shows that only when it reads.
    """
    import torch
    from peft import get_peft_model

    if head := head_modules(model):
        config.modules_to_save = head  # no field of these configurations, but PEFT reads it
    try:
        adapted: Any = get_peft_model(model, config)
        if not model.can_generate():
            ids = torch.ones((1, 2), dtype=torch.long, device=model.device)
            with torch.no_grad():
                adapted(input_ids=ids, attention_mask=torch.ones_like(ids))
    except (ValueError, TypeError, AttributeError) as error:
        raise Unsupported(f"PEFT cannot add virtual tokens to this architecture: {error}") from error
    return adapted


def head_pattern(names: Sequence[str]) -> str:
    """Return a regular expression for modules and everything in them."""
    return rf"({'|'.join(map(re.escape, names))})(\..*)?"


@dataclass
class GradientMethod(Method):
    """Method that trains the weights that `adapt` unfreezes or adds."""

    changes_base_weights: ClassVar[bool] = True  # unless a subclass adds weights of its own and trains only these
    supports_ddp: ClassVar[bool] = True
    preload_modules: ClassVar[tuple[str, ...]] = ("bench.modeling.causal_lm", "bench.training.trainer")
    scale_lr_by_width: ClassVar[bool] = False
    """True if `lr` is for a model of `REFERENCE_WIDTH` and a wider model gets less, in proportion
    (https://arxiv.org/abs/2203.03466): Adam moves every weight by about the learning rate, and a wider layer adds up
    more of these moves."""
    export_template = "generate"

    lr: PositiveFloat = param(1e-3, help="peak learning rate of AdamW", search=(1e-5, 1e-1), log=True)
    warmup: Annotated[float, Field(ge=0, le=1)] = param(0.06, help="fraction of the steps for warm-up")
    weight_decay: NonNegativeFloat = param(0.0, help="AdamW weight decay")
    keep: Keep = param("last", help="weights to keep: of the last step, or of the best validation loss")
    patience: NonNegativeInt = param(0, help="points of the curve without a better loss that stop training; 0: never")

    def adapt(self, model: Any) -> Any:
        """Return the model with the weights to train unfrozen or added.

        `lm_` and `data_` are set before, for methods that start from the text of the task.

        Args:
            model: Transformers model. All its weights are frozen, except the head of an encoder.
        """
        raise NotImplementedError

    def peak_learning_rate(self, model: Any) -> float:
        """Return the peak learning rate for a model."""
        if not self.scale_lr_by_width:
            return self.lr
        return self.lr * REFERENCE_WIDTH / int(model.config.get_text_config().hidden_size)

    def optimizer_name(self) -> OptimizerName:
        """Return the optimizer to train with."""
        return "adamw"

    def training_rows(self) -> Rows | None:
        """Return the rows to train on; None for one row per training example."""
        return None

    def fit(self, lm: LM, data: TrainingData, budget: Budget) -> Self:
        """Train; the trained model is `lm_.model`, the training curve is `curve_`.

        `kept_weights_` describes the weights that the model has.
        """
        from bench.training.trainer import train

        self.lm_, self.data_ = lm, data
        lm.prepare(data)
        lm.model = self.adapt(lm.model)
        training = train(
            lm,
            data,
            budget,
            rows=self.training_rows(),
            lr=self.peak_learning_rate(lm.model),
            warmup=self.warmup,
            weight_decay=self.weight_decay,
            keep=self.keep,
            patience=self.patience,
            optimizer_name=self.optimizer_name(),
        )
        self.curve_: list[CurvePoint] = training.curve
        self.kept_weights_: KeptWeights = training.kept_weights
        return self

    def predict(self, inputs: Sequence[str]) -> list[str]:
        """Generate answers with the template and decoding that the base model has."""
        return self.lm_.generate([self.data_.prompt(text) for text in inputs])

    def save(self, folder: Path) -> None:
        """Save what was trained, and the prompt that it was trained with.

        A PEFT adapter and a model trained as a whole are saved by `save_pretrained`. Otherwise the trained weights
        alone are saved, under their names in the model.
        """
        save_prompt(folder, self.data_.prompt("{input}"))
        model = self.lm_.model
        if hasattr(model, "peft_config") or all(weight.requires_grad for weight in model.parameters()):
            model.save_pretrained(folder)
            return
        from safetensors.torch import save_file

        weights = {name: weight.data.contiguous() for name, weight in model.named_parameters() if weight.requires_grad}
        save_file(weights, folder / "trained.safetensors")
