"""A base model whose weights are stored in 4 bits: which methods take it, and what they do with the weights."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import MakeTask
from safetensors.torch import load_file
from support import fit_method
from typer.testing import CliRunner

from bench.cli import app
from bench.execution import plan, worker
from bench.measurement import memory_estimate
from bench.modeling import checkpoint, weight_files
from bench.modeling.checkpoint import Checkpoint

LAYER = "model.layers.0.self_attn.q_proj.weight"


@pytest.fixture(scope="module")
def quantized(lively: Checkpoint, tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    """`lively` in 4 bits, which it was given for computing in bfloat16."""
    from transformers import BitsAndBytesConfig

    folder = tmp_path_factory.mktemp("quantized") / "base"
    config = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=torch.bfloat16)
    lm = lively.load(quantization_config=config)
    lm.model.save_pretrained(folder)
    lm.tokenizer.save_pretrained(folder)
    return dataclasses.replace(lively, folder=folder)


def test_quantized_base_is_checked_and_computes_in_the_precision_of_the_run(quantized: Checkpoint) -> None:
    checkpoint.check_model_folder(quantized.folder)
    assert quantized.quantization == "bitsandbytes"
    layer = quantized.load().model.get_submodule(LAYER.removesuffix(".weight"))
    assert (layer.compute_dtype, layer.support_avx512bf16_for_cpu) == (torch.float32, False)


@pytest.mark.parametrize("name", ["qlora", "lora"])
def test_training_on_a_quantized_base_keeps_its_weights(quantized: Checkpoint, name: str) -> None:
    method, budget = fit_method(name, quantized, steps=4)
    assert budget.steps == 4
    assert method.curve_[-1].validation_loss < method.curve_[0].validation_loss
    stored = load_file(quantized.folder / "model.safetensors")[LAYER]
    trained = method.lm_.model.get_base_model().get_submodule(LAYER.replace(".weight", ".base_layer")).weight
    assert trained.dtype is torch.uint8 and torch.equal(trained.data.flatten(), stored.flatten())


def test_run_on_a_quantized_base_rejects_methods_that_train_its_weights(
    quantized: Checkpoint, make_task: MakeTask, tmp_path: Path
) -> None:
    methods, task = "zero-shot,full,bitfit", make_task(tmp_path / "feelings")
    jobs = plan.plan_jobs(methods, str(task), str(quantized.folder), seeds=1, budget_text="steps=1", settings=[])
    records = {job.spec.method.name: worker.run_job(job, lambda event: None) for job in jobs}
    statuses = {name: record.status for name, record in records.items()}
    assert statuses == {"zero-shot": "ok", "full": "unsupported", "bitfit": "unsupported"} | {
        name: "ok" for name in statuses if name not in methods
    }
    for name in ("full", "bitfit"):
        error, cost = records[name].error, records[name].cost
        assert error and "which are quantized (bitsandbytes); use qlora" in error.message
        assert cost and "load" not in cost.phases


def test_models_command_counts_stored_bytes_of_a_quantized_base(quantized: Checkpoint) -> None:
    result = CliRunner().invoke(app, ["models", str(quantized.folder), "--device", "cpu", "--format", "json"])
    assert result.exit_code == 0, result.output
    document: dict[str, Any] = json.loads(result.output.splitlines()[-1])
    assert document["facts"]["quantization"] == "bitsandbytes"
    needs = {need["method"]: need for need in document["needs"]}
    assert set(needs) == {"few-shot", "features", "lora", "qlora"}
    model = quantized.load().model
    names = torch.nn.Module.state_dict(model).keys()
    files = weight_files.find_weight_files(quantized.folder)
    stored = weight_files.stored_bytes(files, [name for name in names if "." in name and "proj" not in name], 4)
    assert stored == pytest.approx(memory_estimate.model_bytes(model), rel=0.1)  # which leaves out the scales
    load_mib = needs["lora"]["load_mib"] - document["machine"]["libraries_mib"]
    assert load_mib == pytest.approx(stored / 2**20, abs=1)


def test_weights_packed_into_buffers_are_counted() -> None:
    class PackedLinear(torch.nn.Module):
        """A layer of GPTQ: eight weights in each number of a buffer."""

        def __init__(self) -> None:
            super().__init__()
            self.in_features, self.out_features = 64, 32
            self.register_buffer("qweight", torch.zeros(64 // 8, 32, dtype=torch.int32))

    class Model(torch.nn.Module):
        """An embedding and a packed layer."""

        dtype = torch.float32

        def __init__(self) -> None:
            super().__init__()
            self.embedding, self.layer = torch.nn.Embedding(10, 64), PackedLinear()

    model = Model()
    assert memory_estimate.packed_weights(model) == 64 * 32
    assert memory_estimate.unquantized_bytes(model) == 4 * (640 + 64 * 32)
    assert memory_estimate.model_bytes(model) == 4 * 640 + 64 * 32 // 2
