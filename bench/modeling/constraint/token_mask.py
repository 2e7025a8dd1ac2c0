"""Masks of the tokens after which the rows of a batch can still match a constraint."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from transformers import LogitsProcessor

from bench.method import Unsupported
from bench.modeling.constraint import grammar as grammars
from bench.records import AnswerConstraint

if TYPE_CHECKING:
    from llguidance import LLMatcher


class TokenConstraint:
    """The constraint on answers, compiled for the tokenizer of a model.

    Args:
        tokenizer: Tokenizer of transformers.
        eos_token_ids: Tokens that end an answer.
        constraint: What answers have to match.
        stop_texts: Texts that end an answer.

    Raises:
        UserError: llguidance is not installed.
        Unsupported: llguidance cannot use the tokenizer.
    """

    def __init__(
        self, tokenizer: Any, eos_token_ids: Sequence[int], constraint: AnswerConstraint, stop_texts: Sequence[str]
    ) -> None:
        grammars.require_library()
        import llguidance.hf

        try:
            self._tokenizer = llguidance.hf.from_tokenizer(tokenizer, eos_token=list(eos_token_ids))
        except ValueError as error:
            raise Unsupported(f"answers cannot be constrained with this tokenizer: {error}") from None
        self._grammars = {
            with_rationale: grammars.write_grammar(constraint, stop_texts, with_rationale=with_rationale)
            for with_rationale in (False, True)
        }
        self._matchers: dict[bool, LLMatcher] = {}

    def new_mask(
        self, num_rows: int, prompt_length: int, final_token_ids: Collection[int], *, with_rationale: bool
    ) -> TokenMask:
        """Return the mask for a batch whose rows have no new tokens yet.

        Args:
            num_rows: Rows of the batch.
            prompt_length: Tokens before the new ones.
            final_token_ids: Tokens that end a row or fill it afterwards.
            with_rationale: Reasoning steps come before the answer.
        """
        from llguidance import LLMatcher

        if with_rationale not in self._matchers:
            matcher = LLMatcher(self._tokenizer, self._grammars[with_rationale], log_level=0)
            _check(matcher)
            self._matchers[with_rationale] = matcher
        first = self._matchers[with_rationale]
        matchers = [first.deep_copy() for _ in range(num_rows)]
        return TokenMask(matchers, self._tokenizer.vocab_size, prompt_length, final_token_ids)


class TokenMask(LogitsProcessor):
    """Exclude the tokens after which a row could not match any more.

    Args:
        matchers: State of each row.
        vocab_size: Tokens of the tokenizer; those that only the model has are excluded.
        prompt_length: Tokens before the new ones.
        final_token_ids: Tokens that end a row or fill it afterwards.
    """

    def __init__(
        self, matchers: Sequence[LLMatcher], vocab_size: int, prompt_length: int, final_token_ids: Collection[int]
    ) -> None:
        self.matchers, self.vocab_size, self.final_token_ids = list(matchers), vocab_size, final_token_ids
        self._lengths = [prompt_length] * len(self.matchers)

    def __call__(self, input_ids: Any, scores: Any) -> Any:
        """Return the scores (rows, vocabulary) with minus infinity for excluded tokens."""
        from llguidance.numpy import allocate_token_bitmask, fill_next_token_bitmask

        masks = allocate_token_bitmask(len(scores), self.vocab_size)
        for row, matcher in enumerate(self.matchers):
            new_tokens = input_ids[row, self._lengths[row] :].tolist()
            self._lengths[row] += len(new_tokens)
            if new_tokens and new_tokens[-1] in self.final_token_ids:
                continue  # the row is finished, and what follows is padding
            matcher.consume_tokens(new_tokens)
            fill_next_token_bitmask(matcher, masks, row)
            _check(matcher)  # after an error a matcher allows the end token, whatever the answer
            if not masks[row].any():
                raise Unsupported("the vocabulary of the model cannot spell what answers have to match")
        allowed = np.zeros(scores.shape, dtype=bool)
        width = min(self.vocab_size, scores.shape[1])
        allowed[:, :width] = np.unpackbits(masks.view(np.uint8), axis=1, count=width, bitorder="little")
        return scores.masked_fill(torch.from_numpy(~allowed).to(scores.device), -torch.inf)

    def keep_rows(self, rows: Sequence[int]) -> None:
        """Keep the state of some rows only, in their order."""
        self.matchers = [self.matchers[row] for row in rows]
        self._lengths = [self._lengths[row] for row in rows]


def _check(matcher: LLMatcher) -> None:
    """Raise `Unsupported` if a matcher has an error, such as too complex a grammar."""
    if matcher.is_error():
        reason = matcher.get_error().partition("\n")[0]
        raise Unsupported(f"llguidance cannot follow what answers have to match: {reason}")
