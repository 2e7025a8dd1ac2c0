"""Batched generation that drops finished rows, and sampling independent of the batch."""

from __future__ import annotations

import copy
import zlib
from collections.abc import Callable, Collection, Sequence
from typing import Any

import torch
from transformers import (
    DynamicCache,
    GenerationConfig,
    LogitsProcessor,
    LogitsProcessorList,
    StoppingCriteria,
    StoppingCriteriaList,
)
from transformers.cache_utils import LinearAttentionLayer

from bench.modeling.constraint.token_mask import TokenMask

REPLACEMENT_CHARACTER = "\N{REPLACEMENT CHARACTER}"  # decoders write it for bytes that are no whole character
MIN_ROWS_TO_COMPACT = 8  # up to this batch size, dropping finished rows saves nothing


class GumbelSampler(LogitsProcessor):
    """Sample from the softmax: Gumbel noise on the scores makes greedy search draw tokens.

    The Gumbel-max trick (https://arxiv.org/abs/1411.0030). The noise is seeded with the tokens of the row so far and
    the sample index, so a sample is the same in any batch.

    Args:
        temperature: Divides the scores before the noise is added.
        sample_index: Number of the sample; another one gives other noise.
        pad_token_id: Padding, left out of the seed because its amount depends on the batch.
    """

    def __init__(self, temperature: float, sample_index: int, pad_token_id: int) -> None:
        self.temperature, self.sample_index, self.pad_token_id = temperature, sample_index, pad_token_id

    def __call__(self, input_ids: Any, scores: Any) -> Any:
        """Return the scores (rows, vocabulary) with noise."""
        noise = torch.stack([self._gumbel_noise(row, scores.shape[1]) for row in input_ids.cpu()])
        return scores / self.temperature + noise.to(scores)

    def _gumbel_noise(self, row: Any, vocabulary_size: int) -> Any:
        seed = zlib.crc32(row[row != self.pad_token_id].numpy().tobytes(), self.sample_index)
        return -torch.rand(vocabulary_size, generator=torch.Generator().manual_seed(seed)).log().neg().log()


class HalfFinished(StoppingCriteria):
    """Stop once at least half of the rows end with an end-of-sequence or padding token.

    A batch of at most `MIN_ROWS_TO_COMPACT` rows is never stopped.
    """

    def __init__(self, final_token_ids: Collection[int]) -> None:
        self.final_token_ids = final_token_ids

    def __call__(self, input_ids: Any, scores: Any, **kwargs: Any) -> Any:
        """Return a flag per row: stop all rows or none."""
        finished = torch.isin(input_ids[:, -1], torch.tensor(list(self.final_token_ids), device=input_ids.device))
        stop = len(finished) > MIN_ROWS_TO_COMPACT and 2 * int(finished.sum()) >= len(finished)
        return torch.full_like(finished, stop)


class FinishedText(StoppingCriteria):
    """Stop a row whose new tokens are a finished answer, judged by their text.

    A row is decoded only after a token that may end a stop text: decoded alone, it contains the last character of one,
    or it is no whole character. So no table of the vocabulary is needed, and a stop text may be anything, even a text
    that the vocabulary cannot spell.

    Args:
        is_finished: Tells by the new tokens of a row if it is finished.
        final_token_ids: Tokens that end a row or fill it afterwards, so a row that ends with one needs no decoding.
        decode: Returns the text of token ids.
        stop_texts: Texts that end an answer.
        prompt_length: Tokens before the new ones.
        may_stop: Tokens decoded so far, by id: True if a token may end a stop text. It is completed here, and kept by
            the caller, so that a token is decoded once and not in every batch.
    """

    def __init__(
        self,
        is_finished: Callable[[list[int]], bool],
        final_token_ids: Collection[int],
        decode: Callable[[list[int]], str],
        stop_texts: Sequence[str],
        prompt_length: int,
        may_stop: dict[int, bool],
    ) -> None:
        self.is_finished, self.final_token_ids = is_finished, final_token_ids
        self.decode, self.prompt_length = decode, prompt_length
        self.last_characters = {stop[-1] for stop in stop_texts}
        self.may_stop = may_stop

    def __call__(self, input_ids: Any, scores: Any, **kwargs: Any) -> Any:
        """Return a flag per row: True if it is finished."""
        flags = [
            token in self.final_token_ids
            or (self._may_end_stop_text(token) and self.is_finished(input_ids[row, self.prompt_length :].tolist()))
            for row, token in enumerate(input_ids[:, -1].tolist())
        ]
        return torch.tensor(flags, device=input_ids.device)

    def _may_end_stop_text(self, token: int) -> bool:
        if not self.last_characters:
            return False
        if token not in self.may_stop:
            text = self.decode([token])
            characters = {*text} & self.last_characters
            # Decoders strip a space at the beginning of a text.
            is_whole = bool(text) and REPLACEMENT_CHARACTER not in text and " " not in self.last_characters
            self.may_stop[token] = bool(characters) or not is_whole
        return self.may_stop[token]


def generate_dropping_finished(
    model: Any,
    input_ids: Any,
    attention_mask: Any,
    past_key_values: Any,
    stop_at: FinishedText,
    final_token_ids: Collection[int],
    *,
    generation_config: GenerationConfig,
    mask: TokenMask | None = None,
    samplers: Sequence[GumbelSampler] = (),
) -> list[list[int]]:
    """Generate like `model.generate`, but stop computing rows that are finished.

    Whenever half of the rows are finished, the others go on as a smaller batch with their part of the cache.

    Args:
        model: A model of transformers with `generate`.
        input_ids: Token ids (rows, tokens), padded on the left.
        attention_mask: Mask (rows, tokens), 0 on padding.
        past_key_values: Cache of the first tokens, or None.
        stop_at: Tells by the text of a row if it is finished.
        final_token_ids: Tokens that end a row or fill it afterwards.
        generation_config: Settings; `max_new_tokens` counts from the end of `input_ids`.
        mask: Excludes tokens by row; None to allow all.
        samplers: Draw tokens; none for greedy search.

    Returns:
        The new tokens of each row, in the order of `input_ids`.
    """
    prompt_length, max_new_tokens = input_ids.shape[1], generation_config.max_new_tokens
    config = copy.copy(generation_config)
    config.return_dict_in_generate = True
    batch_rows = list(range(len(input_ids)))  # index in the result of each row that is still generated
    new_tokens = [list[int]()] * len(input_ids)
    while True:
        config.max_new_tokens = max_new_tokens - (input_ids.shape[1] - prompt_length)
        output = model.generate(
            input_ids=input_ids,
            attention_mask=attention_mask,
            past_key_values=past_key_values,
            generation_config=config,
            stopping_criteria=StoppingCriteriaList([stop_at, HalfFinished(final_token_ids)]),
            logits_processor=LogitsProcessorList([*([mask] if mask else []), *samplers]),
        )
        for row, tokens in zip(batch_rows, output.sequences[:, prompt_length:].tolist(), strict=True):
            new_tokens[row] = tokens
        unfinished = [index for index, row in enumerate(batch_rows) if not stop_at.is_finished(new_tokens[row])]
        if not unfinished or output.sequences.shape[1] - prompt_length == max_new_tokens:
            return new_tokens
        batch_rows = [batch_rows[index] for index in unfinished]
        if mask is not None:
            mask.keep_rows(unfinished)
        kept = torch.tensor(unfinished, device=input_ids.device)
        input_ids, attention_mask, past_key_values = _select_rows(output, attention_mask, kept)


def _select_rows(output: Any, attention_mask: Any, rows: Any) -> tuple[Any, Any, Any]:
    """Return token ids, attention mask and cache of some rows of a generated batch.

    Args:
        output: Result of `model.generate` as a dictionary.
        attention_mask: Mask of the tokens before that call.
        rows: Indices of the rows.
    """
    generated = output.sequences.shape[1] - attention_mask.shape[1]
    ones = attention_mask.new_ones(len(attention_mask), generated)
    attention_mask = torch.cat([attention_mask, ones], dim=1)[rows]
    cache = getattr(output, "past_key_values", None)
    if type(cache) is DynamicCache and not any(isinstance(layer, LinearAttentionLayer) for layer in cache.layers):
        cache.batch_select_indices(rows)
    else:  # rows cannot be selected from other kinds of cache, so the tokens are read again
        cache = None
    return output.sequences[rows], attention_mask, cache
