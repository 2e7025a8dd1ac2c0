"""Test the interface of a method, `check_method`, or of a metric, `check_metric`."""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import cast

from bench.errors import UserError, did_you_mean
from bench.execution.budget import BudgetTracker
from bench.i18n import Message
from bench.measurement.determinism import seed_all
from bench.method import LM, BudgetExhausted, Method, Unsupported
from bench.metrics import ANSWER_TEXT_METRICS, CORPUS_TEXT_METRICS, EVALUATE_PREFIX
from bench.metrics.evaluate_module import EvaluateMetric
from bench.metrics.text import TextAnswer, score_text_metrics
from bench.modeling.checkpoint import Checkpoint
from bench.records import BudgetLimits, Decoding
from bench.task import SCORE_TOLERANCE, CorpusScorer, Scorer, TaskRow, TaskTrainingData, are_valid_scores
from bench.task_card import TaskCard

CHECK_BUDGET = BudgetLimits(steps=3, epochs=2, batch=4)
METRIC_ANSWERS = (("warm", "cold"), ("cold", "mild"), ("mild", "warm"), ("따뜻하다", "춥다"))
"""Right answers with a wrong one each, which `check_metric` tries."""
QUESTIONS = ("red one", "blue two", "green three", "red four", "blue five")


def check_method(cls: type[Method]) -> None:
    """Test that a method keeps the interface, with a tiny random model and a tiny task.

    The method must be constructible without arguments; `__init__` does no work; `fit` returns the method, keeps the
    hyper-parameters and the budget, and discards an earlier `fit`; `trains_weights` is true if `fit` trains weights;
    `predict` keeps order and number of the questions; the same seed gives the same answers; `save` writes a file. `fit`
    may raise `Unsupported`.

    Args:
        cls: The method class.

    Raises:
        AssertionError: The method breaks a rule, which the message names.
    """
    try:
        method = cls()
    except TypeError as error:
        raise AssertionError(f"the class cannot be constructed without arguments: {error}") from error
    hyper_parameters = {field.name for field in dataclasses.fields(cls)}
    extra = sorted(set(vars(method)) - hyper_parameters)
    assert not extra, f"__init__ sets {extra}: only hyper-parameters may be set there, everything else in fit"
    with tempfile.TemporaryDirectory() as scratch:
        base = tiny_base(Path(scratch) / "base")
        try:
            _check_fitted(cls, base)
        except Unsupported:
            return
        _check_save(cls, base, Path(scratch) / "artifact")


def check_metric(
    metric: Scorer | CorpusScorer | str,
    answers: Sequence[tuple[str, str]] = METRIC_ANSWERS,
    *,
    of_all_answers: bool = False,
    folder: Path = Path(),
) -> None:
    """Test that a metric keeps the interface: one of a `task.py`, or one that a card names.

    It must return a dict with the same names for all answers and numbers from 0 to 1; equal answers must have equal
    scores; a right answer must not have a lower score than a wrong or an empty one. A metric of all answers must not
    depend on their order.

    Args:
        metric: `score(prediction, references)`, or `corpus_score(predictions, references)`; or a name as on a card,
            such as `chrf`, `bleu` or `evaluate:./mine.py`.
        answers: Different right answers with a wrong answer each, for a metric that expects its own kind of texts.
        of_all_answers: True for `corpus_score`; a name says it itself.
        folder: Folder of the task, for a metric of `evaluate` that lies in it.

    Raises:
        AssertionError: The metric breaks a rule, which the message names.
        UserError: There is no metric of this name, or `evaluate` cannot load it.
    """
    if isinstance(metric, str):
        name = metric
        metric, of_all_answers = _named_metric(name, folder)
        right = [text for text, _ in answers]
        args = (right, [[text] for text in right]) if of_all_answers else (right[0], [right[0]])
        best = _valid_scores(cast(Callable[..., object], metric)(*args))
        assert any(best.values()), f"{name} gives right answers 0: pass answers that it can compare"
    check = _check_corpus_metric if of_all_answers else _check_answer_metric
    check(metric, answers)  # type: ignore[arg-type]


def _named_metric(name: str, folder: Path) -> tuple[Scorer | CorpusScorer, bool]:
    """Return the function of a metric that a card names, and True if it is one of all answers."""
    if name.startswith(EVALUATE_PREFIX):
        loaded = EvaluateMetric.parse(name).load(folder)
        return (lambda predictions, references: {name: loaded.compute(predictions, references)}), True
    if name in ANSWER_TEXT_METRICS:
        return (
            lambda text, references: score_text_metrics([name], TextAnswer(text, references, text, references))
        ), False
    if name in CORPUS_TEXT_METRICS:
        return _bleu, True
    known = [*ANSWER_TEXT_METRICS, *CORPUS_TEXT_METRICS, f"{EVALUATE_PREFIX}NAME"]
    raise UserError(Message("there is no metric '{name}'", name=name), hint=did_you_mean(name, known))


def _bleu(predictions: Sequence[str], references: Sequence[Sequence[str]]) -> dict[str, float]:
    import numpy

    from bench.metrics.bleu import count_ngrams
    from bench.records.ngrams import bleu

    counts = numpy.array([count_ngrams(*pair) for pair in zip(predictions, references, strict=True)], dtype=float)
    return {"bleu": float(bleu(counts.sum(axis=0, keepdims=True))[0])}


def _check_answer_metric(metric: Scorer, answers: Sequence[tuple[str, str]]) -> None:
    names = set(_valid_scores(metric(answers[0][0], [answers[0][0]])))
    for right, wrong in answers:
        best = _valid_scores(metric(right, [right]))
        for prediction in (wrong, ""):
            scores = _valid_scores(metric(prediction, [right]))
            assert set(scores) == names, f"score must return {sorted(names)} for every answer, not {sorted(scores)}"
            lower = sorted(name for name in names if best[name] < scores[name])
            assert not lower, f"{lower}: the right answer {right!r} has a lower score than {prediction!r}"
        assert _valid_scores(metric(right, [right])) == best, "equal answers must have equal scores"


def _check_corpus_metric(metric: CorpusScorer, answers: Sequence[tuple[str, str]]) -> None:
    right, references = [text for text, _ in answers], [[text] for text, _ in answers]
    best = _valid_scores(metric(right, references))
    for predictions in (
        [wrong for _, wrong in answers],
        [""] * len(answers),
        [right[0], *[wrong for _, wrong in answers[1:]]],
    ):
        scores = _valid_scores(metric(predictions, references))
        assert set(scores) == set(best), f"corpus_score must return {sorted(best)} always, not {sorted(scores)}"
        lower = sorted(name for name in best if best[name] < scores[name])
        assert not lower, f"{lower}: right answers have a lower score than {predictions!r}"
        repeated = _valid_scores(metric(predictions[::-1], references[::-1]))
        differing = sorted(name for name in best if abs(repeated[name] - scores[name]) > SCORE_TOLERANCE)
        assert not differing, f"{differing}: the score must not depend on the order of the answers"
    _valid_scores(metric(right[:1], references[:1]))


def _valid_scores(scores: object) -> dict[str, float]:
    assert are_valid_scores(scores), f"a metric must return a dict of names and numbers from 0 to 1, not {scores!r}"
    return cast("dict[str, float]", scores)


def tiny_base(folder: Path) -> Checkpoint:
    """Create a two-layer Llama with random weights and a byte-level tokenizer in `folder`."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    byte_level = Tokenizer(models.BPE(vocab={letter: index for index, letter in enumerate(alphabet)}, merges=[]))
    byte_level.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    byte_level.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=byte_level, eos_token="<end>", pad_token="<pad>")
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=256,
        tie_word_embeddings=True,
        initializer_range=0.2,  # large enough that different prompts get different answers
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    torch.manual_seed(0)
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return Checkpoint(folder, "float32", "cpu", Decoding(max_new_tokens=8, stop=("\n",)))


def tiny_training_data(seed: int = 0, *, answers: Sequence[str] = ("warm", "cold", "mild")) -> TaskTrainingData:
    """Return the training data of a tiny task: eight training and four validation questions.

    Args:
        seed: Seed of the training data.
        answers: Labels of the task.
    """
    card = TaskCard(
        name="tiny",
        version=1,
        summary="",
        language="en",
        license="Apache-2.0",
        normalize="squad",
        new_tokens=8,
        instruction="Name the feeling.",
        template="Q: {input}\nA: {target}\n",
        labels=tuple(answers),
    )
    words = ("red", "blue", "green", "gray")
    rows = tuple(
        TaskRow(f"{index}", f"{words[index % 4]} {index}", (answers[index % len(answers)],)) for index in range(12)
    )
    return TaskTrainingData(card, rows[:8], rows[8:], seed)


def _check_fitted(cls: type[Method], base: Checkpoint) -> None:
    data, other_data = tiny_training_data(), tiny_training_data(seed=1, answers=("one", "two", "three"))
    method = cls()
    params = dataclasses.asdict(method)
    _fit(method, base, data)
    assert dataclasses.asdict(method) == params, "fit must not change the hyper-parameters"
    invalid_names = sorted(name for name in vars(method).keys() - params if not name.endswith("_"))
    assert not invalid_names, f"fit sets {invalid_names}: names of learned attributes must end in '_'"
    answers = _predict(method, QUESTIONS)
    reversed_answers = _predict(method, QUESTIONS[::-1])
    assert reversed_answers == answers[::-1], "predict must return the answers in the order of the questions"
    repeated = _predict(_fit(cls(), base, data), QUESTIONS)
    assert repeated == answers, f"the same seed must give the same answers: first {answers}, then {repeated}"
    refitted = _predict(_fit(method, base, other_data), QUESTIONS)
    fresh = _predict(_fit(cls(), base, other_data), QUESTIONS)
    assert refitted == fresh, f"a second fit must discard the first: {refitted}, but {fresh} with a new instance"


def _check_save(cls: type[Method], base: Checkpoint, folder: Path) -> None:
    method = _fit(cls(), base, tiny_training_data())
    folder.mkdir()
    method.save(folder)
    assert any(file.is_file() for file in folder.rglob("*")), "save must write what a user would deploy"


def _fit(method: Method, base: Checkpoint, data: TaskTrainingData) -> Method:
    """Load and fit as a run does, and check the result and the budget."""
    seed_all(data.seed)
    lm = cast(LM, method.load(base))
    seed_all(data.seed)
    budget = BudgetTracker(CHECK_BUDGET, len(data.train))
    with _optimizer_steps() as steps:
        try:
            returned = method.fit(lm, data, budget)
        except BudgetExhausted as error:
            raise AssertionError(f"fit spends more than its budget: {error}") from error
    assert returned is method, f"fit must return the method itself, not {returned!r}"
    trains_weights = method.trains_weights or lm is None or not lm.count_parameters()[1]
    assert trains_weights, "fit trains weights of the model, but the class has trains_weights = False"
    assert len(steps) <= budget.steps, f"fit took {len(steps)} optimizer steps, but spent {budget.steps} of its budget"
    return method


def _predict(method: Method, questions: Sequence[str]) -> list[str]:
    answers = method.predict(questions)
    is_list_of_strings = isinstance(answers, list) and all(isinstance(answer, str) for answer in answers)
    assert is_list_of_strings, "predict must return a list of strings"
    assert len(answers) == len(questions), f"predict returned {len(answers)} answers to {len(questions)} questions"
    return answers


@contextmanager
def _optimizer_steps() -> Iterator[list[None]]:
    """Collect one entry per optimizer step, also for steps not spent from the budget."""
    from torch.optim.optimizer import register_optimizer_step_post_hook

    steps: list[None] = []
    hook = register_optimizer_step_post_hook(lambda optimizer, args, kwargs: steps.append(None))
    try:
        yield steps
    finally:
        hook.remove()
