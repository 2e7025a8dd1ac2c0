"""Encoders: they read and name labels; whatever needs writing is unsupported, with the reason."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import MakeTask

from bench import registry
from bench.errors import UserError
from bench.execution import plan, worker
from bench.execution.budget import BudgetTracker
from bench.export import export, provenance
from bench.method import Unsupported
from bench.modeling import checkpoint
from bench.modeling.checkpoint import Checkpoint
from bench.modeling.seed import seed_all
from bench.records.record import BudgetLimits, Decoding, Record
from bench.task import TaskTrainingData
from bench.testing import QUESTIONS, tiny_training_data
from bench.training.trainer import encode_examples

TRAINED = ("full", "lora", "dora", "prefix", "prompt-tuning", "bitfit", "adapter", "random-weights", "shuffled-labels")
LESSON = tiny_training_data()
OPEN = TaskTrainingData(LESSON.card.model_copy(update={"labels": None}), LESSON.train, LESSON.validation, 0)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    return tiny_encoder(tmp_path_factory.mktemp("encoder") / "base")


def tiny_encoder(folder: Path, **more: Any) -> Checkpoint:
    """A two-layer BERT with random weights and a byte tokenizer, in a new folder."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import BertConfig, BertForMaskedLM, PreTrainedTokenizerFast

    letters = ["[PAD]", "[CLS]", "[SEP]", *sorted(pre_tokenizers.ByteLevel.alphabet())]
    bytewise = Tokenizer(models.BPE(vocab={letter: place for place, letter in enumerate(letters)}, merges=[]))
    bytewise.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bytewise.post_processor = processors.BertProcessing(("[SEP]", 2), ("[CLS]", 1))
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=bytewise, pad_token="[PAD]", cls_token="[CLS]", sep_token="[SEP]", model_max_length=128
    )
    shape = BertConfig(
        vocab_size=len(letters),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=128,
        initializer_range=0.1,
        pad_token_id=0,
        **more,
    )
    torch.manual_seed(0)
    BertForMaskedLM(shape).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    checkpoint.check_model_folder(folder)
    return Checkpoint(folder, "float32", "cpu", Decoding(max_new_tokens=8, stop=("\n",)))


def fit(name: str, base: Checkpoint, lesson: TaskTrainingData = LESSON, steps: int = 3, **params: Any) -> Any:
    method: Any = registry.find_method(name)(**params)
    seed_all(0)
    lm: Any = method.load(base)
    seed_all(0)
    return method.fit(lm, lesson, BudgetTracker(BudgetLimits(steps=steps, batch=4), len(lesson.train)))


@pytest.mark.parametrize("name", [*TRAINED, "features", "head"])
def test_a_closed_task_is_answered_with_its_labels(base: Checkpoint, name: str, tmp_path: Path) -> None:
    method = fit(name, base)
    answers = method.predict(QUESTIONS)
    assert len(answers) == len(QUESTIONS)
    assert {LESSON.trim(answer) for answer in answers} <= set(LESSON.labels or ())
    assert [method.predict([question])[0] for question in QUESTIONS] == answers, "batches change nothing"
    method.save(tmp_path)
    assert any(tmp_path.iterdir())


@pytest.mark.parametrize("name", [name for name in TRAINED if name != "shuffled-labels"])
def test_training_learns_the_labels(base: Checkpoint, name: str) -> None:
    few, many = (fit(name, base, steps=steps) for steps in (1, 60))
    losses = [method.lm_.measure(encode_examples(method.lm_, LESSON, LESSON.train))[0] for method in (few, many)]
    assert losses[1] < losses[0]
    assert [point.step for point in many.curve_][-1] == 60


def test_full_fine_tuning_can_tell_all_training_questions_apart(base: Checkpoint) -> None:
    method = fit("full", base, steps=150)
    answers = method.predict([row.input for row in LESSON.train])
    assert [LESSON.trim(answer) for answer in answers] == [row.target for row in LESSON.train]


def test_lora_keeps_the_body_and_trains_the_new_output_layer(base: Checkpoint) -> None:
    method = fit("lora", base)
    trained = {name for name, weight in method.lm_.model.named_parameters() if weight.requires_grad}
    assert all("lora_" in name or "classifier" in name for name in trained)
    assert any("classifier" in name for name in trained)


@pytest.mark.parametrize("name", ["full", "lora", "prefix", "prompt-tuning"])
def test_an_open_task_is_unsupported_with_the_reason(base: Checkpoint, name: str) -> None:
    with pytest.raises(Unsupported, match="closed labels"):
        fit(name, base, OPEN)


@pytest.mark.parametrize("name", ["zero-shot", "few-shot", "base-ft", "dpo"])
def test_what_needs_writing_is_unsupported(base: Checkpoint, name: str) -> None:
    with pytest.raises(Unsupported, match="encoder"):
        fit(name, base).predict(QUESTIONS)


def test_a_long_prompt_keeps_its_end_and_its_first_token(base: Checkpoint) -> None:
    lm: Any = base.load()
    ids, _ = lm.encode("x" * 300 + "end", "")
    assert len(ids) == 128
    tokens = lm.tokenizer.convert_ids_to_tokens(ids)
    assert (tokens[0], tokens[-4:]) == ("[CLS]", ["e", "n", "d", "[SEP]"])


def test_a_model_that_is_neither_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"architectures": ["ViTForImageClassification"]}')
    with pytest.raises(UserError, match="neither"):
        checkpoint.check_model_folder(tmp_path)


@pytest.mark.parametrize("name", ["features", pytest.param("lora", marks=pytest.mark.slow)])
def test_an_encoder_is_taken_home_with_whatever_its_checkpoint_left_to_chance(
    name: str, base: Checkpoint, make_task: MakeTask, tmp_path: Path
) -> None:
    task = make_task(tmp_path / "task", labels=["warm", "cold", "mild"])
    budget = {"seeds": 1, "budget_text": "steps=3,batch=4", "settings": []}
    jobs = plan.plan_jobs(name, str(task), str(base.folder), **budget)  # type: ignore[arg-type]
    (job,) = [job for job in jobs if job.spec.method.name == name]
    spec = job.spec.model_copy(update={"exam": "validation"})
    (tmp_path / "job").write_text(job.model_copy(update={"spec": spec, "keep": True}).model_dump_json(), "utf-8")
    (tmp_path / "results").mkdir()
    worker.main(str(tmp_path / "job"), str(tmp_path / "results"), str(tmp_path / "progress"))
    file = tmp_path / "results" / f"{spec.id}.json"
    found = provenance.find_provenance(Record.read(file), file)
    done = export.export_record(found, tmp_path / "home", merge=False, check=100, show=lambda state: None)
    assert not done.differences
    whole = name != "features"
    assert (tmp_path / "home" / "model.safetensors").exists() is whole
    assert not (tmp_path / "home" / "adapter_config.json").exists()
