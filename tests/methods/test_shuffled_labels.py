"""Methods that tell the training data in another way, and train as LoRA does."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from bench import registry
from bench.execution.budget import BudgetTracker
from bench.method import Unsupported
from bench.modeling.checkpoint import Checkpoint
from bench.modeling.seed import seed_all
from bench.records import BudgetLimits
from bench.testing import QUESTIONS, tiny_training_data
from bench.training.trainer import encode_examples

TEMPLATE = (
    "{{ bos_token or '' }}{% for turn in messages %}[{{ turn.role }}]\n{{ turn.content }}\n{% endfor %}"
    "{% if add_generation_prompt %}[assistant]\n{% endif %}"
)
DATA = tiny_training_data()


def fit(name: str, base: Checkpoint, *, template: str | None = None, data: Any = DATA, steps: int = 20) -> Any:
    method: Any = registry.find_method(name)()
    seed_all(0)
    lm: Any = method.load(base)
    lm.tokenizer.chat_template = template
    return method.fit(lm, data, BudgetTracker(BudgetLimits(steps=steps, batch=4), len(data.train)))


def test_instruct_asks_and_answers_in_turns_of_the_chat_template(lively: Checkpoint) -> None:
    method = fit("instruct", lively, template=TEMPLATE, steps=1)
    lm = method.lm_
    head, tail = encode_examples(lm, method.data_, DATA.train[:1])[0]
    asked = DATA.prompt(DATA.train[0].input)
    assert lm.tokenizer.decode(head) == f"[user]\n{asked}\n[assistant]\n"
    assert lm.tokenizer.decode(tail) == DATA.train[0].target + lm.tokenizer.eos_token
    assert method.predict(QUESTIONS) == lm.generate([method.data_.prompt(question) for question in QUESTIONS])


def test_a_beginning_that_the_template_writes_itself_is_not_written_twice(lively: Checkpoint) -> None:
    from bench.methods.instruct import chat

    tokenizer: Any = lively.load().tokenizer
    tokenizer.chat_template = TEMPLATE
    tokenizer.bos_token = "<end>"
    assert chat(tokenizer, "Hi") == "[user]\nHi\n[assistant]\n"


def test_instruct_needs_a_chat_template(lively: Checkpoint) -> None:
    with pytest.raises(Unsupported, match="no chat template"):
        fit("instruct", lively)


def test_shuffled_labels_keep_questions_and_answers_but_not_which_belongs_to_which(lively: Checkpoint) -> None:
    train = fit("shuffled-labels", lively, steps=1).data_.train
    assert [example.input for example in train] == [example.input for example in DATA.train]
    assert Counter(example.target for example in train) == Counter(example.target for example in DATA.train)
    assert [example.target for example in train] != [example.target for example in DATA.train]
    other = fit("shuffled-labels", lively, data=tiny_training_data(seed=1), steps=1).data_.train
    assert [example.target for example in other] != [example.target for example in train]


def test_shuffled_labels_learn_the_answers_worse_than_lora(lively: Checkpoint) -> None:
    true, misled = (fit(name, lively, steps=80).lm_ for name in ("lora", "shuffled-labels"))
    wanted = encode_examples(true, DATA, DATA.train)
    assert true.evaluate_loss(wanted)[0] < 0.8 * misled.evaluate_loss(wanted)[0]
