"""A loaded causal language model: encoding, answering and measuring, the one path every method uses."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from inspect import signature
from typing import Any

import torch
from torch.nn.functional import cross_entropy
from transformers import GenerationConfig

from bench.record import Decoding
from bench.refusal import Refused

ANSWER_BATCH = 32
MEASURE_BATCH = 16


@dataclass
class Tally:
    """Tokens that went in and out while answering."""

    prompt_tokens: int = 0
    answer_tokens: int = 0
    cut_prompts: int = 0


@dataclass
class CausalLM:
    """A loaded causal language model with frozen weights (see `bench.method.LM`)."""

    model: Any
    tokenizer: Any
    decoding: Decoding
    tally: Tally = field(default_factory=Tally)

    def __post_init__(self) -> None:
        self.model.requires_grad_(False).eval()
        self._ends = self._end_tokens()
        if not self._ends:
            raise Refused("the model names no end-of-sequence token", mend="set eos_token in its tokenizer_config.json")
        if self.tokenizer.pad_token_id is None:
            # Any token can fill: padding is masked by position, never by id.
            self.tokenizer.pad_token = self.tokenizer.convert_ids_to_tokens(self._ends[0])
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
        begins = self.tokenizer("a")["input_ids"]
        bos = self.tokenizer.bos_token_id
        self._prefix = [bos] if bos is not None and begins[:1] == [bos] else []

    @property
    def context(self) -> int:
        """Positions available to prompt and answer together."""
        config = self.model.config.get_text_config()
        return int(getattr(config, "max_position_embeddings", None) or self.tokenizer.model_max_length)

    @property
    def max_new_tokens(self) -> int:
        """Tokens an answer may take."""
        return self.decoding.max_new_tokens

    def tokens(self, prompt: str) -> list[int]:
        """Token ids of a prompt, with a beginning-of-sequence token where the model's tokenizer uses one."""
        return self._prefix + list(self.tokenizer(prompt, add_special_tokens=False)["input_ids"])

    def encode(self, prompt: str, completion: str) -> tuple[list[int], list[int]]:
        """Token ids of the prompt, exactly as when answering, and of the completion with its end token.

        A prompt too long for the context loses its head; a completion is never cut (`Refused` if it cannot fit).
        """
        head, whole = self.tokens(prompt), self.tokens(prompt + completion)
        if whole[: len(head)] == head:
            tail = whole[len(head) :]
        else:  # a token would span the seam; keep the prompt as it is when answering
            tail = list(self.tokenizer(completion, add_special_tokens=False)["input_ids"])
        tail.append(self._ends[0])
        if len(tail) >= self.context:
            raise Refused(f"an answer of {len(tail)} tokens exceeds the model's context of {self.context}")
        return self._fit(head, max(len(tail), self.max_new_tokens)), tail

    def answer(self, prompts: Sequence[str]) -> list[str]:
        """Greedy continuations, one per prompt, in order. Batches are sorted by length and padded on the left."""
        queue = [self._fit(self.tokens(prompt), self.max_new_tokens, count=True) for prompt in prompts]
        order = sorted(range(len(queue)), key=lambda place: len(queue[place]))
        answers = [""] * len(queue)
        for places in _chunks(order, ANSWER_BATCH):
            for place, text in zip(places, self._continue([queue[place] for place in places]), strict=True):
                answers[place] = text
        return answers

    def measure(self, pairs: Sequence[tuple[list[int], list[int]]]) -> tuple[float, float]:
        """Mean loss (nats) and accuracy per completion token over `encode`d pairs, in evaluation mode."""
        loss = right = count = 0.0
        training = self.model.training
        self.model.eval()
        with torch.inference_mode():
            for batch in _chunks(sorted(pairs, key=lambda pair: len(pair[0]) + len(pair[1])), MEASURE_BATCH):
                ids, mask = self._pad([head + tail for head, tail in batch], left=False)
                first = min(len(head) for head, _ in batch) - 1
                logits = self._logits(ids, mask, first)
                for row, (head, tail) in enumerate(batch):
                    begin = len(head) - 1 - first
                    scores = logits[row, begin : begin + len(tail)].float()
                    wanted = ids[row, len(head) : len(head) + len(tail)]
                    loss += float(cross_entropy(scores, wanted, reduction="sum"))
                    right += float((scores.argmax(-1) == wanted).sum())
                    count += len(tail)
        self.model.train(training)
        return loss / count, right / count

    def count(self) -> tuple[int, int]:
        """Parameters in the model and those that are trained; 4-bit weights count as the numbers they stand for."""
        return int(self.model.num_parameters()), int(self.model.num_parameters(only_trainable=True))

    def _logits(self, ids: Any, mask: Any, first: int) -> Any:
        """Logits (rows, positions from `first` on, vocabulary); those before are not even computed where possible.

        Positions count from the end, since prompt tuning puts virtual tokens before the first.
        """
        last = ids.shape[1] - first
        keep = {"logits_to_keep": last} if self._keeps_logits else {}
        return self.model(input_ids=ids, attention_mask=mask, **keep).logits[:, -last:]

    def _continue(self, batch: list[list[int]]) -> list[str]:
        ids, mask = self._pad(batch, left=True)
        self.model.eval()
        with torch.inference_mode():
            whole = self.model.generate(
                input_ids=ids, attention_mask=mask, generation_config=self._greedy, tokenizer=self.tokenizer
            )
        over, texts = {*self._ends, self.tokenizer.pad_token_id}, []
        for new in whole[:, ids.shape[1] :].tolist():
            # Rows that have ended are filled with padding until the last row of the batch ends.
            length = next((place for place, token in enumerate(new) if token in over), len(new))
            text = self.tokenizer.decode(new[:length], skip_special_tokens=True)
            by_text = any(stop in text for stop in self.decoding.stop)
            self.tally.answer_tokens += length if by_text else min(length + 1, len(new))
            texts.append(text)
        self.tally.prompt_tokens += int(mask.sum())
        return texts

    def _fit(self, head: list[int], room: int, *, count: bool = False) -> list[int]:
        longest = max(self.context - room, 1)
        if len(head) <= longest:
            return head
        self.tally.cut_prompts += count
        return head[: len(self._prefix)] + head[len(head) - longest + len(self._prefix) :]

    def _pad(self, rows: list[list[int]], *, left: bool) -> tuple[Any, Any]:
        """Tensors (rows, longest): token ids, and a mask that is 1 on real tokens."""
        width, fill = max(map(len, rows)), self.tokenizer.pad_token_id
        gaps = [width - len(row) for row in rows]
        ids = [[fill] * gap + row if left else row + [fill] * gap for row, gap in zip(rows, gaps, strict=True)]
        mask = [
            [0] * gap + [1] * len(row) if left else [1] * len(row) + [0] * gap
            for row, gap in zip(rows, gaps, strict=True)
        ]
        return torch.tensor(ids, device=self.model.device), torch.tensor(mask, device=self.model.device)

    def _end_tokens(self) -> list[int]:
        """End-of-sequence ids, the tokenizer's own first; model configurations may name further ones."""
        named = [self.tokenizer.eos_token_id]
        for config in (self.model.config.get_text_config(), self.model.generation_config):
            ends = getattr(config, "eos_token_id", None)
            named += ends if isinstance(ends, list) else [ends]
        return list(dict.fromkeys(token for token in named if token is not None))


def _chunks(items: Sequence[Any], size: int) -> Iterator[Sequence[Any]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]
