"""Export of runs: scripts on plain libraries give the recorded answers, and every export is checked."""

from __future__ import annotations

import dataclasses
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
from support import byte_tokenizer, run_worker

from bench.cli import answer as answer_cli
from bench.cli import export as export_cli
from bench.errors import UserError
from bench.execution import plan
from bench.export import export, provenance, script_check
from bench.modeling.chat_template import THOUGHTS, ChatTemplate
from bench.modeling.checkpoint import Checkpoint
from bench.records import Failure, Record, Spec, artifacts, read_all

SCRIPT_RUNNER = """
import runpy, sys
sys.argv = [sys.argv[1], *sys.argv[2:]]
runpy.run_path(sys.argv[0], run_name="__main__")
print("bench" in sys.modules, file=sys.stderr)
"""


@pytest.fixture(scope="module")
def base(lively: Checkpoint, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base model whose generation_config.json asks for sampling, as those of many models do."""
    folder = tmp_path_factory.mktemp("export") / "base"
    shutil.copytree(lively.folder, folder)
    generation_config = {"do_sample": True, "temperature": 5.0, "top_k": 0, "eos_token_id": 256, "pad_token_id": 257}
    (folder / "generation_config.json").write_text(json.dumps(generation_config), "utf-8")
    tokenizer = lively.load().tokenizer
    tokenizer.chat_template = "{% for turn in messages %}<{{ turn.role }}> {{ turn.content }}\n{% endfor %}<answer>"
    tokenizer.save_pretrained(folder)
    return folder


def rows_with_rationale(first: int, count: int) -> list[dict[str, Any]]:
    return [
        {
            "id": f"q{index}",
            "input": f"{COLORS[index % 4]} {index}",
            "target": FEELINGS[index % 3],
            "rationale": f"it is {COLORS[index % 4]}",
        }
        for index in range(first, first + count)
    ]


@pytest.fixture(scope="module")
def tasks(make_task: MakeTask, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("tasks")
    cards: dict[str, dict[str, Any]] = {"open": {}, "labels": {"labels": list(FEELINGS)}}
    cards["rationales"] = {"template": "Q: {input}\nA: {target}\n\n", "new_tokens": 24}
    return {name: make_task(folder / name, train=rows_with_rationale(0, 18), **card) for name, card in cards.items()}


@pytest.fixture
def in_process(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Run scripts in this process, which saves their imports."""

    def run_script(script: Path, questions: Sequence[str]) -> list[tuple[str, str]]:
        compile(script.read_text("utf-8"), str(script), "exec")
        names = runpy.run_path(str(script))
        return [(raw, names["trim"](raw)) for raw in map(names["answer"], questions)]

    monkeypatch.setattr(export, "run_script", run_script)
    yield


def run(name: str, task: Path, base: Path, out: Path, *, prompt_format: str = "plain", **params: object) -> Path:
    """Run a method on the short validation split with saved artifacts; returns the file of the record."""
    settings = [f"{name}.{key}={value}" for key, value in params.items()]
    jobs = plan.plan_jobs(
        name, str(task), str(base), seeds=1, budget_text="steps=4,batch=4", settings=settings,
        prompt_format=prompt_format,
    )  # fmt: skip
    (job,) = [job for job in jobs if job.spec.method.ref == name]
    spec = job.spec.model_copy(update={"split": "validation"})
    out.mkdir(parents=True, exist_ok=True)
    (out / "job").write_text(job.model_copy(update={"spec": spec, "save_artifacts": True}).model_dump_json(), "utf-8")
    run_worker(out / "job", out, out / "progress")
    return out / f"{spec.id}.json"


def export_file(file: Path, to: Path, *, merge: bool = False) -> export.ExportResult:
    source = provenance.find_provenance(Record.read(file), file)
    return export.export_record(source, to, merge=merge, check=100, on_progress=lambda state: None)


FAST_CASES: list[tuple[str, str, dict[str, Any]]] = [
    ("head", "labels", {}),
    ("features", "labels", {}),
    ("zero-shot", "labels", {}),
    ("few-shot", "labels", {"k": 2, "calibrate": True}),
    ("few-shot", "labels", {}),
    ("few-shot", "labels", {"select": "nearest", "k": 5}),
    ("few-shot", "open", {"select": "nearest", "k": 50}),
    ("cot", "rationales", {"select": "nearest", "k": 2}),
    ("cot", "rationales", {"k": 2}),
    ("tfidf", "labels", {}),
    ("nearest", "open", {}),
    ("majority", "open", {}),
]
TRAINED_CASES: list[tuple[str, str, dict[str, Any]]] = [
    ("lora", "labels", {"lr": 0.05}),
    ("qlora", "open", {"lr": 0.05}),
    ("dpo", "open", {"lr": 0.05}),
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
CASES = [*FAST_CASES, *(pytest.param(*case, marks=pytest.mark.slow) for case in TRAINED_CASES)]


@pytest.mark.parametrize(("name", "task", "params"), CASES)
def test_export_record_each_method_gives_every_recorded_answer(
    name: str, task: str, params: dict[str, Any], tasks: dict[str, Path], base: Path, tmp_path: Path, in_process: None
) -> None:
    file = run(name, tasks[task], base, tmp_path / "results", **params)
    record = Record.read(file)
    assert record.status == "ok", record.error
    result = export_file(file, tmp_path / "exported")
    assert not result.differences
    assert (
        result.notes[-1]
        == f"answer.py gives {len(record.samples)} of {len(record.samples)} recorded answers byte for byte."
    )
    assert {"README.md", "answer.py", "settings.json"} <= {path.name for path in (tmp_path / "exported").iterdir()}


@pytest.mark.parametrize("starts_thinking", [False, True])
def test_script_splits_thoughts_as_the_run_did(starts_thinking: bool) -> None:
    tokenizer = byte_tokenizer(additional_special_tokens=["<think>"])
    chat = ChatTemplate(tokenizer, "", {}, "", starts_thinking=starts_thinking)
    settings = {
        "chat": {"thoughts": THOUGHTS, "starts_thinking": starts_thinking, "mark_ids": chat.mark_ids},
        "generation_config": {"eos_token_id": [256], "pad_token_id": 256},
    }
    script: dict[str, Any] = {"SETTINGS": settings, "tokenizer": tokenizer, "StoppingCriteria": object}
    source = "import re\nfrom itertools import groupby, takewhile\n"
    exec(source + (provenance.TEMPLATES / "chat_answer.txt").read_text("utf-8"), script)
    for text in (
        "warm",
        "<think>a\nb</think>\n\nwarm",
        "a</think> b",
        "<think>a",
        "a<think>b</think>c<think>d</think>e",
    ):
        token_ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        assert script["split_thoughts"]([*token_ids, 256, 256]) == chat.split_thoughts(chat.decode(token_ids))


CHAT_TEMPLATES = {
    "turns": "{% for turn in messages %}<{{ turn.role }}> {{ turn.content }}<end>{% endfor %}<answer>",
    "user role": "{% for turn in messages if turn.role != 'system' %}<{{ turn.role }}>{{ turn.content }}<end>"
    "{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}",
    "end as text": "{% for turn in messages %}<{{ turn.role }}>{{ turn.content }}e{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}",
    "thoughts": "{% for turn in messages %}<{{ turn.role }}>{{ turn.content }}<end>{% endfor %}"
    "{% if add_generation_prompt %}<assistant><think>{% endif %}",
}


@pytest.mark.parametrize(
    ("template", "name", "task", "params"),
    [
        ("turns", "zero-shot", "open", {}),
        ("end as text", "zero-shot", "open", {}),
        ("thoughts", "few-shot", "labels", {"k": 2}),
        ("thoughts", "few-shot", "labels", {"select": "nearest"}),
        ("end as text", "few-shot", "open", {"select": "nearest", "k": 50}),
        ("user role", "cot", "rationales", {"select": "nearest", "k": 2}),
        ("turns", "features", "labels", {}),
        ("end as text", "cot", "rationales", {"k": 2}),
        ("thoughts", "zero-shot", "open", {}),
        ("turns", "lora", "open", {"lr": 0.05}),
    ],
)
def test_export_record_chat_prompts_give_every_recorded_answer(
    template: str, name: str, task: str, params: dict[str, Any], tasks: dict[str, Path], base: Path, tmp_path: Path,
    in_process: None,
) -> None:  # fmt: skip
    folder = tmp_path / "model"
    shutil.copytree(base, folder)
    (folder / "chat_template.jinja").write_text(CHAT_TEMPLATES[template], "utf-8")
    file = run(name, tasks[task], folder, tmp_path / "results", prompt_format="chat", **params)
    record = Record.read(file)
    assert record.status == "ok", record.error
    assert record.spec.prompt.thinking == ("on" if template == "thoughts" else "none")
    if name in ("zero-shot", "lora"):
        has_answers = any(sample.raw for sample in record.samples)
        assert has_answers is not (template == "thoughts")  # the random model never ends its thoughts
    result = export_file(file, tmp_path / "exported")
    assert not result.differences, result.differences


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "params"),
    [("lora", {"lr": 0.05}), ("ia3", {}), ("bitfit", {"lr": 0.05}), ("head", {"lr": 0.05}), ("full", {"lr": 0.01})],
)
def test_export_record_merged_loads_in_transformers_run_alone(
    name: str, params: dict[str, Any], tasks: dict[str, Path], base: Path, tmp_path: Path, in_process: None
) -> None:
    from transformers import AutoModelForCausalLM

    file = run(name, tasks["open"], base, tmp_path / "results", **params)
    assert not export_file(file, tmp_path / "exported", merge=True).differences
    _, info = AutoModelForCausalLM.from_pretrained(tmp_path / "exported", output_loading_info=True)
    assert not any(info[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    assert not (tmp_path / "exported" / "adapter_config.json").exists()
    assert not (tmp_path / "exported" / "trained.safetensors").exists()
    assert "peft" not in (tmp_path / "exported" / "answer.py").read_text("utf-8")
    settings = json.loads((tmp_path / "exported" / "generation_config.json").read_text("utf-8"))
    assert not settings.get("do_sample") and "temperature" not in settings


@pytest.mark.parametrize(
    "name",
    ["few-shot", "majority", *(pytest.param(name, marks=pytest.mark.slow) for name in ("qlora", "prefix", "adapter"))],
)
def test_export_record_unmergeable_method_is_refused(
    name: str, tasks: dict[str, Path], base: Path, tmp_path: Path, in_process: None
) -> None:
    file = run(name, tasks["open"], base, tmp_path / "results")
    with pytest.raises(UserError, match="--merge"):
        export_file(file, tmp_path / "exported", merge=True)
    assert not (tmp_path / "exported").exists()
    assert {path.name for path in tmp_path.iterdir()} == {"results"}


def run_alone(script: Path, *arguments: str) -> str:
    """Return the output of a script in a process without this project on its path."""
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"} | {"HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-c", SCRIPT_RUNNER, str(script), *arguments]
    result = subprocess.run(command, capture_output=True, encoding="utf-8", env=environment, cwd="/", timeout=300)
    assert result.returncode == 0, result.stderr
    assert result.stderr.splitlines()[-1] == "False", "the script imported bench"
    return result.stdout


@pytest.mark.parametrize("merge", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_exported_lora_in_fresh_process_gives_the_recorded_answer(
    merge: bool, tasks: dict[str, Path], base: Path, tmp_path: Path, in_process: None
) -> None:
    file = run("lora", tasks["open"], base, tmp_path / "results", lr=0.02)
    samples = Record.read(file).samples
    assert len({sample.raw for sample in samples}) > 1, "the same answer to all questions would prove little"
    assert not export_file(file, tmp_path / "exported", merge=merge).differences
    script = tmp_path / "exported" / "answer.py"
    assert ("import PeftModel" in script.read_text("utf-8")) is not merge
    assert run_alone(script) == samples[0].raw.lstrip().split("\n", 1)[0].strip() + "\n"


def test_exported_prompt_in_fresh_process_gives_the_recorded_answers(
    tasks: dict[str, Path], base: Path, tmp_path: Path, in_process: None
) -> None:
    file = run("few-shot", tasks["open"], base, tmp_path / "results", k=2)
    samples = Record.read(file).samples
    assert not export_file(file, tmp_path / "exported").differences
    trimmed = samples[1].raw.lstrip().split("\n", 1)[0].strip()
    assert run_alone(tmp_path / "exported" / "answer.py", "blue 21") == trimmed + "\n"
    settings = json.loads((tmp_path / "exported" / "settings.json").read_text("utf-8"))
    assert settings["prompt"].count("Q: ") == 3 and settings["prompt"].endswith("Q: {input}\nA:")
    assert settings["generation_config"]["do_sample"] is False and settings["generation_config"]["stop_strings"] == [
        "\n"
    ]


CUSTOM_METHOD = '''
"""A method of a user."""
from dataclasses import dataclass
from bench.method import Method

@dataclass
class Mine(Method):
    def load(self, base):
        return None

    def fit(self, lm, data, budget):
        budget.spend(examples=len(data.train))
        self.answer_ = data.train[-1].target
        return self

    def predict(self, inputs):
        return [self.answer_ + text for text in inputs]

    def save(self, folder):
        (folder / "mine.txt").write_text(self.answer_)
'''


def test_export_record_method_without_template_has_no_script(
    tasks: dict[str, Path], base: Path, tmp_path: Path
) -> None:
    (tmp_path / "mine.py").write_text(CUSTOM_METHOD, "utf-8")
    file = run(str(tmp_path / "mine.py"), tasks["open"], base, tmp_path / "results")
    result = export_file(file, tmp_path / "saved")
    assert result.notes[-1] == "No script can be written for this method, so no recorded answer was compared."
    assert {path.name for path in (tmp_path / "saved").iterdir()} == {"README.md", "mine.txt", "settings.json"}
    shutil.rmtree(tmp_path / "results" / file.stem)
    result = export_file(file, tmp_path / "again")
    assert result.notes[-1].endswith("gives 4 of 4 recorded answers byte for byte.")
    assert (tmp_path / "again" / "mine.txt").read_bytes() == (tmp_path / "saved" / "mine.txt").read_bytes()
    assert "There is no script" in (tmp_path / "again" / "README.md").read_text("utf-8")
    source = provenance.find_provenance(Record.read(file), file)
    answers, _ = export.answer_questions(source, ["pink"], lambda state: None)
    assert answers == [Record.read(file).samples[0].raw[:4] + "pink"]


def test_export_record_without_artifacts_trains_again(tasks: dict[str, Path], base: Path, tmp_path: Path) -> None:
    file = run("nearest", tasks["open"], base, tmp_path / "results")
    shutil.rmtree(tmp_path / "results" / file.stem)
    result = export_file(file, tmp_path / "exported")
    assert not result.differences and "trained again" in result.notes[0]
    assert {path.name for path in tmp_path.iterdir()} == {"results", "exported"}, "temporary files are left"
    assert not (tmp_path / "results" / file.stem).exists()


def test_run_export_answer_commands_work_together(
    run_bench: Bench, tasks: dict[str, Path], base: Path, tmp_path: Path
) -> None:
    flags = ("run", "--methods", "majority", "--task", tasks["open"], "--model", base)
    assert run_bench(*flags, "--no-save-artifacts").returncode == 0
    (record,) = read_all(tmp_path / "results")
    artifacts_folder = tmp_path / "results" / record.id
    assert not artifacts_folder.exists()
    assert "existing record" not in run_bench(*flags, "--save-artifacts").stderr
    assert (artifacts_folder / "answer.json").is_file()
    assert "existing record" in run_bench(*flags, "--save-artifacts").stderr
    (record,) = read_all(tmp_path / "results")  # a folder of artifacts is no record
    result = run_bench("export", record.id, "--to", "exported")
    assert result.returncode == 0, result.stderr
    assert f"gives {len(record.samples)} of {len(record.samples)} recorded answers byte for byte" in result.stdout
    assert run_alone(tmp_path / "exported" / "answer.py") == record.samples[0].raw + "\n"
    answered = run_bench("answer", record.id, "pink", "--format", "json")
    assert json.loads(answered.stdout)["answers"] == [{"question": "pink", "answer": record.samples[0].raw}]
    assert run_bench("answer", "exported", "pink", "red").stdout == 2 * (record.samples[0].raw + "\n")
    again = run_bench("export", record.id, "--to", "exported")
    assert again.returncode == 2 and "is not empty" in again.stderr
    file = tmp_path / "results" / f"{record.id}.json"
    file.write_text(file.read_text("utf-8").replace(f'"raw":"{record.samples[0].raw}"', '"raw":"other"', 1), "utf-8")
    other = run_bench("export", file, "--to", "other")
    assert other.returncode == 1 and f"recorded 'other', now '{record.samples[0].raw}'" in other.stdout
    run_bench(*flags, "--force", "--no-save-artifacts")
    assert not artifacts_folder.exists(), "artifacts of the replaced record are left"


def test_export_invalid_input_is_refused_and_writes_nothing(
    make_task: MakeTask, base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    task = make_task(tmp_path / "task")
    file = run("majority", task, base, tmp_path / "results")
    record = Record.read(file)
    failed = record.model_copy(
        update={"status": "unsupported", "error": Failure(kind="Unsupported", message="no labels", trace=None)}
    )
    with pytest.raises(UserError, match="no record 'majorty'") as error_info:
        export_cli.command("majorty", tmp_path / "exported")
    assert record.id in str(error_info.value)
    with pytest.raises(UserError, match=r"the run is unsupported.*no labels"):
        provenance.find_provenance(failed, file)
    (task / "test.jsonl").write_text((task / "test.jsonl").read_text("utf-8") + "\n", "utf-8")
    with pytest.raises(UserError, match=r"the task .* has changed since the run"):
        export_cli.command(str(file), tmp_path / "exported")
    shutil.rmtree(task)
    with pytest.raises(UserError, match=r"task folder .* not found"):
        export_cli.command(str(file), tmp_path / "exported")
    full = tmp_path / "full"
    full.mkdir()
    (full / "something").touch()
    with pytest.raises(UserError, match="is not empty"):
        export_cli.command(str(file), full)
    with pytest.raises(UserError, match="no question given"):
        answer_cli.command(str(file), [" "])
    assert not (tmp_path / "exported").exists()


def test_find_provenance_changed_code_is_refused_before_it_runs(
    make_task: MakeTask, base: Path, tmp_path: Path
) -> None:
    method_file, task = tmp_path / "mine.py", make_task(tmp_path / "task")
    method_file.write_text(CUSTOM_METHOD, "utf-8")
    scorer = "def score(prediction, references):\n    return {'em': 1.0}\n"
    (task / "task.py").write_text(scorer, "utf-8")
    file = run(str(method_file), task, base, tmp_path / "results")
    lines: list[str] = []
    provenance.find_provenance(Record.read(file), file, announce=lines.append)
    assert len(lines) == 2 and str(method_file) in lines[0] and str(task / "task.py") in lines[1]
    marker = f"open({str(tmp_path / 'ran')!r}, 'w')\n"
    for changed, original in ((method_file, CUSTOM_METHOD), (task / "task.py", scorer)):
        changed.write_text(marker + original, "utf-8")
        with pytest.raises(UserError, match="has changed since the run"):
            provenance.find_provenance(Record.read(file), file, announce=lines.append)
        changed.write_text(original, "utf-8")
    assert not (tmp_path / "ran").exists() and len(lines) == 2
    without_digest = Record.read(file).model_copy(update={"env": None})
    with pytest.raises(UserError, match="recorded nothing"):
        provenance.find_provenance(without_digest, file)


def test_find_provenance_relative_paths_resolve_from_the_record(
    make_task: MakeTask, base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home, elsewhere = tmp_path / "home", tmp_path / "elsewhere"
    make_task(home / "task")
    shutil.copytree(base, home / "model")
    make_task(elsewhere / "task", version=2)  # another task of the same name in the working folder
    (home / "mine.py").write_text(CUSTOM_METHOD, "utf-8")
    monkeypatch.chdir(home)
    file = run("./mine.py", Path("task"), Path("model"), home / "out" / "results")
    monkeypatch.chdir(elsewhere)
    source = provenance.find_provenance(Record.read(file), file)
    assert (source.task.folder, source.base) == (home / "task", home / "model")
    shutil.rmtree(file.with_suffix(""))
    assert not export_file(file, tmp_path / "exported").differences  # trained again, so the worker finds them too
    shutil.move(home / "task", tmp_path / "moved")
    with pytest.raises(UserError, match=r"task folder .* not found|has changed") as missing:
        provenance.find_provenance(Record.read(file), file)
    assert "--task" in (missing.value.hint or "")
    moved = provenance.Replacements(task=str(tmp_path / "moved"))
    assert provenance.find_provenance(Record.read(file), file, moved).task.folder == tmp_path / "moved"
    with pytest.raises(UserError, match=r"--method majority: differs from the method .*mine\.py' of the run"):
        provenance.find_provenance(Record.read(file), file, dataclasses.replace(moved, method="majority"))
    other = provenance.Replacements(task=str(elsewhere / "task"))
    with pytest.raises(UserError, match=r"--task .*elsewhere/task: differs from the task 'task' of the run: sha256"):
        provenance.find_provenance(Record.read(file), file, other)


def test_export_record_names_with_quotes_and_markup_stay_text(
    make_task: MakeTask, base: Path, tmp_path: Path, in_process: None
) -> None:
    name = 'a"""; open("ran", "w"); """`<b>|$(touch ran)'
    file = run("majority", make_task(tmp_path / "task", summary="*x* <script>\n# big"), base, tmp_path / "results")
    record = Record.read(file)
    spec = record.spec.model_copy(update={"method": record.spec.method.model_copy(update={"name": name})})
    spec = Spec.model_validate_json(spec.model_dump_json())
    assert "open" in spec.id
    forged = record.model_copy(update={"spec": spec, "id": spec.id})
    source = dataclasses.replace(provenance.find_provenance(record, file), record=forged)
    export.export_record(source, tmp_path / "exported", merge=False, check=1, on_progress=lambda state: None)
    assert "ran" not in (tmp_path / "exported" / "answer.py").read_text("utf-8")
    readme = (tmp_path / "exported" / "README.md").read_text("utf-8")
    assert "<script>" not in readme and "\\*x\\*" in readme and "\n# big" not in readme
    assert readme.startswith("# a") and "\n# " not in readme and "`&lt;b>\\|" in readme


def test_export_record_links_in_artifacts_are_left_out(
    tasks: dict[str, Path], base: Path, tmp_path: Path, in_process: None
) -> None:
    file = run("majority", tasks["open"], base, tmp_path / "results")
    saved, secret = file.with_suffix(""), tmp_path / "secret"
    secret.mkdir()
    (secret / "key").write_text("secret", "utf-8")
    (saved / "file_link").symlink_to(secret / "key")
    (saved / "folder_link").symlink_to(secret)
    (saved / "loop").symlink_to(saved / "loop")
    (saved / "inner_link").symlink_to(saved / "answer.json")
    result = export_file(file, tmp_path / "exported")
    names = {path.name for path in (tmp_path / "exported").rglob("*")}
    assert names == {"README.md", "answer.json", "answer.py", "inner_link", "settings.json"}
    assert "Left out, because links are not followed: file_link, folder_link, loop." in result.notes
    source = provenance.find_provenance(Record.read(file), file)
    assert export.answer_questions(source, ["pink"], lambda state: None)[0] == [Record.read(file).samples[0].raw]
    shutil.rmtree(saved)
    saved.symlink_to(secret)
    with pytest.raises(UserError, match="is a link"):
        provenance.find_provenance(Record.read(file), file)


def test_check_exported_folder_refuses_foreign_scripts_and_changed_models(tmp_path: Path, base: Path) -> None:
    with pytest.raises(UserError, match="was not written by bench export"):
        script_check.check_exported_folder(tmp_path)
    settings = {"record": "task-lora-0-s0", "base": {"model": str(base.absolute()), "sha256": "0" * 64}}
    (tmp_path / "settings.json").write_text(json.dumps(settings), "utf-8")
    with pytest.raises(UserError, match="the base model has changed since the export"):
        script_check.check_exported_folder(tmp_path)
    settings["base"] = {"model": "base", "sha256": "0" * 64}
    (tmp_path / "settings.json").write_text(json.dumps(settings), "utf-8")
    assert script_check.check_exported_folder(tmp_path) == "task-lora-0-s0"


def test_run_script_that_exits_with_zero_is_refused(tmp_path: Path) -> None:
    script = tmp_path / "answer.py"
    script.write_text("import sys\nsys.exit(0)\n", "utf-8")
    with pytest.raises(UserError, match="it ended with exit code 0 and gave no answers"):
        script_check.run_script(script, ["pink"])


def test_save_numbers_any_memory_order_keeps_values(tmp_path: Path) -> None:
    import numpy
    from safetensors.numpy import load_file

    array = numpy.arange(6.0).reshape(2, 3)
    arrays = {"c_order": array, "fortran_order": numpy.asfortranarray(array)}
    artifacts.save_numbers(tmp_path / "numbers.safetensors", arrays)
    for name, saved in load_file(tmp_path / "numbers.safetensors").items():
        assert (saved == array).all(), name


def test_run_keeps_small_artifacts_so_that_answer_trains_nothing(
    run_bench: Bench, tasks: dict[str, Path], base: Path, tmp_path: Path
) -> None:
    assert run_bench("run", "--methods", "majority", "--task", tasks["open"], "--model", base).returncode == 0
    (record,) = read_all(tmp_path / "results")
    assert (tmp_path / "results" / record.id / "answer.json").is_file()
    result = run_bench("answer", record.id, "a question")
    assert result.returncode == 0, result.stderr
    assert "trained again" not in result.stdout + result.stderr


def test_record_writer_keeps_an_artifact_by_its_size(
    make_record: MakeRecord, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(artifacts, "MAX_KEPT_BYTES", 10)
    record = make_record()
    for keep, size, is_kept in ((None, 10, True), (None, 11, False), (True, 11, True), (False, 1, False)):
        new = tmp_path / f"{keep}-{size}"
        new.mkdir()
        with artifacts.record_writer(new, keep) as (folder, write):
            (folder / "weights.bin").write_bytes(b"x" * size)
            write(record)
        assert (new / record.id).is_dir() is is_kept
        assert {path.name for path in new.iterdir()} == {f"{record.id}.json", *([record.id] if is_kept else [])}
