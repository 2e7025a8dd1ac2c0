"""Learning rate of the new output layer of an encoder."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from support import fit_method, tiny_encoder

from bench.modeling.checkpoint import Checkpoint
from bench.testing import tiny_training_data
from bench.training import label_layer
from bench.training.gradient import LABEL_LAYER_LR, REFERENCE_WIDTH
from bench.training.trainer import LabelTrainer

WIDTH = 64


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    return tiny_encoder(tmp_path_factory.mktemp("encoder") / "base")


def prepared(encoder: Checkpoint) -> Any:
    lm: Any = encoder.load()
    lm.prepare(tiny_training_data())
    return lm


def rows_of(lm: Any) -> list[list[int]]:
    data = tiny_training_data()
    return [lm.encode(data.prompt(example.input), "")[0] for example in data.train]


def test_learning_rate_falls_with_the_size_of_the_inputs(encoder: Checkpoint) -> None:
    lm = prepared(encoder)
    layer = dict(lm.model.named_modules())[lm.output_layer]
    rates = []
    for size in (0.5, 2.0):
        hook = layer.register_forward_pre_hook(lambda module, inputs, size=size: (torch.full_like(inputs[0], size),))
        rates.append(label_layer.learning_rate(lm, rows_of(lm)))
        hook.remove()
    expected = LABEL_LAYER_LR * REFERENCE_WIDTH / WIDTH
    assert rates == pytest.approx([expected / 0.5, expected / 2.0], rel=1e-5)


@pytest.mark.parametrize("method", ["lora", "full", "bitfit"])
def test_output_layer_alone_has_its_own_rate(method: str, encoder: Checkpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    trainers: list[Any] = []
    create = LabelTrainer.create_optimizer

    def note(trainer: Any, *arguments: Any, **options: Any) -> Any:
        trainers.append((trainer, create(trainer, *arguments, **options)))
        return trainers[-1][1]

    monkeypatch.setattr(LabelTrainer, "create_optimizer", note)
    fit_method(method, encoder, steps=1)
    ((trainer, optimizer),) = trainers
    names = {id(weight): name for name, weight in trainer.model.named_parameters()}
    peaks = {names[id(weight)]: group["initial_lr"] for group in optimizer.param_groups for weight in group["params"]}
    trained = {name for name, weight in trainer.model.named_parameters() if weight.requires_grad}
    assert set(peaks) == trained
    in_layer = {name for name in trained if f".{trainer.lm.output_layer}." in f".{name}"}
    assert len(in_layer) == 2 and len(trained) > 2
    assert {peaks[name] for name in in_layer} == {trainer.label_layer_lr}
    assert {peaks[name] for name in trained - in_layer} == {trainer.args.learning_rate}
