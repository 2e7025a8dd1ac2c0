"""A loaded causal language model: encoding, answering and measuring, the one path every method uses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from inspect import signature
from itertools import groupby
from typing import Any

import torch
import transformers.modeling_utils  # noqa: F401 (loading the first model would import it, and take so much longer)
from torch.nn.functional import cross_entropy
from transformers import GenerationConfig, LogitsProcessorList

from bench.errors import UserError
from bench.measurement import memory_estimate, memory_limit
from bench.method import TrainingData
from bench.modeling import generation, prefix_cache
from bench.modeling.dice import GumbelSampler
from bench.modeling.loaded_model import LoadedModel, in_chunks
from bench.modeling.prefix_cache import SharedPrefix

MEASURE_BATCH = 16
IGNORE_INDEX = -100  # labels that the loss leaves out


@dataclass
class CausalLM(LoadedModel):
    """A loaded causal language model with frozen weights (see `bench.method.LM`)."""

    can_generate: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        self._ends = self._end_tokens()
        if not self._ends:
            raise UserError(
                "the model names no end-of-sequence token", hint="set eos_token in its tokenizer_config.json"
            )
        if self.tokenizer.pad_token_id is None:
            # Any token can fill: padding is masked by position, never by id.
            self.tokenizer.pad_token = self.tokenizer.convert_ids_to_tokens(self._ends[0])
        self._over = {*self._ends, self.tokenizer.pad_token_id}
        # Also replaces the checkpoint's own: `generate` fills what a call leaves open from there (sampling, for one).
        self._greedy = self.model.generation_config = GenerationConfig(
            do_sample=self.decoding.do_sample,
            num_beams=self.decoding.num_beams,
            repetition_penalty=self.decoding.repetition_penalty,
            max_new_tokens=self.decoding.max_new_tokens,
            eos_token_id=self._ends,
            pad_token_id=self.tokenizer.pad_token_id,
            bos_token_id=self.tokenizer.bos_token_id,
            stop_strings=list(self.decoding.stop) or None,
            use_cache=True,
        )
        self._keeps_logits = "logits_to_keep" in signature(self.model.forward).parameters
        bos = self.tokenizer.bos_token_id
        self._prefix = [bos] if bos is not None and self.tokenizer("a")["input_ids"][:1] == [bos] else []

    @property
    def context(self) -> int:
        """Positions available to prompt and answer together, beside those that an adapter puts before the prompt."""
        config = self.model.config.get_text_config()
        positions = int(getattr(config, "max_position_embeddings", None) or self.tokenizer.model_max_length)
        return positions - self.num_virtual_tokens

    @property
    def max_new_tokens(self) -> int:
        """Tokens an answer may take."""
        return self.decoding.max_new_tokens

    def prepare(self, data: TrainingData) -> None:
        """Nothing: what it writes is the answer, on closed labels and open ones alike."""

    def tokens(self, prompt: str) -> list[int]:
        """Token ids of a prompt, with a beginning-of-sequence token where the tokenizer uses one."""
        return self._prefix + list(self.tokenizer(prompt, add_special_tokens=False)["input_ids"])

    def encode(self, prompt: str, completion: str) -> tuple[list[int], list[int]]:
        """Token ids of the prompt, exactly as when answering, and of the completion with its end token.

        A prompt too long for the context loses its head; a completion is never cut (`UserError` if it cannot fit).
        """
        head, tail = self.tokens(prompt), [*self._tail(prompt, completion), self._ends[0]]
        if len(tail) >= self.context:
            raise UserError(f"an answer of {len(tail)} tokens exceeds the model's context of {self.context}")
        return self._fit(head, max(len(tail), self.max_new_tokens)), tail

    def generate(self, prompts: Sequence[str], *, temperature: float = 0.0, sample_index: int = 0) -> list[str]:
        """Continuations, one per prompt, in order: greedy, or the `draw`-th sample at a `temperature` above zero.

        Batches are sorted by length and padded on the left; what all prompts begin with is read once.
        """
        dice = [GumbelSampler(temperature, sample_index, self.tokenizer.pad_token_id)] if temperature else []
        queue = [self._fit(self.tokens(prompt), self.max_new_tokens, count=True) for prompt in prompts]
        order = sorted(range(len(queue)), key=lambda place: len(queue[place]))
        head = self._head(queue)
        answers = [""] * len(queue)
        more = self.max_new_tokens - self.token_usage.shared_prefix_tokens
        for batched in memory_estimate.length_batches(self.model, [len(queue[place]) + more for place in order]):
            places = [order[at] for at in batched]
            batch = [queue[place] for place in places]
            texts = memory_limit.run_halving_on_oom(lambda rows: self._continue(rows, head, dice), batch)
            for place, text in zip(places, texts, strict=True):
                answers[place] = text
        return answers

    def choose_label(
        self, prompts: Sequence[str], completions: Sequence[str], prior: Sequence[float] = ()
    ) -> list[int]:
        """For each prompt the place of the completion that `rate` finds likeliest, less a `prior` for each of them.

        Counted as if it had been answered: the prompt once, and the tokens of the completion that is chosen.
        """
        queue = [self._alternatives(prompt, completions, count=True) for prompt in prompts]
        order = sorted(range(len(queue)), key=lambda place: len(queue[place][0]))
        head, chosen = self._head([ids for ids, _ in queue]), [0] * len(queue)
        longest = max((len(ids) for ids, _ in queue), default=0)
        rows = memory_estimate.max_batch_rows(self.model, longest + self.max_new_tokens) // len(completions)
        for _, alike in groupby(order, key=lambda place: len(queue[place][0])):
            for places in in_chunks(list(alike), max(rows, 1)):
                rated = memory_limit.run_halving_on_oom(
                    lambda some: self._rate(some, head), [queue[place] for place in places]
                )
                for place, nats in zip(places, rated, strict=True):
                    chosen[place] = int((torch.tensor(nats) - torch.tensor(prior or [0.0])).argmax())
        for (ids, tails), choice in zip(queue, chosen, strict=True):
            self.token_usage.prompt_tokens += len(ids)
            self.token_usage.longest_prompt_tokens = max(self.token_usage.longest_prompt_tokens, len(ids))
            self.token_usage.answer_tokens += len(tails[choice])
        return chosen

    def loglikelihood(self, prompt: str, completions: Sequence[str]) -> list[float]:
        """Mean log-probability (nats per token) of each completion after the prompt, without its end token."""
        ids, tails = self._alternatives(prompt, completions)
        return self._rate([(ids, tails)], self._head([ids]))[0]

    def evaluate_loss(self, pairs: Sequence[tuple[list[int], list[int]]]) -> tuple[float, float]:
        """Mean loss (nats) and accuracy per completion token over `encode`d pairs, in evaluation mode."""
        training = self.model.training
        self.model.eval()
        counts: list[tuple[float, float, int]] = []
        with torch.inference_mode():
            for batch in in_chunks(sorted(pairs, key=lambda pair: len(pair[0]) + len(pair[1])), MEASURE_BATCH):
                counts += memory_limit.run_halving_on_oom(self._losses, batch)
        self.model.train(training)
        loss, right, count = map(sum, zip(*counts, strict=True))
        return loss / count, right / count

    def _losses(self, batch: Sequence[tuple[list[int], list[int]]]) -> list[tuple[float, float, int]]:
        """Summed loss, right tokens and tokens of each completion."""
        ids, mask = self._pad([head + tail for head, tail in batch], left=False)
        first = min(len(head) for head, _ in batch) - 1
        logits = self._logits(ids, mask, first)
        found = []
        for row, (head, tail) in enumerate(batch):
            begin = len(head) - 1 - first
            scores = logits[row, begin : begin + len(tail)].float()
            wanted = ids[row, len(head) : len(head) + len(tail)]
            loss = float(cross_entropy(scores, wanted, reduction="sum"))
            found.append((loss, float((scores.argmax(-1) == wanted).sum()), len(tail)))
        return found

    def loss(self, rows: Sequence[tuple[list[int], list[int]]]) -> Any:
        """Mean loss (nats) over completion tokens, with gradient."""
        ids, mask = self._pad([head + tail for head, tail in rows], left=False)
        labels = torch.full_like(ids, IGNORE_INDEX)
        for row, (head, tail) in enumerate(rows):
            labels[row, len(head) : len(head) + len(tail)] = torch.tensor(tail)
        return self.summed_loss(ids, mask, labels)

    def summed_loss(self, input_ids: Any, attention_mask: Any, labels: Any, count: Any = None) -> Any:
        """Cross-entropy (nats) summed over the labels that are not `IGNORED`, per one of them or of `count`."""
        learnt = (labels != IGNORE_INDEX).any(0).nonzero()
        first = max(int(learnt[0]) - 1, 0)
        logits = self._logits(input_ids, attention_mask, first)[:, :-1].float()
        wanted = labels[:, first + 1 :]
        total = cross_entropy(logits.flatten(0, 1), wanted.flatten(), ignore_index=IGNORE_INDEX, reduction="sum")
        return total / ((wanted != IGNORE_INDEX).sum() if count is None else count)

    def _tail(self, prompt: str, completion: str) -> list[int]:
        """Token ids of what follows the prompt, which stays as it is when answering."""
        head, whole = self.tokens(prompt), self.tokens(prompt + completion)
        if whole[: len(head)] == head:
            return whole[len(head) :]
        # a token would span the seam
        return list(self.tokenizer(completion, add_special_tokens=False)["input_ids"])

    def _alternatives(
        self, prompt: str, completions: Sequence[str], *, count: bool = False
    ) -> tuple[list[int], list[list[int]]]:
        """Token ids of a prompt, cut to leave room for the longest, and of each completion."""
        tails = [self._tail(prompt, completion) for completion in completions]
        room = max(self.max_new_tokens, *map(len, tails))
        return self._fit(self.tokens(prompt), room, count=count), tails

    def _rate(self, batch: Sequence[tuple[list[int], list[list[int]]]], head: SharedPrefix | None) -> list[list[float]]:
        """Reads each of some prompts of one length once; its keys and values serve every one of its tails."""
        before = head.ids if head else []
        ids, _ = self._pad([row[len(before) :] for row, _ in batch], left=False)
        tails, mask = self._pad([tail for _, some in batch for tail in some], left=False)
        each = len(tails) // len(batch)
        keep = {"logits_to_keep": 1} if self._keeps_logits else {}
        self.model.eval()
        with torch.inference_mode(), prefix_cache.prefix_attention(self._beneath()):
            cache = head.begin() if head else None
            read = self._beneath()(input_ids=ids, past_key_values=cache, use_cache=True, **keep)
            cache = read.past_key_values
            seen = torch.cat([mask.new_ones(len(tails), cache.get_seq_length()), mask], dim=1)
            cache.batch_repeat_interleave(each)
            rest = self._beneath()(input_ids=tails, attention_mask=seen, past_key_values=cache).logits
            first = read.logits[:, -1:].repeat_interleave(each, dim=0)
            logits = torch.cat([first, rest[:, :-1]], dim=1)
            nats = logits.float().log_softmax(-1).gather(-1, tails.unsqueeze(-1)).squeeze(-1)
        found: list[list[float]] = ((nats * mask).sum(1) / mask.sum(1)).view(len(batch), each).tolist()
        return found

    def _logits(self, ids: Any, mask: Any, first: int) -> Any:
        """Logits (rows, positions from `first` on, vocabulary); those before are not even computed where possible.

        Positions count from the end, since prompt tuning puts virtual tokens before the first.
        """
        last = ids.shape[1] - first
        keep = {"logits_to_keep": last} if self._keeps_logits else {}
        return self.model(input_ids=ids, attention_mask=mask, use_cache=False, **keep).logits[:, -last:]

    def _head(self, rows: Sequence[list[int]]) -> SharedPrefix | None:
        """What stands before every one of these prompts, read once."""
        head = prefix_cache.read_prefix(self.model, rows, self.num_virtual_tokens, self._ends[0], self.max_new_tokens)
        self.token_usage.shared_prefix_tokens = len(head.ids) if head and head.separate else 0
        return head

    def _beneath(self) -> Any:
        """The model that reads on where an adapter's own positions have been read."""
        return self.model.get_base_model() if self.num_virtual_tokens else self.model

    def _continue(
        self, batch: Sequence[list[int]], head: SharedPrefix | None, dice: Sequence[GumbelSampler] = ()
    ) -> list[str]:
        ids, mask = self._pad([row[len(head.ids) if head else 0 :] for row in batch], left=True)
        if head:  # padding stands between what has been read and the rest; positions follow from the mask
            before = [self.tokenizer.pad_token_id] * head.num_virtual_tokens + head.ids
            ids = torch.cat([ids.new_tensor([before]).expand(len(batch), -1), ids], dim=1)
            mask = torch.cat([mask.new_ones(len(batch), len(before)), mask], dim=1)
        self.model.eval()
        with torch.inference_mode(), prefix_cache.prefix_attention(self._beneath()):
            fresh = generation.generate(
                self._beneath(), ids, mask, head.begin() if head else None,
                lambda tokens: self._written(tokens)[2], self._over,
                generation_config=self._greedy, tokenizer=self.tokenizer, logits_processor=LogitsProcessorList(dice),
            )  # fmt: skip
        written = [self._written(tokens) for tokens in fresh]
        self.token_usage.answer_tokens += sum(length for _, length, _ in written)
        self.token_usage.prompt_tokens += int(mask.sum()) - self.num_virtual_tokens * len(batch)
        self.token_usage.longest_prompt_tokens = max(
            self.token_usage.longest_prompt_tokens, ids.shape[1] - self.num_virtual_tokens
        )
        return [text for text, _, _ in written]

    def _written(self, tokens: list[int]) -> tuple[str, int, bool]:
        """Text of new tokens, how many it took with the one that ends it, and whether it has ended.

        Rows that have ended are filled with padding until others do.
        """
        length = next((place for place, token in enumerate(tokens) if token in self._over), len(tokens))
        text = self.tokenizer.decode(tokens[:length], skip_special_tokens=True)
        by_text = any(stop in text for stop in self.decoding.stop)
        return text, length if by_text else min(length + 1, len(tokens)), by_text or length < len(tokens)

    def _fit(self, head: list[int], room: int, *, count: bool = False) -> list[int]:
        longest = max(self.context - room, 1)
        if len(head) <= longest:
            return head
        self.token_usage.truncated_prompts += count
        return head[: len(self._prefix)] + head[len(head) - longest + len(self._prefix) :]

    def _pad(self, rows: list[list[int]], *, left: bool) -> tuple[Any, Any]:
        """Tensors (rows, longest): token ids, and a mask that is 1 on real tokens."""
        width, fill = max(map(len, rows)), self.tokenizer.pad_token_id
        gaps = [width - len(row) for row in rows]
        ids = [[fill] * gap + row if left else row + [fill] * gap for row, gap in zip(rows, gaps, strict=True)]
        real = [[1] * len(row) for row in rows]
        mask = [[0] * gap + row if left else row + [0] * gap for row, gap in zip(real, gaps, strict=True)]
        return torch.tensor(ids, device=self.model.device), torch.tensor(mask, device=self.model.device)

    def _end_tokens(self) -> list[int]:
        """End-of-sequence ids, the tokenizer's own first; model configurations may name further ones."""
        named = [self.tokenizer.eos_token_id]
        for config in (self.model.config.get_text_config(), self.model.generation_config):
            ends = getattr(config, "eos_token_id", None)
            named += ends if isinstance(ends, list) else [ends]
        return list(dict.fromkeys(token for token in named if token is not None))
