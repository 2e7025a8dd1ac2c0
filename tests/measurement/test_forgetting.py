"""Forgetting: loss on the same general text before and after training, measured only if a model was trained."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import MakeTask
from typer.testing import CliRunner

import bench
from bench import registry
from bench.cli import app
from bench.errors import UserError
from bench.execution import launcher, plan, worker
from bench.measurement import environment, forgetting, general_text, general_text_cache
from bench.measurement.forgetting import ForgettingProbe
from bench.measurement.general_text import GeneralText
from bench.modeling.causal_lm import CausalLM
from bench.modeling.checkpoint import Checkpoint
from bench.records import Phase, Record
from bench.scratch import user_cache_folder

OWN_METHODS = """
from dataclasses import dataclass
from bench.method import Method

@dataclass
class Silent(Method):
    def fit(self, lm, data, budget):
        self.answer_ = data.train[0].target
        return self

    def predict(self, inputs):
        return [self.answer_ for _ in inputs]

    def save(self, folder):
        (folder / "answer.txt").write_text(self.answer_, "utf-8")

@dataclass
class Trains(Silent):
    def fit(self, lm, data, budget):
        weight = lm.model.get_input_embeddings().weight.requires_grad_(True)
        weight.data *= 0.9
        return super().fit(lm, data, budget)
"""
TEXTS = ["Once there was a river.", "강은 바다로 흐른다.", "x" * 999, "y", ""]


@pytest.fixture
def lm(lively: Checkpoint) -> CausalLM:
    return lively.load()


@pytest.fixture
def text_file(tmp_path: Path) -> Path:
    file = tmp_path / "tasks" / "general" / "text.jsonl"
    file.parent.mkdir(parents=True)
    lines = [json.dumps({"id": str(index), "text": text}, ensure_ascii=False) for index, text in enumerate(TEXTS)]
    file.write_text("\n".join(lines) + "\n", "utf-8")
    return file


@pytest.fixture
def shipped_text_file(text_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The same file, as the general text that ships with the package."""
    monkeypatch.setattr(registry, "general_text_file", lambda: text_file)
    monkeypatch.chdir(tmp_path)
    return text_file


def read_jsonl(file: Path) -> GeneralText:
    """Read a file in the form of the shipped text."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(registry, "general_text_file", lambda: file)
        text = GeneralText.shipped()
    assert text is not None
    return text


def summed_loss(lm: CausalLM, text: str) -> tuple[float, int]:
    """Summed loss in nats and number of predicted tokens, computed without the code under test."""
    ids = torch.tensor(lm.tokens(text)[:128])
    with torch.inference_mode():
        log_probabilities = lm.model(ids.unsqueeze(0)).logits[0].log_softmax(-1)
    return -float(log_probabilities[:-1].gather(1, ids[1:, None]).sum()), len(ids) - 1


def test_cut_windows_takes_beginning_of_each_text(lm: CausalLM) -> None:
    windows = forgetting.cut_windows(lm, TEXTS)
    assert [first + targets for first, targets in windows] == [lm.tokens(text)[:128] for text in TEXTS[:3]]
    assert all(len(first) == 1 for first, _ in windows)


def test_cut_windows_stops_at_token_limit(lm: CausalLM, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forgetting, "MAX_TEXT_TOKENS", 300)
    windows = forgetting.cut_windows(lm, TEXTS[2:3] * 9)
    assert [len(targets) for _, targets in windows] == [127, 127, 46]


def test_probe_measures_loss_before_and_after_on_same_text(lm: CausalLM, text_file: Path) -> None:
    probe = ForgettingProbe.measure_before(lm, read_jsonl(text_file))
    assert probe is not None
    losses_before = [summed_loss(lm, text) for text in TEXTS[:3]]
    unchanged = probe.measure_after(lm)
    assert unchanged.nats_after == unchanged.nats_before
    for weight in lm.model.parameters():
        weight.data *= 0.9
    losses_after = [summed_loss(lm, text) for text in TEXTS[:3]]
    changed = probe.measure_after(lm)
    tokens = sum(count for _, count in losses_before)
    assert changed.tokens == tokens
    assert changed.nats_before == pytest.approx(sum(nats for nats, _ in losses_before) / tokens, rel=1e-5)
    assert changed.nats_after == pytest.approx(sum(nats for nats, _ in losses_after) / tokens, rel=1e-5)
    assert changed.nats_after != pytest.approx(changed.nats_before, rel=1e-2)
    assert changed.text_sha256 == hashlib.sha256(text_file.read_bytes()).hexdigest()


def test_probe_counts_virtual_tokens_as_part_of_the_model(lm: CausalLM, text_file: Path) -> None:
    from peft import PromptTuningConfig, TaskType, get_peft_model

    probe = ForgettingProbe.measure_before(lm, read_jsonl(text_file))
    assert probe is not None
    config = PromptTuningConfig(task_type=TaskType.CAUSAL_LM, num_virtual_tokens=100)
    lm.model = get_peft_model(lm.model, config)
    result = probe.measure_after(lm)
    assert result.nats_after is not None and 0 < result.nats_after != result.nats_before


def entries() -> list[Path]:
    return sorted(user_cache_folder(general_text_cache.FOLDER_NAME).glob("*"))


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def measure_and_keep(lm: CausalLM, text_file: Path, wall_s: float = 2.0) -> ForgettingProbe:
    probe = ForgettingProbe.measure_before(lm, read_jsonl(text_file))
    assert probe is not None
    phase = Phase(wall_s=wall_s, cpu_s=1.0, start_mib=None, peak_mib=None, reserved_mib=None)
    probe.keep("2026-01-01T00:00:00+00:00", phase)
    return probe


@pytest.mark.usefixtures("cache")
def test_probe_takes_loss_of_earlier_run_and_tells_its_cost(
    lively: Checkpoint, text_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = measure_and_keep(lively.load(), text_file)
    lm = lively.load()
    read, evaluate_loss = list[int](), CausalLM.evaluate_loss

    def count_windows(lm: CausalLM, windows: Any) -> tuple[float, float]:
        read.append(len(windows))
        return evaluate_loss(lm, windows)

    monkeypatch.setattr(CausalLM, "evaluate_loss", count_windows)
    second = measure_and_keep(lm, text_file, wall_s=9.0)
    assert read == [1], "only the beginning of the text is read, which shows that the model is the same"
    assert (first.earlier, second.nats_before) == (None, first.nats_before)
    before, after = first.measure_after(lm), second.measure_after(lm)
    assert (before.before_measured, before.before_cost) == (None, None)
    assert after.before_measured == "2026-01-01T00:00:00+00:00"
    assert after.before_cost is not None and after.before_cost.wall_s == 2.0
    assert len(entries()) == 1


@pytest.mark.usefixtures("cache")
@pytest.mark.parametrize("content", ["", "{", "[]", '{"version": 2}', '{"version": 1, "nats": 1.0}'])
def test_probe_invalid_entry_is_measured_again(lm: CausalLM, text_file: Path, content: str) -> None:
    probe = measure_and_keep(lm, text_file)
    (entry,) = entries()
    valid = entry.read_text("utf-8")
    entry.write_text(content, "utf-8")
    again = measure_and_keep(lm, text_file)
    assert again.earlier is None and again.nats_before == probe.nats_before
    assert entry.read_text("utf-8") == valid


@pytest.mark.usefixtures("cache")
@pytest.mark.parametrize("change", ["weight", "unread embedding", "text", "threads", "package", "config"])
def test_probe_other_model_text_or_machine_has_its_own_entry(
    lm: CausalLM, text_file: Path, change: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = measure_and_keep(lm, text_file)
    if change == "weight":
        lm.model.lm_head.weight.data[0, 0] += 1e-3
    elif change == "unread embedding":
        lm.model.get_input_embeddings().weight.data[-1, 0] += 1.0
    elif change == "text":
        text_file.write_text(text_file.read_text("utf-8") + "\n", "utf-8")
    elif change == "threads":
        monkeypatch.setattr(torch, "get_num_threads", lambda: 99)
    elif change == "package":
        monkeypatch.setattr(environment, "package_versions", lambda: {"torch": "0"})
    else:
        lm.model.config.hidden_act = "gelu"
    assert measure_and_keep(lm, text_file).key != first.key
    assert len(entries()) == 2


@pytest.mark.usefixtures("cache")
def test_probe_without_writable_cache_measures_every_time(lm: CausalLM, text_file: Path, tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file", "utf-8")
    assert [measure_and_keep(lm, text_file).earlier for _ in range(2)] == [None, None]


def test_probe_file_without_text_is_none(lm: CausalLM, tmp_path: Path) -> None:
    file = tmp_path / "text.jsonl"
    file.write_text('{"id": "0", "text": ""}\n', "utf-8")
    assert ForgettingProbe.measure_before(lm, read_jsonl(file)) is None


def test_general_text_file_is_found_and_is_not_a_task(text_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench, "__path__", [str(text_file.parents[2])])
    assert registry.general_text_file() == text_file
    assert "general" not in registry.list_entries("tasks")
    text_file.unlink()
    assert registry.general_text_file() is None


def run_methods(methods: str, task: Path, base: Checkpoint, general_text: Path | None = None) -> dict[str, Record]:
    """Records of one short run of each planned method, by method."""
    jobs = plan.plan_jobs(
        methods,
        str(task),
        str(base.folder),
        seeds=1,
        budget_text="steps=2,batch=4",
        settings=[],
        general_text=general_text,
    )
    records = [worker.run_job(job, lambda event: None) for job in jobs]
    return {record.spec.method.name: record for record in records}


def test_run_measures_forgetting_of_trained_models_only(
    shipped_text_file: Path, make_task: MakeTask, tiny: Checkpoint, tmp_path: Path
) -> None:
    records = run_methods("lora", make_task(tmp_path / "feelings"), tiny)
    assert {record.status for record in records.values()} == {"ok"}
    assert {name for name, record in records.items() if record.forgetting} == {"lora"}
    lora = records["lora"]
    assert lora.cost is not None and lora.forgetting is not None
    assert list(lora.cost.phases) == [
        "import",
        "load",
        "general_text_before",
        "fit",
        "predict",
        "latency",
        "general_text_after",
        "adapter_serving",
    ]
    probe = ForgettingProbe.measure_before(tiny.load(), read_jsonl(shipped_text_file))
    assert probe is not None
    assert lora.forgetting.nats_before == pytest.approx(probe.nats_before)
    assert lora.forgetting.nats_after != lora.forgetting.nats_before


@pytest.mark.usefixtures("shipped_text_file")
def test_run_reads_no_general_text_for_methods_that_train_nothing(
    make_task: MakeTask, tiny: Checkpoint, tmp_path: Path
) -> None:
    for name in ("silent", "trains"):
        (tmp_path / f"{name}.py").write_text(OWN_METHODS, "utf-8")
    task = make_task(tmp_path / "feelings", labels=["warm", "cold", "mild"])
    records = run_methods("zero-shot,few-shot,features,./silent.py:Silent,./trains.py:Trains", task, tiny)
    phases = {name: set(record.cost.phases) for name, record in records.items() if record.cost}
    assert {record.status for record in records.values()} == {"ok"}
    read = {name for name, names in phases.items() if "general_text_before" in names}
    assert read == {"silent", "trains"}, "a method of the user may train, whatever it derives from"
    assert {name for name, record in records.items() if record.forgetting} == {"trains"}


@pytest.mark.usefixtures("shipped_text_file")
def test_run_takes_general_text_from_earlier_run_with_equal_results(
    make_task: MakeTask, tiny: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    task = make_task(tmp_path / "feelings")
    first, second = (run_methods("lora", task, tiny)["lora"] for _ in range(2))
    assert first.forgetting and second.forgetting and first.env and first.cost
    assert second.forgetting.before_measured == first.env.started
    assert second.forgetting.before_cost == first.cost.phases["general_text_before"]
    update = {"before_measured": None, "before_cost": None}
    assert second.forgetting.model_copy(update=update) == first.forgetting
    assert [sample.raw for sample in first.samples] == [sample.raw for sample in second.samples]
    assert [point.train_loss for point in first.curve] == [point.train_loss for point in second.curve]


def test_run_measuring_forgetting_does_not_change_training(
    shipped_text_file: Path, make_task: MakeTask, tiny: Checkpoint, tmp_path: Path
) -> None:
    task = make_task(tmp_path / "feelings")
    with_text = run_methods("lora", task, tiny)["lora"]
    shipped_text_file.write_text("", "utf-8")
    without_text = run_methods("lora", task, tiny)["lora"]
    assert without_text.forgetting is None
    losses = [[(point.step, point.train_loss) for point in record.curve] for record in (with_text, without_text)]
    assert losses[0] == losses[1]
    assert [sample.raw for sample in with_text.samples] == [sample.raw for sample in without_text.samples]


def test_forgetting_infinite_loss_is_written_as_null(lm: CausalLM, text_file: Path) -> None:
    probe = ForgettingProbe.measure_before(lm, read_jsonl(text_file))
    assert probe is not None
    result = dataclasses.replace(probe, nats_before=float("nan")).measure_after(lm)
    assert json.loads(result.model_dump_json())["nats_before"] is None


def test_run_measures_forgetting_on_the_text_of_the_user(make_task: MakeTask, tiny: Checkpoint, tmp_path: Path) -> None:
    file = tmp_path / "my notes.txt"
    file.write_text("The river rose. 강물이 불었다.\n" * 60, "utf-8")
    task = make_task(tmp_path / "feelings")
    record = run_methods("lora", task, tiny, file)["lora"]
    assert record.forgetting is not None
    assert record.forgetting.text == "my notes.txt"
    assert record.forgetting.text_sha256 == hashlib.sha256(file.read_bytes()).hexdigest()
    assert 400 < record.forgetting.tokens <= forgetting.MAX_TEXT_TOKENS
    # The record is not used for a command with another text, nor for one with the shipped text.
    record.write(tmp_path / "results")

    def is_finished(general_text: Path | None) -> bool:
        (job,) = (
            job
            for job in plan.plan_jobs(
                "lora",
                str(task),
                str(tiny.folder),
                seeds=1,
                budget_text="steps=2,batch=4",
                settings=[],
                general_text=general_text,
            )
            if job.spec.method.name == "lora"
        )
        return launcher.find_finished_record(job, tmp_path / "results") is not None

    assert is_finished(file) and not is_finished(None)
    file.write_text("The river fell. 강물이 줄었다.\n" * 60, "utf-8")
    assert not is_finished(file)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (None, "file not found"),
        (b"", "empty"),
        (b" \n\t\r\n", "empty"),
        (b"Too little to say anything.", "too short: 27 characters"),
        (b"a b" + b" " * 900, "too short: 3 characters"),
        (b"%PDF-1.7 \xe2\xe3\xcf\xd3" + b"x" * 900, "not a UTF-8 text: invalid byte at position 9"),
        ("전화번호부".encode("cp949") * 200, "not a UTF-8 text"),
        ("abc ".encode("utf-16-le") * 300, "not a text: it holds NUL bytes"),
    ],
)
def test_general_text_that_cannot_be_used_is_refused(tmp_path: Path, content: bytes | None, problem: str) -> None:
    file = tmp_path / "text.txt"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(UserError, match=problem) as error:
        GeneralText.read(file)
    assert error.value.hint and error.value.location
    with pytest.raises(UserError, match="is a folder"):
        GeneralText.read(tmp_path)


@pytest.mark.parametrize("text", ["word " * 500, "가" * 2000, "\ufeff" + "line\n" * 300, "x" * 399 + " " + "y" * 500])
def test_cut_pieces_keeps_the_text_in_short_pieces(text: str, tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text(text, "utf-8")
    pieces = GeneralText.read(tmp_path / "text.txt").texts
    assert all(0 < len(piece) <= general_text.PIECE_CHARACTERS for piece in pieces)
    assert "".join("".join(pieces).split()) == "".join(text.removeprefix("\ufeff").split())
    long = general_text.cut_pieces("word " * general_text.MAX_CHARACTERS)
    assert sum(map(len, long)) <= general_text.MAX_CHARACTERS


def test_run_command_with_unusable_general_text_exits_before_anything_runs(
    make_task: MakeTask, tiny: Checkpoint, tmp_path: Path
) -> None:
    arguments = ["run", "--methods", "lora", "--task", str(make_task(tmp_path / "feelings")), "--model"]
    result = CliRunner().invoke(app, [*arguments, str(tiny.folder), "--general-text", str(tmp_path / "absent.txt")])
    assert isinstance(result.exception, UserError) and "file not found" in str(result.exception)
