"""Methods that train few parameters: their start, trained parameters and saved files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from bench import registry
from bench.execution.budget import BudgetTracker
from bench.measurement.determinism import seed_all
from bench.method import Unsupported
from bench.modeling.causal_lm import CausalLM
from bench.modeling.checkpoint import Checkpoint
from bench.records import BudgetLimits
from bench.testing import QUESTIONS, tiny_training_data
from bench.training.trainer import encode_examples

UNCHANGED_START = ("dora", "ia3", "bitfit", "adapter")
VIRTUAL_TOKENS = ("prefix", "prompt-tuning")
SAVED_BY_PEFT = ("dora", "ia3", *VIRTUAL_TOKENS)
ALL = (*UNCHANGED_START, *VIRTUAL_TOKENS)
DATA = tiny_training_data()
PROMPTS = [DATA.prompt(question) for question in QUESTIONS]
WIDTH, DEPTH, LINEARS = 64, 2, 64 + 32 + 32 + 64 + 128 + 128 + 64


def adapt(name: str, base: Checkpoint, **params: Any) -> tuple[Any, CausalLM]:
    """Adapt the model of a method without training it."""
    method: Any = registry.find_method(name)(**params)
    lm: Any = method.load(base)
    method.lm_, method.data_ = lm, DATA
    lm.model = method.adapt(lm.model)
    return method, lm


def fit(name: str, base: Checkpoint, steps: int = 3, **params: Any) -> tuple[Any, Any, list[str]]:
    """Fit as a run does; also returns the names of the base weights that changed."""
    method: Any = registry.find_method(name)(**params)
    seed_all(0)
    lm: Any = method.load(base)
    base_weights = [(name, weight, weight.detach().clone()) for name, weight in lm.model.named_parameters()]
    method.fit(lm, DATA, BudgetTracker(BudgetLimits(steps=steps, batch=4), len(DATA.train)))
    return method, lm, [name for name, weight, before in base_weights if not torch.equal(weight, before)]


@pytest.fixture(scope="module")
def fitted(lively: Checkpoint) -> Callable[[str], tuple[Any, Any, list[str]]]:
    """A method fitted once for all tests that do not change it."""
    results: dict[str, tuple[Any, Any, list[str]]] = {}

    def fit_once(name: str) -> tuple[Any, Any, list[str]]:
        if name not in results:
            results[name] = fit(name, lively)
        return results[name]

    return fit_once


@pytest.mark.parametrize("name", UNCHANGED_START)
def test_adapt_does_not_change_the_logits(lively: Checkpoint, name: str) -> None:
    base = lively.load()
    _, lm = adapt(name, lively)
    for prompt in PROMPTS:
        ids = torch.tensor([base.tokens(prompt)])
        with torch.inference_mode():
            assert torch.allclose(base.model(ids).logits, lm.model.eval()(ids).logits, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", VIRTUAL_TOKENS)
def test_adapt_virtual_tokens_start_as_the_training_text(lively: Checkpoint, name: str) -> None:
    base = lively.load()
    _, lm = adapt(name, lively, tokens=12)
    start_text = base.tokens(DATA.prompt(DATA.train[0].input, DATA.train[1:]))[:12]
    for prompt in PROMPTS:
        ids = base.tokens(prompt)
        with torch.inference_mode():
            expected = base.model(torch.tensor([start_text + ids])).logits[:, -1]
            logits = lm.model.eval()(torch.tensor([ids]), attention_mask=torch.ones(1, len(ids))).logits[:, -1]
        assert torch.allclose(expected, logits, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", VIRTUAL_TOKENS)
def test_adapt_virtual_tokens_reduce_the_context(lively: Checkpoint, name: str) -> None:
    _, lm = adapt(name, lively, tokens=100)
    assert lm.context == lively.load().context - 100
    prompt_ids, _ = lm.encode(DATA.prompt("long " * 100), " warm")
    assert len(prompt_ids) + lm.max_new_tokens == lm.context
    assert lm.generate([DATA.prompt("long " * 100)]) != [""]


@pytest.mark.parametrize("name", ALL)
def test_predict_answer_does_not_depend_on_the_batch(fitted: Callable[[str], Any], name: str) -> None:
    method, _, _ = fitted(name)
    questions = [f"{'long ' * (number % 5)}red {number}" for number in range(12)]
    assert [method.predict([question])[0] for question in questions] == method.predict(questions)


@pytest.mark.parametrize("name", [*VIRTUAL_TOKENS, "peft:P_TUNING"])
def test_generate_shared_virtual_tokens_answer_as_peft_does(lively: Checkpoint, name: str) -> None:
    params = {"num_virtual_tokens": 12, "encoder_hidden_size": 16} if name.startswith("peft:") else {"tokens": 12}
    _, lm, _ = fit(name, lively, **params)
    prompts = [DATA.prompt(f"{'long ' * (number % 5)}red {number}") for number in range(8)]
    expected = []
    for prompt in prompts:
        ids = torch.tensor([lm.tokens(prompt)])
        with torch.inference_mode():
            output = lm.model.generate(
                input_ids=ids,
                attention_mask=torch.ones_like(ids),
                generation_config=lm.generation_config,
                tokenizer=lm.tokenizer,
            )
        expected.append(lm.tokenizer.decode(output[0, ids.shape[1] :], skip_special_tokens=True))
    assert lm.generate(prompts) == expected
    for batch in (prompts, [prompt[index:] for index, prompt in enumerate(prompts)]):
        assert [lm.generate([prompt])[0] for prompt in batch] == lm.generate(batch)


@pytest.mark.parametrize("name", VIRTUAL_TOKENS)
def test_adapt_too_many_virtual_tokens_raises_unsupported(lively: Checkpoint, name: str) -> None:
    with pytest.raises(Unsupported, match="256"):
        adapt(name, lively, tokens=256)


@pytest.mark.parametrize("name", ALL)
def test_fit_leaves_the_base_weights_unchanged(fitted: Callable[[str], Any], name: str) -> None:
    _, _, changed = fitted(name)
    assert changed == []


@pytest.mark.parametrize(
    ("name", "parameters"),
    {
        "dora": DEPTH * (16 * (2 * 64 + 96 + 96 + 2 * 64 + 192 * 3) + LINEARS),
        "ia3": DEPTH * (32 + 32 + 128),
        "bitfit": DEPTH * LINEARS,
        "adapter": DEPTH * (64 * (WIDTH + 1) + WIDTH * (64 + 1)),
        "prefix": 32 * DEPTH * 2 * 32,
        "prompt-tuning": 32 * WIDTH,
    }.items(),
)
def test_fit_and_save_number_of_trained_parameters(
    fitted: Callable[[str], Any], tmp_path: Path, name: str, parameters: int
) -> None:
    method, lm, _ = fitted(name)
    assert lm.count_parameters()[1] == parameters
    method.save(tmp_path)
    saved = load_file(next(tmp_path.glob("*.safetensors")))
    assert sum(weight.numel() for weight in saved.values()) == parameters


@pytest.mark.parametrize("name", ALL)
def test_fit_lowers_the_training_loss(lively: Checkpoint, name: str) -> None:
    _, untrained = adapt(name, lively)
    before = untrained.evaluate_loss(encode_examples(untrained, DATA, DATA.train))[0]
    _, lm, _ = fit(name, lively, steps=40)
    assert lm.evaluate_loss(encode_examples(lm, DATA, DATA.train))[0] < 0.9 * before


@pytest.mark.parametrize("name", SAVED_BY_PEFT)
def test_save_peft_adapter_gives_the_same_answers_with_peft(
    fitted: Callable[[str], Any], lively: Checkpoint, tmp_path: Path, name: str
) -> None:
    from peft import PeftModel

    method, _, _ = fitted(name)
    method.save(tmp_path)
    base: Any = method.load(lively)
    saved = CausalLM(PeftModel.from_pretrained(base.model, tmp_path), base.tokenizer, lively.decoding)
    assert saved.generate(PROMPTS) == method.predict(QUESTIONS)


@pytest.mark.parametrize("name", ["bitfit", "adapter"])
def test_save_weights_give_the_same_answers_in_a_new_model(
    fitted: Callable[[str], Any], lively: Checkpoint, tmp_path: Path, name: str
) -> None:
    method, _, _ = fitted(name)
    method.save(tmp_path)
    _, lm = adapt(name, lively)
    saved = load_file(tmp_path / "trained.safetensors")
    assert lm.model.load_state_dict(saved, strict=False).unexpected_keys == []
    assert lm.generate(PROMPTS) == method.predict(QUESTIONS)


@pytest.mark.parametrize(
    ("peft_type", "reason"),
    [
        ("POLY", "task_ids"),
        ("TRAINABLE_TOKENS", "index"),
        ("PREFIX_TUNING", "num_virtual_tokens"),
        ("XLORA", "use_cache"),
    ],
)
def test_peft_type_with_required_settings_raises_unsupported(peft_type: str, reason: str, lively: Checkpoint) -> None:
    method: Any = registry.find_method(f"peft:{peft_type}")()
    with pytest.raises(Unsupported, match=reason):
        method.adapt(lively.load().model)
