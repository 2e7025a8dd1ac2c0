"""Methods train and answer on the GPU, in float32 and bfloat16, and their records say what they used there."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import CODE

from bench.analysis.summary import summarize_methods
from bench.records import Record
from gpu.conftest import RunMethod, copy_tokenizer

pytestmark = pytest.mark.gpu

DTYPES = ("float32", "bfloat16")
GRADIENT_METHODS = (
    "full", "lora", "qlora", "dora", "ia3", "adapter", "bitfit", "prefix", "prompt-tuning", "head", "base-ft", "dpo",
)  # fmt: skip
OTHER_METHODS = ("zero-shot", "few-shot", "features")
LABEL_METHODS = ("few-shot", "features", "head", "lora")

MakeSmallTask = Callable[[str], Path]
Run = Callable[..., Record]


@pytest.fixture(scope="module")
def biased_model(device: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shipped model with biases of zero in all linear layers, for the method that trains biases only."""
    from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

    shipped = AutoModelForCausalLM.from_pretrained(CODE / "models" / "bookworm")
    biases = {"attention_bias": True, "mlp_bias": True}
    model = LlamaForCausalLM(LlamaConfig(**shipped.config.to_dict() | biases))
    for name, weight in model.named_parameters():
        if name.endswith("bias"):
            weight.data.zero_()
    model.load_state_dict(shipped.state_dict(), strict=False)
    folder = tmp_path_factory.mktemp("biased") / "model"
    model.save_pretrained(folder)
    copy_tokenizer(folder)
    return folder


@pytest.fixture(scope="module")
def run(run_method: RunMethod, make_small_task: MakeSmallTask, biased_model: Path) -> Run:
    """Run a method on a small task, or return the record if the same was run before."""
    records: dict[tuple[str, str, str], Record] = {}

    def run_once(method: str, dtype: str, task: str = "capitals") -> Record:
        key = method, dtype, task
        if key not in records:
            model = biased_model if method == "bitfit" else "bookworm"
            records[key] = run_method(method, make_small_task(task), model=model, dtype=dtype)
        assert records[key].status == "ok", records[key].error
        return records[key]

    return run_once


def check_record(record: Record, device: str) -> None:
    """Assert that a run is complete, and measured on the device."""
    import torch

    assert record.env is not None and record.cost is not None
    assert len(record.samples) == 6
    assert 0 <= record.scores["em"] <= 1
    if device == "cuda":
        assert record.env.device == torch.cuda.get_device_name()
        assert record.cost.memory_source == "cuda-allocator"
        for name in ("load", "fit", "predict"):
            phase = record.cost.phases[name]
            assert phase.peak_mib is not None and phase.reserved_mib is not None
            assert 0 < phase.peak_mib <= phase.reserved_mib


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("method", GRADIENT_METHODS)
def test_gradient_method_trains_and_answers(method: str, dtype: str, run: Run, device: str) -> None:
    record = run(method, dtype)
    check_record(record, device)
    assert record.cost is not None and record.cost.budget_usage is not None and record.cost.parameters is not None
    assert record.cost.budget_usage.steps == 4
    assert record.cost.budget_usage.micro_batch == 8
    assert (record.cost.budget_usage.flops or 0) > 0
    assert record.cost.parameters.trainable > 0
    first, last = record.curve[0].validation_loss, record.curve[-1].validation_loss
    assert first is not None and last is not None
    assert math.isfinite(last) and last != first, "nothing was trained"


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("method", OTHER_METHODS)
def test_method_without_gradients_answers(method: str, dtype: str, run: Run, device: str) -> None:
    check_record(run(method, dtype), device)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("method", LABEL_METHODS)
def test_method_answers_with_labels(method: str, dtype: str, run: Run, device: str) -> None:
    record = run(method, dtype, "kdc")
    check_record(record, device)
    assert all(sample.answer for sample in record.samples)


@pytest.mark.parametrize("dtype", DTYPES)
def test_full_training_lowers_the_validation_loss(dtype: str, run: Run) -> None:
    curve = run("full", dtype).curve
    assert (curve[-1].validation_loss or math.inf) < (curve[0].validation_loss or -math.inf)


def test_losses_in_bfloat16_are_close_to_those_in_float32(run: Run) -> None:
    for method in ("full", "lora", "qlora"):
        exact, rounded = (run(method, dtype).curve[-1].validation_loss for dtype in DTYPES)
        assert rounded == pytest.approx(exact, rel=0.1)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("method", ["lora", "full"])
def test_equal_specs_give_equal_answers_or_the_record_tells(
    method: str, dtype: str, run: Run, run_method: RunMethod, make_small_task: MakeSmallTask
) -> None:
    first, second = run(method, dtype), run_method(method, make_small_task("capitals"), dtype=dtype)
    assert first.id == second.id
    if is_deterministic(first):
        assert [sample.raw for sample in first.samples] == [sample.raw for sample in second.samples]
        losses = [[(point.train_loss, point.validation_loss) for point in record.curve] for record in (first, second)]
        assert losses[0] == losses[1]
    else:
        assert first.curve[-1].validation_loss == pytest.approx(second.curve[-1].validation_loss, rel=1e-3)


def is_deterministic(record: Record) -> bool:
    """Tell if the record promises equal answers of equal specs; one that does not say promises them."""
    assert record.env is not None
    return record.env.model_dump().get("deterministic") is not False


@pytest.mark.parametrize("dtype", DTYPES)
def test_qlora_takes_as_many_operations_as_lora(dtype: str, run: Run) -> None:
    flops = []
    for method in ("lora", "qlora"):
        cost = run(method, dtype).cost
        assert cost is not None and cost.budget_usage is not None
        flops.append(cost.budget_usage.flops or 0.0)
    assert 0.95 * flops[0] <= flops[1] <= 1.5 * flops[0]


def test_adapter_serving_gives_the_same_answers(run: Run) -> None:
    cost = run("lora", "float32").cost
    assert cost is not None and cost.adapter_serving_error is None and cost.adapter_serving is not None
    assert cost.adapter_serving.reload_agreement == 1.0
    assert cost.adapter_serving.merge_agreement == 1.0
    assert cost.adapter_serving.load_ms > 0 < cost.adapter_serving.switch_ms


def test_phases_take_the_time_between_start_and_end(run: Run) -> None:
    cost = run("lora", "float32").cost
    assert cost is not None and cost.budget_usage is not None
    phases = cost.phases
    assert list(phases)[:3] == ["import", "load", "general_text_before"]
    assert phases["fit"].wall_s >= cost.budget_usage.seconds
    assert phases["latency"].wall_s * 1000 >= sum(cost.answering.latency_ms if cost.answering else ())


def test_energy_is_measured_in_all_phases_or_a_reason_is_recorded(run: Run, gpu: str) -> None:
    cost = run("lora", "float32").cost
    assert cost is not None
    joules = [cost.phases[name].energy_j for name in ("load", "fit", "predict", "latency")]
    measured = [value for value in joules if value is not None]
    if cost.model_dump().get("energy_unmeasured"):
        assert not measured
    else:
        assert len(measured) == len(joules) and min(measured) >= 0 < sum(measured)


def test_peak_memory_of_a_run_is_that_of_the_gpu(run: Run, gpu: str) -> None:
    record = run("lora", "float32")
    assert record.cost is not None
    phases = record.cost.phases.values()
    on_gpu = [phase.peak_mib for phase in phases if phase.reserved_mib is not None and phase.peak_mib is not None]
    assert record.cost.phases["import"].peak_mib is None, "imports take no memory of the GPU"
    assert summarize_methods([record])[0].peak_mib == max(on_gpu)


def test_matrix_products_are_faster_in_bfloat16(run: Run, gpu: str) -> None:
    import torch

    if torch.cuda.get_device_capability() < (8, 0):
        pytest.skip("this GPU has no bfloat16 units")
    env = run("lora", "bfloat16").env
    assert env is not None
    rates = env.model_dump()["matmul_flops_per_s_by_dtype"]
    assert 1e12 < rates["float32"] < rates["bfloat16"] < 1e16
    assert env.matmul_flops_per_s == rates["float32"]
