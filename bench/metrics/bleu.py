"""Counts of BLEU: what one answer adds to the score of all answers."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache
from typing import Any

from bench.metrics.short_answers import CHARACTER_SCRIPTS, compose_text

_CHARACTER = re.compile(f"[{CHARACTER_SCRIPTS}]")


def count_ngrams(answer: str, references: Sequence[str]) -> list[int]:
    """Return what one answer adds to the BLEU of all answers, as sacrebleu counts it.

    The tokens are those of sacrebleu's tokenizer `intl`, which knows the punctuation and the symbols of all scripts,
    and single characters in scripts such as Hangul or Chinese. Korean words carry particles, so that hardly two of them
    are equal, and no four in a row; morphemes would need a dictionary (`ko-mecab`).

    Args:
        answer: The answer.
        references: One or more right answers. Matches are counted in all of them together, and the closest length is
            taken.

    Returns:
        Length of the answer and of the reference in tokens, then the matched n-grams of one to four tokens, then all
        n-grams of the answer.
    """
    score = _scorer().corpus_score([_space_characters(answer)], [[_space_characters(text)] for text in references])
    return [score.sys_len, score.ref_len, *score.counts, *score.totals]


def _space_characters(text: str) -> str:
    """Return a text with spaces around each character of scripts such as Hangul."""
    return _CHARACTER.sub(r" \g<0> ", compose_text(text))


@cache
def _scorer() -> Any:
    from sacrebleu.metrics.bleu import BLEU

    return BLEU(tokenize="intl", force=True)
