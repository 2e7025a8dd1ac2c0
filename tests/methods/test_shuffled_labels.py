"""`instruct` and `shuffled-labels`, which train as LoRA does on another form of the data."""

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


def test_instruct_uses_turns_of_the_chat_template(lively: Checkpoint) -> None:
    method = fit("instruct", lively, template=TEMPLATE, steps=1)
    lm = method.lm_
    prompt_ids, completion_ids = encode_examples(lm, method.data_, DATA.train[:1])[0]
    prompt = DATA.prompt(DATA.train[0].input)
    assert lm.tokenizer.decode(prompt_ids) == f"[user]\n{prompt}\n[assistant]\n"
    assert lm.tokenizer.decode(completion_ids) == DATA.train[0].target + lm.tokenizer.eos_token
    assert method.predict(QUESTIONS) == lm.generate([method.data_.prompt(question) for question in QUESTIONS])


def test_chat_prompt_begin_token_of_the_template_stands_first_once(lively: Checkpoint) -> None:
    from bench.methods.instruct import chat_prompt

    lm: Any = lively.load()
    lm.tokenizer.chat_template = TEMPLATE
    lm.tokenizer.bos_token = "<end>"
    prompt = chat_prompt(lm.tokenizer, "Hi")
    assert prompt == "<end>[user]\nHi\n[assistant]\n"
    first_id = lm.tokenizer.bos_token_id
    assert lm.tokens(prompt)[0] == first_id and lm.tokens(prompt).count(first_id) == 1


def test_instruct_without_chat_template_raises_unsupported(lively: Checkpoint) -> None:
    with pytest.raises(Unsupported, match="no chat template"):
        fit("instruct", lively)


def test_shuffled_labels_keep_questions_and_shuffle_answers(lively: Checkpoint) -> None:
    train = fit("shuffled-labels", lively, steps=1).data_.train
    assert [example.input for example in train] == [example.input for example in DATA.train]
    assert Counter(example.target for example in train) == Counter(example.target for example in DATA.train)
    assert [example.target for example in train] != [example.target for example in DATA.train]
    other = fit("shuffled-labels", lively, data=tiny_training_data(seed=1), steps=1).data_.train
    assert [example.target for example in other] != [example.target for example in train]


def test_shuffled_labels_have_a_higher_loss_than_lora(lively: Checkpoint) -> None:
    lora, shuffled = (fit(name, lively, steps=80).lm_ for name in ("lora", "shuffled-labels"))
    pairs = encode_examples(lora, DATA, DATA.train)
    assert lora.evaluate_loss(pairs)[0] < 0.8 * shuffled.evaluate_loss(pairs)[0]
