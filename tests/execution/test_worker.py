"""A run from the command to its records: what it leaves behind, whatever becomes of its workers."""

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
from typing import Any

import psutil
import pytest
from conftest import Bench, MakeTask

from bench.execution import launcher, plan, progress
from bench.modeling.checkpoint import Checkpoint
from bench.records.record import Record, read_all

MINE = '''
"""A stranger's method, quick, with no model."""
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

    def fit(self, lm, lesson, budget):
        with (HERE / "fits").open("a") as file:
            file.write(f"{{Path(__file__).stem}} {{lesson.seed}}\\n")
        {body}
        budget.draw(examples=len(lesson.train))
        return self

    def predict(self, inputs):
        return ["warm"] * len(inputs)

    def save(self, folder):
        (folder / "answer").write_text("warm")
'''
# Works for as long as a file lies there; tells who works.
WAIT = """
        (HERE / "pid").write_text(str(os.getpid()))
        while (HERE / "gate").exists():
            time.sleep(0.05)
"""

Write = Callable[..., str]
Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """A method that runs without a model; as a control it brings no further controls along."""

    def method(name: str, body: str = "pass", *, control: bool = True) -> str:
        code = MINE.format(
            here=str(tmp_path), control=control, body=textwrap.dedent(body).strip().replace("\n", "\n        ")
        )
        (tmp_path / f"{name}.py").write_text(code, "utf-8")
        return f"./{name}.py"

    return method


@pytest.fixture
def asked(make_task: MakeTask, tmp_path: Path, tiny: Checkpoint) -> list[str]:
    """The arguments that all commands here share."""
    make_task(tmp_path / "feelings")
    return ["run", "--task", "./feelings", "--model", str(tiny.folder), "--budget", "steps=3,batch=4"]


@pytest.fixture
def start(environment: dict[str, str], tmp_path: Path) -> Iterator[Start]:
    """The command `bench`, begun in a process group of its own and not waited for."""
    begun: list[subprocess.Popen[str]] = []

    def command(*arguments: str) -> subprocess.Popen[str]:
        begun.append(
            subprocess.Popen(
                [sys.executable, "-m", "bench", *arguments],
                cwd=tmp_path,
                env=environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                start_new_session=True,
                # What runs in the background of a shell ignores interrupts, and so would whatever it starts.
                preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
            )
        )
        return begun[-1]

    yield command
    for process in begun:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()


def fits(folder: Path) -> list[str]:
    """Every fit there was, as `method seed`."""
    return (folder / "fits").read_text("utf-8").splitlines()


def appears(file: Path) -> int:
    """The number in a file, once there is one."""
    for _ in range(600):
        if file.exists() and (text := file.read_text("utf-8")):
            return int(text)
        time.sleep(0.05)
    raise AssertionError(f"{file} never came")


def records(folder: Path) -> dict[str, Record]:
    return {record.spec.method.name: record for record in read_all(folder)}


def test_a_run_leaves_a_row_and_a_record_for_every_method_and_control(
    run_bench: Bench, asked: list[str], write: Write, tmp_path: Path
) -> None:
    done = run_bench(*asked, "--methods", write("mine", control=False), "--format", "json")
    assert done.returncode == 0, done.stderr
    shown = json.loads(done.stdout.splitlines()[-1])
    assert {row["method"] for row in shown["rows"]} == {"mine", "zero-shot", "majority", "nearest"}
    assert {row["method"] for row in shown["rows"] if row["control"]} == {"zero-shot", "majority", "nearest"}
    assert {row["status"] for row in shown["rows"]} == {"ok"}
    found = records(tmp_path / "results")
    assert {str(tmp_path / place) for place in shown["records"]} == {
        str(tmp_path / "results" / f"{record.id}.json") for record in found.values()
    }
    mine = found["mine"]
    assert mine.command[:2] == ("run", "--task")
    assert [sample.raw for sample in mine.samples] == ["warm"] * 5
    assert mine.scores["em"] == sum("warm" in sample.references for sample in mine.samples) / 5
    assert mine.cost is not None and mine.env is not None
    assert set(mine.cost.phases) == {"import", "load", "fit", "predict", "latency"}
    assert mine.cost.budget_usage is not None and mine.cost.budget_usage.examples == 9
    assert mine.cost.artifact_bytes == 4
    assert mine.cost.parameters is None and "torch" not in mine.env.device
    zero = found["zero-shot"]
    assert zero.cost is not None and zero.cost.parameters is not None
    assert zero.cost.parameters.total > 0 == zero.cost.parameters.trainable
    assert zero.cost.answering is not None and (zero.cost.answering.answer_tokens or 0) > 0
    left = {path.name for path in (tmp_path / "results").iterdir()} - {f"{record.id}.json" for record in found.values()}
    assert left <= {".lock"}


def test_controls_join_contenders_and_not_each_other(run_bench: Bench, asked: list[str], tmp_path: Path) -> None:
    def planned(methods: str, *more: str) -> list[tuple[str, int]]:
        done = run_bench(*asked, "--methods", methods, "--dry-run", *more)
        assert done.returncode == 0, done.stderr
        return [(spec["method"]["name"], spec["seed"]) for spec in json.loads(done.stdout)]

    assert planned("majority") == [("majority", 0)]
    assert sorted(planned("lora")) == [("lora", 0), ("majority", 0), ("nearest", 0), ("zero-shot", 0)]
    twice = planned("majority,lora", "--seeds", "2", "--format", "json")
    assert len(twice) == len(set(twice)) == 8
    assert [seed for _, seed in twice] == [0] * 4 + [1] * 4
    assert not (tmp_path / "results").exists()


def test_a_worker_that_is_killed_leaves_a_record_and_the_others_finish(
    start: Start, asked: list[str], write: Write, tmp_path: Path
) -> None:
    (tmp_path / "gate").touch()
    command = start(*asked, "--methods", f"{write('waits', WAIT)},{write('quick')}", "--format", "json")
    os.kill(appears(tmp_path / "pid"), signal.SIGKILL)
    out, err = command.communicate(timeout=300)
    assert command.returncode == 1, err
    found = records(tmp_path / "results")
    assert {name: record.status for name, record in found.items()} == {"waits": "error", "quick": "ok"}
    failure = found["waits"].error
    assert failure is not None and "SIGKILL" in failure.message and "fit" in failure.message
    (row,) = (row for row in json.loads(out.splitlines()[-1])["rows"] if row["method"] == "waits")
    assert row["status"] == "error" and "SIGKILL" in row["reason"]


@pytest.mark.parametrize("sign", ["interrupt", "terminal interrupt", "terminate"])
def test_an_interrupted_command_leaves_whole_records_and_goes_on_where_it_stopped(
    start: Start, run_bench: Bench, asked: list[str], write: Write, tmp_path: Path, sign: str
) -> None:
    (tmp_path / "gate").touch()
    methods = f"{write('quick')},{write('waits', WAIT)}"
    command = start(*asked, "--methods", methods)
    worker = appears(tmp_path / "pid")
    if sign == "terminal interrupt":  # Ctrl-C reaches the worker, too
        os.killpg(command.pid, signal.SIGINT)
    else:
        command.send_signal(signal.SIGINT if sign == "interrupt" else signal.SIGTERM)
    _, err = command.communicate(timeout=300)
    assert command.returncode == 130, err
    assert "Traceback" not in err
    assert not psutil.pid_exists(worker)
    assert {name: record.status for name, record in records(tmp_path / "results").items()} == {"quick": "ok"}
    assert not list((tmp_path / "results").glob(".*.part"))
    (tmp_path / "gate").unlink()
    again = run_bench(*asked, "--methods", methods)
    assert again.returncode == 0, again.stderr
    assert {name: record.status for name, record in records(tmp_path / "results").items()} == {
        "quick": "ok",
        "waits": "ok",
    }
    assert fits(tmp_path) == ["quick 0", "waits 0", "waits 0"]
    assert "kept from before" in again.stderr


def test_two_commands_in_one_folder_lose_nothing_and_run_nothing_twice(
    start: Start, asked: list[str], write: Write, tmp_path: Path
) -> None:
    methods = f"{write('one', 'time.sleep(0.5)')},{write('two', 'time.sleep(0.5)')}"
    both = [start(*asked, "--methods", methods, "--seeds", "2") for _ in range(2)]
    for command in both:
        _, err = command.communicate(timeout=300)
        assert command.returncode == 0, err
    assert sorted(fits(tmp_path)) == ["one 0", "one 1", "two 0", "two 1"]
    found = list(read_all(tmp_path / "results"))
    assert [record.status for record in found] == ["ok"] * 4


def test_a_run_is_made_anew_only_when_forced_or_when_its_code_has_changed(
    run_bench: Bench, asked: list[str], write: Write, tmp_path: Path
) -> None:
    def count(*more: str) -> int:
        done = run_bench(*asked, "--methods", "./mine.py", *more)
        assert done.returncode == 0, done.stderr
        return len(fits(tmp_path))

    write("mine")
    assert count() == 1
    assert count() == 1
    assert count("--force") == 2
    write("mine", "'changed'")
    assert count() == 3
    assert count() == 3


def test_a_record_that_does_not_read_is_made_anew(
    run_bench: Bench, asked: list[str], write: Write, tmp_path: Path
) -> None:
    arguments = [*asked, "--methods", write("mine")]
    run_bench(*arguments)
    (place,) = (tmp_path / "results").glob("*.json")
    place.write_text('{"half": ', "utf-8")
    assert run_bench(*arguments).returncode == 0
    assert Record.read(place).status == "ok"


def test_what_a_method_cannot_do_is_a_result_and_not_an_error(
    run_bench: Bench, asked: list[str], write: Write, tmp_path: Path
) -> None:
    cannot = write("cannot", "raise Unsupported('only closed labels')")
    large = write("large", "raise MemoryError('too much')")
    done = run_bench(*asked, "--methods", f"{cannot},{large}")
    assert done.returncode == 0, done.stderr
    found = records(tmp_path / "results")
    assert found["cannot"].status == "unsupported"
    assert found["large"].status == "did-not-fit"
    assert found["cannot"].error is not None and found["cannot"].error.message == "only closed labels"
    assert "only closed labels" in done.stdout
    assert not found["large"].samples


@pytest.mark.parametrize(
    ("body", "kind"),
    [("1 / 0", "ZeroDivisionError"), ("raise SystemExit(0)", "WorkerDied"), ("os._exit(7)", "WorkerDied")],
)
def test_a_method_that_raises_or_ends_its_process_is_an_error_with_its_reason(
    run_bench: Bench, asked: list[str], write: Write, tmp_path: Path, body: str, kind: str
) -> None:
    done = run_bench(*asked, "--methods", write("faulty", body))
    assert done.returncode == 1, done.stderr
    record = records(tmp_path / "results")["faulty"]
    assert record.status == "error"
    assert record.error is not None and record.error.kind == kind
    assert record.error.message and record.error.message in done.stdout.replace("\n", " ")


def jobs(asked: list[str], methods: str, budget: str) -> list[Any]:
    task, model = asked[2], asked[4]
    return plan.plan_jobs(methods, task, model, seeds=1, budget_text=budget, settings=[])


def test_a_method_that_ignores_its_seconds_is_ended(
    asked: list[str], write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(launcher, "GRACE_S", 0.3)
    (tmp_path / "gate").touch()
    (job,) = jobs(asked, write("waits", WAIT), "steps=3,seconds=0.2")
    began = time.monotonic()
    record, fresh = launcher.launch_run(job, tmp_path)
    assert fresh
    assert record.status == "timeout"
    assert record.error is not None and "0.2 s" in record.error.message
    assert time.monotonic() - began < 120
    assert not psutil.pid_exists(appears(tmp_path / "pid"))
    assert Record.read(tmp_path / f"{job.spec.id}.json") == record


def test_time_before_fitting_is_not_taken_for_fitting(
    asked: list[str], write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(launcher, "GRACE_S", 0.0)
    file = write("mine")
    code = (tmp_path / "mine.py").read_text("utf-8")
    (tmp_path / "mine.py").write_text(code.replace("return None", "time.sleep(3)"), "utf-8")
    (job,) = jobs(asked, file, "steps=3,seconds=1")
    assert launcher.launch_run(job, tmp_path)[0].status == "ok"


def test_half_written_progress_does_not_end_a_run(tmp_path: Path) -> None:
    file = tmp_path / "progress"
    assert progress.read_progress(file) == {}
    watch = progress.ProgressFile(file)
    watch({"phase": "fit"})
    assert progress.read_progress(file)["phase"] == "fit"
    for step in range(1000):
        watch({"step": step})
        assert progress.read_progress(file)["phase"] == "fit"


def test_equal_seeds_give_equal_answers_in_every_process(
    asked: list[str], lively: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    asked[4] = str(lively.folder)
    planned = [job for job in jobs(asked, "lora,qlora,few-shot", "steps=3,batch=4") if not job.spec.method.control]
    assert len(planned) == 3

    def run_all(folder: Path) -> dict[str, Record]:
        folder.mkdir()
        if hasattr(os, "sched_setaffinity"):  # a core for each side, which its workers inherit
            cores = sorted(os.sched_getaffinity(0))
            os.sched_setaffinity(0, {cores[0] if folder.name == "first" else cores[-1]})
        for job in planned:
            launcher.launch_run(job, folder)
        return records(folder)

    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(run_all, (tmp_path / "first", tmp_path / "second"))
    assert {name: record.status for name, record in first.items()} == {"lora": "ok", "qlora": "ok", "few-shot": "ok"}
    answers = {name: [sample.raw for sample in record.samples] for name, record in first.items()}
    assert len(set(map(tuple, answers.values()))) == 3, "the methods must answer differently, or this cannot fail"
    assert {name: [sample.raw for sample in record.samples] for name, record in second.items()} == answers
    for name, record in first.items():
        assert [point.train_loss for point in record.curve] == [point.train_loss for point in second[name].curve]
