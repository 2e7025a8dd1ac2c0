"""A loaded encoder (BERT type): classifies prompts, so it needs closed labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn.functional import cross_entropy

from bench.measurement import memory_estimate, memory_limit
from bench.method import TrainingData, Unsupported
from bench.modeling.loaded_model import ENCODING_BATCH_SIZE, LoadedModel, in_chunks

CANNOT_GENERATE = (
    "an encoder cannot generate text: it needs a task with closed labels and a method that trains it or uses its states"
)
# Model types whose position ids start after the padding id, so that the first positions are never used.
TYPES_WITH_POSITION_OFFSET = ("roberta", "xlm-roberta", "camembert")


@dataclass
class Encoder(LoadedModel):
    """An encoder with a classification head and a frozen body (see `bench.method.LM`)."""

    can_generate: bool = False
    options: Sequence[str] = ()
    """Completion of a prompt for each label, set by `prepare`."""

    @property
    def context(self) -> int:
        """Maximum tokens of a prompt, with special and without virtual tokens."""
        config = self.model.config.get_text_config()
        offset = config.pad_token_id + 1 if config.model_type in TYPES_WITH_POSITION_OFFSET else 0
        return int(config.max_position_embeddings) - offset - self.num_virtual_tokens

    @property
    def max_new_tokens(self) -> int:
        """Tokens that an answer may have: 0, because a label is predicted and not generated."""
        return 0

    def prepare(self, data: TrainingData) -> None:
        """Replace the output layer by a new one over the labels of the task.

        The new weights are random, so the layer has to be trained.

        Raises:
            Unsupported: The task has no closed labels.
        """
        if data.labels is None:
            raise Unsupported(CANNOT_GENERATE)
        self.options = data.options
        num_labels = len(self.options)
        head = [layer for layer in self.model.modules() if isinstance(layer, torch.nn.Linear)][-1]
        head.out_features = self.model.config.num_labels = self.model.num_labels = num_labels
        std = getattr(self.model.config, "initializer_range", 0.02)
        head.weight = torch.nn.Parameter(head.weight.new_empty(num_labels, head.in_features).normal_(0.0, std))
        head.bias = torch.nn.Parameter(head.weight.new_zeros(num_labels))

    def tokens(self, prompt: str) -> list[int]:
        """Return the token ids of a prompt, with the special tokens around it."""
        return list(self.tokenizer(prompt)["input_ids"])

    def encode(self, prompt: str, completion: str) -> tuple[list[int], list[int]]:
        """Encode a prompt and its completion for training or evaluation.

        Returns:
            Token ids of the prompt, and a list with one item, the index of the label; the list is empty if the
            completion is empty. A prompt longer than the model's context keeps its first special token and its
            last tokens.
        """
        label = [list(self.options).index(completion)] if completion else []
        return self._truncate(self.tokens(prompt)), label

    def generate(self, prompts: Sequence[str], *, temperature: float = 0.0, sample_index: int = 0) -> list[str]:
        """Return the most likely label's completion for each prompt; temperature has no effect.

        Raises:
            Unsupported: `prepare` was not called, so there are no labels.
        """
        if not self.options:
            raise Unsupported(CANNOT_GENERATE)
        encoded = [self.tokens(prompt) for prompt in prompts]
        rows = [self._truncate(ids) for ids in encoded]
        usage = self.token_usage
        usage.truncated_prompts += sum(len(ids) > self.context for ids in encoded)
        usage.prompt_tokens += sum(map(len, rows))
        usage.longest_prompt_tokens = max(usage.longest_prompt_tokens, *map(len, rows))
        usage.answer_tokens += len(rows)
        order = sorted(range(len(rows)), key=lambda index: len(rows[index]))
        answers = [""] * len(rows)
        for positions in memory_estimate.length_batches(self.model, [len(rows[index]) for index in order]):
            indices = [order[position] for position in positions]
            batch = [rows[index] for index in indices]
            labels = memory_limit.run_halving_on_oom(lambda part: self._logits(part).argmax(-1).tolist(), batch)
            for index, label in zip(indices, labels, strict=True):
                answers[index] = self.options[label]
        return answers

    def loglikelihood(self, prompt: str, completions: Sequence[str]) -> list[float]:
        """Raise `Unsupported`: an encoder has no likelihood of text."""
        raise Unsupported(CANNOT_GENERATE)

    def choose_label(
        self, prompts: Sequence[str], completions: Sequence[str], prior: Sequence[float] = ()
    ) -> list[int]:
        """Raise `Unsupported`: an encoder has no likelihood of text."""
        raise Unsupported(CANNOT_GENERATE)

    def loss(self, rows: Sequence[tuple[list[int], list[int]]]) -> Any:
        """Return the mean loss (nats) over encoded pairs, with gradient."""
        labels = torch.tensor([label[0] for _, label in rows], device=self.model.device)
        logits = self.model(**self._pad([prompt for prompt, _ in rows])).logits
        return cross_entropy(logits.float(), labels)

    def summed_loss(self, input_ids: Any, attention_mask: Any, labels: Any, count: Any = None) -> Any:
        """Raise `Unsupported`: an encoder has a label per row, not one per token."""
        raise Unsupported(CANNOT_GENERATE)

    def evaluate_loss(self, pairs: Sequence[tuple[list[int], list[int]]]) -> tuple[float, float]:
        """Return mean loss (nats) and accuracy over encoded pairs, in evaluation mode."""
        was_training = self.model.training
        by_length = sorted(pairs, key=lambda pair: len(pair[0]))
        rows: list[Any] = []
        for batch in in_chunks(by_length, ENCODING_BATCH_SIZE):
            prompts = [prompt for prompt, _ in batch]
            rows += memory_limit.run_halving_on_oom(lambda part: list(self._logits(part)), prompts)
        logits = torch.stack(rows)
        self.model.train(was_training)
        labels = torch.tensor([label[0] for _, label in by_length], device=logits.device)
        return float(cross_entropy(logits, labels)), float((logits.argmax(-1) == labels).float().mean())

    def _logits(self, rows: Sequence[list[int]]) -> Any:
        """Return the logits (rows, labels)."""
        self.model.eval()
        with torch.inference_mode():
            return self.model(**self._pad(rows)).logits.float()

    def _truncate(self, ids: list[int]) -> list[int]:
        """Cut a prompt to the context at its start; the first special token stays."""
        return ids if len(ids) <= self.context else ids[:1] + ids[len(ids) - self.context + 1 :]

    def _pad(self, rows: Sequence[list[int]]) -> dict[str, Any]:
        padded = self.tokenizer.pad({"input_ids": list(rows)}, padding_side="right", return_tensors="pt")
        return {key: padded[key].to(self.model.device) for key in ("input_ids", "attention_mask")}
