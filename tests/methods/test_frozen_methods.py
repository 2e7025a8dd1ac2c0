"""Methods on a frozen model: `features` and `head`."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from support import tiny_encoder

from bench import registry
from bench.execution.budget import BudgetTracker
from bench.measurement.determinism import seed_all
from bench.method import Unsupported
from bench.modeling.checkpoint import Checkpoint
from bench.modeling.hidden_states import extract_features
from bench.records import BudgetLimits
from bench.task import TaskRow, TaskTrainingData
from bench.testing import QUESTIONS, tiny_training_data

METHODS = ("features", "head")
LABELS = ("warm", "cold")


def colors(first: int, count: int) -> tuple[TaskRow, ...]:
    """Rows whose answer depends on one of two colors only."""
    kinds = (("the red one", "warm"), ("a blue thing", "cold"))
    return tuple(
        TaskRow(f"{number}", f"{number} {kinds[number % 2][0]}", (kinds[number % 2][1],))
        for number in range(first, first + count)
    )


def separable(*, open_answers: bool = False, train: Sequence[TaskRow] = ()) -> TaskTrainingData:
    card = tiny_training_data(answers=LABELS).card
    if open_answers:
        card = card.model_copy(update={"labels": None})
    return TaskTrainingData(card, tuple(train) or colors(0, 24), colors(50, 4), seed=0)


def fit(
    name: str, base: Checkpoint, data: TaskTrainingData, limits: BudgetLimits, **params: Any
) -> tuple[Any, BudgetTracker]:
    method: Any = registry.find_method(name)(**params)
    seed_all(data.seed)
    lm = method.load(base)
    budget = BudgetTracker(limits, len(data.train))
    return method.fit(lm, data, budget), budget


@pytest.fixture(scope="module")
def features() -> Any:
    """The module of the method, imported as the registry imports it."""
    import importlib

    return importlib.import_module(registry.find_method("features").__module__)


@pytest.mark.parametrize("open_answers", [False, True], ids=["closed", "open"])
@pytest.mark.parametrize("name", METHODS)
def test_fit_and_predict_leave_the_base_weights_unchanged(lively: Checkpoint, name: str, open_answers: bool) -> None:
    method, _ = fit(
        name, lively, separable(open_answers=open_answers), BudgetLimits(steps=3, batch=4), **learning_rate(name)
    )
    method.predict(QUESTIONS)
    after, before = dict(method.lm_.model.named_parameters()), lively.load().model.named_parameters()
    assert all(torch.equal(after[key], weight) for key, weight in before)


def learning_rate(name: str) -> dict[str, float]:
    return {"lr": 1e-2} if name == "head" else {}


@pytest.mark.parametrize("open_answers", [False, True], ids=["closed", "open"])
def test_features_separable_questions_are_answered(lively: Checkpoint, open_answers: bool) -> None:
    method, budget = fit("features", lively, separable(open_answers=open_answers), BudgetLimits(epochs=1))
    unseen = colors(60, 20)
    answers = method.predict([row.input for row in unseen])
    assert sum(answer == row.target for answer, row in zip(answers, unseen, strict=True)) >= 19
    assert (budget.steps, budget.examples) == (0, 24)


def test_head_separable_questions_are_answered(lively: Checkpoint) -> None:
    method, _ = fit("head", lively, separable(), BudgetLimits(epochs=20, batch=8), lr=1e-2)
    unseen = colors(60, 20)
    answers = method.predict([row.input for row in unseen])
    assert sum(answer == row.target for answer, row in zip(answers, unseen, strict=True)) >= 19


def test_features_scaler_and_weights_come_from_training_only(lively: Checkpoint) -> None:
    data = separable()
    method, _ = fit("features", lively, data, BudgetLimits(epochs=1))
    lm = lively.load()
    rows = [lm.tokens(data.prompt(row.input)) for row in data.train]
    vectors = extract_features(lm, rows, layer=method.layer, pool=method.pool_).double()
    assert method.mean_ == pytest.approx(vectors.mean(0).numpy(), abs=1e-4)
    assert method.scale_ == pytest.approx(vectors.std(0, correction=0).numpy(), abs=1e-4)
    copies = [array.copy() for array in (method.mean_, method.scale_, method.weights_)]
    method.predict(QUESTIONS)
    after = (method.mean_, method.scale_, method.weights_)
    assert all((copy == array).all() for copy, array in zip(copies, after, strict=True))


@pytest.mark.parametrize(
    ("kind", "setting", "pool"),
    [
        ("decoder", "auto", "last"),
        ("encoder", "auto", "mean"),
        ("decoder", "mean", "mean"),
        ("encoder", "last", "last"),
    ],
)
@pytest.mark.parametrize(("name", "file"), [("features", "reader.json"), ("head", "labels.json")])
def test_frozen_method_pool_by_default_follows_the_architecture(
    name: str, file: str, kind: str, setting: str, pool: str, lively: Checkpoint, tmp_path: Path
) -> None:
    base = lively if kind == "decoder" else tiny_encoder(tmp_path / "encoder")
    method, _ = fit(name, base, separable(), BudgetLimits(epochs=1), pool=setting)
    (tmp_path / "saved").mkdir()
    method.save(tmp_path / "saved")
    assert json.loads((tmp_path / "saved" / file).read_text("utf-8"))["pool"] == pool


def test_head_of_an_encoder_classifies_the_mean_of_all_tokens(tmp_path: Path) -> None:
    method, _ = fit("head", tiny_encoder(tmp_path / "encoder"), separable(), BudgetLimits(epochs=1))
    lm = method.lm_
    rows = [lm.encode(method.data_.prompt(text), "")[0] for text in QUESTIONS]
    with torch.no_grad():
        states = [lm.model.base_model(torch.tensor([row])).last_hidden_state[0].mean(0) for row in rows]
        best = lm.model.labels(torch.stack(states).float()).argmax(-1).tolist()
    assert method.predict(QUESTIONS) == [method.labels_[index] for index in best]


@pytest.mark.parametrize("kind", ["decoder", "encoder"])
def test_head_learning_rate_scales_with_hidden_states_and_width(kind: str, lively: Checkpoint, tmp_path: Path) -> None:
    base, pool = (lively, "last") if kind == "decoder" else (tiny_encoder(tmp_path / "encoder"), "mean")
    method, _ = fit("head", base, separable(), BudgetLimits(steps=1), lr=0.5)
    lm, data = method.lm_, method.data_
    rows = [lm.encode(data.prompt(example.input), "")[0] for example in data.train[:16]]
    states = extract_features(lm, rows, pool=pool)
    unscaled = method.peak_learning_rate(lm.model) * float(states.square().mean().sqrt()) * states.shape[1] / 256
    assert unscaled == pytest.approx(0.5, rel=1e-4)


@pytest.mark.parametrize("pool", ["last", "mean"])
@pytest.mark.parametrize("layer", [0.5, 1.0])
def test_extract_features_does_not_depend_on_the_batch(lively: Checkpoint, layer: float, pool: str) -> None:
    lm = lively.load()
    rows = [
        lm.tokens(f"{text} one two three"[:length]) for text, length in zip("abcde", (1, 9, 15, 2, 12), strict=True)
    ]
    together = extract_features(lm, rows, layer=layer, pool=pool)
    alone = torch.cat([extract_features(lm, [row], layer=layer, pool=pool) for row in rows])
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-4)
    assert torch.unique(alone.round(decimals=2), dim=0).shape[0] == len(rows), (
        "features must differ, or this test cannot fail"
    )


def test_extract_features_last_token_predicts_the_next_logits(lively: Checkpoint) -> None:
    lm = lively.load()
    row = lm.tokens("Q: red one\nA:")
    with torch.no_grad():
        logits = lm.model(torch.tensor([row])).logits[0, -1]
        vector = extract_features(lm, [row, row + row], layer=1.0, pool="last")[0]
        torch.testing.assert_close(lm.model.lm_head(vector), logits, rtol=1e-4, atol=1e-4)


def test_features_more_neighbors_outvote_a_wrong_one(lively: Checkpoint) -> None:
    train = (*colors(0, 24), TaskRow("odd", "60 the red one", ("cold",)))
    data = separable(open_answers=True, train=train)
    one_neighbor, _ = fit("features", lively, data, BudgetLimits(epochs=1), k=1)
    five_neighbors, _ = fit("features", lively, data, BudgetLimits(epochs=1), k=5)
    assert (one_neighbor.predict(["60 the red one"]), five_neighbors.predict(["60 the red one"])) == (
        ["cold"],
        ["warm"],
    )


@pytest.mark.parametrize("counts", [(3, 0), (3, 1), (2, 2)], ids=str)
def test_features_rare_labels_are_fitted_without_folds(lively: Checkpoint, counts: tuple[int, int]) -> None:
    warm, cold = counts
    pool = colors(0, 8)
    method, _ = fit("features", lively, separable(train=pool[::2][:warm] + pool[1::2][:cold]), BudgetLimits(epochs=1))
    assert set(method.predict(QUESTIONS)) <= set(LABELS[: 2 if cold else 1])


@pytest.mark.parametrize("name", METHODS)
def test_fit_keeps_the_limit_on_tokens(lively: Checkpoint, name: str) -> None:
    train = colors(0, 80)
    data = separable(train=train)
    lm = lively.load()
    all_tokens = sum(len(lm.tokens(data.prompt(row.input))) for row in train)
    method, budget = fit(name, lively, data, BudgetLimits(epochs=3, tokens=all_tokens // 2, batch=16))
    assert 0 < budget.tokens <= all_tokens // 2
    assert budget.stopped_by == "tokens"
    assert set(method.predict(QUESTIONS)) <= set(LABELS)


def test_features_too_small_budget_raises_unsupported(lively: Checkpoint) -> None:
    with pytest.raises(Unsupported, match="budget"):
        fit("features", lively, separable(), BudgetLimits(epochs=1, tokens=1))


def test_head_encodes_each_question_once_within_its_steps(lively: Checkpoint) -> None:
    data = separable()
    method, budget = fit("head", lively, data, BudgetLimits(steps=5, batch=12))
    assert (budget.steps, budget.examples, budget.stopped_by) == (5, 60, "steps")
    assert budget.tokens == sum(len(method.lm_.tokens(data.prompt(row.input))) for row in data.train)


def test_head_trains_and_counts_one_layer(lively: Checkpoint) -> None:
    base, width = lively.load(), 64
    closed_labels, _ = fit("head", lively, separable(), BudgetLimits(steps=1))
    added = len(LABELS) * (width + 1)
    assert closed_labels.lm_.count_parameters() == (base.count_parameters()[0] + added, added)
    open_answers, _ = fit("head", lively, separable(open_answers=True), BudgetLimits(steps=1))
    untied = base.model.config.vocab_size * width
    assert open_answers.lm_.count_parameters() == (base.count_parameters()[0] + untied, untied)


def test_head_on_a_bfloat16_model_answers_in_bfloat16(lively: Checkpoint) -> None:
    bfloat16_base = dataclasses.replace(lively, dtype="bfloat16")
    method, _ = fit("head", bfloat16_base, separable(open_answers=True), BudgetLimits(steps=1, batch=4))
    assert any(weight.requires_grad for weight in method.lm_.model.parameters())
    assert {weight.dtype for weight in method.lm_.model.parameters()} == {torch.bfloat16}
    assert len(method.predict(QUESTIONS)) == len(QUESTIONS)


@pytest.mark.parametrize("open_answers", [False, True], ids=["closed", "open"])
def test_head_saved_weights_on_the_base_give_the_same_answers(
    lively: Checkpoint, tmp_path: Path, open_answers: bool
) -> None:
    from safetensors.torch import load_file

    data = separable(open_answers=open_answers)
    method, _ = fit("head", lively, data, BudgetLimits(steps=4, batch=8), lr=1e-2)
    method.save(tmp_path)
    saved = load_file(tmp_path / "trained.safetensors")
    assert sum(weight.numel() for weight in saved.values()) == method.lm_.count_parameters()[1]
    swapped_rows = [dataclasses.replace(row, references=(LABELS[row.target == "warm"],)) for row in data.train]
    fresh, _ = fit("head", lively, dataclasses.replace(data, train=tuple(swapped_rows)), BudgetLimits(steps=1), lr=1e-2)
    assert fresh.predict(QUESTIONS) != method.predict(QUESTIONS), "answers must differ before, or this test cannot fail"
    fresh.lm_.model.load_state_dict(saved, strict=False)
    assert fresh.predict(QUESTIONS) == method.predict(QUESTIONS)
    assert (tmp_path / "labels.json").exists() is not open_answers


def test_features_saved_files_give_the_same_answers(lively: Checkpoint, tmp_path: Path) -> None:
    from safetensors.numpy import load_file

    data = separable()
    method, _ = fit("features", lively, data, BudgetLimits(epochs=1))
    method.save(tmp_path)
    arrays = load_file(tmp_path / "reader.safetensors")
    settings = json.loads((tmp_path / "reader.json").read_text())
    lm = lively.load()
    rows = [lm.tokens(data.prompt(question)) for question in QUESTIONS]
    vectors = extract_features(lm, rows, layer=settings["layer"], pool=settings["pool"]).numpy()
    scores = (vectors - arrays["mean"]) / arrays["scale"] @ arrays["weights"].T + arrays["bias"]
    assert [settings["answers"][index] for index in scores.argmax(1)] == method.predict(QUESTIONS)


@pytest.mark.parametrize("name", METHODS)
def test_token_usage_counts_predict_and_not_fit(lively: Checkpoint, name: str) -> None:
    data = separable()
    method, _ = fit(name, lively, data, BudgetLimits(steps=1, epochs=1, batch=4))
    assert method.lm_.token_usage.prompt_tokens == 0
    method.predict(QUESTIONS)
    assert method.lm_.token_usage.prompt_tokens == sum(len(method.lm_.tokens(data.prompt(text))) for text in QUESTIONS)
    assert (method.lm_.token_usage.answer_tokens, method.lm_.token_usage.truncated_prompts) == (0, 0)
    method.predict(["x" * 500])
    assert method.lm_.token_usage.truncated_prompts == 1


@pytest.mark.parametrize("name", METHODS)
def test_frozen_methods_halve_batches_that_do_not_fit(lively: Checkpoint, name: str) -> None:
    method, budget = fit(name, lively, separable(), BudgetLimits(steps=3, batch=8))
    answers = method.predict(QUESTIONS)
    limited: Any = registry.find_method(name)()
    seed_all(0)
    lm: Any = limited.load(lively)
    batch_sizes: list[int] = []

    def fail_on_large_batch(module: Any, args: Any, kwargs: Any) -> None:
        batch_sizes.append(len(kwargs["input_ids"]))
        if batch_sizes[-1] > 2:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    lm.model.base_model.register_forward_pre_hook(fail_on_large_batch, with_kwargs=True)
    limited_budget = BudgetTracker(BudgetLimits(steps=3, batch=8), 24)
    limited.fit(lm, separable(), limited_budget)
    assert limited.predict(QUESTIONS) == answers
    assert max(batch_sizes) > 2 and min(batch_sizes) <= 2
    # Attempts that failed are not counted as operations of training.
    assert limited_budget.flops == pytest.approx(budget.flops, rel=0.1)
