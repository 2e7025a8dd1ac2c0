"""A loaded model: what goes in, what comes out, and that neither batches nor a checkpoint's wishes change it."""

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
from bench.modeling import prefix_cache
from bench.modeling.causal_lm import CausalLM
from bench.modeling.checkpoint import Checkpoint
from bench.records.record import Decoding
from bench.testing import tiny_training_data
from bench.training import trainer

PROMPTS = [tiny_training_data().prompt("red " * times + "one") for times in (3, 0, 7, 1, 0, 5)]


@pytest.fixture(scope="module")
def lm(lively: Checkpoint) -> CausalLM:
    return lively.load()


@pytest.fixture(scope="module")
def alone(lm: CausalLM) -> list[str]:
    """Each prompt's answer without company."""
    answers = [lm.generate([prompt])[0] for prompt in PROMPTS]
    assert len(set(answers)) >= 4, "the model must tell prompts apart, or nothing below can fail"
    return answers


def decoding(base: Checkpoint, **changes: Any) -> CausalLM:
    return dataclasses.replace(base, decoding=base.decoding.model_copy(update=changes)).load()


def greedy(lm: CausalLM, prompt: str, steps: int) -> list[int]:
    """Token ids by the plainest of loops: no cache, no padding, no `generate`."""
    ids = lm.tokens(prompt)
    with torch.inference_mode():
        for _ in range(steps):
            ids.append(int(lm.model(torch.tensor([ids])).logits[0, -1].argmax()))
    return ids[len(lm.tokens(prompt)) :]


def with_merges(lm: CausalLM, *, begins: bool) -> PreTrainedTokenizerFast:
    """A tokenizer that joins a colon and the blank after it, and begins sequences with a token if asked to."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {letter: place for place, letter in enumerate([*letters, ":Ġ"])}
    made = Tokenizer(models.BPE(vocab=vocabulary, merges=[(":", "Ġ")]))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    made.decoder = decoders.ByteLevel()
    if begins:
        made.add_special_tokens(["<begin>"])
        made.post_processor = processors.TemplateProcessing(
            single="<begin> $A", special_tokens=[("<begin>", made.token_to_id("<begin>"))]
        )
    more = {"bos_token": "<begin>"} if begins else {}
    return PreTrainedTokenizerFast(tokenizer_object=made, eos_token="a", **more)


def test_answers_in_a_batch_are_those_given_alone_and_in_order(lm: CausalLM, alone: list[str]) -> None:
    assert lm.generate(PROMPTS) == alone
    assert lm.generate(PROMPTS[::-1]) == alone[::-1]
    assert lm.generate(PROMPTS * 9) == alone * 9
    assert lm.generate([]) == []


def test_an_answer_is_the_greedy_continuation(lively: Checkpoint) -> None:
    free = decoding(lively, stop=(), max_new_tokens=6)
    for prompt in PROMPTS[:3]:
        ids = greedy(free, prompt, 6)
        assert not set(ids) & {256, 257}
        assert free.generate([prompt]) == [free.tokenizer.decode(ids)]


def test_rows_are_padded_on_the_left_when_answering_and_on_the_right_when_measuring(lm: CausalLM) -> None:
    fill = lm.tokenizer.pad_token_id
    for left, ids, mask in (
        (True, [[1, 2, 3], [fill, fill, 4]], [[1, 1, 1], [0, 0, 1]]),
        (False, [[1, 2, 3], [4, fill, fill]], [[1, 1, 1], [1, 0, 0]]),
    ):
        padded, attended = lm._pad([[1, 2, 3], [4]], left=left)
        assert padded.tolist() == ids
        assert attended.tolist() == mask


def test_what_fills_a_row_never_changes_its_answer(lively: Checkpoint, alone: list[str]) -> None:
    other = lively.load()
    other.tokenizer.pad_token = other.tokenizer.eos_token
    refilled = CausalLM(other.model, other.tokenizer, lively.decoding)
    assert refilled.tokenizer.pad_token_id == refilled.tokenizer.eos_token_id
    assert refilled.generate(PROMPTS) == alone
    other.tokenizer.pad_token = None
    assert CausalLM(other.model, other.tokenizer, lively.decoding).generate(PROMPTS) == alone


@pytest.mark.parametrize(
    "wish",
    [
        {"do_sample": True, "temperature": 9.0, "top_k": 0},
        {"num_beams": 4, "length_penalty": -9.0},
        {"repetition_penalty": 9.0},
        {"no_repeat_ngram_size": 1},
        {"min_new_tokens": 8, "max_new_tokens": 1},
        {"suppress_tokens": list(range(200))},
        {"forced_eos_token_id": 70, "exponential_decay_length_penalty": [1, 9.0]},
    ],
    ids=lambda wish: next(iter(wish)),
)
@pytest.mark.parametrize("file", ["generation_config.json", "config.json"])
def test_what_a_checkpoint_wishes_for_its_decoding_changes_nothing(
    lively: Checkpoint, alone: list[str], tmp_path: Path, wish: dict[str, Any], file: str
) -> None:
    folder = tmp_path / "wishing"
    shutil.copytree(lively.folder, folder)
    place = folder / file
    place.write_text(json.dumps(json.loads(place.read_text("utf-8")) | wish), "utf-8")
    assert dataclasses.replace(lively, folder=folder).load().generate(PROMPTS) == alone


def test_a_stop_text_ends_an_answer(lively: Checkpoint) -> None:
    free = decoding(lively, stop=(), max_new_tokens=8)
    (whole,) = free.generate(PROMPTS[:1])
    stop = whole[2:4]
    (cut,) = decoding(lively, stop=(stop,)).generate(PROMPTS[:1])
    assert cut == whole[: whole.index(stop) + len(stop)] != whole


def test_every_end_token_that_tokenizer_or_configuration_name_ends_an_answer(
    lively: Checkpoint, tmp_path: Path
) -> None:
    free = decoding(lively, stop=(), max_new_tokens=6)
    ids = greedy(free, PROMPTS[0], 6)
    for place, (file, end) in enumerate((("config.json", ids[3]), ("generation_config.json", ids[3]))):
        folder = tmp_path / str(place)
        shutil.copytree(lively.folder, folder)
        content = json.loads((folder / file).read_text("utf-8"))
        (folder / file).write_text(json.dumps(content | {"eos_token_id": [256, end]}), "utf-8")
        ending = dataclasses.replace(free_of(lively), folder=folder).load()
        expected = free.tokenizer.decode(ids[: ids.index(end)])
        assert ending.generate(PROMPTS[:1]) == [expected]
        assert ending.token_usage.answer_tokens == ids.index(end) + 1
        assert ending.encode("red", " warm")[1][-1] == ending.tokenizer.eos_token_id


def free_of(base: Checkpoint) -> Checkpoint:
    """The same base without a text that ends answers."""
    return dataclasses.replace(base, decoding=Decoding(max_new_tokens=6, stop=()))


def test_a_model_without_an_end_token_is_refused(lively: Checkpoint) -> None:
    whole = lively.load()
    whole.tokenizer.eos_token = None
    whole.model.config.eos_token_id = whole.model.generation_config.eos_token_id = None
    with pytest.raises(UserError, match="end-of-sequence") as refused:
        CausalLM(whole.model, whole.tokenizer, lively.decoding)
    assert "eos_token" in (refused.value.mend or "")


@pytest.mark.parametrize("completion", [" warm", "warm", " 따뜻한", " warm and dry", "\nwarm"])
def test_a_completion_is_encoded_whole_with_its_end(lm: CausalLM, completion: str) -> None:
    head, tail = lm.encode(PROMPTS[0], completion)
    assert head == lm.tokens(PROMPTS[0])
    assert tail[-1] == lm.tokenizer.eos_token_id
    assert lm.tokenizer.decode(tail[:-1]) == completion


@pytest.mark.parametrize("begins", [False, True])
def test_the_prompt_is_learnt_as_it_is_asked_even_where_a_token_spans_the_seam(lm: CausalLM, begins: bool) -> None:
    tokenizer = with_merges(lm, begins=begins)
    spanning = CausalLM(lm.model, tokenizer, lm.decoding)
    assert spanning.tokens("A: warm")[-5] == tokenizer.convert_tokens_to_ids(":Ġ")
    head, tail = spanning.encode("A:", " warm")
    assert head == spanning.tokens("A:")
    assert tokenizer.decode(tail[:-1]) == " warm"
    assert head.count(256 + 1) == begins
    assert (head + tail).count(257) == begins


def test_a_completion_is_rated_after_the_prompt_as_it_is_asked_even_where_a_token_spans_the_seam(lm: CausalLM) -> None:
    spanning = CausalLM(lm.model, with_merges(lm, begins=False), lm.decoding)
    head, tail = spanning.encode("A:", " warm")
    with torch.inference_mode():
        nats = log_softmax(lm.model(torch.tensor([head + tail[:-1]])).logits[0, len(head) - 1 : -1], dim=-1)
    wanted = float(nats.gather(1, torch.tensor(tail[:-1]).unsqueeze(1)).mean())
    assert spanning.loglikelihood("A:", [" warm"]) == pytest.approx([wanted], rel=1e-5)


def test_a_tokenizer_that_begins_sequences_does_so_once(lm: CausalLM) -> None:
    spanning = CausalLM(lm.model, with_merges(lm, begins=True), lm.decoding)
    ids = spanning.tokens("red")
    assert ids[0] == spanning.tokenizer.bos_token_id
    assert ids.count(spanning.tokenizer.bos_token_id) == 1
    long, _ = spanning.encode("x" * 500, "warm")
    assert long[0] == spanning.tokenizer.bos_token_id
    assert long.count(spanning.tokenizer.bos_token_id) == 1


def test_a_prompt_that_is_too_long_loses_its_head_and_is_counted(lively: Checkpoint) -> None:
    fresh = lively.load()
    room = fresh.context - fresh.max_new_tokens
    long = "".join(f"{number} is red. " for number in range(99))
    kept = long[-room:]
    assert fresh.generate([kept]) == fresh.generate([long])
    assert fresh.token_usage.truncated_prompts == 1
    assert fresh.generate(["short", long, long]) == [*fresh.generate(["short"]), *fresh.generate([kept]) * 2]
    assert fresh.token_usage.truncated_prompts == 3
    head, tail = fresh.encode(long, " warm")
    assert head == fresh.tokens(kept), "learnt from the very prompt that is answered"
    head, tail = fresh.encode(long, " warm" * 4)
    assert len(tail) > fresh.max_new_tokens
    assert len(head) + len(tail) == fresh.context
    assert fresh.tokenizer.decode(head) == long[-len(head) :]
    assert fresh.token_usage.truncated_prompts == 3, "what is learnt from is not counted among the questions"


def test_an_answer_that_no_context_can_hold_is_refused(lm: CausalLM) -> None:
    with pytest.raises(UserError, match="context of 256"):
        lm.encode("red", "x" * 300)


def test_the_end_token_is_learnt_even_where_it_is_also_what_fills(lively: Checkpoint) -> None:
    lm = lively.load()
    lm.tokenizer.pad_token = lm.tokenizer.eos_token
    lesson = tiny_training_data()
    for example, pair in zip(lesson.train, trainer.encode_examples(lm, lesson, lesson.train), strict=True):
        labels = trainer.mask_prompt(pair)
        assert len(labels) == len(pair[0]) + len(pair[1])
        learnt = [label for label in labels if label != -100]
        assert lm.tokenizer.decode(learnt) == lesson.completion(example) + lm.tokenizer.eos_token


def test_measuring_is_the_plain_mean_over_completion_tokens(lm: CausalLM) -> None:
    encoded = [
        lm.encode(prompt, answer) for prompt, answer in zip(PROMPTS, (" a", " much longer", " b") * 2, strict=True)
    ]
    nats: list[float] = []
    right: list[bool] = []
    with torch.inference_mode():
        for head, tail in encoded:
            scores = log_softmax(lm.model(torch.tensor([head + tail])).logits[0], dim=-1)
            for place, token in enumerate(tail, start=len(head)):
                nats.append(-float(scores[place - 1, token]))
                right.append(int(scores[place - 1].argmax()) == token)
    loss, accuracy = lm.evaluate_loss(encoded)
    assert loss == pytest.approx(sum(nats) / len(nats), rel=1e-5)
    assert accuracy == sum(right) / len(right)
    assert lm.evaluate_loss(encoded[::-1]) == pytest.approx((loss, accuracy), rel=1e-6)


@pytest.mark.parametrize("training", [True, False])
def test_measuring_leaves_the_model_in_its_mode(lively: Checkpoint, training: bool) -> None:
    lm = lively.load()
    lm.model.train(training)
    lm.evaluate_loss([lm.encode("red", " warm")])
    assert lm.model.training is training


def test_the_tally_counts_the_tokens_of_each_question_and_no_filling(lively: Checkpoint) -> None:
    free = decoding(lively, stop=(), max_new_tokens=8)
    answers = [free.generate([prompt])[0] for prompt in PROMPTS]
    one, many = (decoding(lively, stop=(answers[0][1],)) for _ in range(2))
    for prompt in PROMPTS:
        one.generate([prompt])
    many.generate(PROMPTS)
    assert (
        one.token_usage.prompt_tokens
        == many.token_usage.prompt_tokens
        == sum(len(one.tokens(prompt)) for prompt in PROMPTS)
    )
    assert one.token_usage.answer_tokens < 8 * len(PROMPTS), "one answer must end early, or this test cannot fail"
    assert many.token_usage.answer_tokens == one.token_usage.answer_tokens


def test_a_loaded_model_is_frozen_and_in_evaluation_mode(lm: CausalLM) -> None:
    assert not lm.model.training
    total, trainable = lm.count_parameters()
    assert trainable == 0
    assert total == sum(weight.numel() for weight in lm.model.parameters())


def test_what_prompts_share_is_read_once_and_answers_are_as_without(
    lively: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared = "Many words that stand before all of the questions. "
    lm, prompts = lively.load(), [shared + prompt for prompt in PROMPTS]
    together = lm.generate(prompts)
    assert lm.token_usage.prompt_tokens == sum(len(lm.tokens(prompt)) for prompt in prompts)
    widths: list[int] = []
    lm.model.register_forward_pre_hook(
        lambda module, args, given: widths.append(given["input_ids"].shape[1]), with_kwargs=True
    )
    assert lm.generate(prompts) == together
    assert widths[0] >= len(lm.tokens(shared)) and max(widths[1:]) < max(len(lm.tokens(prompt)) for prompt in prompts)
    monkeypatch.setattr("bench.modeling.prefix_cache.LEAST", 10_000)
    assert lively.load().generate(prompts) == together


@pytest.mark.parametrize(
    ("rows", "head"), [([[1, 2, 3]], []), ([[1, 2, 3], [1, 2]], [1]), ([[1, 2], [1, 2]], [1]), ([[3], [4]], []),
    ([[7, 7, 1], [7, 7, 2], [7, 7, 1, 5]], [7, 7]), ([[], [1]], [])],
)  # fmt: skip
def test_the_common_head_leaves_every_row_a_token(
    rows: list[list[int]], head: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prefix_cache, "LEAST", 1)
    assert prefix_cache.common_prefix(rows) == head


def test_a_sample_is_the_same_in_any_batch_and_another_in_each_draw(lively: Checkpoint) -> None:
    lm: Any = lively.load()
    prompts = [f"{'long ' * (place % 3)}question {place}" for place in range(6)]
    together = lm.answer(prompts, temperature=1.0, draw=1)
    assert [lm.answer([prompt], temperature=1.0, draw=1)[0] for prompt in prompts] == together
    assert lm.answer(prompts, temperature=1.0, draw=2) != together
    assert lm.answer(prompts, temperature=1e-6, draw=1) == lm.answer(prompts), "cold draws are greedy"


def test_tokens_are_drawn_as_often_as_they_are_likely() -> None:
    from bench.modeling.dice import GumbelSampler

    chances = torch.tensor([0.5, 0.3, 0.15, 0.05])
    ids = torch.arange(4000).unsqueeze(1)
    drawn = GumbelSampler(2.0, 0, -1)(ids, (2.0 * chances.log()).expand(4000, 4)).argmax(1)
    assert torch.allclose(drawn.bincount(minlength=4) / 4000, chances, atol=0.03)


def test_rows_are_answered_at_once_as_far_as_memory_is_to_be_spent_on_them(
    lively: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = lively.load().model
    lengths = sorted([3] * 300 + [40] * 50 + list(range(50, 250)))
    monkeypatch.setattr(memory_estimate, "ANSWERING", 2**21)
    parts = list(memory_estimate.length_batches(model, lengths))
    assert [place for part in parts for place in part] == list(range(len(lengths)))
    assert max(map(len, parts)) == memory_estimate.MOST and min(map(len, parts[:-1])) >= memory_estimate.FEWEST
    room = max(2**21, memory_estimate.model_bytes(model))
    for part in parts:
        assert (
            len(part) <= memory_estimate.FEWEST
            or memory_estimate.generation_bytes(model, len(part), lengths[part[-1]]) <= room
        )
    assert list(memory_estimate.length_batches(model, [])) == []
