"""Losses and log-likelihoods of a causal language model, and labels chosen by them.

All functions take the loaded model; prompts and completions are encoded as for generation. Losses and log-likelihoods
are in nats.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Any

import torch
from torch.nn.functional import cross_entropy

from bench.measurement import memory_estimate, memory_limit
from bench.modeling import prefix_cache
from bench.modeling.loaded_model import in_chunks

if TYPE_CHECKING:
    from bench.modeling.causal_lm import CausalLM
    from bench.modeling.prefix_cache import SharedPrefix

EVALUATION_BATCH_SIZE = 16
IGNORE_INDEX = -100  # label of a token that is left out of the loss


def loss(lm: CausalLM, pairs: Sequence[tuple[list[int], list[int]]]) -> Any:
    """Return the mean loss over the completion tokens of encoded pairs, with gradient."""
    input_ids, attention_mask = lm.pad([prompt + completion for prompt, completion in pairs], left=False)
    labels = torch.full_like(input_ids, IGNORE_INDEX)
    for row, (prompt, completion) in enumerate(pairs):
        labels[row, len(prompt) : len(prompt) + len(completion)] = torch.tensor(completion)
    return summed_loss(lm, input_ids, attention_mask, labels)


def summed_loss(lm: CausalLM, input_ids: Any, attention_mask: Any, labels: Any, count: Any = None) -> Any:
    """Return a padded batch's summed loss divided by `count`, with gradient.

    Args:
        lm: The model.
        input_ids: Token ids (rows, tokens).
        attention_mask: Mask (rows, tokens), 0 on padding.
        labels: Token ids (rows, tokens) to be predicted; `IGNORE_INDEX` where a token is left out.
        count: Divisor; None for the number of labels, which gives their mean loss.
    """
    label_positions = (labels != IGNORE_INDEX).any(0).nonzero()
    first = max(int(label_positions[0]) - 1, 0)
    token_logits = logits(lm, input_ids, attention_mask, first)[:, :-1].float()
    targets = labels[:, first + 1 :]
    total = cross_entropy(token_logits.flatten(0, 1), targets.flatten(), ignore_index=IGNORE_INDEX, reduction="sum")
    return total / ((targets != IGNORE_INDEX).sum() if count is None else count)


def evaluate_loss(lm: CausalLM, pairs: Sequence[tuple[list[int], list[int]]]) -> tuple[float, float]:
    """Return mean loss and accuracy per completion token of encoded pairs, in evaluation mode."""
    was_training = lm.model.training
    lm.model.eval()
    losses: list[tuple[float, float, int]] = []
    by_length = sorted(pairs, key=lambda pair: len(pair[0]) + len(pair[1]))
    with torch.inference_mode():
        for batch in in_chunks(by_length, EVALUATION_BATCH_SIZE):
            losses += memory_limit.run_halving_on_oom(lambda rows: completion_losses(lm, rows), batch)
    lm.model.train(was_training)
    total_loss, correct, tokens = map(sum, zip(*losses, strict=True))
    return total_loss / tokens, correct / tokens


def completion_losses(lm: CausalLM, pairs: Sequence[tuple[list[int], list[int]]]) -> list[tuple[float, float, int]]:
    """Return summed loss, correctly predicted tokens and number of tokens of each completion."""
    input_ids, attention_mask = lm.pad([prompt + completion for prompt, completion in pairs], left=False)
    first = min(len(prompt) for prompt, _ in pairs) - 1
    batch_logits = logits(lm, input_ids, attention_mask, first)
    results = []
    for row, (prompt, completion) in enumerate(pairs):
        begin = len(prompt) - 1 - first
        token_logits = batch_logits[row, begin : begin + len(completion)].float()
        targets = input_ids[row, len(prompt) : len(prompt) + len(completion)]
        summed = float(cross_entropy(token_logits, targets, reduction="sum"))
        correct = float((token_logits.argmax(-1) == targets).sum())
        results.append((summed, correct, len(completion)))
    return results


def logits(lm: CausalLM, input_ids: Any, attention_mask: Any, first: int) -> Any:
    """Return the logits (rows, positions from `first` on, vocabulary).

    Models that take `logits_to_keep` do not compute the others. Positions are counted from the end, because prompt
    tuning puts virtual tokens before the first one.
    """
    kept = input_ids.shape[1] - first
    kwargs = {"logits_to_keep": kept} if lm.accepts_logits_to_keep else {}
    output = lm.model(input_ids=input_ids, attention_mask=attention_mask, use_cache=False, **kwargs)
    return output.logits[:, -kept:]


def loglikelihood(lm: CausalLM, prompt: str, completions: Sequence[str]) -> list[float]:
    """Return each completion's mean log-likelihood per token, without its end token."""
    prompt_ids, completion_ids = _encode_choices(lm, prompt, completions)
    return _mean_loglikelihoods(lm, [(prompt_ids, completion_ids)], lm.read_prefix([prompt_ids]))[0]


def loglikelihoods(lm: CausalLM, prompts: Sequence[str], completions: Sequence[str]) -> list[list[float]]:
    """Return `loglikelihood` of the same completions for each prompt; no usage is counted."""
    return _score_queries(lm, [_encode_choices(lm, prompt, completions) for prompt in prompts])


def choose_label(
    lm: CausalLM, prompts: Sequence[str], completions: Sequence[str], prior: Sequence[float] = ()
) -> list[int]:
    """Return the index of the most likely completion of each prompt.

    Token usage is counted as if the chosen completion had been generated.

    Args:
        lm: The model.
        prompts: The prompts.
        completions: The same completions for every prompt.
        prior: Mean log-likelihood of each completion without a question, which is subtracted; none if empty.
    """
    queries = [_encode_choices(lm, prompt, completions, count_truncated=True) for prompt in prompts]
    nats = _score_queries(lm, queries)
    chosen = [int((torch.tensor(row_nats) - torch.tensor(prior or [0.0])).argmax()) for row_nats in nats]
    usage = lm.token_usage
    for (prompt_ids, completion_ids), choice in zip(queries, chosen, strict=True):
        usage.prompt_tokens += len(prompt_ids)
        usage.longest_prompt_tokens = max(usage.longest_prompt_tokens, len(prompt_ids))
        usage.answer_tokens += len(completion_ids[choice])
    return chosen


def _score_queries(lm: CausalLM, queries: Sequence[tuple[list[int], list[list[int]]]]) -> list[list[float]]:
    """Return the mean log-likelihoods of the completions of each prompt, read in batches."""
    order = sorted(range(len(queries)), key=lambda index: len(queries[index][0]))
    prefix, scores = lm.read_prefix([prompt_ids for prompt_ids, _ in queries]), [list[float]()] * len(queries)
    max_rows = _max_questions(lm, queries, len(prefix.ids) if prefix and prefix.separate else 0)
    for _, same_length in groupby(order, key=lambda index: len(queries[index][0])):
        for indices in in_chunks(list(same_length), max_rows):
            batch = [queries[index] for index in indices]
            nats = memory_limit.run_halving_on_oom(lambda rows: _mean_loglikelihoods(lm, rows, prefix), batch)
            for index, row_nats in zip(indices, nats, strict=True):
                scores[index] = row_nats
    return scores


def _max_questions(lm: CausalLM, queries: Sequence[tuple[list[int], list[list[int]]]], prefix_tokens: int) -> int:
    """Return the number of questions to read at once, whose completions are scored together.

    Args:
        lm: The model.
        queries: Token ids of each prompt and of its completions.
        prefix_tokens: Tokens of a shared prefix that is stored once.
    """
    longest_prompt = max((len(prompt_ids) for prompt_ids, _ in queries), default=0)
    scored_tokens = max((len(ids) for _, choices in queries for ids in choices), default=1)
    length = longest_prompt - prefix_tokens + max(scored_tokens, lm.max_new_tokens)
    max_rows = memory_estimate.max_batch_rows(
        lm.model, length, prefix_tokens=prefix_tokens, scored_tokens=scored_tokens
    )
    return max(max_rows // max((len(choices) for _, choices in queries), default=1), 1)


def _encode_choices(
    lm: CausalLM, prompt: str, completions: Sequence[str], *, count_truncated: bool = False
) -> tuple[list[int], list[list[int]]]:
    """Return token ids of a prompt, truncated to fit any completion, and of each completion."""
    completion_ids = [lm.completion_tokens(prompt, completion) for completion in completions]
    reserved = max(lm.max_new_tokens, *map(len, completion_ids))
    return lm.truncate_prompt(lm.tokens(prompt), reserved, count=count_truncated), completion_ids


def _mean_loglikelihoods(
    lm: CausalLM, batch: Sequence[tuple[list[int], list[list[int]]]], prefix: SharedPrefix | None
) -> list[list[float]]:
    """Return the mean log-likelihood per token of each completion of each prompt.

    All prompts must have the same length.
    """
    if not lm.fast_paths.cached_labels:
        return _mean_loglikelihoods_without_cache(lm, batch)
    token_logits, completion_ids, mask = choice_logits(lm, batch, prefix)
    nats = token_logits.float().log_softmax(-1).gather(-1, completion_ids.unsqueeze(-1)).squeeze(-1)
    means = (nats * mask).sum(1) / mask.sum(1)
    results: list[list[float]] = means.view(len(batch), -1).tolist()
    return results


def choice_logits(
    lm: CausalLM, batch: Sequence[tuple[list[int], list[list[int]]]], prefix: SharedPrefix | None
) -> tuple[Any, Any, Any]:
    """Return the logits that predict the completions of prompts of the same length.

    Each prompt is read once, and its cache serves all its completions.

    Returns:
        Logits (rows, tokens, vocabulary), token ids (rows, tokens), and a mask (rows, tokens) that is 0 on padding.
        There is a row for each completion of each prompt.
    """
    prefix_length = len(prefix.ids) if prefix else 0
    prompt_ids, _ = lm.pad([prompt[prefix_length:] for prompt, _ in batch], left=False)
    completion_ids, mask = lm.pad([ids for _, choices in batch for ids in choices], left=False)
    choices_per_prompt = len(completion_ids) // len(batch)
    kwargs = {"logits_to_keep": 1} if lm.accepts_logits_to_keep else {}
    model = lm.model_after_prefix
    lm.model.eval()
    with torch.inference_mode(), prefix_cache.prefix_attention(model):
        cache = prefix.new_cache() if prefix else None
        output = model(input_ids=prompt_ids, past_key_values=cache, use_cache=True, **kwargs)
        cache = output.past_key_values
        prompt_mask = mask.new_ones(len(completion_ids), cache.get_seq_length())
        cache.batch_repeat_interleave(choices_per_prompt)
        completion_logits = model(
            input_ids=completion_ids, attention_mask=torch.cat([prompt_mask, mask], dim=1), past_key_values=cache
        ).logits
        # The first token of a completion is predicted at the last token of the prompt.
        first_logits = output.logits[:, -1:].repeat_interleave(choices_per_prompt, dim=0)
        return torch.cat([first_logits, completion_logits[:, :-1]], dim=1), completion_ids, mask


def _mean_loglikelihoods_without_cache(
    lm: CausalLM, batch: Sequence[tuple[list[int], list[list[int]]]]
) -> list[list[float]]:
    """Return the mean log-likelihoods, reading each prompt again for each of its completions."""
    lm.model.eval()
    results = []
    with torch.inference_mode():
        for prompt_ids, choices in batch:
            losses = completion_losses(lm, [(prompt_ids, completion_ids) for completion_ids in choices])
            results.append([-nats / tokens for nats, _, tokens in losses])
    return results
