"""Prefix tuning: learned keys and values before the prompt in every layer."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, ClassVar

from pydantic import PositiveFloat, PositiveInt

from bench.method import LM, TrainingData, Unsupported, param
from bench.training.gradient import GradientMethod, add_virtual_tokens, task_type

MAX_EXAMPLES_IN_START_TEXT = 32


@dataclass
class Prefix(GradientMethod):
    """Prefix tuning (https://arxiv.org/abs/2101.00190) that starts from text of the task.

    The paper's projection is left out: it stabilizes training from a random start.
    """

    changes_base_weights: ClassVar[bool] = False

    lr: PositiveFloat = param(4e-2, help="peak learning rate of AdamW", search=(3e-3, 3e-1), log=True)
    tokens: PositiveInt = param(32, help="learned positions before the prompt", search=(10, 100), log=True)

    def adapt(self, model: Any) -> Any:
        """Add a prefix with the keys and values of the task's start text."""
        import torch
        from peft import PrefixTuningConfig
        from peft.tuners.cartridge.utils import initialize_kv_prefix_from_past_key_values

        token_ids = torch.tensor([start_text_tokens(self.lm_, self.data_, self.tokens)], device=model.device)
        with torch.no_grad():
            past_key_values = getattr(model(input_ids=token_ids, use_cache=True), "past_key_values", None)
        config = PrefixTuningConfig(task_type=task_type(model), num_virtual_tokens=self.tokens)
        adapted = add_virtual_tokens(model, config)
        if past_key_values is not None:  # an encoder returns no keys and values, so its prefix starts at random
            initialize_kv_prefix_from_past_key_values(adapted, past_key_values=past_key_values)
        return adapted


def start_text_tokens(lm: LM, data: TrainingData, size: int) -> list[int]:
    """Return the first `size` token ids of a prompt with solved training examples.

    Raises:
        Unsupported: The context or the examples have fewer tokens.
    """
    if size >= lm.context:
        raise Unsupported(f"{size} positions before the prompt leave none of the model's {lm.context}")
    question, *shots = islice(data.train, MAX_EXAMPLES_IN_START_TEXT)
    token_ids: Sequence[int] = lm.tokens(data.prompt(question.input, shots))
    if len(token_ids) < size:
        raise Unsupported(f"{size} positions are more than the {len(token_ids)} tokens of the training examples")
    return list(token_ids[:size])
