"""The tokenizer: byte-pair encoding learnt from the corpus itself, falling back to bytes for all other characters."""

import json
from collections import Counter
from collections.abc import Sequence
from itertools import chain
from pathlib import Path

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

END, PAD = "<|end|>", "<|pad|>"
ALONE = [chr(value) for value in range(0x80)]  # characters that always have an entry of their own: ASCII
# A piece is one new line, one digit, one sign, or a run of letters; the last two take a space along.
PIECES = r"\n|\d| ?[\p{L}\p{M}]+| ?[^\s\p{L}\p{M}\d]|\s"


def learn(texts: Sequence[str], size: int, least: int) -> Tokenizer:
    """Learn `size` entries, among them every character that occurs `least` times; the others become bytes."""
    frequent = [letter for letter, count in Counter(chain.from_iterable(texts)).items() if count >= least]
    bytes_ = byte_entries()
    learner = Tokenizer(models.BPE())
    learner.pre_tokenizer = _pieces()
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=[END, PAD, *bytes_],
        initial_alphabet=ALONE,
        limit_alphabet=len({*ALONE, *frequent}),
        min_frequency=least,
        max_token_length=12,
        show_progress=False,
    )
    learner.train_from_iterator(texts, trainer)
    learnt = json.loads(learner.to_str())["model"]
    merges = [tuple(pair) for pair in learnt["merges"]]
    tokenizer = Tokenizer(models.BPE(vocab=learnt["vocab"], merges=merges, byte_fallback=True))
    tokenizer.pre_tokenizer = _pieces()
    tokenizer.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Fuse()])
    tokenizer.add_special_tokens([END, PAD])
    return tokenizer


def byte_entries() -> list[str]:
    """The byte values that occur in UTF-8 beside ASCII."""
    return [f"<0x{value:02X}>" for value in (*range(0x80, 0xC0), *range(0xC2, 0xF5))]


def save(tokenizer: Tokenizer, folder: Path, context: int) -> None:
    """Write the files that AutoTokenizer reads."""
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token=END,
        pad_token=PAD,
        model_max_length=context,
        clean_up_tokenization_spaces=False,
    ).save_pretrained(folder)


def _pieces() -> pre_tokenizers.PreTokenizer:
    return pre_tokenizers.Split(Regex(PIECES), behavior="isolated")
