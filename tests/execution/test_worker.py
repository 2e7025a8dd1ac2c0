"""Runs from the command to their records, also when workers fail, are killed or are interrupted."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
import torch
from conftest import Bench, MakeRecord, MakeTask

from bench.execution import launcher, phases, plan, progress, worker
from bench.execution.job import Job
from bench.execution.phases import RunState
from bench.measurement import adapter_serving
from bench.modeling.checkpoint import Checkpoint
from bench.records import Record, read_all

METHOD = '''
"""A quick method of a user, without a model."""
import os, time
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar
from bench.method import Method, Unsupported

HERE = Path({here!r})

@dataclass
class Mine(Method):
    control: ClassVar[bool] = {control}

    def load(self, base):
        return None

    def fit(self, lm, data, budget):
        with (HERE / "fits").open("a") as file:
            file.write(f"{{Path(__file__).stem}} {{data.seed}}\\n")
        {body}
        budget.spend(examples=len(data.train))
        return self

    def predict(self, inputs):
        return ["warm"] * len(inputs)

    def save(self, folder):
        (folder / "answer").write_text("warm")
'''
# Body of `fit` that writes its process id and waits until the file `gate` is removed.
WAIT = """
        (HERE / "pid").write_text(str(os.getpid()))
        while (HERE / "gate").exists():
            time.sleep(0.05)
"""

WriteMethod = Callable[..., str]
Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def write_method(tmp_path: Path) -> WriteMethod:
    """Writes a method without a model; a control, unless said otherwise, so that no other controls are added."""

    def write(name: str, body: str = "pass", *, control: bool = True) -> str:
        code = METHOD.format(
            here=str(tmp_path), control=control, body=textwrap.dedent(body).strip().replace("\n", "\n        ")
        )
        (tmp_path / f"{name}.py").write_text(code, "utf-8")
        return f"./{name}.py"

    return write


@pytest.fixture
def arguments(make_task: MakeTask, tmp_path: Path, tiny: Checkpoint) -> list[str]:
    """Arguments that all commands here share."""
    make_task(tmp_path / "feelings")
    return ["run", "--task", "./feelings", "--model", str(tiny.folder), "--budget", "steps=3,batch=4"]


@pytest.fixture
def start(environment: dict[str, str], tmp_path: Path) -> Iterator[Start]:
    """Starts the command `bench` in a process group of its own without waiting for it."""
    processes: list[subprocess.Popen[str]] = []

    def command(*command_arguments: str) -> subprocess.Popen[str]:
        processes.append(
            subprocess.Popen(
                [sys.executable, "-m", "bench", *command_arguments],
                cwd=tmp_path,
                env=environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                start_new_session=True,
                # A command in the background of a shell ignores interrupts, and so do its child processes.
                preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
            )
        )
        return processes[-1]

    yield command
    for process in processes:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()


def fits(folder: Path) -> list[str]:
    """All calls of `fit` so far, as `method seed`."""
    return (folder / "fits").read_text("utf-8").splitlines()


def wait_for_number(file: Path) -> int:
    """Wait until a file contains a number; returns the number."""
    for _ in range(6000):
        if file.exists() and (text := file.read_text("utf-8")):
            return int(text)
        time.sleep(0.05)
    raise AssertionError(f"{file} was not written")


def records_by_method(folder: Path) -> dict[str, Record]:
    return {record.spec.method.name: record for record in read_all(folder)}


def test_run_writes_a_row_and_a_record_for_methods_and_controls(
    run_bench: Bench, arguments: list[str], write_method: WriteMethod, tmp_path: Path
) -> None:
    process = run_bench(*arguments, "--methods", write_method("mine", control=False), "--format", "json")
    assert process.returncode == 0, process.stderr
    summary = json.loads(process.stdout.splitlines()[-1])
    assert {row["method"] for row in summary["rows"]} == {"mine", "zero-shot", "majority", "nearest"}
    assert {row["method"] for row in summary["rows"] if row["control"]} == {"zero-shot", "majority", "nearest"}
    assert {row["status"] for row in summary["rows"]} == {"ok"}
    records = records_by_method(tmp_path / "results")
    assert {str(tmp_path / file) for file in summary["records"]} == {
        str(tmp_path / "results" / f"{record.id}.json") for record in records.values()
    }
    mine = records["mine"]
    assert mine.command[:2] == ("run", "--task")
    assert [sample.raw for sample in mine.samples] == ["warm"] * 5
    assert mine.scores["em"] == sum("warm" in sample.references for sample in mine.samples) / 5
    assert mine.cost is not None and mine.env is not None
    assert set(mine.cost.phases) == {"import", "load", "fit", "predict", "latency"}
    assert mine.cost.budget_usage is not None and mine.cost.budget_usage.examples == 9
    assert mine.cost.artifact_bytes == 4
    assert mine.cost.parameters is None and "torch" not in mine.env.device
    zero = records["zero-shot"]
    assert zero.cost is not None and zero.cost.parameters is not None
    assert zero.cost.parameters.total > 0 == zero.cost.parameters.trainable
    assert zero.cost.answering is not None and (zero.cost.answering.answer_tokens or 0) > 0
    file_names = {path.name for path in (tmp_path / "results").iterdir()} - {
        f"{record.id}.json" for record in records.values()
    }
    assert file_names - {".lock"} == {record.id for record in records.values()}, "small artifacts are kept"


def test_run_records_what_a_method_reports_about_its_fit(
    run_bench: Bench, arguments: list[str], write_method: WriteMethod, tmp_path: Path
) -> None:
    methods = [
        write_method("good", 'self.fit_report_ = {"rows": 9, "kept": True, "score": 0.5, "kind": "b"}'),
        write_method("bad", 'self.fit_report_ = {"rows": [1]}'),
    ]
    assert run_bench(*arguments, "--methods", ",".join(methods)).returncode == 1
    records = records_by_method(tmp_path / "results")
    assert records["good"].fit_report == {"rows": 9, "kept": True, "score": 0.5, "kind": "b"}
    assert records["bad"].error is not None and "fit_report_ must be a dict" in records["bad"].error.message


def test_dry_run_adds_controls_to_methods_but_not_to_controls(
    run_bench: Bench, arguments: list[str], tmp_path: Path
) -> None:
    def planned(methods: str, *options: str) -> list[tuple[str, int]]:
        process = run_bench(*arguments, "--methods", methods, "--dry-run", *options)
        assert process.returncode == 0, process.stderr
        return [(spec["method"]["name"], spec["seed"]) for spec in json.loads(process.stdout)]

    assert planned("majority") == [("majority", 0)]
    assert sorted(planned("lora")) == [("lora", 0), ("majority", 0), ("nearest", 0), ("zero-shot", 0)]
    two_seeds = planned("majority,lora", "--seeds", "2", "--format", "json")
    assert len(two_seeds) == len(set(two_seeds)) == 8
    assert [seed for _, seed in two_seeds] == [0] * 4 + [1] * 4
    assert not (tmp_path / "results").exists()


def test_run_killed_worker_has_a_record_and_others_finish(
    start: Start, arguments: list[str], write_method: WriteMethod, tmp_path: Path
) -> None:
    (tmp_path / "gate").touch()
    command = start(
        *arguments, "--methods", f"{write_method('waits', WAIT)},{write_method('quick')}", "--format", "json"
    )
    os.kill(wait_for_number(tmp_path / "pid"), signal.SIGKILL)
    out, err = command.communicate(timeout=300)
    assert command.returncode == 1, err
    records = records_by_method(tmp_path / "results")
    assert {name: record.status for name, record in records.items()} == {"waits": "error", "quick": "ok"}
    failure = records["waits"].error
    assert failure is not None and "SIGKILL" in failure.message and "fit" in failure.message
    (row,) = (row for row in json.loads(out.splitlines()[-1])["rows"] if row["method"] == "waits")
    assert row["status"] == "error" and "SIGKILL" in row["reason"]


def process_tree(pid: int) -> dict[str, psutil.Process]:
    """Return the launcher, its fork server and its worker while a run is in progress."""
    launcher = psutil.Process(pid)
    children = launcher.children(recursive=True)
    return {"launcher": launcher, "fork server": children[0], "worker": children[-1]}


@pytest.mark.parametrize("target", ["launcher", "fork server", "worker"])
def test_run_killed_anywhere_keeps_good_results_and_leaves_nothing(
    start: Start,
    run_bench: Bench,
    arguments: list[str],
    write_method: WriteMethod,
    environment: dict[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    target: str,
) -> None:
    scratch, results = tmp_path / "tmp", tmp_path / "results"
    scratch.mkdir()
    monkeypatch.setitem(environment, "TMPDIR", str(scratch))
    body = f"        import tempfile; (Path(tempfile.mkdtemp()) / 'model').write_bytes(bytes(1000)){WAIT}"
    arguments = [*arguments, "--methods", write_method("waits", body), "--save-artifacts"]
    assert run_bench(*arguments).returncode == 0
    good = {file: file.read_bytes() for file in results.rglob("*") if file.is_file()}
    assert len(good) == 3 and list(scratch.iterdir()) == []
    (tmp_path / "pid").unlink()
    (tmp_path / "gate").touch()
    command = start(*arguments, "--force")
    wait_for_number(tmp_path / "pid")
    assert list(scratch.rglob("model")), "temporary files of the worker belong to the folder of its launcher"
    processes = process_tree(command.pid)
    processes[target].kill()
    _, err = command.communicate(timeout=300)
    _, alive = psutil.wait_procs(processes.values(), timeout=60)
    assert not alive
    if target != "launcher":
        assert command.returncode == 1, err
        assert all(text in " ".join(err.split()) for text in ("stays as it was", ".json.failed", "exit code 1"))
    (tmp_path / "gate").unlink()
    again = run_bench(*arguments)
    assert again.returncode == 0 and "existing record" in again.stderr
    assert {file: file.read_bytes() for file in good} == good
    assert {*results.rglob("*")} - {*good, *results.glob("*.failed")} == {
        results / records_by_method(results)["waits"].id
    }
    assert list(scratch.iterdir()) == []


def test_run_without_room_says_so_and_keeps_the_good_record(
    run_bench: Bench, arguments: list[str], write_method: WriteMethod, environment: dict[str, str], tmp_path: Path
) -> None:
    arguments = [*arguments, "--methods", write_method("mine")]
    assert run_bench(*arguments).returncode == 0
    (file,) = (tmp_path / "results").glob("*.json")
    content = file.read_bytes()
    limited = "import resource, sys; limit = int(sys.argv.pop(1)); from bench.cli import main; sys.argv[0] = 'bench'; "
    limited += "resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)); main()"
    # Files may have this many bytes: too few for the record of a success, or also for that of a failure.
    for limit, where in ((len(content) - 200, "stdout"), (1000, "stderr")):
        command = [sys.executable, "-c", limited, str(limit), *arguments, "--force"]
        process = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300)
        assert process.returncode == 1, process.stderr
        assert "file too large" in " ".join(getattr(process, where).lower().split())
        assert "Traceback" not in process.stderr
        assert file.read_bytes() == content


@pytest.mark.parametrize("interruption", ["interrupt", "terminal interrupt", "terminate"])
def test_run_interrupted_keeps_records_and_continues_when_repeated(
    start: Start, run_bench: Bench, arguments: list[str], write_method: WriteMethod, tmp_path: Path, interruption: str
) -> None:
    (tmp_path / "gate").touch()
    methods = f"{write_method('quick')},{write_method('waits', WAIT)}"
    command = start(*arguments, "--methods", methods)
    worker = wait_for_number(tmp_path / "pid")
    if interruption == "terminal interrupt":  # Ctrl-C reaches the worker too
        os.killpg(command.pid, signal.SIGINT)
    else:
        command.send_signal(signal.SIGINT if interruption == "interrupt" else signal.SIGTERM)
    _, err = command.communicate(timeout=300)
    assert command.returncode == 130, err
    assert "Traceback" not in err
    assert not psutil.pid_exists(worker)
    assert {name: record.status for name, record in records_by_method(tmp_path / "results").items()} == {"quick": "ok"}
    assert not list((tmp_path / "results").glob(".*.part"))
    (tmp_path / "gate").unlink()
    again = run_bench(*arguments, "--methods", methods)
    assert again.returncode == 0, again.stderr
    assert {name: record.status for name, record in records_by_method(tmp_path / "results").items()} == {
        "quick": "ok",
        "waits": "ok",
    }
    assert fits(tmp_path) == ["quick 0", "waits 0", "waits 0"]
    assert "existing record" in again.stderr


def test_run_two_commands_in_one_folder_run_each_job_once(
    start: Start, arguments: list[str], write_method: WriteMethod, tmp_path: Path
) -> None:
    methods = f"{write_method('first', 'time.sleep(0.5)')},{write_method('second', 'time.sleep(0.5)')}"
    commands = [start(*arguments, "--methods", methods, "--seeds", "2") for _ in range(2)]
    for command in commands:
        _, err = command.communicate(timeout=300)
        assert command.returncode == 0, err
    assert sorted(fits(tmp_path)) == ["first 0", "first 1", "second 0", "second 1"]
    records = list(read_all(tmp_path / "results"))
    assert [record.status for record in records] == ["ok"] * 4


def test_run_again_only_with_force_or_changed_method_code(
    run_bench: Bench, arguments: list[str], write_method: WriteMethod, tmp_path: Path
) -> None:
    def count_fits(*options: str) -> int:
        process = run_bench(*arguments, "--methods", "./mine.py", *options)
        assert process.returncode == 0, process.stderr
        return len(fits(tmp_path))

    write_method("mine")
    assert count_fits() == 1
    assert count_fits() == 1
    assert count_fits("--force") == 2
    write_method("mine", "'changed'")
    assert count_fits() == 3
    assert count_fits() == 3


def test_run_unreadable_record_is_replaced(
    run_bench: Bench, arguments: list[str], write_method: WriteMethod, tmp_path: Path
) -> None:
    command = [*arguments, "--methods", write_method("mine")]
    run_bench(*command)
    (file,) = (tmp_path / "results").glob("*.json")
    file.write_text('{"half": ', "utf-8")
    assert run_bench(*command).returncode == 0
    assert Record.read(file).status == "ok"


def test_run_unsupported_and_did_not_fit_are_results_not_errors(
    run_bench: Bench, arguments: list[str], write_method: WriteMethod, tmp_path: Path
) -> None:
    cannot = write_method("cannot", "raise Unsupported('only closed labels')")
    large = write_method("large", "raise MemoryError('too much')")
    process = run_bench(*arguments, "--methods", f"{cannot},{large}")
    assert process.returncode == 0, process.stderr
    records = records_by_method(tmp_path / "results")
    assert records["cannot"].status == "unsupported"
    assert records["large"].status == "did-not-fit"
    assert records["cannot"].error is not None and records["cannot"].error.message == "only closed labels"
    assert "only closed labels" in process.stdout
    assert not records["large"].samples


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        ("1 / 0", "ZeroDivisionError"),
        ("raise SystemExit(0)", "SystemExit"),
        ("raise KeyboardInterrupt", "KeyboardInterrupt"),
        ("os._exit(7)", "WorkerDied"),
    ],
)
def test_run_method_raises_or_exits_is_an_error_with_its_message(
    run_bench: Bench, arguments: list[str], write_method: WriteMethod, tmp_path: Path, body: str, kind: str
) -> None:
    process = run_bench(*arguments, "--methods", write_method("faulty", body))
    assert process.returncode == 1, process.stderr
    record = records_by_method(tmp_path / "results")["faulty"]
    assert record.status == "error"
    assert record.error is not None and record.error.kind == kind
    assert record.error.message and record.error.message in process.stdout.replace("\n", " ")


def test_run_ended_by_library_without_memory_did_not_fit(
    run_bench: Bench, arguments: list[str], write_method: WriteMethod, tmp_path: Path
) -> None:
    last_words = "Error out of memory at line 380 in file /src/csrc/ops.cu"
    body = f"os.write(2, b{last_words!r})\nos._exit(1)"
    process = run_bench(*arguments, "--methods", write_method("ended", body))
    assert process.returncode == 0, process.stderr
    record = records_by_method(tmp_path / "results")["ended"]
    assert record.status == "did-not-fit"
    assert record.error is not None and record.error.message.endswith(last_words)


def raise_device_error(*_: Any, **__: Any) -> Any:
    raise torch.AcceleratorError("CUDA error: device-side assert triggered")


@pytest.fixture
def broken_gpu(make_record: MakeRecord, monkeypatch: pytest.MonkeyPatch) -> RunState:
    """State of a run on a GPU that an error has broken: whatever touches the device raises."""
    job = Job(spec=make_record().spec, command=(), method_sha256="x", device="cuda")
    for name in ("get_device_name", "memory_allocated", "memory_reserved", "set_per_process_memory_fraction"):
        monkeypatch.setattr(torch.cuda, name, raise_device_error)
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch, "rand", raise_device_error)
    return RunState(job, lambda progress: None, device="cuda:0", device_name="NVIDIA H200")


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (RuntimeError("CUDA error: device-side assert triggered"), "error"),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."), "did-not-fit"),
        (None, "ok"),
    ],
)
def test_record_run_device_broken_at_the_end_is_still_a_record(
    broken_gpu: RunState, error: Exception | None, status: str
) -> None:
    def run_phases(state: RunState) -> None:
        if error is not None:
            raise error

    record = worker.record_run(broken_gpu, run_phases)
    assert record.status == status
    assert record.env is not None and record.env.device == "NVIDIA H200"
    assert record.env.matmul_flops_per_s is None and record.env.matmul_flops_per_s_by_dtype is None


def test_measure_adapter_serving_that_breaks_the_device_keeps_the_run(
    broken_gpu: RunState, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    loaded: Any = SimpleNamespace(
        lm=SimpleNamespace(model=None), task=SimpleNamespace(splits={"test": ()}), method=SimpleNamespace(predict=None)
    )
    monkeypatch.setattr(adapter_serving, "can_serve", lambda model, saved: True)
    monkeypatch.setattr(adapter_serving, "measure_serving", lambda *_: None)
    broken_gpu.meter.device = "cuda:0"
    # The error of a kernel is reported when the meter waits for the device at the end of the phase.
    monkeypatch.setattr("bench.measurement.meter.synchronize", WaitThatFails())
    phases.measure_adapter_serving(broken_gpu, loaded, tmp_path, [])
    assert broken_gpu.adapter_serving_error is not None and "device-side assert" in broken_gpu.adapter_serving_error


class WaitThatFails:
    """Waits for the device at the beginning of a phase, and fails at its end."""

    calls = 0

    def __call__(self, device: str) -> None:
        self.calls += 1
        if self.calls > 1:
            raise_device_error()


def plan_jobs(arguments: list[str], methods: str, budget: str) -> list[Any]:
    task, model = arguments[2], arguments[4]
    return plan.plan_jobs(methods, task, model, seeds=1, budget_text=budget, settings=[])


def test_launch_run_method_ignoring_its_seconds_is_killed(
    arguments: list[str], write_method: WriteMethod, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(launcher, "GRACE_S", 0.3)
    (tmp_path / "gate").touch()
    (job,) = plan_jobs(arguments, write_method("waits", WAIT), "steps=3,seconds=0.2")
    started_at = time.monotonic()
    record, is_new = launcher.launch_run(job, tmp_path)
    assert is_new
    assert record.status == "timeout"
    assert record.error is not None and "0.2 s" in record.error.message
    assert time.monotonic() - started_at < 300
    assert not psutil.pid_exists(wait_for_number(tmp_path / "pid"))
    assert Record.read(tmp_path / f"{job.spec.id}.json") == record


def test_launch_run_slow_loading_is_not_counted_as_fitting(
    arguments: list[str], write_method: WriteMethod, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(launcher, "GRACE_S", 2.0)
    file = write_method("mine")
    code = (tmp_path / "mine.py").read_text("utf-8")
    (tmp_path / "mine.py").write_text(code.replace("return None", "time.sleep(5)"), "utf-8")
    (job,) = plan_jobs(arguments, file, "steps=3,seconds=1")
    assert launcher.launch_run(job, tmp_path)[0].status == "ok"


def test_progress_file_is_complete_at_any_time(tmp_path: Path) -> None:
    file = tmp_path / "progress"
    assert progress.read_progress(file) == {}
    on_progress = progress.ProgressFile(file)
    on_progress({"phase": "fit"})
    assert progress.read_progress(file)["phase"] == "fit"
    for step in range(1000):
        on_progress({"step": step})
        assert progress.read_progress(file)["phase"] == "fit"


def test_launch_run_equal_seeds_give_equal_answers(
    arguments: list[str], lively: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    arguments[4] = str(lively.folder)
    planned = [
        job for job in plan_jobs(arguments, "lora,qlora,few-shot", "steps=3,batch=4") if not job.spec.method.control
    ]
    assert len(planned) == 3

    def run_all(folder: Path) -> dict[str, Record]:
        folder.mkdir()
        if hasattr(os, "sched_setaffinity"):  # a core for each thread, inherited by its workers
            cores = sorted(os.sched_getaffinity(0))
            os.sched_setaffinity(0, {cores[0] if folder.name == "first" else cores[-1]})
        for job in planned:
            launcher.launch_run(job, folder)
        return records_by_method(folder)

    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(run_all, (tmp_path / "first", tmp_path / "second"))
    assert {name: record.status for name, record in first.items()} == {"lora": "ok", "qlora": "ok", "few-shot": "ok"}
    answers = {name: [sample.raw for sample in record.samples] for name, record in first.items()}
    assert len(set(map(tuple, answers.values()))) == 3, (
        "the methods must answer differently, otherwise this test cannot fail"
    )
    assert {name: [sample.raw for sample in record.samples] for name, record in second.items()} == answers
    for name, record in first.items():
        assert [point.train_loss for point in record.curve] == [point.train_loss for point in second[name].curve]
