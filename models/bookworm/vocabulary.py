"""The tokenizer: byte-pair encoding trained on the corpus, with byte fallback."""

import json
from collections import Counter
from collections.abc import Sequence
from itertools import chain
from pathlib import Path

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

END, PAD = "<|end|>", "<|pad|>"
INITIAL_ALPHABET = [chr(value) for value in range(0x80)]  # ASCII is always in the vocabulary
# A pre-token is a line break, a digit, another character, or a run of letters; the last two include a space before.
PRE_TOKEN_PATTERN = r"\n|\d| ?[\p{L}\p{M}]+| ?[^\s\p{L}\p{M}\d]|\s"


def train_bpe(texts: Sequence[str], vocab_size: int, min_frequency: int) -> Tokenizer:
    """Train byte-pair encoding.

    Args:
        texts: The training text.
        vocab_size: Number of entries, with every character that occurs `min_frequency` times among them.
        min_frequency: Rarer characters are encoded as bytes, and rarer pairs are not merged.
    """
    frequent = [character for character, count in Counter(chain.from_iterable(texts)).items() if count >= min_frequency]
    byte_tokens = byte_entries()
    trained = Tokenizer(models.BPE())
    trained.pre_tokenizer = _pre_tokenizer()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[END, PAD, *byte_tokens],
        initial_alphabet=INITIAL_ALPHABET,
        limit_alphabet=len({*INITIAL_ALPHABET, *frequent}),
        min_frequency=min_frequency,
        max_token_length=12,
        show_progress=False,
    )
    trained.train_from_iterator(texts, trainer)
    model = json.loads(trained.to_str())["model"]
    merges = [tuple(pair) for pair in model["merges"]]
    tokenizer = Tokenizer(models.BPE(vocab=model["vocab"], merges=merges, byte_fallback=True))
    tokenizer.pre_tokenizer = _pre_tokenizer()
    tokenizer.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Fuse()])
    tokenizer.add_special_tokens([END, PAD])
    return tokenizer


def byte_entries() -> list[str]:
    """Return the entries of all byte values that occur in UTF-8 text outside of ASCII."""
    return [f"<0x{value:02X}>" for value in (*range(0x80, 0xC0), *range(0xC2, 0xF5))]


def save_tokenizer(tokenizer: Tokenizer, folder: Path, context: int) -> None:
    """Write the files that `AutoTokenizer` reads; `context` is the maximum number of tokens."""
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token=END,
        pad_token=PAD,
        model_max_length=context,
        clean_up_tokenization_spaces=False,
    ).save_pretrained(folder)


def _pre_tokenizer() -> pre_tokenizers.PreTokenizer:
    return pre_tokenizers.Split(Regex(PRE_TOKEN_PATTERN), behavior="isolated")
