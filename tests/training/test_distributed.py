"""Several processes train a run together: steps, budget and results are those of one, and all end with it."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from math import ceil
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml
from conftest import Bench, MakeTask, examples
from hypothesis import given
from hypothesis import strategies as st
from support import tiny_encoder

from bench.errors import UserError
from bench.execution import accelerate_launcher, fork_client, launcher, plan
from bench.execution.job import Job
from bench.measurement import device, environment
from bench.modeling.checkpoint import Checkpoint
from bench.records import comparability
from bench.records.record import Record
from bench.training import distributed
from bench.training.sampler import LengthGroupedSampler, RankShard

PAGE = Path(__file__).parents[2] / "docs" / "several-gpus.md"
CPU: dict[str, Any] = {"distributed_type": "MULTI_CPU", "use_cpu": True, "num_processes": 2}
GPU: dict[str, Any] = {"distributed_type": "MULTI_GPU", "num_processes": 2, "mixed_precision": "no"}
# As LoRA, a row at a time, so that a step takes several batches and some processes have none for the last.
PIECES = """
from dataclasses import dataclass
from bench.methods.lora import LoRA

@dataclass
class Pieces(LoRA):
    def fit(self, lm, data, budget):
        budget.micro_batch = 1
        return super().fit(lm, data, budget)
"""
# Needs no model; the second process does something else.
OTHER = """
import os, signal, time
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar
from bench import ranks
from bench.method import Method

@dataclass
class Other(Method):
    control: ClassVar[bool] = True
    supports_ddp: ClassVar[bool] = True

    def load(self, base):
        return None

    def fit(self, lm, data, budget):
        Path(f"pid{{ranks.number()}}").write_text(str(os.getpid()))
        if ranks.number() == 1:
            {body}
        ranks.meet()
        budget.spend(examples=1)
        return self

    def predict(self, inputs):
        return ["warm"] * len(inputs)

    def save(self, folder):
        (folder / "answer").write_text("warm")
"""


@pytest.fixture(autouse=True)
def anew() -> Iterator[None]:
    """No process that runs were forked from outlives its test."""
    yield
    fork_client.close_servers()


def write(file: Path, said: Any) -> str:
    file.write_text(said if isinstance(said, str) else yaml.safe_dump(said), "utf-8")
    return str(file)


def planned(
    method: str, task: Path, base: Checkpoint, *settings: str, budget: str, accelerate: str | None = None
) -> Job:
    how: dict[str, Any] = {"seeds": 1, "settings": settings, "accelerate": accelerate, "device": "cpu"}
    jobs = plan.plan_jobs(method, str(task), str(base.folder), budget_text=budget, **how)
    return next(job for job in jobs if job.spec.method.ref == method).model_copy(update={"keep": True})


def weights(folder: Path) -> dict[str, Any]:
    from safetensors.torch import load_file

    (file,) = folder.glob("*/*.safetensors")
    return load_file(file)


def run(job: Job, out: Path) -> Record:
    record, _ = launcher.launch_run(job, out)
    assert record.status == "ok", record.error
    return record


def compare(
    method: str, task: Path, base: Checkpoint, folder: Path, budget: str, *settings: str
) -> tuple[Record, Record]:
    """A run with one process, and with two; whatever they should have in common is the same."""
    accelerate = write(folder / "cpu.yaml", CPU)
    alone = run(planned(method, task, base, *settings, budget=budget), folder / "one")
    both = run(planned(method, task, base, *settings, budget=budget, accelerate=accelerate), folder / "two")
    assert alone.id == both.id
    assert alone.env and both.env and (alone.env.processes, both.env.processes) == (1, 2)
    assert alone.env.threads == both.env.threads
    assert alone.cost and both.cost and alone.cost.budget_usage and both.cost.budget_usage
    for name in ("steps", "examples", "tokens", "passes", "stopped_by"):
        assert getattr(alone.cost.budget_usage, name) == getattr(both.cost.budget_usage, name), name
    assert [point.step for point in alone.curve] == [point.step for point in both.curve]
    for one, two in zip(alone.curve, both.curve, strict=True):
        assert (one.step, one.tokens) == (two.step, two.tokens)
        assert two.train_loss == one.train_loss or two.train_loss == pytest.approx(one.train_loss, rel=1e-4)
        assert two.validation_loss == pytest.approx(one.validation_loss, rel=1e-4)
    first, second = weights(folder / "one"), weights(folder / "two")
    assert first.keys() == second.keys()
    for name, weight in first.items():
        if not name.endswith("key.bias"):  # attention does not depend on it, and AdamW makes steps of rounding errors
            assert (second[name] - weight).norm() <= 1e-3 * weight.norm(), name
    return alone, both


SIZES = st.integers(1, 12)


@given(st.integers(1, 60), SIZES, st.integers(1, 5), SIZES, st.booleans())
def test_together_the_processes_show_the_steps_of_one(n: int, part: int, of: int, at_once: int, by_rows: bool) -> None:
    order = LengthGroupedSampler([place % 7 + 1 for place in range(n)], part * of, 0)
    shares = [
        RankShard(order, None, list, at_once=at_once, by_rows=by_rows, number=number, of=of) for number in range(of)
    ]
    shown = [list(share.parts()) for share in shares]
    assert {len(batches) for batches in shown} == {len(share) for share in shares}
    whole, place = list(order), 0
    for start in range(0, n, order.batch):
        step = whole[start : start + order.batch]
        batches = ceil(ceil(len(step) / of) / at_once)
        parts = [part for batches_of_one in shown for part in batches_of_one[place : place + batches]]
        assert sorted(at for places, _ in parts for at in places) == sorted(step)
        assert all(len(places) <= at_once for places, _ in parts)
        # As the trainer sums: over the batches of a process, and then the mean over processes.
        if by_rows:
            each = {at: weight / len(places) / batches / of for places, weight in parts for at in places}
            assert all(share == pytest.approx(1 / len(step)) for share in each.values())
        else:
            assert all(weight == (of if places else 0) for places, weight in parts)
        place += batches
    assert place == len(shares[0])


def test_a_process_without_a_row_reads_one_that_counts_for_nothing() -> None:
    import torch

    told = [{"input_ids": [place, place]} for place in range(3)]

    def collate(some: list[Any]) -> dict[str, Any]:
        ids = torch.tensor([row["input_ids"] for row in some])
        return {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": ids.clone()}

    share = RankShard(LengthGroupedSampler([2, 2, 2], 2, 0), told, collate, at_once=1, by_rows=False, number=1, of=2)
    full, blank = share
    assert int(full["attention_mask"].sum()) == 2 and full["weight"] == 2
    assert int(blank["attention_mask"].sum()) == 0 and blank["weight"] == 0
    assert blank["labels"].tolist() == [[-100, -100]]


def test_one_process_is_the_first_decides_alone_and_waits_for_nobody() -> None:
    assert (distributed.world_size(), distributed.rank(), distributed.is_distributed(1)) == (1, 0, None)
    assert distributed.broadcast_from_first(lambda: "said") == "said"
    assert distributed.all_reduce_min(3) == 3
    assert distributed.leave_group() == 0.0
    distributed.barrier()
    distributed.join(1, "cpu")
    assert distributed.world_size() == 1


def test_another_number_of_processes_than_was_asked_for_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "3")
    with pytest.raises(RuntimeError, match="3 processes where 2"):
        distributed.is_distributed(2)


def test_two_processes_come_to_what_one_comes_to(
    make_task: MakeTask, lively: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "pieces.py", PIECES)
    task = make_task(tmp_path / "feelings", train=examples(0, 11))  # steps of 4, 4 and 3 rows
    alone, both = compare("./pieces.py", task, lively, tmp_path, "steps=5,batch=4")
    assert [sample.raw for sample in alone.samples] == [sample.raw for sample in both.samples]
    assert alone.cost and both.cost and both.cost.budget_usage and alone.cost.budget_usage
    assert alone.cost.budget_usage.micro_batch == both.cost.budget_usage.micro_batch == 1
    assert alone.cost.phases.keys() == both.cost.phases.keys()
    assert "processes" in comparability.environment_differences([alone, both])
    again = planned("./pieces.py", task, lively, budget="steps=5,batch=4", accelerate=str(tmp_path / "cpu.yaml"))
    assert plan.find_finished_record(again, tmp_path / "two") == both
    assert plan.find_finished_record(again, tmp_path / "one") is None


@pytest.mark.slow
@pytest.mark.parametrize(
    "method", ["lora", "full", "qlora", "base-ft", "prefix", "prompt-tuning", "bitfit", "shuffled-labels"]
)
def test_every_way_of_training_comes_to_the_same(
    make_task: MakeTask, lively: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    monkeypatch.chdir(tmp_path)
    compare(method, make_task(tmp_path / "feelings"), lively, tmp_path, "epochs=2,batch=4")


@pytest.mark.slow
def test_preferences_are_learnt_by_two_as_by_one(
    make_task: MakeTask, lively: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    task = make_task(tmp_path / "feelings", train=examples(0, 11))
    alone, _ = compare("dpo", task, lively, tmp_path, "steps=12,batch=4", "dpo.share=0.5", "dpo.pace=0.5")
    assert alone.cost and alone.cost.budget_usage and alone.cost.budget_usage.steps == 12
    assert any(point.train_loss is None for point in alone.curve[1:])  # of the DPO steps


@pytest.mark.slow
def test_an_encoder_learns_by_two_as_by_one(
    make_task: MakeTask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    still = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}  # every process has dice of its own
    base = tiny_encoder(tmp_path / "base", **still)
    task = make_task(tmp_path / "feelings", train=examples(0, 11), labels=["warm", "cold", "mild"])
    compare("full", task, base, tmp_path, "epochs=2,batch=4")


@pytest.mark.slow
def test_seconds_are_those_of_the_first_process(
    make_task: MakeTask, tiny: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    file = write(tmp_path / "cpu.yaml", CPU)
    budget = "epochs=10000,batch=4,seconds=5"
    job = planned("lora", make_task(tmp_path / "feelings"), tiny, budget=budget, accelerate=file)
    spent = (record := run(job, tmp_path)).cost and record.cost and record.cost.budget_usage
    assert spent and spent.stopped_by == "seconds" and 0 < spent.seconds <= 5.5 and spent.steps > 1


@pytest.fixture
def other(make_task: MakeTask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The arguments of a run whose second process waits for ever; none of its processes is left behind."""
    monkeypatch.chdir(tmp_path)
    make_task(tmp_path / "feelings")
    write(tmp_path / "cpu.yaml", CPU)
    write(tmp_path / "other.py", OTHER.format(body="time.sleep(1000)"))
    said = ["--methods", "./other.py", "--task", "./feelings", "--device", "cpu", "--budget", "steps=1,batch=4"]
    yield ["run", *said, "--accelerate", "cpu.yaml"]
    assert not [place for place in tmp_path.glob("pid*") if lives(int(place.read_text()))]


def lives(pid: int) -> bool:
    """Whether a process is there, and is more than the memory of one that nobody asked after."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_what_fails_in_one_process_is_the_record_of_the_run(run_bench: Bench, other: list[str], tmp_path: Path) -> None:
    write(tmp_path / "other.py", OTHER.format(body="raise ValueError('not on the second')"))
    done = run_bench(*other)
    assert done.returncode == 1, done.stderr
    assert "not on the second" in done.stdout
    (place,) = (tmp_path / "results").glob("*.json")
    record = Record.read(place)
    assert record.status == "error" and record.env and record.env.processes == 2
    assert record.error and record.error.kind == "ValueError" and "not on the second" in (record.error.trace or "")
    assert len(list(tmp_path.glob("pid*"))) == 2


@pytest.mark.slow
def test_a_process_that_is_killed_ends_the_run_and_the_others(
    run_bench: Bench, other: list[str], tmp_path: Path
) -> None:
    write(tmp_path / "other.py", OTHER.format(body="os.kill(os.getpid(), signal.SIGKILL)"))
    done = run_bench(*other)
    assert done.returncode == 1, done.stderr
    (place,) = (tmp_path / "results").glob("*.json")
    error = Record.read(place).error
    assert error and "SIGKILL" in (error.trace or error.message)


@pytest.mark.slow
@pytest.mark.parametrize("whole", [True, False])
def test_an_interrupted_command_ends_all_processes(
    environment: dict[str, str], other: list[str], tmp_path: Path, whole: bool
) -> None:
    command = subprocess.Popen(
        [sys.executable, "-m", "bench", *other],
        env=environment,
        stderr=subprocess.PIPE,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    while len(list(tmp_path.glob("pid*"))) < 2:
        assert command.poll() is None
        time.sleep(0.1)
    if whole:  # Ctrl-C reaches all that belong to the terminal
        os.killpg(command.pid, signal.SIGINT)
    else:
        command.send_signal(signal.SIGINT)
    command.communicate(timeout=60)
    assert command.returncode == 130
    assert not list((tmp_path / "results").glob("*.json"))


@pytest.mark.slow
def test_processes_that_ignore_their_seconds_are_ended(
    other: list[str], tiny: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launcher, "GRACE_S", 0.3)
    task, file = tmp_path / "feelings", str(tmp_path / "cpu.yaml")
    job = planned("./other.py", task, tiny, budget="steps=3,batch=4,seconds=0.2", accelerate=file)
    assert launcher.launch_run(job, tmp_path)[0].status == "timeout"


def test_what_was_started_ends_with_what_started_it(tmp_path: Path) -> None:
    child = f"import os, time; open({str(tmp_path / 'pid')!r}, 'w').write(str(os.getpid())); time.sleep(1000)"
    parent = (
        f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {child!r}], start_new_session=True).wait()"
    )
    several = accelerate_launcher.ProcessGroup([sys.executable, "-c", parent])
    while not ((place := tmp_path / "pid").exists() and place.read_text()):
        time.sleep(0.02)
    inner = int(place.read_text())
    assert lives(inner)
    several.kill()
    assert several.wait(10) == -signal.SIGKILL
    for _ in range(100):
        if not lives(inner):
            break
        time.sleep(0.05)
    assert not lives(inner)
    several.kill()  # of what is over: nothing


REFUSED = {
    "not YAML": ("a: [", "not YAML"),
    "a list": ("[1, 2]", "keys and values"),
    "an unknown key": (CPU | {"num_proceses": 2}, "did you mean 'num_processes'"),
    "no kind": ({"num_processes": 2}, "no distributed_type"),
    "FSDP": (CPU | {"distributed_type": "FSDP"}, "holds the whole model"),
    "DeepSpeed": (GPU | {"distributed_type": "DEEPSPEED"}, "not for DEEPSPEED"),
    "settings of DeepSpeed": (CPU | {"deepspeed_config": {"zero_stage": 2}}, "deepspeed_config"),
    "SageMaker": (CPU | {"compute_environment": "AMAZON_SAGEMAKER"}, "one machine"),
    "two machines": (CPU | {"num_machines": 2}, "one machine"),
    "no processes": (CPU | {"num_processes": 0}, "num_processes is 0"),
    "not a number": (CPU | {"num_processes": "two"}, "num_processes is two"),
    "how many is not said": ({"distributed_type": "MULTI_CPU"}, "num_processes is None"),
    "two that are none": ({"distributed_type": "NO", "num_processes": 2}, "MULTI_CPU"),
    "a precision": (CPU | {"mixed_precision": "bf16"}, "--dtype"),
    "a compiler": (CPU | {"dynamo_config": {"dynamo_backend": "INDUCTOR"}}, "compiled"),
    "MPI": (CPU | {"mpirun_config": {"mpirun_hostfile": "hosts"}}, "torchrun"),
    "a batch that does not divide": (CPU | {"num_processes": 3}, "16 examples a step do not divide among 3"),
}


@pytest.mark.parametrize("said", REFUSED)
def test_a_configuration_that_cannot_be_is_refused_before_anything_starts(
    make_task: MakeTask, tiny: Checkpoint, tmp_path: Path, said: str
) -> None:
    task, (content, words) = make_task(tmp_path / "feelings"), REFUSED[said]
    with pytest.raises(UserError) as refusal:
        planned("lora", task, tiny, budget="standard", accelerate=write(tmp_path / "config.yaml", content))
    assert words in str(refusal.value)
    assert "config.yaml" in refusal.value.what


def test_a_missing_configuration_is_refused_without_torch(run_bench: Bench, tmp_path: Path) -> None:
    code = (
        "import sys; from bench.cli import main; sys.argv = ['bench', 'run', '--methods', 'lora', '--task', 'kdc', "
        "'--accelerate', 'none.yaml']\n"
        "try: main()\nexcept SystemExit as end: print(end.code, {'torch', 'accelerate'} & {*sys.modules})"
    )
    paths = {"PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run([sys.executable, "-c", code], env=os.environ | paths, capture_output=True, text=True)
    assert done.stdout.strip() == "2 set()", done.stderr
    assert "none.yaml: no such file" in done.stderr and "accelerate config" in done.stderr


@pytest.mark.parametrize("said", re.findall(r"```yaml\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL))
def test_the_configurations_of_the_page_are_of_two_processes(
    said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(device, "_torch_has_cuda", lambda: True)
    monkeypatch.setattr(device, "gpus", lambda: 2)
    assert accelerate_launcher.read_accelerate_config(write(tmp_path / "config.yaml", said), "auto").processes == 2


@pytest.mark.parametrize(
    ("change", "asked", "found"),
    [
        ({}, "auto", "auto"),
        ({}, "cuda", "cuda"),
        ({"gpu_ids": "1,2"}, "auto", "cuda:1"),
        ({"gpu_ids": "all"}, "cuda", "cuda"),
        ({"num_processes": 3}, "auto", None),
        ({"gpu_ids": "0"}, "auto", None),
        ({"gpu_ids": "1,3"}, "auto", None),
        ({}, "cuda:1", None),
        ({}, "cpu", None),
        ({"distributed_type": "NO", "num_processes": 1}, "cuda:1", "cuda:1"),
        ({"use_cpu": True}, "auto", "cpu"),
        ({"use_cpu": True}, "cuda", None),
    ],
)
def test_every_process_has_a_gpu_that_is_here_or_all_are_on_the_cpu(
    change: dict[str, Any], asked: str, found: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(device, "_torch_has_cuda", lambda: True)
    there = 2 if "gpu_ids" not in change else 3
    monkeypatch.setattr(device, "gpus", lambda: there)
    file = write(tmp_path / "gpus.yaml", GPU | change)
    if found is None:
        with pytest.raises(UserError):
            accelerate_launcher.read_accelerate_config(file, asked)
    else:
        assert accelerate_launcher.read_accelerate_config(file, asked) == accelerate_launcher.AccelerateSetup(
            file, (GPU | change)["num_processes"], found
        )


def test_what_does_not_train_by_gradient_keeps_one_process(
    make_task: MakeTask, tiny: Checkpoint, tmp_path: Path
) -> None:
    file = write(tmp_path / "cpu.yaml", CPU)
    how: dict[str, Any] = {"seeds": 1, "settings": [], "budget_text": "standard", "device": "cpu"}
    task, base = str(make_task(tmp_path / "feelings")), str(tiny.folder)
    jobs = plan.plan_jobs("few-shot,lora,head,shuffled-labels", task, base, accelerate=file, **how)
    assert {job.spec.method.name for job in jobs if job.processes == 2} == {"lora", "shuffled-labels"}
    assert all((job.accelerate is None) == (job.processes == 1) for job in jobs)
    without = plan.plan_jobs("few-shot,lora,head,shuffled-labels", task, base, **how)
    assert [job.spec for job in jobs] == [job.spec for job in without]
    one = write(tmp_path / "one.yaml", {"distributed_type": False, "use_cpu": True})  # a bare NO
    assert {job.processes for job in plan.plan_jobs("lora", task, base, accelerate=one, **how)} == {1}


def test_processes_share_the_threads_and_see_the_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment, "threads", lambda: 5)
    said = accelerate_launcher.rank_environment("cpu", 2)
    assert (said["OMP_NUM_THREADS"], said[environment.ALL_THREADS], said["CUDA_VISIBLE_DEVICES"]) == ("2", "5", "")
    assert accelerate_launcher.rank_environment("cpu", 8)["OMP_NUM_THREADS"] == "1"
    assert "CUDA_VISIBLE_DEVICES" not in accelerate_launcher.rank_environment("auto", 2)
