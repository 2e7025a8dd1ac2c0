"""Forgetting: the same general text before and after, measured only where a model was trained."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from pathlib import Path

import pytest
import torch
from conftest import MakeTask

import bench
from bench import registry
from bench.execution import plan, worker
from bench.measurement import forgetting
from bench.measurement.forgetting import ForgettingProbe
from bench.modeling.causal_lm import CausalLM
from bench.modeling.checkpoint import Checkpoint
from bench.records.record import Record

TEXTS = ["Once there was a river.", "강은 바다로 흐른다.", "x" * 999, "y", ""]


@pytest.fixture
def lm(lively: Checkpoint) -> CausalLM:
    return lively.load()


@pytest.fixture
def text(tmp_path: Path) -> Path:
    file = tmp_path / "tasks" / "general" / "text.jsonl"
    file.parent.mkdir(parents=True)
    lines = [json.dumps({"id": str(place), "text": text}, ensure_ascii=False) for place, text in enumerate(TEXTS)]
    file.write_text("\n".join(lines) + "\n", "utf-8")
    return file


@pytest.fixture
def house(text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The house, with this general text for its own."""
    monkeypatch.setattr(registry, "general_text", lambda: text)
    monkeypatch.chdir(tmp_path)
    return text


def loss(lm: CausalLM, text: str) -> tuple[float, int]:
    """Summed loss and count of predicted tokens, by the plainest of ways."""
    ids = torch.tensor(lm.tokens(text)[:128])
    with torch.inference_mode():
        nats = lm.model(ids.unsqueeze(0)).logits[0].log_softmax(-1)
    return -float(nats[:-1].gather(1, ids[1:, None]).sum()), len(ids) - 1


def test_every_window_is_the_beginning_of_a_text(lm: CausalLM) -> None:
    windows = forgetting.cut(lm, TEXTS)
    assert [head + tail for head, tail in windows] == [lm.tokens(text)[:128] for text in TEXTS[:3]]
    assert all(len(head) == 1 for head, _ in windows)


def test_no_more_is_read_than_is_enough(lm: CausalLM, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forgetting, "TOKENS", 300)
    windows = forgetting.cut(lm, TEXTS[2:3] * 9)
    assert [len(tail) for _, tail in windows] == [127, 127, 46]


def test_what_was_forgotten_is_the_loss_before_and_after_on_the_same_text(lm: CausalLM, text: Path) -> None:
    recall = ForgettingProbe.before(lm, text)
    assert recall is not None
    before = [loss(lm, one) for one in TEXTS[:3]]
    untouched = recall.after(lm)
    assert untouched.nats_after == untouched.nats_before
    for weight in lm.model.parameters():
        weight.data *= 0.9
    after = [loss(lm, one) for one in TEXTS[:3]]
    found = recall.after(lm)
    tokens = sum(count for _, count in before)
    assert found.tokens == tokens
    assert found.nats_before == pytest.approx(sum(nats for nats, _ in before) / tokens, rel=1e-5)
    assert found.nats_after == pytest.approx(sum(nats for nats, _ in after) / tokens, rel=1e-5)
    assert found.nats_after != pytest.approx(found.nats_before, rel=1e-2)
    assert found.text_sha256 == hashlib.sha256(text.read_bytes()).hexdigest()


def test_tokens_of_its_own_before_the_text_are_part_of_what_a_model_has_become(lm: CausalLM, text: Path) -> None:
    from peft import PromptTuningConfig, TaskType, get_peft_model

    recall = ForgettingProbe.before(lm, text)
    assert recall is not None
    tuned = PromptTuningConfig(task_type=TaskType.CAUSAL_LM, num_virtual_tokens=100)
    lm.model = get_peft_model(lm.model, tuned)
    found = recall.after(lm)
    assert found.nats_after is not None and 0 < found.nats_after != found.nats_before


def test_a_file_without_text_measures_nothing(lm: CausalLM, tmp_path: Path) -> None:
    file = tmp_path / "text.jsonl"
    file.write_text('{"id": "0", "text": ""}\n', "utf-8")
    assert ForgettingProbe.before(lm, file) is None


def test_general_text_is_found_and_is_no_task(text: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench, "__path__", [str(text.parents[2])])
    assert registry.general_text_file() == text
    assert "general" not in registry.list_entries("tasks")
    text.unlink()
    assert registry.general_text_file() is None


def ran(methods: str, task: Path, base: Checkpoint) -> dict[str, Record]:
    jobs = plan.plan_jobs(methods, str(task), str(base.folder), seeds=1, budget_text="steps=2,batch=4", settings=[])
    records = [worker.Run(job, lambda event: None).record() for job in jobs]
    return {record.spec.method.name: record for record in records}


def test_forgetting_is_measured_where_a_model_was_trained(
    house: Path, make_task: MakeTask, tiny: Checkpoint, tmp_path: Path
) -> None:
    found = ran("lora", make_task(tmp_path / "feelings"), tiny)
    assert {record.status for record in found.values()} == {"ok"}
    assert {name for name, record in found.items() if record.forgetting} == {"lora"}
    trained = found["lora"]
    assert trained.cost is not None and trained.forgetting is not None
    assert list(trained.cost.phases) == ["import", "load", "remember", "fit", "predict", "latency", "forget", "serve"]
    assert trained.forgetting.nats_before == pytest.approx(ForgettingProbe.before(tiny.load(), house).nats)  # type: ignore[union-attr]
    assert trained.forgetting.nats_after != trained.forgetting.nats_before


def test_remembering_changes_nothing_that_is_learnt(
    house: Path, make_task: MakeTask, tiny: Checkpoint, tmp_path: Path
) -> None:
    task = make_task(tmp_path / "feelings")
    with_text = ran("lora", task, tiny)["lora"]
    house.write_text("", "utf-8")
    without = ran("lora", task, tiny)["lora"]
    assert without.forgetting is None
    losses = [[(point.step, point.train_loss) for point in record.curve] for record in (with_text, without)]
    assert losses[0] == losses[1]
    assert [sample.raw for sample in with_text.samples] == [sample.raw for sample in without.samples]


def test_a_loss_that_is_not_finite_is_written_as_null(lm: CausalLM, text: Path) -> None:
    recall = ForgettingProbe.before(lm, text)
    assert recall is not None
    found = dataclasses.replace(recall, nats=float("nan")).after(lm)
    assert json.loads(found.model_dump_json())["nats_before"] is None
