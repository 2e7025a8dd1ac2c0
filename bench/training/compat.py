"""Uses of transformers, TRL and accelerate beyond their documented interfaces.

Check each of them when a library is upgraded; `tests/training/test_compat_trainers.py` has a test for every one.

- transformers (>=5.23, <6), `Trainer._get_train_sampler`: overridden, because no argument sets the order of rows.
- transformers, `Trainer.compute_loss_context_manager`: replaced on the trainer, because the documented `bf16` setting
  would also choose the precision of the optimizer.
- transformers, `Trainer.training_step` and `Trainer.compute_loss`: replaced on the trainer, because no callback wraps
  the forward and backward pass of a micro-batch.
- transformers, `Trainer.model_accepts_loss_kwargs`: decides if the trainer divides the loss by the number of
  micro-batches itself.
- transformers, `Trainer.optimizer`: emptied after training. Trainer, optimizer and scheduler refer to each other, so
  the optimizer lives until Python's garbage collector finds it.
- PEFT (>=0.21), `LoraLayer.cast_input_dtype_enabled` and `lora_variant`: the public
  `peft.helpers.disable_input_dtype_casting` sets the former for all layers, also for variants that need the cast.
- TRL (>=1.16), `DPOTrainer._prepare_dataset`: skipped, because the rows are token ids already. TRL would tokenize texts
  in another way than the prompts of generation are. `SFTTrainer` skips the same step by itself if it finds token ids.
- TRL, adapter `ref`: `DPOTrainer` copies the adapter under this name as the reference and leaves the copy behind.
- accelerate (>=1.15), `Accelerator.gather` and `gather_for_metrics`: replaced while TRL computes its loss. TRL gathers
  metrics that are unused here, and ranks with different numbers of rows would wait for each other forever.
- torch (>=2.13), DistributedDataParallel: gradients are added up over ranks only if the wrapped model is called, so the
  loaded model holds it while a loss is computed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from torch.utils.data import Sampler

from bench.method import LM

TRL_REFERENCE_ADAPTER = "ref"


class TrainSamplerMixin:
    """Makes a transformers `Trainer` draw its training rows by `train_sampler`."""

    train_sampler: Sampler[int]

    def _get_train_sampler(self, train_dataset: Any = None) -> Sampler[int]:
        return self.train_sampler


class TokenizedDatasetMixin:
    """Makes a TRL trainer take its dataset as token ids, without preparing it."""

    def _prepare_dataset(self, dataset: Any, *args: Any, **kwargs: Any) -> Any:
        return dataset


@contextmanager
def metrics_not_gathered(accelerator: Any) -> Iterator[None]:
    """Make accelerate return the values of this rank where it would gather those of all ranks."""
    accelerator.gather = accelerator.gather_for_metrics = lambda value: value
    try:
        yield
    finally:
        del accelerator.gather, accelerator.gather_for_metrics


@contextmanager
def model_for_loss(lm: LM, model: Any) -> Iterator[None]:
    """Let a loaded model compute with `model`: its own, or DistributedDataParallel around it."""
    original, lm.model = lm.model, model
    try:
        yield
    finally:
        lm.model = original


def set_loss_context(trainer: Any, make_context: Callable[[], AbstractContextManager[Any]]) -> None:
    """Compute every loss of a trainer within a new context."""
    trainer.compute_loss_context_manager = make_context


def wrap_training_step(trainer: Any, make_context: Callable[[Any], AbstractContextManager[Any]]) -> None:
    """Run every training step of a micro-batch within a context that is made from its inputs."""
    training_step = trainer.training_step

    def wrapped_training_step(model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        with make_context(inputs):
            return training_step(model, inputs, *args, **kwargs)

    trainer.training_step = wrapped_training_step


def repeat_training_step(trainer: Any, run: Callable[[Callable[[], Any], Callable[[], None]], Any]) -> None:
    """Run every training step of a micro-batch by `run(step, undo)`.

    `undo` removes the gradients that a failed step has left. It raises RuntimeError if those of earlier micro-batches
    would be lost.
    """
    training_step = trainer.training_step

    def repeatable_training_step(model: Any, *args: Any, **kwargs: Any) -> Any:
        has_gradients = any(weight.grad is not None for weight in model.parameters())

        def undo() -> None:
            if has_gradients:
                raise RuntimeError("an operation of this micro-batch has no deterministic algorithm, unlike the others")
            model.zero_grad(set_to_none=True)

        return run(lambda: training_step(model, *args, **kwargs), undo)

    trainer.training_step = repeatable_training_step


def observe_training_losses(trainer: Any, observe: Callable[[Any], None]) -> None:
    """Call `observe` with the loss of every micro-batch, a detached tensor."""
    training_step = trainer.training_step

    def observed_training_step(*args: Any, **kwargs: Any) -> Any:
        loss = training_step(*args, **kwargs)
        observe(loss.detach())
        return loss

    trainer.training_step = observed_training_step


def wrap_loss(trainer: Any, wrap: Callable[[Callable[..., Any]], Callable[..., Any]]) -> None:
    """Replace the loss function of a trainer by `wrap` of it."""
    trainer.compute_loss = wrap(trainer.compute_loss)


def average_over_micro_batches(trainer: Any) -> None:
    """Make a trainer average its loss over the micro-batches of a step."""
    trainer.model_accepts_loss_kwargs = False


@contextmanager
def lora_inputs_not_cast(model: Any) -> Iterator[None]:
    """Leave the inputs of plain LoRA layers in their precision, since autocast casts them."""
    if not hasattr(model, "peft_config"):
        yield
        return
    from peft.tuners.lora import LoraLayer

    # Variants such as DoRA compute with more than products, which autocast may leave in float32.
    layers = [layer for layer in model.modules() if isinstance(layer, LoraLayer) and not layer.lora_variant]
    originals = [layer.cast_input_dtype_enabled for layer in layers]
    for layer in layers:
        layer.cast_input_dtype_enabled = False
    try:
        yield
    finally:
        for layer, original in zip(layers, originals, strict=True):
            layer.cast_input_dtype_enabled = original


def free_optimizer_state(trainer: Any) -> None:
    """Free gradients and moments in the optimizer of a trainer, which cannot step afterwards."""
    if trainer.optimizer is not None:
        trainer.optimizer.zero_grad(set_to_none=True)
        trainer.optimizer.state.clear()
