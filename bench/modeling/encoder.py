"""A loaded encoder (BERT type): classifies prompts, so it needs closed labels."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch.nn.functional import cross_entropy

from bench.measurement import memory_estimate, memory_limit
from bench.method import TrainingData, Unsupported
from bench.modeling import encoder_inputs
from bench.modeling.loaded_model import ENCODING_BATCH_SIZE, LoadedModel, PaddingSide

CANNOT_GENERATE = (
    "an encoder cannot generate text: it needs a task with closed labels and a method that trains it or uses its states"
)


@dataclass
class Encoder(LoadedModel):
    """An encoder with a classification head and a frozen body (see `bench.method.LM`)."""

    can_generate: bool = False
    options: Sequence[str] = ()
    """Completion of a prompt for each label, set by `prepare`."""
    new_weights: Collection[str] = ()
    """Names of the weights that the checkpoint lacks, e.g. of the pooler; they are random until they are trained."""
    output_layer: str = ""
    """Name of the layer over the labels, set by `prepare`."""
    max_positions: int = field(init=False)
    """Maximum tokens of a row, with special and virtual tokens."""
    _padding_side: PaddingSide | None = field(init=False, repr=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.tokenizer.pad_token_id is None:
            self.tokenizer.pad_token = self.tokenizer.eos_token
        if getattr(self.model.config, "pad_token_id", None) is None:
            self.model.config.pad_token_id = self.tokenizer.pad_token_id
        self.max_positions = encoder_inputs.max_positions(self.model)
        self._accepts_mask = encoder_inputs.accepts_attention_mask(self.model)
        self._padding_side = encoder_inputs.find_padding_side(self.model)
        self.tokenizer.padding_side = self._padding_side or "right"

    @property
    def context(self) -> int:
        """Maximum tokens of a prompt, with special and without virtual tokens."""
        return self.max_positions - self.num_virtual_tokens

    @property
    def padding_side(self) -> PaddingSide | None:
        """Side on which `model_inputs` pads; None if padding would change other states."""
        return self._padding_side

    def model_inputs(self, rows: Sequence[list[int]]) -> dict[str, Any]:
        """Return encoded rows as arguments of the model, padded to the longest of them."""
        inputs = super().model_inputs(rows)
        return inputs if self._accepts_mask else {"input_ids": inputs["input_ids"]}

    @property
    def max_new_tokens(self) -> int:
        """Tokens that an answer may have: 0, because a label is predicted and not generated."""
        return 0

    def prepare(self, data: TrainingData) -> None:
        """Replace the output layer by one over the labels of the task; unfreeze the head.

        The head is every layer outside of the body, and the layers that the checkpoint lacks. Their weights are random
        or made for another task, so they have to be trained.

        Raises:
            Unsupported: The task has no closed labels.
        """
        if data.labels is None:
            raise Unsupported(CANNOT_GENERATE)
        self.options = data.options
        num_labels = len(self.options)
        in_body = set(self.model.base_model.modules())
        self.output_layer, output = [
            (name, layer)
            for name, layer in self.model.named_modules()
            if isinstance(layer, torch.nn.Linear) and layer not in in_body
        ][-1]
        output.out_features = self.model.config.num_labels = self.model.num_labels = num_labels
        std = getattr(self.model.config, "initializer_range", 0.02)
        output.weight = torch.nn.Parameter(output.weight.new_empty(num_labels, output.in_features).normal_(0.0, std))
        output.bias = torch.nn.Parameter(output.weight.new_zeros(num_labels))
        body = {id(weight) for weight in self.model.base_model.parameters()}
        for name, weight in self.model.named_parameters():
            if (id(weight) not in body or name in self.new_weights) and weight.is_floating_point():
                weight.requires_grad_(True)

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

    def generate(
        self,
        prompts: Sequence[str],
        *,
        temperature: float = 0.0,
        sample_index: int = 0,
        with_rationale: bool = False,
    ) -> list[str]:
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
        answers = [""] * len(rows)
        for group in self.padding_groups([len(row) for row in rows]):
            for positions in memory_estimate.length_batches(self.model, [len(rows[index]) for index in group]):
                indices = [group[position] for position in positions]
                batch = [rows[index] for index in indices]
                labels = memory_limit.run_halving_on_oom(lambda part: self._logits(part).argmax(-1).tolist(), batch)
                for index, label in zip(indices, labels, strict=True):
                    answers[index] = self.options[label]
        return answers

    def loglikelihood(self, prompt: str, completions: Sequence[str]) -> list[float]:
        """Raise `Unsupported`: an encoder has no likelihood of text."""
        raise Unsupported(CANNOT_GENERATE)

    def loglikelihoods(self, prompts: Sequence[str], completions: Sequence[str]) -> list[list[float]]:
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
        return self.batch_loss(self.model_inputs([prompt for prompt, _ in rows]), labels)

    def batch_loss(self, inputs: dict[str, Any], labels: Any) -> Any:
        """Return the mean loss (nats) over a padded batch, with gradient.

        Args:
            inputs: Padded token ids and mask.
            labels: Index of the label of each row, tensor (rows,).
        """
        names = ("input_ids", "attention_mask") if self._accepts_mask else ("input_ids",)
        logits = self.model(**{name: inputs[name] for name in names}).logits
        return cross_entropy(logits.float(), labels)

    def summed_loss(self, input_ids: Any, attention_mask: Any, labels: Any, count: Any = None) -> Any:
        """Raise `Unsupported`: an encoder has a label per row, not one per token."""
        raise Unsupported(CANNOT_GENERATE)

    def evaluate_loss(self, pairs: Sequence[tuple[list[int], list[int]]]) -> tuple[float, float]:
        """Return mean loss (nats) and accuracy over encoded pairs, in evaluation mode."""
        was_training = self.model.training
        logits: list[Any] = [None] * len(pairs)
        for indices in self.length_batches([len(prompt) for prompt, _ in pairs], ENCODING_BATCH_SIZE):
            prompts = [pairs[index][0] for index in indices]
            batch = memory_limit.run_halving_on_oom(lambda part: list(self._logits(part)), prompts)
            for index, row_logits in zip(indices, batch, strict=True):
                logits[index] = row_logits
        self.model.train(was_training)
        stacked = torch.stack(logits)
        labels = torch.tensor([label[0] for _, label in pairs], device=stacked.device)
        return float(cross_entropy(stacked, labels)), float((stacked.argmax(-1) == labels).float().mean())

    def _logits(self, rows: Sequence[list[int]]) -> Any:
        """Return the logits (rows, labels)."""
        self.model.eval()
        with torch.inference_mode():
            return self.model(**self.model_inputs(rows)).logits.float()

    def _truncate(self, ids: list[int]) -> list[int]:
        """Cut a prompt to the context at its start; a special first token stays."""
        if len(ids) <= self.context:
            return ids
        first = ids[:1] if ids[0] in self.tokenizer.all_special_ids else []
        return first + ids[len(ids) - self.context + len(first) :]
