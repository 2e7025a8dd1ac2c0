"""A loaded encoder (BERT type): reads a prompt and names a label; it cannot write, so open answers are beyond it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn.functional import cross_entropy

from bench.measurement import memory_estimate, memory_limit
from bench.method import TrainingData, Unsupported
from bench.modeling.loaded_model import READ_BATCH, LoadedModel, in_chunks

MUTE = "an encoder reads and does not write: it needs a task of closed labels and a method that trains or reads it"


@dataclass
class Encoder(LoadedModel):
    """An encoder with a classification head, its body frozen (see `bench.method.LM`)."""

    can_generate: bool = False
    options: Sequence[str] = ()
    """What follows a prompt for each label, once a lesson has told them."""

    @property
    def context(self) -> int:
        """Positions of a prompt; some architectures keep the first ones for themselves."""
        config = self.model.config.get_text_config()
        own = config.pad_token_id + 1 if config.model_type in ("roberta", "xlm-roberta", "camembert") else 0
        return int(config.max_position_embeddings) - own - self.num_virtual_tokens

    @property
    def max_new_tokens(self) -> int:
        """Tokens an answer may take: a label is read off, not written."""
        return 0

    def prepare(self, data: TrainingData) -> None:
        """A fresh output layer over the task's labels, to be trained with whatever else is."""
        if data.labels is None:
            raise Unsupported(MUTE)
        self.options = data.options
        last = [layer for layer in self.model.modules() if isinstance(layer, torch.nn.Linear)][-1]
        size = len(self.options)
        last.out_features = self.model.config.num_labels = self.model.num_labels = size
        spread = getattr(self.model.config, "initializer_range", 0.02)
        last.weight = torch.nn.Parameter(last.weight.new_empty(size, last.in_features).normal_(0.0, spread))
        last.bias = torch.nn.Parameter(last.weight.new_zeros(size))

    def tokens(self, prompt: str) -> list[int]:
        """Token ids of a prompt, with the special ones that the model reads around a text."""
        return list(self.tokenizer(prompt)["input_ids"])

    def encode(self, prompt: str, completion: str) -> tuple[list[int], list[int]]:
        """Token ids of the prompt, and the place of the completion among the labels (nothing for no completion).

        A prompt too long for the context loses its head, but for the special token it begins with.
        """
        return self._fit(self.tokens(prompt)), [list(self.options).index(completion)] if completion else []

    def generate(self, prompts: Sequence[str], *, temperature: float = 0.0, sample_index: int = 0) -> list[str]:
        """The likeliest label of each prompt, in order."""
        if not self.options:
            raise Unsupported(MUTE)
        whole = [self.tokens(prompt) for prompt in prompts]
        rows = [self._fit(ids) for ids in whole]
        self.token_usage.truncated_prompts += sum(len(ids) > self.context for ids in whole)
        self.token_usage.prompt_tokens += sum(map(len, rows))
        self.token_usage.longest_prompt_tokens = max(self.token_usage.longest_prompt_tokens, *map(len, rows))
        self.token_usage.answer_tokens += len(rows)
        order = sorted(range(len(rows)), key=lambda place: len(rows[place]))
        answers = [""] * len(rows)
        for batched in memory_estimate.length_batches(self.model, [len(rows[place]) for place in order]):
            places = [order[at] for at in batched]
            best = memory_limit.run_halving_on_oom(
                lambda batch: self._logits(batch).argmax(-1).tolist(), [rows[at] for at in places]
            )
            for place, label in zip(places, best, strict=True):
                answers[place] = self.options[label]
        return answers

    def loglikelihood(self, prompt: str, completions: Sequence[str]) -> list[float]:
        """Beyond an encoder."""
        raise Unsupported(MUTE)

    def choose_label(
        self, prompts: Sequence[str], completions: Sequence[str], prior: Sequence[float] = ()
    ) -> list[int]:
        """Beyond an encoder."""
        raise Unsupported(MUTE)

    def loss(self, rows: Sequence[tuple[list[int], list[int]]]) -> Any:
        """Mean loss (nats) over labeled rows, with gradient."""
        wanted = torch.tensor([tail[0] for _, tail in rows], device=self.model.device)
        return cross_entropy(self.model(**self._padded([head for head, _ in rows])).logits.float(), wanted)

    def summed_loss(self, input_ids: Any, attention_mask: Any, labels: Any, count: Any = None) -> Any:
        """Beyond an encoder, whose labels stand beside its rows."""
        raise Unsupported(MUTE)

    def evaluate_loss(self, pairs: Sequence[tuple[list[int], list[int]]]) -> tuple[float, float]:
        """Mean loss (nats) and accuracy over labeled rows, in evaluation mode."""
        training = self.model.training
        ordered = sorted(pairs, key=lambda pair: len(pair[0]))
        logits = torch.stack(
            [
                row
                for batch in in_chunks(ordered, READ_BATCH)
                for row in memory_limit.run_halving_on_oom(
                    lambda part: list(self._logits([head for head, _ in part])), batch
                )
            ]
        )
        self.model.train(training)
        wanted = torch.tensor([tail[0] for _, tail in ordered], device=logits.device)
        return float(cross_entropy(logits, wanted)), float((logits.argmax(-1) == wanted).float().mean())

    def _logits(self, rows: Sequence[list[int]]) -> Any:
        """Scores (rows, labels)."""
        self.model.eval()
        with torch.inference_mode():
            return self.model(**self._padded(rows)).logits.float()

    def _fit(self, ids: list[int]) -> list[int]:
        return ids if len(ids) <= self.context else ids[:1] + ids[len(ids) - self.context + 1 :]

    def _padded(self, rows: Sequence[list[int]]) -> dict[str, Any]:
        padded = self.tokenizer.pad({"input_ids": list(rows)}, padding_side="right", return_tensors="pt")
        return {key: padded[key].to(self.model.device) for key in ("input_ids", "attention_mask")}
