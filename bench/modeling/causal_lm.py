"""A loaded causal language model: encodes, generates and scores for all methods."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from inspect import signature
from itertools import groupby
from typing import Any, NamedTuple

import torch
import transformers.modeling_utils  # noqa: F401 (else the first model would import it and take that much longer)
from transformers import GenerationConfig

from bench.errors import UserError
from bench.i18n import Message
from bench.measurement import memory_estimate, memory_limit
from bench.method import TrainingData, Unsupported
from bench.modeling import generation, model_config, prefix_cache, scoring
from bench.modeling.constraint.token_mask import TokenConstraint
from bench.modeling.fast_paths import FastPaths, probe_fast_paths
from bench.modeling.generation import FinishedText, GumbelSampler
from bench.modeling.loaded_model import LoadedModel
from bench.modeling.prefix_cache import SharedPrefix


class GeneratedAnswer(NamedTuple):
    """The decoded tokens of a generated answer."""

    text: str
    """Text without thoughts and without the end of the turn; empty if the thoughts have not ended."""
    token_count: int
    """Tokens, thoughts and end token included."""
    is_finished: bool
    """True if generation can stop: an end token or a stop text was generated."""
    is_cut: bool
    """True if the answer had not ended when generation stopped."""


@dataclass
class CausalLM(LoadedModel):
    """A loaded causal language model with frozen weights (see `bench.method.LM`)."""

    can_generate: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        self.end_text = self.chat.end_text if self.chat else ""
        self.stop_texts = [*self.decoding.stop, *filter(None, [self.end_text])]
        self._eos_token_ids = self._find_eos_token_ids()
        if not self._eos_token_ids:
            raise UserError(
                Message("the model has no end-of-sequence token"),
                hint=Message("set eos_token in its tokenizer_config.json"),
            )
        if self.tokenizer.pad_token_id is None:
            # Any token can be the padding, because it is masked by position and never recognized by its id.
            self.tokenizer.pad_token = self.tokenizer.convert_ids_to_tokens(self._eos_token_ids[0])
        self.final_token_ids = {*self._eos_token_ids, self.tokenizer.pad_token_id}
        # Replaces the generation config of the checkpoint too: `generate` takes from there what a call leaves open,
        # sampling for example.
        self.generation_config = self.model.generation_config = GenerationConfig(
            do_sample=self.decoding.do_sample,
            num_beams=self.decoding.num_beams,
            repetition_penalty=self.decoding.repetition_penalty,
            max_new_tokens=self.max_new_tokens,
            eos_token_id=self._eos_token_ids,
            pad_token_id=self.tokenizer.pad_token_id,
            bos_token_id=self.tokenizer.bos_token_id,
            use_cache=True,
        )
        self.accepts_logits_to_keep = "logits_to_keep" in signature(self.model.forward).parameters
        self._leading_ids = self._find_leading_ids()
        self.constraint = self._compile_constraint()
        self._may_stop: dict[int, bool] = {}  # by token id, for `FinishedText`

    @cached_property
    def fast_paths(self) -> FastPaths:
        """The fast ways of reading that are right for this model, tried at the first use.

        Raises:
            Unsupported: The model does not read from left to right.
        """
        paths = probe_fast_paths(self)
        self.generation_config.use_cache = paths.cache
        return paths

    def check_reading(self) -> None:
        """Find the fast paths of the model.

        Raises:
            Unsupported: The model does not read from left to right.
        """
        self.fast_paths  # noqa: B018 (reading it computes it)

    @property
    def context(self) -> int:
        """Maximum tokens of prompt and answer together, without an adapter's virtual tokens.

        `sys.maxsize` less the virtual tokens if neither the model nor its tokenizer has a limit.
        """
        positions = model_config.max_positions(self.model.config.get_text_config())
        return min(positions or int(self.tokenizer.model_max_length), sys.maxsize) - self.num_virtual_tokens

    @property
    def max_new_tokens(self) -> int:
        """Maximum number of tokens of an answer.

        If a prompt ends within thoughts, the tokens that end them at once come in addition.
        """
        return self.decoding.max_new_tokens + (self.chat.end_of_thoughts_tokens if self.chat else 0)

    @property
    def model_after_prefix(self) -> Any:
        """The model for tokens after a prefix, whose cache holds the virtual tokens already."""
        return self.model.get_base_model() if self.num_virtual_tokens else self.model

    def prepare(self, data: TrainingData) -> None:
        """Do nothing: the generated text is the answer, so no output layer depends on the labels."""

    def tokens(self, prompt: str) -> list[int]:
        """Return a prompt's token ids, with the special tokens that the tokenizer puts first.

        A prompt of the chat template has exactly the special tokens that the template writes.
        """
        token_ids = list(self.tokenizer(prompt, add_special_tokens=False)["input_ids"])
        is_chat = self.chat is not None and prompt.startswith(self.chat.openings)
        return token_ids if is_chat or self.count_leading(token_ids) else self._leading_ids + token_ids

    def completion_tokens(self, prompt: str, completion: str) -> list[int]:
        """Return the token ids of a completion; the prompt's tokens stay as in generation."""
        prompt_ids, all_ids = self.tokens(prompt), self.tokens(prompt + completion)
        if all_ids[: len(prompt_ids)] == prompt_ids:
            return all_ids[len(prompt_ids) :]
        # A token would span the boundary, so the completion is encoded by itself.
        return list(self.tokenizer(completion, add_special_tokens=False)["input_ids"])

    def encode(self, prompt: str, completion: str) -> tuple[list[int], list[int]]:
        """Encode a pair for training or evaluation.

        Returns:
            Token ids of the prompt, exactly as for generation (truncated at its start if it is too long), and of the
            whole completion with an end token.

        Raises:
            UserError: The completion alone exceeds the context.
        """
        prompt_ids = self.tokens(prompt)
        completion_ids = [*self.completion_tokens(prompt, completion + self.end_text), self._eos_token_ids[0]]
        if len(completion_ids) >= self.context:
            raise UserError(
                Message(
                    "an answer of {number} tokens exceeds the model's context of {context} tokens",
                    number=len(completion_ids),
                    context=self.context,
                )
            )
        return self.truncate_prompt(prompt_ids, max(len(completion_ids), self.max_new_tokens)), completion_ids

    def truncate_prompt(self, prompt_ids: list[int], reserved: int, *, count: bool = False) -> list[int]:
        """Truncate a prompt at its start to leave `reserved` tokens; special first tokens stay.

        With `count`, a truncated prompt is counted in `token_usage`.
        """
        max_length = max(self.context - reserved, 1)
        if len(prompt_ids) <= max_length:
            return prompt_ids
        self.token_usage.truncated_prompts += count
        leading = min(self.count_leading(prompt_ids), max_length - 1)
        return prompt_ids[:leading] + prompt_ids[len(prompt_ids) - max_length + leading :]

    def count_leading(self, token_ids: list[int]) -> int:
        """Return the number of special tokens at the start: the tokenizer's, or bos alone."""
        leading = len(self._leading_ids)
        if leading and token_ids[:leading] == self._leading_ids:
            return leading
        return int(bool(token_ids) and token_ids[0] == self.tokenizer.bos_token_id)

    def pad(self, rows: list[list[int]], *, left: bool) -> tuple[Any, Any]:
        """Return token ids (rows, longest row) and an attention mask that is 0 on padding."""
        width, pad_token_id = max(map(len, rows)), self.tokenizer.pad_token_id
        input_ids, attention_mask = [], []
        for row in rows:
            padding, zeros, ones = [pad_token_id] * (width - len(row)), [0] * (width - len(row)), [1] * len(row)
            input_ids.append(padding + row if left else row + padding)
            attention_mask.append(zeros + ones if left else ones + zeros)
        device = self.model.device
        return torch.tensor(input_ids, device=device), torch.tensor(attention_mask, device=device)

    def read_prefix(self, prompts: Sequence[list[int]]) -> SharedPrefix | None:
        """Compute the cache of the prefix that encoded prompts share; None if there is none.

        Raises:
            Unsupported: An adapter has virtual tokens, and the model cannot share what stands before all rows.
        """
        ids = prefix_cache.common_prefix(prompts) if self.fast_paths.shared_prefix else []
        prefix = None
        if ids or self.num_virtual_tokens:
            prefix = prefix_cache.read_prefix(
                self.model,
                ids,
                self.num_virtual_tokens,
                self._eos_token_ids[0],
                self.num_virtual_tokens + max(map(len, prompts), default=0) + self.max_new_tokens,
                separate=self.fast_paths.separate_prefix,
            )
        if self.num_virtual_tokens and (prefix is None or not self.fast_paths.shared_prefix):
            raise Unsupported(
                "virtual tokens need a cache of all keys and values that can be shared between rows, which this model "
                "does not have"
            )
        self.token_usage.shared_prefix_tokens = len(prefix.ids) if prefix and prefix.separate else 0
        return prefix

    def generate(
        self,
        prompts: Sequence[str],
        *,
        temperature: float = 0.0,
        sample_index: int = 0,
        with_rationale: bool = False,
    ) -> list[str]:
        """Generate a continuation of each prompt.

        Prompts are batched by length and padded on the left; a prefix that all of them share is computed once. Where
        that is not right for the model (`fast_paths`), a batch holds prompts of one length, and nothing is shared.

        Args:
            prompts: The prompts; one that is too long is truncated at its start.
            temperature: 0 for greedy search, else the temperature of sampling.
            sample_index: Number of the sample; the same number gives the same text in any batch.
            with_rationale: Reasoning steps on one line come before the answer, which alone may be constrained.

        Returns:
            Continuations without end token, in the order of the prompts.
        """
        samplers = [GumbelSampler(temperature, sample_index, self.tokenizer.pad_token_id)] if temperature else []
        encoded = [self.truncate_prompt(self.tokens(prompt), self.max_new_tokens, count=True) for prompt in prompts]
        prefix = self.read_prefix(encoded)
        answers = [""] * len(encoded)
        for indices in self._batches(encoded):
            batch = [encoded[index] for index in indices]
            texts = memory_limit.run_halving_on_oom(
                lambda rows: self._generate_batch(rows, prefix, samplers, with_rationale=with_rationale), batch
            )
            for index, text in zip(indices, texts, strict=True):
                answers[index] = text
        return answers

    def choose_label(
        self, prompts: Sequence[str], completions: Sequence[str], prior: Sequence[float] = ()
    ) -> list[int]:
        """Return the index of the most likely completion of each prompt (`scoring.choose_label`)."""
        return scoring.choose_label(self, prompts, completions, prior)

    def loglikelihood(self, prompt: str, completions: Sequence[str]) -> list[float]:
        """Return each completion's mean log-likelihood per token (nats), without end token."""
        return scoring.loglikelihood(self, prompt, completions)

    def loglikelihoods(self, prompts: Sequence[str], completions: Sequence[str]) -> list[list[float]]:
        """Return `loglikelihood` of the same completions for each prompt, read in batches."""
        return scoring.loglikelihoods(self, prompts, completions)

    def evaluate_loss(self, pairs: Sequence[tuple[list[int], list[int]]]) -> tuple[float, float]:
        """Return mean loss (nats) and accuracy per completion token, in evaluation mode."""
        return scoring.evaluate_loss(self, pairs)

    def loss(self, rows: Sequence[tuple[list[int], list[int]]]) -> Any:
        """Return the mean loss (nats) over the completion tokens of encoded pairs, with gradient."""
        return scoring.loss(self, rows)

    def summed_loss(self, input_ids: Any, attention_mask: Any, labels: Any, count: Any = None) -> Any:
        """Return the loss (nats) summed over the labels and divided by their number or by `count`."""
        return scoring.summed_loss(self, input_ids, attention_mask, labels, count)

    def lay_out(self, batch: Sequence[list[int]], prefix: SharedPrefix | None) -> tuple[Any, Any]:
        """Return token ids and attention mask of encoded prompts, after a shared prefix.

        The padding lies between the prefix and the rest of a prompt. Position ids follow from the mask.
        """
        prefix_length = len(prefix.ids) if prefix else 0
        input_ids, attention_mask = self.pad([row[prefix_length:] for row in batch], left=True)
        if prefix:
            prefix_ids = [self.tokenizer.pad_token_id] * prefix.num_virtual_tokens + prefix.ids
            prefix_rows = input_ids.new_tensor([prefix_ids]).expand(len(batch), -1)
            input_ids = torch.cat([prefix_rows, input_ids], dim=1)
            attention_mask = torch.cat([attention_mask.new_ones(len(batch), len(prefix_ids)), attention_mask], dim=1)
        return input_ids, attention_mask

    def _batches(self, encoded: Sequence[list[int]]) -> Iterator[list[int]]:
        """Yield the indices of encoded prompts to generate from at once, shorter prompts first."""
        order = sorted(range(len(encoded)), key=lambda index: len(encoded[index]))
        groups = [order]
        if not self.fast_paths.padding:
            groups = [list(group) for _, group in groupby(order, key=lambda index: len(encoded[index]))]
        prefix_tokens = self.token_usage.shared_prefix_tokens
        extra_tokens = self.max_new_tokens - prefix_tokens
        for group in groups:
            lengths = [len(encoded[index]) + extra_tokens for index in group]
            for positions in memory_estimate.length_batches(self.model, lengths, prefix_tokens=prefix_tokens):
                if not self.fast_paths.batches:
                    yield from ([group[position]] for position in positions)
                    continue
                yield [group[position] for position in positions]

    def _generate_batch(
        self,
        batch: Sequence[list[int]],
        prefix: SharedPrefix | None,
        samplers: Sequence[GumbelSampler] = (),
        *,
        with_rationale: bool = False,
    ) -> list[str]:
        """Generate for encoded prompts at once and count their tokens."""
        input_ids, attention_mask = self.lay_out(batch, prefix)
        mask = None
        if self.constraint is not None:
            mask = self.constraint.new_mask(
                len(batch), input_ids.shape[1], self.final_token_ids, with_rationale=with_rationale
            )
        self.model.eval()
        with torch.inference_mode(), prefix_cache.prefix_attention(self.model_after_prefix):
            new_tokens = generation.generate_dropping_finished(
                self.model_after_prefix,
                input_ids,
                attention_mask,
                prefix.new_cache() if prefix else None,
                FinishedText(
                    lambda tokens: self._decode(tokens).is_finished,
                    self.final_token_ids,
                    self._decode_text,
                    self.stop_texts,
                    input_ids.shape[1],
                    self._may_stop,
                ),
                self.final_token_ids,
                generation_config=self.generation_config,
                mask=mask,
                samplers=samplers,
            )
        decoded = [self._decode(tokens) for tokens in new_tokens]
        usage, virtual_tokens = self.token_usage, self.num_virtual_tokens
        usage.answer_tokens += sum(answer.token_count for answer in decoded)
        cut_answers = [tokens for tokens, answer in zip(new_tokens, decoded, strict=True) if answer.is_cut]
        usage.count_generated(cut_answers, len(decoded))
        usage.prompt_tokens += int(attention_mask.sum()) - virtual_tokens * len(batch)
        usage.longest_prompt_tokens = max(usage.longest_prompt_tokens, input_ids.shape[1] - virtual_tokens)
        return [answer.text for answer in decoded]

    def _decode(self, tokens: list[int]) -> GeneratedAnswer:
        """Decode new tokens of a row, which may be followed by padding."""
        length = next((index for index, token in enumerate(tokens) if token in self.final_token_ids), len(tokens))
        text, is_thinking = self._decode_text(tokens[:length]), False
        answer = text
        if self.chat is not None:
            text, is_thinking = self.chat.split_thoughts(text)
            answer = text.lstrip()  # models may begin their turn with line breaks, which end nothing
        stopped = not is_thinking and any(stop in answer for stop in self.stop_texts)
        is_finished = stopped or length < len(tokens)
        return GeneratedAnswer(
            text="" if is_thinking else text.partition(self.end_text)[0] if self.end_text else text,
            token_count=length if stopped else min(length + 1, len(tokens)),
            is_finished=is_finished,
            is_cut=is_thinking or not is_finished,
        )

    def _decode_text(self, tokens: list[int]) -> str:
        """Return the text of token ids, without special tokens except those around thoughts."""
        if self.chat is not None:
            return self.chat.decode(tokens)
        return str(self.tokenizer.decode(tokens, skip_special_tokens=True))

    def _compile_constraint(self) -> TokenConstraint | None:
        """Compile what answers have to match for the tokenizer; None if they are free."""
        constraint = self.decoding.constraint
        if constraint is None:
            return None
        return TokenConstraint(self.tokenizer, self._eos_token_ids, constraint, self.stop_texts)

    def _find_leading_ids(self) -> list[int]:
        """Return the special tokens that the tokenizer itself puts before a text."""
        text_ids = list(self.tokenizer("a", add_special_tokens=False)["input_ids"])
        all_ids = list(self.tokenizer("a")["input_ids"])
        starts = (start for start in range(len(all_ids)) if all_ids[start : start + len(text_ids)] == text_ids)
        return all_ids[: next(starts, 0)]

    def _find_eos_token_ids(self) -> list[int]:
        """List end-of-sequence ids, the learned one first.

        That is the token that ends a turn of the chat template, or else the tokenizer's. Those of the configurations
        follow.
        """
        token_ids = [self.chat.end_token_id if self.chat else None, self.tokenizer.eos_token_id]
        for config in (self.model.config.get_text_config(), self.model.generation_config):
            eos_token_id = getattr(config, "eos_token_id", None)
            token_ids += eos_token_id if isinstance(eos_token_id, list) else [eos_token_id]
        return list(dict.fromkeys(token_id for token_id in token_ids if token_id is not None))
