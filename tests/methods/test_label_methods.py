"""Closed labels: log-likelihoods of completions and the choice of the most likely label."""

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


def reference_loglikelihood(lm: CausalLM, prompt: str, completion: str) -> float:
    """Mean log-probability per token of one pair, without cache and padding."""
    prompt_ids, completion_ids = lm.tokens(prompt), lm.encode(prompt, completion)[1][:-1]
    with torch.inference_mode():
        ids = torch.tensor([prompt_ids + completion_ids])
        log_probs = log_softmax(lm.model(ids, attention_mask=torch.ones_like(ids)).logits[0, -ids.shape[1] :], dim=-1)
    return sum(float(log_probs[index - 1, token]) for index, token in enumerate(completion_ids, len(prompt_ids))) / len(
        completion_ids
    )


def index_of_max(values: list[float]) -> int:
    return max(range(len(values)), key=lambda index: values[index])


def closed_task() -> TaskTrainingData:
    return tiny_training_data(answers=LABELS)


def open_task() -> TaskTrainingData:
    data = tiny_training_data()
    return dataclasses.replace(data, card=data.card.model_copy(update={"labels": None}))


def fit(name: str, lm: CausalLM, data: TaskTrainingData, **params: Any) -> Any:
    return registry.find_method(name)(**params).fit(lm, data, BudgetTracker(BudgetLimits(epochs=1), len(data.train)))


@pytest.mark.parametrize("prompt", [*PROMPTS, "x" * 500])
def test_loglikelihood_is_the_mean_over_completion_tokens(lm: CausalLM, prompt: str) -> None:
    loglikelihoods = lm.loglikelihood(prompt, COMPLETIONS)
    longest = max(len(lm.encode(prompt, completion)[1]) - 1 for completion in COMPLETIONS)
    max_prompt_tokens = lm.context - max(longest, lm.max_new_tokens)
    assert loglikelihoods == pytest.approx(
        [reference_loglikelihood(lm, prompt[-max_prompt_tokens:], completion) for completion in COMPLETIONS], abs=1e-4
    )


def test_loglikelihood_does_not_depend_on_other_completions(lm: CausalLM) -> None:
    together = lm.loglikelihood(PROMPTS[0], COMPLETIONS)
    assert [lm.loglikelihood(PROMPTS[0], [completion])[0] for completion in COMPLETIONS] == pytest.approx(
        together, abs=1e-4
    )
    assert lm.loglikelihood(PROMPTS[0], COMPLETIONS[::-1])[::-1] == pytest.approx(together, abs=1e-4)


def test_choose_label_most_likely_completion_wins(lm: CausalLM) -> None:
    lm.model.get_input_embeddings().weight.data *= 3
    chosen = lm.choose_label(PROMPTS, COMPLETIONS)
    assert chosen == [
        index_of_max([reference_loglikelihood(lm, prompt, completion) for completion in COMPLETIONS])
        for prompt in PROMPTS
    ]
    assert lm.choose_label(PROMPTS[::-1], COMPLETIONS) == chosen[::-1]
    assert lm.choose_label([], COMPLETIONS) == []


def test_choose_label_prior_is_subtracted(lm: CausalLM) -> None:
    loglikelihoods = lm.loglikelihood(PROMPTS[0], COMPLETIONS)
    for label in range(len(COMPLETIONS)):
        prior = [value - (index == label) for index, value in enumerate(loglikelihoods)]
        assert lm.choose_label(PROMPTS[:1], COMPLETIONS, prior) == [label]


def test_loglikelihoods_are_those_of_single_prompts(lm: CausalLM) -> None:
    expected = [lm.loglikelihood(prompt, COMPLETIONS) for prompt in PROMPTS]
    for values, reference in zip(lm.loglikelihoods(PROMPTS, COMPLETIONS), expected, strict=True):
        assert values == pytest.approx(reference, abs=1e-4)
    assert (lm.token_usage.prompt_tokens, lm.token_usage.answer_tokens) == (0, 0)
    assert lm.loglikelihoods([], COMPLETIONS) == []


def test_choose_label_counts_the_prompt_and_the_chosen_label(lm: CausalLM) -> None:
    lm.loglikelihood(PROMPTS[0], COMPLETIONS)
    assert (lm.token_usage.prompt_tokens, lm.token_usage.answer_tokens) == (0, 0)
    chosen = lm.choose_label(PROMPTS, COMPLETIONS)
    assert lm.token_usage.prompt_tokens == sum(len(lm.tokens(prompt)) for prompt in PROMPTS)
    assert lm.token_usage.answer_tokens == sum(len(COMPLETIONS[label].encode()) for label in chosen)
    lm.choose_label(["x" * 500], COMPLETIONS)
    assert lm.token_usage.truncated_prompts == 1


@pytest.mark.parametrize("kind", [PromptTuningConfig, PrefixTuningConfig])
def test_loglikelihood_includes_virtual_tokens_of_an_adapter(lm: CausalLM, kind: Any) -> None:
    lm.model = get_peft_model(lm.model, kind(task_type=TaskType.CAUSAL_LM, num_virtual_tokens=3)).eval()
    assert lm.loglikelihood(PROMPTS[0], COMPLETIONS) == pytest.approx(
        [reference_loglikelihood(lm, PROMPTS[0], completion) for completion in COMPLETIONS], abs=1e-4
    )


@pytest.mark.parametrize("name", ["zero-shot", "few-shot"])
def test_predict_closed_labels_gives_the_most_likely_label(lm: CausalLM, name: str) -> None:
    method, data = fit(name, lm, closed_task(), calibrate=False), closed_task()
    prompts = [data.prompt(question, method.prompt_.shots.examples) for question in QUESTIONS]
    expected = [
        LABELS[index_of_max([reference_loglikelihood(lm, prompt, completion) for completion in COMPLETIONS])]
        for prompt in prompts
    ]
    assert method.predict(QUESTIONS) == expected


@pytest.mark.parametrize("name", ["zero-shot", "few-shot"])
def test_predict_open_answers_are_generated(lm: CausalLM, name: str) -> None:
    answers = fit(name, lm, open_task()).predict(QUESTIONS[:3])
    assert not set(answers) & {*LABELS, *COMPLETIONS}


def test_few_shot_calibrate_subtracts_scores_without_question(lm: CausalLM) -> None:
    raw, calibrated = (
        fit("few-shot", lm, closed_task(), k=4, calibrate=calibrate, select="random") for calibrate in (False, True)
    )
    priors = calibrated.prompt_.prior
    without_question = [lm.loglikelihood(raw.prompt_.shots.prompt(text), COMPLETIONS) for text in ("N/A", "[MASK]", "")]
    assert priors == pytest.approx([sum(values) / 3 for values in zip(*without_question, strict=True)], abs=1e-4)
    expected = []
    for question in QUESTIONS:
        loglikelihoods = lm.loglikelihood(raw.prompt_.shots.prompt(question), COMPLETIONS)
        expected.append(
            LABELS[index_of_max([value - prior for value, prior in zip(loglikelihoods, priors, strict=True)])]
        )
    assert calibrated.predict(QUESTIONS) == expected
    assert expected != raw.predict(QUESTIONS), "calibration must change an answer, or this test cannot fail"


def test_few_shot_calibrate_open_answers_raises_unsupported(lm: CausalLM) -> None:
    with pytest.raises(Unsupported, match="open"):
        fit("few-shot", lm, open_task(), calibrate=True)
