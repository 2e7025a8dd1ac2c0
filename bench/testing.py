"""The contract of a method as a test that anybody can run: `check_method(MyMethod)`."""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import cast

from bench.execution.budget import BudgetTracker
from bench.method import LM, BudgetExhausted, Method, Unsupported
from bench.modeling.checkpoint import Checkpoint
from bench.modeling.seed import seed_all
from bench.records.record import BudgetLimits, Decoding
from bench.task import TaskRow, TaskTrainingData
from bench.task_card import TaskCard

GRANT = BudgetLimits(steps=3, epochs=2, batch=4)
QUESTIONS = ("red one", "blue two", "green three", "red four", "blue five")


def check_method(cls: type[Method]) -> None:
    """Raise `AssertionError`, with the fault in words, unless `cls` keeps the contract of `bench.method.Method`.

    Constructible without arguments; no work in `__init__`; `fit` returns the method; a second `fit` forgets the
    first; `predict` keeps order and length; same seed, same answers; the budget is never exceeded; `save` writes.
    Runs on a tiny random model and a tiny task, in this process. `Unsupported` is a valid answer of `fit`.
    """
    try:
        method = cls()
    except TypeError as error:
        raise AssertionError(f"it cannot be made without arguments: {error}") from error
    hyper = {field.name for field in dataclasses.fields(cls)}
    extra = sorted(set(vars(method)) - hyper)
    assert not extra, f"__init__ sets {extra}: only hyper-parameters belong there, the rest to fit"
    with tempfile.TemporaryDirectory() as scratch:
        base = tiny_base(Path(scratch) / "base")
        try:
            _check_fitted(cls, base)
        except Unsupported:
            return
        _check_save(cls, base, Path(scratch) / "artifact")


def tiny_base(folder: Path) -> Checkpoint:
    """A two-layer Llama with random weights and a byte tokenizer, made anew in `folder`."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    bytewise = Tokenizer(models.BPE(vocab={letter: place for place, letter in enumerate(letters)}, merges=[]))
    bytewise.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bytewise.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=bytewise, eos_token="<end>", pad_token="<pad>")
    shape = LlamaConfig(
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
    LlamaForCausalLM(shape).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return Checkpoint(folder, "float32", "cpu", Decoding(max_new_tokens=8, stop=("\n",)))


def tiny_training_data(seed: int = 0, *, answers: Sequence[str] = ("warm", "cold", "mild")) -> TaskTrainingData:
    """Twelve questions with closed answers."""
    card = TaskCard(
        name="tiny", version=1, summary="", language="en", license="Apache-2.0", normalize="squad", new_tokens=8,
        instruction="Name the feeling.", template="Q: {input}\nA: {target}\n", labels=tuple(answers),
    )  # fmt: skip
    words = ("red", "blue", "green", "gray")
    rows = tuple(
        TaskRow(f"{place}", f"{words[place % 4]} {place}", (answers[place % len(answers)],)) for place in range(12)
    )
    return TaskTrainingData(card, rows[:8], rows[8:], seed)


def _check_fitted(cls: type[Method], base: Checkpoint) -> None:
    first, other = tiny_training_data(), tiny_training_data(seed=1, answers=("one", "two", "three"))
    method = cls()
    before = dataclasses.asdict(method)
    _fit(method, base, first)
    assert dataclasses.asdict(method) == before, "fit must not change the hyper-parameters"
    strange = sorted(name for name in vars(method).keys() - before if not name.endswith("_"))
    assert not strange, f"fit sets {strange}: names of what was learnt end in '_'"
    answers = _predict(method, QUESTIONS)
    backwards = _predict(method, QUESTIONS[::-1])
    assert backwards == answers[::-1], "predict must give the answers in the order of the questions"
    again = _predict(_fit(cls(), base, first), QUESTIONS)
    assert again == answers, f"the same seed must give the same answers: {answers} and then {again}"
    refitted, fresh = _predict(_fit(method, base, other), QUESTIONS), _predict(_fit(cls(), base, other), QUESTIONS)
    assert refitted == fresh, f"a second fit must forget the first: {refitted}, but fitted anew {fresh}"


def _check_save(cls: type[Method], base: Checkpoint, folder: Path) -> None:
    method = _fit(cls(), base, tiny_training_data())
    folder.mkdir()
    method.save(folder)
    assert any(file.is_file() for file in folder.rglob("*")), "save must write what a user would deploy"


def _fit(method: Method, base: Checkpoint, lesson: TaskTrainingData) -> Method:
    seed_all(lesson.seed)
    lm = cast(LM, method.load(base))
    seed_all(lesson.seed)
    budget = BudgetTracker(GRANT, len(lesson.train))
    with _optimizer_steps() as taken:
        try:
            returned = method.fit(lm, lesson, budget)
        except BudgetExhausted as spent:
            raise AssertionError(f"fit asked for more than its budget: {spent}") from spent
    assert returned is method, f"fit must return the method itself, not {returned!r}"
    assert len(taken) <= budget.steps, f"fit took {len(taken)} optimizer steps and drew {budget.steps} of its budget"
    return method


def _predict(method: Method, questions: Sequence[str]) -> list[str]:
    answers = method.predict(questions)
    assert isinstance(answers, list) and all(isinstance(answer, str) for answer in answers), (
        "predict must return a list of texts"
    )
    assert len(answers) == len(questions), f"predict gave {len(answers)} answers to {len(questions)} questions"
    return answers


@contextmanager
def _optimizer_steps() -> Iterator[list[None]]:
    """Counts the steps of every torch optimizer, drawn from the budget or not."""
    from torch.optim.optimizer import register_optimizer_step_post_hook

    taken: list[None] = []
    hook = register_optimizer_step_post_hook(lambda optimizer, args, kwargs: taken.append(None))
    try:
        yield taken
    finally:
        hook.remove()
