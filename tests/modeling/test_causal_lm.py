"""CausalLM: encoding, generation and losses; neither the batch nor the checkpoint's own settings change an answer."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from torch.nn.functional import log_softmax
from transformers import PreTrainedTokenizerFast

from bench.errors import UserError
from bench.measurement import memory_estimate
from bench.modeling import loaded_model, prefix_cache
from bench.modeling.causal_lm import CausalLM
from bench.modeling.checkpoint import Checkpoint
from bench.modeling.generation import GumbelSampler
from bench.testing import tiny_training_data
from bench.training import trainer

PROMPTS = [tiny_training_data().prompt("red " * count + "one") for count in (3, 0, 7, 1, 0, 5)]


@pytest.fixture(scope="module")
def lm(lively: Checkpoint) -> CausalLM:
    return lively.load()


@pytest.fixture(scope="module")
def single_answers(lm: CausalLM) -> list[str]:
    """The answer to each prompt, generated one by one."""
    answers = [lm.generate([prompt])[0] for prompt in PROMPTS]
    assert len(set(answers)) >= 4, "the answers must differ, or the tests below cannot fail"
    return answers


def load_with_decoding(base: Checkpoint, **changes: Any) -> CausalLM:
    return dataclasses.replace(base, decoding=base.decoding.model_copy(update=changes)).load()


def greedy_tokens(lm: CausalLM, prompt: str, steps: int) -> list[int]:
    """New token ids of greedy search as a plain loop: no cache, no padding, no `generate`."""
    ids = lm.tokens(prompt)
    with torch.inference_mode():
        for _ in range(steps):
            ids.append(int(lm.model(torch.tensor([ids])).logits[0, -1].argmax()))
    return ids[len(lm.tokens(prompt)) :]


def tokenizer_with_merge(*, add_bos: bool) -> PreTrainedTokenizerFast:
    """A byte tokenizer that merges a colon with the space after it and may add a beginning-of-sequence token."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {letter: index for index, letter in enumerate([*letters, ":Ġ"])}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[(":", "Ġ")]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    if add_bos:
        tokenizer.add_special_tokens(["<begin>"])
        tokenizer.post_processor = processors.TemplateProcessing(
            single="<begin> $A", special_tokens=[("<begin>", tokenizer.token_to_id("<begin>"))]
        )
    special_tokens = {"bos_token": "<begin>"} if add_bos else {}
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="a", **special_tokens)


def test_generate_batch_gives_answers_of_single_prompts_in_order(lm: CausalLM, single_answers: list[str]) -> None:
    assert lm.generate(PROMPTS) == single_answers
    assert lm.generate(PROMPTS[::-1]) == single_answers[::-1]
    assert lm.generate(PROMPTS * 9) == single_answers * 9
    assert lm.generate([]) == []


def test_generate_returns_greedy_continuation(lively: Checkpoint) -> None:
    lm = load_with_decoding(lively, stop=(), max_new_tokens=6)
    for prompt in PROMPTS[:3]:
        ids = greedy_tokens(lm, prompt, 6)
        assert not set(ids) & {256, 257}
        assert lm.generate([prompt]) == [lm.tokenizer.decode(ids)]


def test_pad_left_and_right_masks_padding(lm: CausalLM) -> None:
    pad = lm.tokenizer.pad_token_id
    for left, ids, mask in (
        (True, [[1, 2, 3], [pad, pad, 4]], [[1, 1, 1], [0, 0, 1]]),
        (False, [[1, 2, 3], [4, pad, pad]], [[1, 1, 1], [1, 0, 0]]),
    ):
        input_ids, attention_mask = lm.pad([[1, 2, 3], [4]], left=left)
        assert input_ids.tolist() == ids
        assert attention_mask.tolist() == mask


def test_generate_other_padding_token_gives_same_answers(lively: Checkpoint, single_answers: list[str]) -> None:
    original = lively.load()
    original.tokenizer.pad_token = original.tokenizer.eos_token
    padded_with_eos = CausalLM(original.model, original.tokenizer, lively.decoding)
    assert padded_with_eos.tokenizer.pad_token_id == padded_with_eos.tokenizer.eos_token_id
    assert padded_with_eos.generate(PROMPTS) == single_answers
    original.tokenizer.pad_token = None
    assert CausalLM(original.model, original.tokenizer, lively.decoding).generate(PROMPTS) == single_answers


@pytest.mark.parametrize(
    "setting",
    [
        {"do_sample": True, "temperature": 9.0, "top_k": 0},
        {"num_beams": 4, "length_penalty": -9.0},
        {"repetition_penalty": 9.0},
        {"no_repeat_ngram_size": 1},
        {"min_new_tokens": 8, "max_new_tokens": 1},
        {"suppress_tokens": list(range(200))},
        {"forced_eos_token_id": 70, "exponential_decay_length_penalty": [1, 9.0]},
    ],
    ids=lambda setting: next(iter(setting)),
)
@pytest.mark.parametrize("file", ["generation_config.json", "config.json"])
def test_generate_ignores_generation_settings_of_checkpoint(
    lively: Checkpoint, single_answers: list[str], tmp_path: Path, setting: dict[str, Any], file: str
) -> None:
    folder = tmp_path / "model"
    shutil.copytree(lively.folder, folder)
    path = folder / file
    path.write_text(json.dumps(json.loads(path.read_text("utf-8")) | setting), "utf-8")
    assert dataclasses.replace(lively, folder=folder).load().generate(PROMPTS) == single_answers


def test_generate_stop_text_ends_answer(lively: Checkpoint) -> None:
    (full_answer,) = load_with_decoding(lively, stop=(), max_new_tokens=8).generate(PROMPTS[:1])
    stop = full_answer[2:4]
    (answer,) = load_with_decoding(lively, stop=(stop,)).generate(PROMPTS[:1])
    assert answer == full_answer[: full_answer.index(stop) + len(stop)] != full_answer


@pytest.mark.parametrize("file", ["config.json", "generation_config.json"])
def test_generate_any_configured_eos_token_ends_answer(lively: Checkpoint, tmp_path: Path, file: str) -> None:
    lm = load_with_decoding(lively, stop=(), max_new_tokens=6)
    ids = greedy_tokens(lm, PROMPTS[0], 6)
    eos = ids[3]
    folder = tmp_path / "model"
    shutil.copytree(lively.folder, folder)
    config = json.loads((folder / file).read_text("utf-8"))
    (folder / file).write_text(json.dumps(config | {"eos_token_id": [256, eos]}), "utf-8")
    ending = load_with_decoding(dataclasses.replace(lively, folder=folder), stop=(), max_new_tokens=6)
    assert ending.generate(PROMPTS[:1]) == [lm.tokenizer.decode(ids[: ids.index(eos)])]
    assert ending.token_usage.answer_tokens == ids.index(eos) + 1
    assert ending.encode("red", " warm")[1][-1] == ending.tokenizer.eos_token_id


def test_causal_lm_without_eos_token_raises_user_error(lively: Checkpoint) -> None:
    original = lively.load()
    original.tokenizer.eos_token = None
    original.model.config.eos_token_id = original.model.generation_config.eos_token_id = None
    with pytest.raises(UserError, match="end-of-sequence") as raised:
        CausalLM(original.model, original.tokenizer, lively.decoding)
    assert "eos_token" in (raised.value.hint or "")


@pytest.mark.parametrize("completion", [" warm", "warm", " 따뜻한", " warm and dry", "\nwarm"])
def test_encode_returns_whole_completion_with_eos(lm: CausalLM, completion: str) -> None:
    prompt_ids, completion_ids = lm.encode(PROMPTS[0], completion)
    assert prompt_ids == lm.tokens(PROMPTS[0])
    assert completion_ids[-1] == lm.tokenizer.eos_token_id
    assert lm.tokenizer.decode(completion_ids[:-1]) == completion


@pytest.mark.parametrize("add_bos", [False, True])
def test_encode_token_across_boundary_keeps_prompt_tokens(lm: CausalLM, add_bos: bool) -> None:
    tokenizer = tokenizer_with_merge(add_bos=add_bos)
    merging = CausalLM(lm.model, tokenizer, lm.decoding)
    assert merging.tokens("A: warm")[-5] == tokenizer.convert_tokens_to_ids(":Ġ")
    prompt_ids, completion_ids = merging.encode("A:", " warm")
    assert prompt_ids == merging.tokens("A:")
    assert tokenizer.decode(completion_ids[:-1]) == " warm"
    assert prompt_ids.count(256 + 1) == add_bos
    assert (prompt_ids + completion_ids).count(257) == add_bos


def test_loglikelihood_token_across_boundary_keeps_prompt_tokens(lm: CausalLM) -> None:
    merging = CausalLM(lm.model, tokenizer_with_merge(add_bos=False), lm.decoding)
    prompt_ids, completion_ids = merging.encode("A:", " warm")
    with torch.inference_mode():
        logits = lm.model(torch.tensor([prompt_ids + completion_ids[:-1]])).logits
    nats = log_softmax(logits[0, len(prompt_ids) - 1 : -1], dim=-1)
    expected = float(nats.gather(1, torch.tensor(completion_ids[:-1]).unsqueeze(1)).mean())
    assert merging.loglikelihood("A:", [" warm"]) == pytest.approx([expected], rel=1e-5)


def test_tokens_with_bos_adds_it_once(lm: CausalLM) -> None:
    merging = CausalLM(lm.model, tokenizer_with_merge(add_bos=True), lm.decoding)
    bos = merging.tokenizer.bos_token_id
    ids = merging.tokens("red")
    assert ids[0] == bos
    assert ids.count(bos) == 1
    truncated, _ = merging.encode("x" * 500, "warm")
    assert truncated[0] == bos
    assert truncated.count(bos) == 1


def test_generate_long_prompt_is_truncated_at_start_and_counted(lively: Checkpoint) -> None:
    lm = lively.load()
    max_prompt_tokens = lm.context - lm.max_new_tokens
    long = "".join(f"{number} is red. " for number in range(99))
    end = long[-max_prompt_tokens:]
    assert lm.generate([end]) == lm.generate([long])
    assert lm.token_usage.truncated_prompts == 1
    assert lm.generate(["short", long, long]) == [*lm.generate(["short"]), *lm.generate([end]) * 2]
    assert lm.token_usage.truncated_prompts == 3
    prompt_ids, completion_ids = lm.encode(long, " warm")
    assert prompt_ids == lm.tokens(end), "training sees the prompt that generation sees"
    prompt_ids, completion_ids = lm.encode(long, " warm" * 4)
    assert len(completion_ids) > lm.max_new_tokens
    assert len(prompt_ids) + len(completion_ids) == lm.context
    assert lm.tokenizer.decode(prompt_ids) == long[-len(prompt_ids) :]
    assert lm.token_usage.truncated_prompts == 3, "training examples are not counted as questions"


def test_encode_completion_longer_than_context_raises_user_error(lm: CausalLM) -> None:
    with pytest.raises(UserError, match="context of 256"):
        lm.encode("red", "x" * 300)


def test_mask_prompt_eos_as_padding_is_still_a_label(lively: Checkpoint) -> None:
    lm = lively.load()
    lm.tokenizer.pad_token = lm.tokenizer.eos_token
    data = tiny_training_data()
    for example, pair in zip(data.train, trainer.encode_examples(lm, data, data.train), strict=True):
        labels = trainer.mask_prompt(pair)
        assert len(labels) == len(pair[0]) + len(pair[1])
        trained = [label for label in labels if label != -100]
        assert lm.tokenizer.decode(trained) == data.completion(example) + lm.tokenizer.eos_token


def test_evaluate_loss_is_mean_over_completion_tokens(lm: CausalLM) -> None:
    completions = (" a", " much longer", " b") * 2
    pairs = [lm.encode(prompt, completion) for prompt, completion in zip(PROMPTS, completions, strict=True)]
    nats: list[float] = []
    correct: list[bool] = []
    with torch.inference_mode():
        for prompt_ids, completion_ids in pairs:
            log_probs = log_softmax(lm.model(torch.tensor([prompt_ids + completion_ids])).logits[0], dim=-1)
            for position, token in enumerate(completion_ids, start=len(prompt_ids)):
                nats.append(-float(log_probs[position - 1, token]))
                correct.append(int(log_probs[position - 1].argmax()) == token)
    loss, accuracy = lm.evaluate_loss(pairs)
    assert loss == pytest.approx(sum(nats) / len(nats), rel=1e-5)
    assert accuracy == sum(correct) / len(correct)
    assert lm.evaluate_loss(pairs[::-1]) == pytest.approx((loss, accuracy), rel=1e-6)


@pytest.mark.parametrize("training", [True, False])
def test_evaluate_loss_keeps_training_mode(lively: Checkpoint, training: bool) -> None:
    lm = lively.load()
    lm.model.train(training)
    lm.evaluate_loss([lm.encode("red", " warm")])
    assert lm.model.training is training


def test_token_usage_counts_tokens_without_padding(lively: Checkpoint) -> None:
    lm = load_with_decoding(lively, stop=(), max_new_tokens=8)
    answers = [lm.generate([prompt])[0] for prompt in PROMPTS]
    single, batched = (load_with_decoding(lively, stop=(answers[0][1],)) for _ in range(2))
    for prompt in PROMPTS:
        single.generate([prompt])
    batched.generate(PROMPTS)
    prompt_tokens = sum(len(single.tokens(prompt)) for prompt in PROMPTS)
    assert single.token_usage.prompt_tokens == batched.token_usage.prompt_tokens == prompt_tokens
    assert single.token_usage.answer_tokens < 8 * len(PROMPTS), "an answer must end early, or this test cannot fail"
    assert batched.token_usage.answer_tokens == single.token_usage.answer_tokens


def test_causal_lm_is_frozen_and_in_evaluation_mode(lm: CausalLM) -> None:
    assert not lm.model.training
    total, trainable = lm.count_parameters()
    assert trainable == 0
    assert total == sum(weight.numel() for weight in lm.model.parameters())


def test_generate_shared_prefix_is_read_once_with_same_answers(
    lively: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    prefix = "Many words that stand before all of the questions. "
    lm, prompts = lively.load(), [prefix + prompt for prompt in PROMPTS]
    answers = lm.generate(prompts)
    assert lm.token_usage.prompt_tokens == sum(len(lm.tokens(prompt)) for prompt in prompts)
    widths: list[int] = []
    lm.model.register_forward_pre_hook(
        lambda module, args, kwargs: widths.append(kwargs["input_ids"].shape[1]), with_kwargs=True
    )
    assert lm.generate(prompts) == answers
    assert widths[0] >= len(lm.tokens(prefix)) and max(widths[1:]) < max(len(lm.tokens(prompt)) for prompt in prompts)
    monkeypatch.setattr(prefix_cache, "MIN_SHARED_PREFIX_TOKENS", 10_000)
    assert lively.load().generate(prompts) == answers


def test_generate_samples_do_not_depend_on_batch_but_on_index(lively: Checkpoint) -> None:
    lm = lively.load()
    prompts = [f"{'long ' * (index % 3)}question {index}" for index in range(6)]
    samples = lm.generate(prompts, temperature=1.0, sample_index=1)
    assert [lm.generate([prompt], temperature=1.0, sample_index=1)[0] for prompt in prompts] == samples
    assert lm.generate(prompts, temperature=1.0, sample_index=2) != samples
    assert lm.generate(prompts, temperature=1e-6, sample_index=1) == lm.generate(prompts), "near 0 it is greedy"


def test_gumbel_sampler_draws_tokens_by_their_probabilities() -> None:
    probabilities = torch.tensor([0.5, 0.3, 0.15, 0.05])
    input_ids = torch.arange(4000).unsqueeze(1)
    scores = GumbelSampler(2.0, 0, -1)(input_ids, (2.0 * probabilities.log()).expand(4000, 4))
    frequencies = scores.argmax(1).bincount(minlength=4) / 4000
    assert torch.allclose(frequencies, probabilities, atol=0.03)


def test_length_batches_grow_up_to_memory_for_generation(lively: Checkpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    model = lively.load().model
    lengths = sorted([3] * 300 + [40] * 50 + list(range(50, 250)))
    monkeypatch.setattr(memory_estimate, "MIN_GENERATION_BYTES", 2**22)
    batches = list(memory_estimate.length_batches(model, lengths))
    assert [position for batch in batches for position in batch] == list(range(len(lengths)))
    assert max(map(len, batches)) == memory_estimate.MAX_BATCH_ROWS
    assert min(map(len, batches[:-1])) >= memory_estimate.MIN_BATCH_ROWS
    available = max(2**22, memory_estimate.unquantized_bytes(model))
    for batch in batches:
        needed = memory_estimate.generation_bytes(model, len(batch), lengths[batch[-1]])
        assert len(batch) <= memory_estimate.MIN_BATCH_ROWS or needed <= available
    assert list(memory_estimate.length_batches(model, [])) == []


@pytest.mark.parametrize(
    ("tokens", "repeats"),
    [
        ([9, 4, 4, 4, 4, 4, 4, 4, 4], True),
        ([1, 2, 3] * 4, True),
        ([8, *range(16)] + list(range(16)) * 3, True),
        ([1, 2, 3] * 3, False),
        ([4, 4, 4, 4], False),
        ([5, 6] * 6 + [7], False),
        (list(range(40)), False),
    ],
    ids=["one token", "phrase", "longest phrase", "too few repeats", "too short", "it ends", "no repetition"],
)
def test_ends_in_repetition_needs_a_short_phrase_until_the_end(tokens: list[int], repeats: bool) -> None:
    assert loaded_model.ends_in_repetition(tokens) is repeats


def test_generate_counts_answers_without_an_end(lively: Checkpoint) -> None:
    """Chosen labels are not generated, so nothing is counted for them."""
    lm = load_with_decoding(lively, stop=())
    lm.choose_label(["red"], ["warm", "cold"])
    assert lm.token_usage.cut_answers is None
    for weight in lm.model.parameters():
        weight.data.zero_()  # equal scores for all tokens: the first one again and again
    lm.generate(["red", "blue"])
    usage = lm.token_usage
    assert (usage.generated_answers, usage.cut_answers, usage.repeating_answers) == (2, 2, 2)


def test_generate_decodes_a_token_by_itself_once(lively: Checkpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    lm = load_with_decoding(lively, stop=("~",))
    decode, single_tokens = lm.tokenizer.decode, []

    def noting_decode(tokens: Any, **kwargs: Any) -> Any:
        if len(tokens) == 1:
            single_tokens.append(tokens[0])
        return decode(tokens, **kwargs)

    monkeypatch.setattr(lm.tokenizer, "decode", noting_decode)
    answers = [lm.generate([prompt]) for prompt in PROMPTS]
    assert len(single_tokens) == len(set(single_tokens)) > 0
    single_tokens.clear()
    assert [lm.generate([prompt]) for prompt in PROMPTS] == answers
    assert single_tokens == []
