"""Probe of a decoder: which fast ways of reading give the logits of plain reading.

Plain reading is one forward pass over one row, without padding and without a cache. Batches with padding, a prompt
prefix that is computed once, and labels that continue a cached prompt are faster, and right for most decoders. They are
wrong for some: recurrent layers may read padding, other layers may count the slots of the cache instead of the
positions, and some caches cannot be copied. So every decoder reads some short rows in each way before it is used.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any

import torch
from transformers import LogitsProcessor, LogitsProcessorList

from bench.measurement import memory_limit
from bench.method import Unsupported
from bench.modeling import prefix_cache, scoring

if TYPE_CHECKING:
    from bench.modeling.causal_lm import CausalLM
    from bench.modeling.prefix_cache import SharedPrefix

TEXT_TOKENS = 40
TAIL_TOKENS = 8  # of the text, after the longer prompt
LENGTH_DIFFERENCE = 5  # of the two prompts of a batch
NEW_TOKENS = 2  # the first is predicted from the prompt, the second from the cache
# Allowed difference of two logits, as a share of the spread of all logits; by dtype, with a default for the others.
TOLERANCE = {torch.float32: 1e-4}
DEFAULT_TOLERANCE = 0.05


@dataclass(frozen=True)
class FastPaths:
    """Fast ways of reading that a decoder may use; where one is False, the plain way is taken."""

    padding: bool
    """Prompts of different lengths may be generated from in one batch, padded on the left."""
    batches: bool
    """Prompts of the same length may be generated from in one batch."""
    cache: bool
    """Generation may keep a cache, so that a new token does not read the row again."""
    cached_labels: bool
    """Labels may continue the cache of their prompt."""
    shared_prefix: bool
    """A prefix that all prompts share may be read once."""
    separate_prefix: bool
    """Attention may read the shared prefix from one row, where the device has a function for it."""

    @property
    def unused(self) -> tuple[str, ...]:
        """Names of the fast paths that change the logits of the model and are not used.

        A prefix that is copied to every row is still shared.
        """
        names = [field.name for field in fields(self) if field.name != "separate_prefix"]
        return tuple(name for name in names if not getattr(self, name))


class _ForcedTokens(LogitsProcessor):
    """Let each row continue with given tokens.

    Args:
        continuations: Token ids of each row.
        prompt_length: Tokens before the continuation.
    """

    def __init__(self, continuations: Sequence[Sequence[int]], prompt_length: int) -> None:
        self.continuations, self.prompt_length = torch.tensor(continuations), prompt_length

    def __call__(self, input_ids: Any, scores: Any) -> Any:
        """Return scores whose maximum is the next given token."""
        tokens = self.continuations[:, input_ids.shape[1] - self.prompt_length].to(scores.device)
        return torch.full_like(scores, -1.0).scatter(1, tokens.unsqueeze(1), 1.0)


def probe_fast_paths(lm: CausalLM) -> FastPaths:
    """Read short rows in every way and compare the logits with those of plain reading.

    The rows have 40 tokens, so a window of attention that is longer shows no effect here; `prefix_cache` compares
    windows with the real rows. The weights must be those of a model, because random ones may hide an effect.

    Args:
        lm: The model, with its weights.

    Raises:
        Unsupported: Tokens attend to later ones, padding on the right changes tokens before it, or `generate` of
            transformers predicts something else than a forward pass.
    """
    probe = _Probe(lm)
    probe.check_causality()
    padding = probe.predicts_as_plain(lambda: probe.generate(probe.lengths))
    batches = padding or probe.generates_batches()
    cache = batches or probe.predicts_as_plain(lambda: probe.generate(probe.lengths[:1]))
    if not cache and not probe.are_plain(probe.generate(probe.lengths[:1], use_cache=False)):
        raise Unsupported(
            "the model generates with other logits than those of a forward pass over the same tokens, so it would not "
            "answer as it was trained"
        )
    cached_labels = probe.predicts_as_plain(lambda: probe.score_labels(None))
    separate = padding and cached_labels and probe.can_share_prefix(separate=True)
    shared = separate or (padding and cached_labels and probe.can_share_prefix(separate=False))
    return FastPaths(padding, batches, cache, cached_labels, shared, separate)


class _Probe:
    """A text of ordinary tokens, and its logits by plain reading.

    Args:
        lm: The model.
        text: Token ids; None for some that differ.
    """

    def __init__(self, lm: CausalLM, text: list[int] | None = None) -> None:
        self.lm, self.model = lm, lm.model_after_prefix
        lm.model.eval()
        num_tokens = min(TEXT_TOKENS, lm.context)
        self.text = text or _ordinary_tokens(lm, num_tokens)
        prompt_length = max(num_tokens - TAIL_TOKENS, num_tokens // 2)
        self.lengths = prompt_length, max(prompt_length - LENGTH_DIFFERENCE, 1)
        self.logits = self._forward([self.text])[0]
        spread = float(self.logits.max() - self.logits.min())
        self.tolerance = TOLERANCE.get(self.model.dtype, DEFAULT_TOLERANCE) * spread

    def check_causality(self) -> None:
        """Raise `Unsupported` if later tokens or padding on the right change a prediction."""
        if not bool(self.logits.isfinite().all()):
            dtype = str(self.model.dtype).removeprefix("torch.")
            raise Unsupported(f"the logits of the model are NaN or infinite in {dtype}; check its weights, or --dtype")
        length = self.lengths[0]
        head, other_tail, expected = self.text[:length], self.text[: length - 1 : -1], self.logits[:length]
        if self._are_close(self._forward([self.text, head])[1, :length], expected):
            return
        reason = "padding after a text changes its predictions"
        if not self._are_close(self._forward([head + other_tail])[0, :length], expected):
            reason = "its tokens attend to later tokens, so training on a text would show it the answer"
        raise Unsupported(f"the model does not read from left to right: {reason}")

    def predicts_as_plain(self, predict: Callable[[], list[tuple[int, Any]]]) -> bool:
        """Return True if predictions equal those of plain reading.

        Args:
            predict: Returns positions in the text and the logits (vocabulary) of the token after each. An exception
                counts as a difference, unless the memory was exhausted.
        """
        try:
            predictions = predict()
        except Exception as error:  # caches of some models lack methods or have other shapes: any type may be raised
            if memory_limit.is_out_of_memory(error):
                raise
            return False
        return self.are_plain(predictions)

    def are_plain(self, predictions: list[tuple[int, Any]]) -> bool:
        """Tell if predictions (position in the text, logits) equal those of plain reading."""
        return all(self._are_close(logits, self.logits[position]) for position, logits in predictions)

    def generates_batches(self) -> bool:
        """Tell if a batch of different prompts of the same length is predicted as plain."""
        other = _Probe(self.lm, self.text[::-1])
        length = self.lengths[0]
        rows = [self.text[:length], other.text[:length]]
        continuations = [self.text[length:], other.text[length:]]

        def predict(row: int) -> list[tuple[int, Any]]:
            steps = enumerate(self._generate_steps(rows, continuations))
            return [(length - 1 + step, logits[row]) for step, logits in steps]

        return self.predicts_as_plain(lambda: predict(0)) and other.predicts_as_plain(lambda: predict(1))

    def can_share_prefix(self, *, separate: bool) -> bool:
        """Tell if prompts and labels after a shared prefix are predicted as by plain reading.

        Args:
            separate: Attention reads the prefix from one row; if False, every row gets a copy.
        """

        def predict() -> list[tuple[int, Any]]:
            length = min(prefix_cache.MIN_SHARED_PREFIX_TOKENS, self.lengths[1] - 1)
            prefix = prefix_cache.read_prefix(self.model, self.text[:length], 0, self.text[0], TEXT_TOKENS)
            if prefix is None or (separate and not prefix.separate):
                raise Unsupported("the cache of a prefix cannot be shared in this way")
            prefix = replace(prefix, separate=separate)
            return self.generate(self.lengths, prefix) + self.score_labels(prefix)

        return self.predicts_as_plain(predict)

    def generate(
        self, lengths: Sequence[int], prefix: SharedPrefix | None = None, use_cache: bool = True
    ) -> list[tuple[int, Any]]:
        """Generate the text from its beginnings of some lengths, in one batch.

        Returns:
            The position of each predicted token's predecessor, and the logits (vocabulary).
        """
        rows, continuations = zip(*((self.text[:length], self.text[length:]) for length in lengths), strict=True)
        return [
            (length - 1 + step, logits[row])
            for step, logits in enumerate(self._generate_steps(rows, continuations, prefix, use_cache))
            for row, length in enumerate(lengths)
        ]

    def _generate_steps(
        self,
        rows: Sequence[list[int]],
        continuations: Sequence[list[int]],
        prefix: SharedPrefix | None = None,
        use_cache: bool = True,
    ) -> list[Any]:
        """Return the logits (rows, vocabulary) of each step of generating given continuations."""
        input_ids, attention_mask = self.lm.lay_out(rows, prefix)
        config = copy.copy(self.lm.generation_config)
        config.max_new_tokens, config.use_cache = NEW_TOKENS, use_cache
        config.do_sample, config.num_beams = False, 1
        config.return_dict_in_generate = config.output_logits = True
        new_tokens = [tokens[:NEW_TOKENS] for tokens in continuations]
        with torch.inference_mode(), prefix_cache.prefix_attention(self.model):
            output = self.model.generate(
                input_ids=input_ids,
                attention_mask=attention_mask,
                past_key_values=prefix.new_cache() if prefix else None,
                generation_config=config,
                logits_processor=LogitsProcessorList([_ForcedTokens(new_tokens, input_ids.shape[1])]),
            )
        return [logits.float() for logits in output.logits]

    def score_labels(self, prefix: SharedPrefix | None) -> list[tuple[int, Any]]:
        """Score continuations of different lengths that share the cache of their prompt.

        Returns:
            The position before each token of the longest continuation, and the log-probabilities (vocabulary).
        """
        length = self.lengths[0]
        prompt, tail = self.text[:length], self.text[length:]
        token_logits, _, _ = scoring.choice_logits(self.lm, [(prompt, [tail[:2], tail])], prefix)
        return [(length - 1 + index, logits.float()) for index, logits in enumerate(token_logits[1])]

    def _forward(self, rows: list[list[int]]) -> Any:
        """Return the logits (rows, tokens, vocabulary) of a forward pass without a cache."""
        input_ids, attention_mask = self.lm.pad(rows, left=False)
        with torch.inference_mode():
            output = self.model(input_ids=input_ids, attention_mask=attention_mask, use_cache=False)
        return output.logits.float()

    def _are_close(self, logits: Any, expected: Any) -> bool:
        """Tell if logits differ by rounding only; False if any is not a number."""
        return bool((logits - expected).abs().max() <= self.tolerance)


def _ordinary_tokens(lm: CausalLM, count: int) -> list[int]:
    """Return ids of tokens that are not special, neighbors far apart in the vocabulary."""
    vocabulary = min(len(lm.tokenizer), lm.model.config.get_text_config().vocab_size)
    special = {*lm.final_token_ids, *lm.tokenizer.all_special_ids}
    ordinary = [token_id for token_id in range(vocabulary) if token_id not in special] or [0]
    step = len(ordinary) // 3 + 7
    return [ordinary[(5 + step * index) % len(ordinary)] for index in range(count)]
