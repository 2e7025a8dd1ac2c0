"""Closed labels: the likeliest is chosen, just as if each had been computed by itself, and only where there are any."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch
from peft import PrefixTuningConfig, PromptTuningConfig, TaskType, get_peft_model
from torch.nn.functional import log_softmax

from bench import registry
from bench.execution.budget import BudgetTracker
from bench.method import Unsupported
from bench.modeling.causal_lm import CausalLM
from bench.modeling.checkpoint import Checkpoint
from bench.records import BudgetLimits
from bench.task import TaskTrainingData
from bench.testing import tiny_training_data

LABELS = ("warm", "cold", "as mild as can be", "따뜻한")
COMPLETIONS = [f" {label}" for label in LABELS]
PROMPTS = [tiny_training_data().prompt("red " * times + "one") for times in (3, 0, 7, 1, 5, 2)]
QUESTIONS = [f"{color} {number}" for color in ("red", "blue", "green") for number in range(4)]


@pytest.fixture
def lm(lively: Checkpoint) -> CausalLM:
    return lively.load()


def plain(lm: CausalLM, prompt: str, completion: str) -> float:
    """Mean log-probability by the plainest of ways: one pair, no cache, no padding."""
    head, tail = lm.tokens(prompt), lm.encode(prompt, completion)[1][:-1]
    with torch.inference_mode():
        ids = torch.tensor([head + tail])
        nats = log_softmax(lm.model(ids, attention_mask=torch.ones_like(ids)).logits[0, -ids.shape[1] :], dim=-1)
    return sum(float(nats[place - 1, token]) for place, token in enumerate(tail, len(head))) / len(tail)


def best(values: list[float]) -> int:
    return max(range(len(values)), key=lambda place: values[place])


def closed() -> TaskTrainingData:
    return tiny_training_data(answers=LABELS)


def opened() -> TaskTrainingData:
    data = tiny_training_data()
    return dataclasses.replace(data, card=data.card.model_copy(update={"labels": None}))


def fitted(name: str, lm: CausalLM, data: TaskTrainingData, **params: Any) -> Any:
    return registry.find_method(name)(**params).fit(
        lm, data, BudgetTracker(BudgetLimits(epochs=1), len(data.train))
    )


@pytest.mark.parametrize("prompt", [*PROMPTS, "x" * 500])
def test_a_rating_is_the_mean_over_the_tokens_of_each_completion(lm: CausalLM, prompt: str) -> None:
    rated = lm.loglikelihood(prompt, COMPLETIONS)
    longest = max(len(lm.encode(prompt, completion)[1]) - 1 for completion in COMPLETIONS)
    room = lm.context - max(longest, lm.max_new_tokens)
    assert rated == pytest.approx([plain(lm, prompt[-room:], completion) for completion in COMPLETIONS], abs=1e-4)


def test_a_rating_does_not_depend_on_what_else_is_rated(lm: CausalLM) -> None:
    together = lm.loglikelihood(PROMPTS[0], COMPLETIONS)
    assert [lm.loglikelihood(PROMPTS[0], [one])[0] for one in COMPLETIONS] == pytest.approx(together, abs=1e-4)
    assert lm.loglikelihood(PROMPTS[0], COMPLETIONS[::-1])[::-1] == pytest.approx(together, abs=1e-4)


def test_the_likeliest_completion_is_chosen_for_each_prompt(lm: CausalLM) -> None:
    lm.model.get_input_embeddings().weight.data *= 3
    chosen = lm.choose_label(PROMPTS, COMPLETIONS)
    assert chosen == [best([plain(lm, prompt, one) for one in COMPLETIONS]) for prompt in PROMPTS]
    assert lm.choose_label(PROMPTS[::-1], COMPLETIONS) == chosen[::-1]
    assert lm.choose_label([], COMPLETIONS) == []


def test_a_prior_is_subtracted_from_every_rating(lm: CausalLM) -> None:
    rated = lm.loglikelihood(PROMPTS[0], COMPLETIONS)
    for place in range(len(COMPLETIONS)):
        prior = [value - (other == place) for other, value in enumerate(rated)]
        assert lm.choose_label(PROMPTS[:1], COMPLETIONS, prior) == [place]


def test_a_prompt_is_counted_once_and_of_the_completions_only_the_chosen(lm: CausalLM) -> None:
    lm.loglikelihood(PROMPTS[0], COMPLETIONS)
    assert (lm.token_usage.prompt_tokens, lm.token_usage.answer_tokens) == (0, 0)
    chosen = lm.choose_label(PROMPTS, COMPLETIONS)
    assert lm.token_usage.prompt_tokens == sum(len(lm.tokens(prompt)) for prompt in PROMPTS)
    assert lm.token_usage.answer_tokens == sum(len(COMPLETIONS[place].encode()) for place in chosen)
    lm.choose_label(["x" * 500], COMPLETIONS)
    assert lm.token_usage.truncated_prompts == 1


@pytest.mark.parametrize("kind", [PromptTuningConfig, PrefixTuningConfig])
def test_completions_are_rated_behind_what_an_adapter_puts_before_the_prompt(lm: CausalLM, kind: Any) -> None:
    lm.model = get_peft_model(lm.model, kind(task_type=TaskType.CAUSAL_LM, num_virtual_tokens=3)).eval()
    assert lm.loglikelihood(PROMPTS[0], COMPLETIONS) == pytest.approx(
        [plain(lm, PROMPTS[0], one) for one in COMPLETIONS], abs=1e-4
    )


@pytest.mark.parametrize("name", ["zero-shot", "few-shot"])
def test_prompting_answers_a_closed_task_with_the_likeliest_label(lm: CausalLM, name: str) -> None:
    method, data = fitted(name, lm, closed()), closed()
    shots = method.shots_.examples if name == "few-shot" else ()
    prompts = [data.prompt(question, shots) for question in QUESTIONS]
    wanted = [LABELS[best([plain(lm, prompt, one) for one in COMPLETIONS])] for prompt in prompts]
    assert method.predict(QUESTIONS) == wanted


@pytest.mark.parametrize("name", ["zero-shot", "few-shot"])
def test_prompting_answers_an_open_task_in_its_own_words(lm: CausalLM, name: str) -> None:
    answers = fitted(name, lm, opened()).predict(QUESTIONS[:3])
    assert not set(answers) & {*LABELS, *COMPLETIONS}


def test_calibration_takes_away_what_the_shots_favour_by_themselves(lm: CausalLM) -> None:
    raw, calibrated = (fitted("few-shot", lm, closed(), calibrate=on) for on in (False, True))
    assert calibrated.prior_ == lm.loglikelihood(raw.shots_.prompt("N/A"), COMPLETIONS)
    wanted = []
    for question in QUESTIONS:
        rated = lm.loglikelihood(raw.shots_.prompt(question), COMPLETIONS)
        wanted.append(LABELS[best([one - prior for one, prior in zip(rated, calibrated.prior_, strict=True)])])
    assert calibrated.predict(QUESTIONS) == wanted
    assert wanted != raw.predict(QUESTIONS), "calibration must change an answer, or this cannot fail"


def test_calibration_of_open_answers_is_unsupported(lm: CausalLM) -> None:
    with pytest.raises(Unsupported, match="open"):
        fitted("few-shot", lm, opened(), calibrate=True)
