"""Decoding a batch that gets smaller: rows that have ended are not computed on until the last of them ends."""

from __future__ import annotations

import copy
from collections.abc import Callable, Collection
from typing import Any

import torch
from transformers import DynamicCache, StoppingCriteria, StoppingCriteriaList

FEWEST = 8  # rows, of which it does not pay to leave some out


class HalfFinished(StoppingCriteria):
    """Stops where at least half of the rows have ended: they show an end token, or the padding behind one."""

    def __init__(self, over: Collection[int]) -> None:
        self.over = over

    def __call__(self, input_ids: Any, scores: Any, **named: Any) -> Any:
        """For each row whether to stop: all of them, or none."""
        ended = torch.isin(input_ids[:, -1], torch.tensor(list(self.over), device=input_ids.device))
        return torch.full_like(ended, len(ended) > FEWEST and 2 * int(ended.sum()) >= len(ended))


def generate(
    model: Any,
    ids: Any,
    mask: Any,
    cache: Any,
    ended: Callable[[list[int]], bool],
    over: Collection[int],
    *,
    generation_config: Any,
    **how: Any,
) -> list[list[int]]:
    """The tokens that follow each row of `ids` (rows, tokens), as `model.generate` gives them with `how`.

    `over` are the tokens that end a row or fill it up afterwards; `ended` says it of what a row has so far. Whenever
    half of the rows have ended the others go on by themselves, with their part of the `cache`.
    """
    begin, most, settings = ids.shape[1], generation_config.max_new_tokens, copy.copy(generation_config)
    settings.return_dict_in_generate = True
    places, found = list(range(len(ids))), [list[int]()] * len(ids)
    while True:
        settings.max_new_tokens = most - (ids.shape[1] - begin)
        done = model.generate(
            input_ids=ids,
            attention_mask=mask,
            past_key_values=cache,
            generation_config=settings,
            stopping_criteria=StoppingCriteriaList([HalfFinished(over)]),
            **how,
        )
        for place, tokens in zip(places, done.sequences[:, begin:].tolist(), strict=True):
            found[place] = tokens
        left = [row for row, place in enumerate(places) if not ended(found[place])]
        if not left or done.sequences.shape[1] - begin == most:
            break
        rows, grown = torch.tensor(left, device=ids.device), done.sequences.shape[1] - ids.shape[1]
        ids, mask = done.sequences[rows], torch.cat([mask, mask.new_ones(len(mask), grown)], dim=1)[rows]
        places, cache = [places[row] for row in left], getattr(done, "past_key_values", None)
        if isinstance(cache, DynamicCache):
            cache.batch_select_indices(rows)
        else:  # of another kind of state no part can be taken: what has been written is read again
            cache = None
    return found
