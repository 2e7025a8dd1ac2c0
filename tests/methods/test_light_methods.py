"""Methods that train little: each starts where it says, trains only what it says, and what it saves is enough."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from bench import registry
from bench.execution.budget import BudgetTracker
from bench.method import Unsupported
from bench.modeling.causal_lm import CausalLM
from bench.modeling.checkpoint import Checkpoint
from bench.modeling.seed import seed_all
from bench.records import BudgetLimits
from bench.testing import QUESTIONS, tiny_training_data
from bench.training.trainer import encode_examples

LIKE_THE_BASE = ("dora", "ia3", "bitfit", "adapter")
BEFORE_THE_PROMPT = ("prefix", "prompt-tuning")
BY_PEFT = ("dora", "ia3", *BEFORE_THE_PROMPT)
ALL = (*LIKE_THE_BASE, *BEFORE_THE_PROMPT)
DATA = tiny_training_data()
PROMPTS = [DATA.prompt(question) for question in QUESTIONS]
WIDTH, DEPTH, LINEARS = 64, 2, 64 + 32 + 32 + 64 + 128 + 128 + 64


def ready(name: str, base: Checkpoint, **params: Any) -> tuple[Any, CausalLM]:
    """A method with its model, all but trained: a budget without a step adapts and no more."""
    method: Any = registry.find_method(name)(**params)
    lm: Any = method.load(base)
    method.lm_, method.data_ = lm, DATA
    lm.model = method.adapt(lm.model)
    return method, lm


def fit(name: str, base: Checkpoint, steps: int = 3, **params: Any) -> tuple[Any, Any, list[str]]:
    """As the worker does it; also the names of the base's own weights that changed."""
    method: Any = registry.find_method(name)(**params)
    seed_all(0)
    lm: Any = method.load(base)
    own = [(name, weight, weight.detach().clone()) for name, weight in lm.model.named_parameters()]
    method.fit(lm, DATA, BudgetTracker(BudgetLimits(steps=steps, batch=4), len(DATA.train)))
    return method, lm, [name for name, weight, before in own if not torch.equal(weight, before)]


@pytest.fixture(scope="module")
def fitted(lively: Checkpoint) -> Callable[[str], tuple[Any, Any, list[str]]]:
    """A method fitted once for all tests that only look at it."""
    made: dict[str, tuple[Any, Any, list[str]]] = {}

    def once(name: str) -> tuple[Any, Any, list[str]]:
        if name not in made:
            made[name] = fit(name, lively)
        return made[name]

    return once


@pytest.mark.parametrize("name", LIKE_THE_BASE)
def test_the_first_step_starts_from_the_base_itself(lively: Checkpoint, name: str) -> None:
    base = lively.load()
    _, lm = ready(name, lively)
    for prompt in PROMPTS:
        ids = torch.tensor([base.tokens(prompt)])
        with torch.inference_mode():
            assert torch.allclose(base.model(ids).logits, lm.model.eval()(ids).logits, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", BEFORE_THE_PROMPT)
def test_the_first_step_starts_as_if_the_training_text_stood_before_the_prompt(lively: Checkpoint, name: str) -> None:
    base = lively.load()
    _, lm = ready(name, lively, tokens=12)
    shown = base.tokens(DATA.prompt(DATA.train[0].input, DATA.train[1:]))[:12]
    for prompt in PROMPTS:
        ids = base.tokens(prompt)
        with torch.inference_mode():
            read = base.model(torch.tensor([shown + ids])).logits[:, -1]
            begun = lm.model.eval()(torch.tensor([ids]), attention_mask=torch.ones(1, len(ids))).logits[:, -1]
        assert torch.allclose(read, begun, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", BEFORE_THE_PROMPT)
def test_what_stands_before_the_prompt_takes_room_in_the_context(lively: Checkpoint, name: str) -> None:
    _, lm = ready(name, lively, tokens=100)
    assert lm.context == lively.load().context - 100
    long = lm.encode(DATA.prompt("long " * 100), " warm")
    assert len(long[0]) + lm.max_new_tokens == lm.context
    assert lm.generate([DATA.prompt("long " * 100)]) != [""]


@pytest.mark.parametrize("name", ALL)
def test_an_answer_does_not_depend_on_what_is_answered_beside_it(fitted: Callable[[str], Any], name: str) -> None:
    method, _, _ = fitted(name)
    questions = [f"{'long ' * (place % 5)}red {place}" for place in range(12)]
    assert [method.predict([question])[0] for question in questions] == method.predict(questions)


@pytest.mark.parametrize("name", [*BEFORE_THE_PROMPT, "peft:P_TUNING"])
def test_what_stands_before_the_prompt_is_read_once_and_answers_as_peft_itself_does(
    lively: Checkpoint, name: str
) -> None:
    more = {"num_virtual_tokens": 12, "encoder_hidden_size": 16} if name.startswith("peft:") else {"tokens": 12}
    _, lm, _ = fit(name, lively, **more)
    prompts = [DATA.prompt(f"{'long ' * (place % 5)}red {place}") for place in range(8)]
    alone = []
    for prompt in prompts:
        ids = torch.tensor([lm.tokens(prompt)])
        with torch.inference_mode():
            whole = lm.model.generate(
                input_ids=ids, attention_mask=torch.ones_like(ids), generation_config=lm._greedy, tokenizer=lm.tokenizer
            )
        alone.append(lm.tokenizer.decode(whole[0, ids.shape[1] :], skip_special_tokens=True))
    for bare in (prompts, [prompt[place:] for place, prompt in enumerate(prompts)]):
        if bare is prompts:
            assert lm.generate(bare) == alone
        assert [lm.generate([prompt])[0] for prompt in bare] == lm.generate(bare)


@pytest.mark.parametrize("name", BEFORE_THE_PROMPT)
def test_more_positions_than_there_are_is_unsupported(lively: Checkpoint, name: str) -> None:
    with pytest.raises(Unsupported, match="256"):
        ready(name, lively, tokens=256)


@pytest.mark.parametrize("name", ALL)
def test_only_what_was_added_is_trained(fitted: Callable[[str], Any], name: str) -> None:
    _, _, changed = fitted(name)
    assert changed == []


@pytest.mark.parametrize(
    ("name", "numbers"),
    {
        "dora": DEPTH * (16 * (2 * 64 + 96 + 96 + 2 * 64 + 192 * 3) + LINEARS),
        "ia3": DEPTH * (32 + 32 + 128),
        "bitfit": DEPTH * LINEARS,
        "adapter": DEPTH * (64 * (WIDTH + 1) + WIDTH * (64 + 1)),
        "prefix": 32 * DEPTH * 2 * 32,
        "prompt-tuning": 32 * WIDTH,
    }.items(),
)
def test_so_many_numbers_are_trained_and_kept(
    fitted: Callable[[str], Any], tmp_path: Path, name: str, numbers: int
) -> None:
    method, lm, _ = fitted(name)
    assert lm.count_parameters()[1] == numbers
    method.save(tmp_path)
    kept = load_file(next(tmp_path.glob("*.safetensors")))
    assert sum(weight.numel() for weight in kept.values()) == numbers


@pytest.mark.parametrize("name", ALL)
def test_training_lowers_the_loss_on_what_is_trained_on(lively: Checkpoint, name: str) -> None:
    _, untrained = ready(name, lively)
    before = untrained.evaluate_loss(encode_examples(untrained, DATA, DATA.train))[0]
    _, lm, _ = fit(name, lively, steps=40)
    assert lm.evaluate_loss(encode_examples(lm, DATA, DATA.train))[0] < 0.9 * before


@pytest.mark.parametrize("name", BY_PEFT)
def test_what_is_saved_gives_the_same_answers_with_peft_alone(
    fitted: Callable[[str], Any], lively: Checkpoint, tmp_path: Path, name: str
) -> None:
    from peft import PeftModel

    method, _, _ = fitted(name)
    method.save(tmp_path)
    base: Any = method.load(lively)
    saved = CausalLM(PeftModel.from_pretrained(base.model, tmp_path), base.tokenizer, lively.decoding)
    assert saved.generate(PROMPTS) == method.predict(QUESTIONS)


@pytest.mark.parametrize("name", ["bitfit", "adapter"])
def test_what_is_saved_gives_the_same_answers_in_a_model_adapted_anew(
    fitted: Callable[[str], Any], lively: Checkpoint, tmp_path: Path, name: str
) -> None:
    method, _, _ = fitted(name)
    method.save(tmp_path)
    _, lm = ready(name, lively)
    saved = load_file(tmp_path / "trained.safetensors")
    assert lm.model.load_state_dict(saved, strict=False).unexpected_keys == []
    assert lm.generate(PROMPTS) == method.predict(QUESTIONS)


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("POLY", "task_ids"),
        ("TRAINABLE_TOKENS", "index"),
        ("PREFIX_TUNING", "num_virtual_tokens"),
        ("XLORA", "use_cache"),
    ],
)
def test_a_type_that_asks_for_more_than_its_defaults_is_unsupported_and_says_why(
    kind: str, reason: str, lively: Checkpoint
) -> None:
    method: Any = registry.find_method(f"peft:{kind}")()
    with pytest.raises(Unsupported, match=reason):
        method.adapt(lively.load().model)
