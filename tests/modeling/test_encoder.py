"""Encoders: they classify closed tasks with every trained method; methods that generate are unsupported."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from conftest import MakeTask
from support import run_worker, tiny_encoder

from bench import registry
from bench.errors import UserError
from bench.execution import plan
from bench.execution.budget import BudgetTracker
from bench.export import export, provenance
from bench.measurement.determinism import seed_all
from bench.method import Unsupported
from bench.modeling import checkpoint
from bench.modeling.checkpoint import Checkpoint
from bench.records import BudgetLimits, Record
from bench.task import TaskTrainingData
from bench.testing import QUESTIONS, tiny_training_data
from bench.training.trainer import encode_examples

TRAINED_METHODS = (
    "full",
    "lora",
    "dora",
    "prefix",
    "prompt-tuning",
    "bitfit",
    "adapter",
    "random-weights",
    "shuffled-labels",
)
DATA = tiny_training_data()
OPEN_DATA = TaskTrainingData(DATA.card.model_copy(update={"labels": None}), DATA.train, DATA.validation, 0)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    return tiny_encoder(tmp_path_factory.mktemp("encoder") / "base")


def fit(name: str, base: Checkpoint, data: TaskTrainingData = DATA, steps: int = 3, **params: Any) -> Any:
    method: Any = registry.find_method(name)(**params)
    seed_all(0)
    lm: Any = method.load(base)
    seed_all(0)
    return method.fit(lm, data, BudgetTracker(BudgetLimits(steps=steps, batch=4), len(data.train)))


@pytest.mark.parametrize("name", [*TRAINED_METHODS, "features", "head"])
def test_encoder_closed_task_is_answered_with_labels(base: Checkpoint, name: str, tmp_path: Path) -> None:
    method = fit(name, base)
    answers = method.predict(QUESTIONS)
    assert len(answers) == len(QUESTIONS)
    assert {DATA.trim(answer) for answer in answers} <= set(DATA.labels or ())
    assert [method.predict([question])[0] for question in QUESTIONS] == answers, "the batch changes no answer"
    method.save(tmp_path)
    assert any(tmp_path.iterdir())


@pytest.mark.parametrize("name", [name for name in TRAINED_METHODS if name != "shuffled-labels"])
def test_encoder_training_lowers_loss(base: Checkpoint, name: str) -> None:
    few_steps, many_steps = (fit(name, base, steps=steps) for steps in (1, 60))
    losses = [
        method.lm_.evaluate_loss(encode_examples(method.lm_, DATA, DATA.train))[0] for method in (few_steps, many_steps)
    ]
    assert losses[1] < losses[0]
    assert [point.step for point in many_steps.curve_][-1] == 60


def test_encoder_full_fine_tuning_learns_training_questions(base: Checkpoint) -> None:
    method = fit("full", base, steps=150)
    answers = method.predict([row.input for row in DATA.train])
    assert [DATA.trim(answer) for answer in answers] == [row.target for row in DATA.train]


def test_encoder_lora_trains_adapter_and_new_head_only(base: Checkpoint) -> None:
    """The pooler is not in the files of a masked language model, so it is new, too."""
    method = fit("lora", base)
    trained = {name for name, weight in method.lm_.model.named_parameters() if weight.requires_grad}
    assert not any("lora_" in name for name in trained if "classifier" in name or "pooler" in name)
    head = {name.rpartition("modules_to_save")[0] for name in trained if "lora_" not in name}
    assert {name.removeprefix("base_model.model.") for name in head} == {"classifier.", "bert.pooler.dense."}


@pytest.mark.parametrize("name", ["full", "lora", "prefix", "prompt-tuning"])
def test_encoder_open_task_is_unsupported_with_reason(base: Checkpoint, name: str) -> None:
    with pytest.raises(Unsupported, match="closed labels"):
        fit(name, base, OPEN_DATA)


@pytest.mark.parametrize("name", ["zero-shot", "few-shot", "base-ft", "dpo"])
def test_encoder_method_that_generates_is_unsupported(base: Checkpoint, name: str) -> None:
    with pytest.raises(Unsupported, match="encoder"):
        fit(name, base).predict(QUESTIONS)


def test_encode_long_prompt_keeps_first_token_and_end(base: Checkpoint) -> None:
    lm = base.load()
    ids, _ = lm.encode("x" * 300 + "end", "")
    assert len(ids) == 128
    tokens = lm.tokenizer.convert_ids_to_tokens(ids)
    assert (tokens[0], tokens[-4:]) == ("[CLS]", ["e", "n", "d", "[SEP]"])


def test_check_model_folder_other_architecture_raises_user_error(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"architectures": ["ViTForImageClassification"]}')
    with pytest.raises(UserError, match="neither"):
        checkpoint.check_model_folder(tmp_path)


@pytest.mark.parametrize("name", ["features", pytest.param("lora", marks=pytest.mark.slow)])
def test_export_encoder_with_random_weights_answers_the_same(
    name: str, base: Checkpoint, make_task: MakeTask, tmp_path: Path
) -> None:
    task = make_task(tmp_path / "task", labels=["warm", "cold", "mild"])
    jobs = plan.plan_jobs(name, str(task), str(base.folder), seeds=1, budget_text="steps=3,batch=4", settings=[])
    (job,) = [job for job in jobs if job.spec.method.name == name]
    spec = job.spec.model_copy(update={"split": "validation"})
    job_file, results = tmp_path / "job", tmp_path / "results"
    job_file.write_text(job.model_copy(update={"spec": spec, "save_artifacts": True}).model_dump_json(), "utf-8")
    results.mkdir()
    run_worker(job_file, results, tmp_path / "progress")
    file = results / f"{spec.id}.json"
    exported = export.export_record(
        provenance.find_provenance(Record.read(file), file),
        tmp_path / "export",
        merge=False,
        check=100,
        on_progress=lambda state: None,
    )
    assert not exported.differences
    has_model = name != "features"
    assert (tmp_path / "export" / "model.safetensors").exists() is has_model
    assert not (tmp_path / "export" / "adapter_config.json").exists()
