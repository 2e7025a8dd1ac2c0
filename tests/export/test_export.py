"""What a run fitted, taken home: plain libraries give the recorded answers, and nothing is handed over unchecked."""

from __future__ import annotations

import json
import os
import runpy
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from conftest import COLORS, FEELINGS, Bench, MakeRecord, MakeTask

from bench.cli import answer as answer_cli
from bench.cli import export as export_cli
from bench.errors import UserError
from bench.execution import plan, worker
from bench.export import export, provenance, script_check
from bench.modeling.checkpoint import Checkpoint
from bench.records import artifacts
from bench.records.record import Failure, Record, read_all

ALONE = """
import runpy, sys
sys.argv = [sys.argv[1], *sys.argv[2:]]
runpy.run_path(sys.argv[0], run_name="__main__")
print("bench" in sys.modules, file=sys.stderr)
"""


@pytest.fixture(scope="module")
def base(lively: Checkpoint, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base model whose own settings ask for sampling, as those of many models do."""
    folder = tmp_path_factory.mktemp("takehome") / "base"
    shutil.copytree(lively.folder, folder)
    asks = {"do_sample": True, "temperature": 5.0, "top_k": 0, "eos_token_id": 256, "pad_token_id": 257}
    (folder / "generation_config.json").write_text(json.dumps(asks), "utf-8")
    tokenizer = lively.load().tokenizer
    tokenizer.chat_template = "{% for turn in messages %}<{{ turn.role }}> {{ turn.content }}\n{% endfor %}<answer>"
    tokenizer.save_pretrained(folder)
    return folder


def worked(first: int, count: int) -> list[dict[str, Any]]:
    return [
        {
            "id": f"q{place}",
            "input": f"{COLORS[place % 4]} {place}",
            "target": FEELINGS[place % 3],
            "rationale": f"it is {COLORS[place % 4]}",
        }
        for place in range(first, first + count)
    ]


@pytest.fixture(scope="module")
def tasks(make_task: MakeTask, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("tasks")
    kinds: dict[str, dict[str, Any]] = {"open": {}, "closed": {"labels": list(FEELINGS)}}
    kinds["worked"] = {"template": "Q: {input}\nA: {target}\n\n", "new_tokens": 24}
    return {kind: make_task(folder / kind, train=worked(0, 18), **more) for kind, more in kinds.items()}


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Scripts run in this process, which spares them the imports."""

    def ask(script: Path, questions: Sequence[str]) -> list[tuple[str, str]]:
        compile(script.read_text("utf-8"), str(script), "exec")
        said = runpy.run_path(str(script))
        return [(raw, said["trim"](raw)) for raw in map(said["answer"], questions)]

    monkeypatch.setattr(script_check, "ask", ask)
    yield


def run(name: str, task: Path, base: Path, out: Path, **params: object) -> Path:
    """The file of a record of the validation split, which takes no time; what was fitted is kept beside it."""
    settings = [f"{name}.{key}={value}" for key, value in params.items()]
    jobs = plan.plan_jobs(name, str(task), str(base), seeds=1, budget_text="steps=4,batch=4", settings=settings)
    (job,) = [job for job in jobs if job.spec.method.ref == name]
    spec = job.spec.model_copy(update={"exam": "validation"})
    out.mkdir(parents=True, exist_ok=True)
    (out / "job").write_text(job.model_copy(update={"spec": spec, "keep": True}).model_dump_json(), "utf-8")
    worker.main(str(out / "job"), str(out), str(out / "progress"))
    return out / f"{spec.id}.json"


def taken(file: Path, to: Path, *, merge: bool = False) -> export.ExportResult:
    found = provenance.find_provenance(Record.read(file), file)
    return export.export_record(found, to, merge=merge, check=100, show=lambda state: None)


QUICK: list[tuple[str, str, dict[str, Any]]] = [
    ("head", "closed", {}),
    ("features", "closed", {}),
    ("zero-shot", "closed", {}),
    ("few-shot", "closed", {"k": 2, "calibrate": True}),
    ("cot", "worked", {"k": 2}),
    ("tfidf", "closed", {}),
    ("nearest", "open", {}),
    ("majority", "open", {}),
]
TRAINED: list[tuple[str, str, dict[str, Any]]] = [
    ("lora", "closed", {"lr": 0.05}),
    ("qlora", "open", {"lr": 0.05}),
    ("dpo", "open", {"lr": 0.05}),
    ("instruct", "open", {"lr": 0.05}),
    ("peft:loha", "open", {"lr": 0.05}),
    ("prefix", "open", {"tokens": 8}),
    ("prompt-tuning", "open", {"tokens": 8}),
    ("ia3", "open", {}),
    ("bitfit", "open", {"lr": 0.05}),
    ("adapter", "open", {"lr": 0.05}),
    ("full", "open", {"lr": 0.01}),
    ("head", "open", {"lr": 0.05}),
    ("features", "open", {"k": 5, "pool": "mean", "layer": 0.5}),
    ("zero-shot", "open", {}),
]
KINDS = [*QUICK, *(pytest.param(*kind, marks=pytest.mark.slow) for kind in TRAINED)]


@pytest.mark.parametrize(("name", "kind", "params"), KINDS)
def test_the_script_of_a_method_gives_every_recorded_answer(
    name: str, kind: str, params: dict[str, Any], tasks: dict[str, Path], base: Path, tmp_path: Path, here: None
) -> None:
    file = run(name, tasks[kind], base, tmp_path / "results", **params)
    record = Record.read(file)
    assert record.status == "ok", record.error
    done = taken(file, tmp_path / "home")
    assert not done.differences
    assert (
        done.sentences[-1]
        == f"answer.py gives {len(record.samples)} of {len(record.samples)} recorded answers byte for byte."
    )
    assert {"README.md", "answer.py", "settings.json"} <= {place.name for place in (tmp_path / "home").iterdir()}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "params"),
    [("lora", {"lr": 0.05}), ("ia3", {}), ("bitfit", {"lr": 0.05}), ("head", {"lr": 0.05}), ("full", {"lr": 0.01})],
)
def test_a_merged_model_is_loaded_by_transformers_alone_and_gives_every_recorded_answer(
    name: str, params: dict[str, Any], tasks: dict[str, Path], base: Path, tmp_path: Path, here: None
) -> None:
    from transformers import AutoModelForCausalLM

    file = run(name, tasks["open"], base, tmp_path / "results", **params)
    assert not taken(file, tmp_path / "home", merge=True).differences
    _, told = AutoModelForCausalLM.from_pretrained(tmp_path / "home", output_loading_info=True)
    assert not any(told[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    assert not (tmp_path / "home" / "adapter_config.json").exists()
    assert not (tmp_path / "home" / "trained.safetensors").exists()
    assert "peft" not in (tmp_path / "home" / "answer.py").read_text("utf-8")
    settings = json.loads((tmp_path / "home" / "generation_config.json").read_text("utf-8"))
    assert not settings.get("do_sample") and "temperature" not in settings


@pytest.mark.parametrize(
    "name",
    ["few-shot", "majority", *(pytest.param(name, marks=pytest.mark.slow) for name in ("qlora", "prefix", "adapter"))],
)
def test_what_is_no_weight_of_a_plain_model_is_not_merged(
    name: str, tasks: dict[str, Path], base: Path, tmp_path: Path, here: None
) -> None:
    file = run(name, tasks["open"], base, tmp_path / "results")
    with pytest.raises(UserError, match="--merge"):
        taken(file, tmp_path / "home", merge=True)
    assert not (tmp_path / "home").exists()
    assert {place.name for place in tmp_path.iterdir()} == {"results"}


def alone(script: Path, *arguments: str) -> str:
    """What a script prints in a process that does not know this project."""
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"} | {"HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-c", ALONE, str(script), *arguments]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", env=environment, cwd="/", timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stderr.splitlines()[-1] == "False", "it imported bench"
    return done.stdout


@pytest.mark.parametrize("merge", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_an_exported_lora_gives_the_recorded_answer_in_a_fresh_process_and_so_does_the_merged_model(
    merge: bool, tasks: dict[str, Path], base: Path, tmp_path: Path, here: None
) -> None:
    file = run("lora", tasks["open"], base, tmp_path / "results", lr=0.05)
    samples = Record.read(file).samples
    assert len({sample.raw for sample in samples}) > 1, "an answer that all questions have proves little"
    assert not taken(file, tmp_path / "home", merge=merge).differences
    script = tmp_path / "home" / "answer.py"
    assert ("import PeftModel" in script.read_text("utf-8")) is not merge
    assert alone(script) == samples[0].raw.lstrip().split("\n", 1)[0].strip() + "\n"


def test_an_exported_prompt_gives_the_recorded_answers_in_a_fresh_process(
    tasks: dict[str, Path], base: Path, tmp_path: Path, here: None
) -> None:
    file = run("few-shot", tasks["open"], base, tmp_path / "results", k=2)
    samples = Record.read(file).samples
    assert not taken(file, tmp_path / "home").differences
    trimmed = samples[1].raw.lstrip().split("\n", 1)[0].strip()
    assert alone(tmp_path / "home" / "answer.py", "blue 21") == trimmed + "\n"
    settings = json.loads((tmp_path / "home" / "settings.json").read_text("utf-8"))
    assert settings["prompt"].count("Q: ") == 3 and settings["prompt"].endswith("Q: {input}\nA:")
    assert settings["decoding"]["do_sample"] is False and settings["decoding"]["stop_strings"] == ["\n"]


STRANGER = '''
"""A stranger's method."""
from dataclasses import dataclass
from bench.method import Method

@dataclass
class Mine(Method):
    def load(self, base):
        return None

    def fit(self, lm, lesson, budget):
        budget.draw(examples=len(lesson.train))
        self.answer_ = lesson.train[-1].target
        return self

    def predict(self, inputs):
        return [self.answer_ + text for text in inputs]

    def save(self, folder):
        (folder / "mine.txt").write_text(self.answer_)
'''


def test_a_strangers_method_is_handed_over_without_a_script_and_the_page_says_so(
    tasks: dict[str, Path], base: Path, tmp_path: Path
) -> None:
    (tmp_path / "mine.py").write_text(STRANGER, "utf-8")
    file = run(str(tmp_path / "mine.py"), tasks["open"], base, tmp_path / "results")
    done = taken(file, tmp_path / "kept")
    assert done.sentences[-1] == "No script can be written for this method, so no recorded answer was compared."
    assert {place.name for place in (tmp_path / "kept").iterdir()} == {"README.md", "mine.txt", "settings.json"}
    shutil.rmtree(tmp_path / "results" / file.stem)
    done = taken(file, tmp_path / "again")
    assert done.sentences[-1].endswith("gives 4 of 4 recorded answers byte for byte.")
    assert (tmp_path / "again" / "mine.txt").read_bytes() == (tmp_path / "kept" / "mine.txt").read_bytes()
    assert "There is no script" in (tmp_path / "again" / "README.md").read_text("utf-8")
    found = provenance.find_provenance(Record.read(file), file)
    assert export.answer_questions(found, ["pink"], lambda state: None)[0] == [
        Record.read(file).samples[0].raw[:4] + "pink"
    ]


def test_what_was_not_kept_is_fitted_again(tasks: dict[str, Path], base: Path, tmp_path: Path) -> None:
    file = run("nearest", tasks["open"], base, tmp_path / "results")
    shutil.rmtree(tmp_path / "results" / file.stem)
    done = taken(file, tmp_path / "home")
    assert not done.differences and "made again" in done.sentences[0]
    assert {place.name for place in tmp_path.iterdir()} == {"results", "home"}, "nothing else is left behind"
    assert not (tmp_path / "results" / file.stem).exists()


def test_the_whole_way_from_run_to_answer(run_bench: Bench, tasks: dict[str, Path], base: Path, tmp_path: Path) -> None:
    flags = ("run", "--methods", "majority", "--task", tasks["open"], "--model", base)
    assert run_bench(*flags).returncode == 0
    (record,) = read_all(tmp_path / "results")
    kept = tmp_path / "results" / record.id
    assert not kept.exists()
    assert "kept from before" not in run_bench(*flags, "--save-artifacts").stderr
    assert (kept / "answer.json").is_file()
    assert "kept from before" in run_bench(*flags, "--save-artifacts").stderr
    (record,) = read_all(tmp_path / "results")  # what is kept is no record
    done = run_bench("export", record.id, "--to", "home")
    assert done.returncode == 0, done.stderr
    assert f"gives {len(record.samples)} of {len(record.samples)} recorded answers byte for byte" in done.stdout
    assert alone(tmp_path / "home" / "answer.py") == record.samples[0].raw + "\n"
    told = run_bench("answer", record.id, "pink", "--format", "json")
    assert json.loads(told.stdout)["answers"] == [{"question": "pink", "answer": record.samples[0].raw}]
    assert run_bench("answer", "home", "pink", "red").stdout == 2 * (record.samples[0].raw + "\n")
    again = run_bench("export", record.id, "--to", "home")
    assert again.returncode == 2 and "is not empty" in again.stderr
    file = tmp_path / "results" / f"{record.id}.json"
    file.write_text(file.read_text("utf-8").replace(f'"raw":"{record.samples[0].raw}"', '"raw":"other"', 1), "utf-8")
    other = run_bench("export", file, "--to", "other")
    assert other.returncode == 1 and f"recorded 'other', now '{record.samples[0].raw}'" in other.stdout
    run_bench(*flags, "--force")
    assert not kept.exists(), "what an earlier run kept goes with its record"


def test_what_cannot_be_taken_home_is_refused_and_nothing_is_written(
    make_task: MakeTask, base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    task = make_task(tmp_path / "task")
    file = run("majority", task, base, tmp_path / "results")
    record = Record.read(file)
    failed = record.model_copy(
        update={"status": "unsupported", "error": Failure(kind="Unsupported", message="no labels", trace=None)}
    )
    with pytest.raises(UserError, match="no record 'majorty'") as refusal:
        export_cli.command("majorty", tmp_path / "home")
    assert record.id in str(refusal.value)
    with pytest.raises(UserError, match=r"the run is unsupported.*no labels"):
        provenance.find_provenance(failed, file)
    (task / "test.jsonl").write_text((task / "test.jsonl").read_text("utf-8") + "\n", "utf-8")
    with pytest.raises(UserError, match=r"the task .* is not what it was in the run"):
        export_cli.command(str(file), tmp_path / "home")
    shutil.rmtree(task)
    with pytest.raises(UserError, match="no task folder"):
        export_cli.command(str(file), tmp_path / "home")
    full = tmp_path / "full"
    full.mkdir()
    (full / "something").touch()
    with pytest.raises(UserError, match="is not empty"):
        export_cli.command(str(file), full)
    with pytest.raises(UserError, match="there is no question"):
        answer_cli.command(str(file), [" "])
    assert not (tmp_path / "home").exists()


def test_numbers_are_saved_as_they_are_in_whatever_order_memory_holds_them(tmp_path: Path) -> None:
    import numpy
    from safetensors.numpy import load_file

    numbers = numpy.arange(6.0).reshape(2, 3)
    artifacts.save_numbers(
        tmp_path / "numbers.safetensors", {"plain": numbers, "turned": numpy.asfortranarray(numbers)}
    )
    for name, saved in load_file(tmp_path / "numbers.safetensors").items():
        assert (saved == numbers).all(), name


def test_what_a_dead_process_left_goes_and_what_failed_is_not_kept(make_record: MakeRecord, tmp_path: Path) -> None:
    record = make_record()
    left = tmp_path / f".{record.id}.kept.old"
    left.mkdir()
    failed = record.model_copy(update={"status": "error"})
    for one, stays in ((record, True), (failed, False)):
        with artifacts.record_writer(tmp_path, record.id, keep=True) as (saved, write):
            (saved / "adapter_config.json").write_text("{}", "utf-8")
            write(one)
        assert (tmp_path / record.id).is_dir() is stays
        assert list(read_all(tmp_path)) == [one]
    assert {place.name for place in tmp_path.iterdir()} == {f"{record.id}.json"}
