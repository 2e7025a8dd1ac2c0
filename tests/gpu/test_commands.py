"""Commands on the GPU: the choice of a device, a broken device, exported scripts, and estimates for models."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import CODE, Bench

from bench.records import Record, read_all
from gpu.conftest import RunMethod

pytestmark = pytest.mark.gpu

BROKEN_METHOD = '''
"""A method whose kernel fails, after which CUDA answers every call of the process with an error."""
from dataclasses import dataclass
from typing import ClassVar
from bench.method import Method

@dataclass
class Broken(Method):
    control: ClassVar[bool] = True  # so that no further methods are added
    preload_modules: ClassVar[tuple[str, ...]] = ("bench.modeling.causal_lm",)

    def fit(self, lm, data, budget):
        import torch
        states = torch.zeros(4, device=lm.model.device)
        float(states[torch.tensor([9], device=lm.model.device)].sum())
        return self

    def predict(self, inputs):
        return ["" for _ in inputs]

    def save(self, folder):
        (folder / "nothing").write_text("")
'''

MakeSmallTask = Callable[[str], Path]


def test_run_on_a_missing_gpu_is_an_input_error(run_bench: Bench) -> None:
    process = run_bench("run", "--methods", "lora", "--task", "capitals", "--device", "cuda:9")
    assert process.returncode == 2
    assert "--device cuda:9" in process.stderr
    assert "hint" in process.stderr


def test_run_after_one_that_breaks_the_gpu_is_complete(
    run_bench: Bench, make_small_task: MakeSmallTask, tmp_path: Path, device: str
) -> None:
    import torch

    (tmp_path / "broken.py").write_text(BROKEN_METHOD, "utf-8")
    process = run_bench(
        "run",
        *("--methods", "./broken.py,zero-shot", "--task", make_small_task("capitals")),
        *("--device", "cuda:0" if device == "cuda" else device, "--budget", "steps=1,new_tokens=4"),
    )
    assert process.returncode == 1, process.stderr
    records = {record.spec.method.name: record for record in read_all(tmp_path / "results")}
    broken, whole = records["broken"], records["zero-shot"]
    assert broken.status == "error" and broken.error is not None and broken.env is not None
    assert broken.error.kind != "WorkerDied", broken.error.message
    assert broken.cost is not None and "load" in broken.cost.phases
    assert whole.status == "ok" and whole.env is not None and whole.cost is not None
    if device == "cuda":
        assert "device-side assert" in broken.error.message
        assert whole.env.device == torch.cuda.get_device_name()
        assert whole.cost.memory_source == "cuda-allocator"
        assert (whole.cost.context_mib is not None) is (importlib.util.find_spec("pynvml") is not None)


@pytest.mark.parametrize("method", ["lora", "qlora"])
def test_exported_script_gives_the_recorded_answers(
    method: str, run_method: RunMethod, make_small_task: MakeSmallTask, run_bench: Bench, tmp_path: Path
) -> None:
    budget = "steps=12,batch=8,new_tokens=12"
    record: Record = run_method(method, make_small_task("capitals"), budget=budget, out=tmp_path / "results")
    assert record.status == "ok", record.error
    process = run_bench(
        "export", tmp_path / "results" / f"{record.id}.json", "--to", "exported", "--check", "6", "--format", "json"
    )
    assert process.returncode == 0, process.stderr + process.stdout
    document = json.loads(process.stdout.splitlines()[-1])
    assert document["differences"] == []
    assert any("6 of 6 recorded answers" in note for note in document["notes"])


def test_model_survey_estimates_for_the_memory_of_the_gpu(device: str) -> None:
    import torch

    from bench.execution.feasibility import survey_model
    from bench.measurement.meter import MIB

    survey = survey_model(str(CODE / "models" / "bookworm"), "bfloat16", 128)
    assert {need.method for need in survey.memory_needs} >= {"few-shot", "lora", "qlora", "full"}
    assert all(need.fits for need in survey.memory_needs)
    assert survey.machine.device == device
    if device == "cuda":
        assert survey.machine.libraries_mib == 0
        assert survey.machine.free_mib <= torch.cuda.mem_get_info()[1] / MIB
