"""Prefix tuning: learnt keys and values before the prompt in every layer; the model stays frozen."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from pydantic import PositiveFloat, PositiveInt

from bench.method import LM, TrainingData, Unsupported, param
from bench.training import GradientMethod, task_type


@dataclass
class Prefix(GradientMethod):
    """Prefix tuning (https://arxiv.org/abs/2101.00190) that starts from what the model reads in the task's own text.

    Without the paper's projection, which serves a random start.
    """

    lr: PositiveFloat = param(1e-2, help="peak learning rate of AdamW", search=(1e-3, 1e-1), log=True)
    tokens: PositiveInt = param(32, help="learnt positions before the prompt", search=(10, 100), log=True)

    def adapt(self, model: Any) -> Any:
        """Let the model read the task's opening; its keys and values there are what is trained."""
        import torch
        from peft import PrefixTuningConfig, get_peft_model
        from peft.tuners.cartridge.utils import initialize_kv_prefix_from_past_key_values

        ids = torch.tensor([opening(self.lm_, self.data_, self.tokens)], device=model.device)
        with torch.no_grad():
            read = getattr(model(input_ids=ids, use_cache=True), "past_key_values", None)
        adapted: Any = get_peft_model(
            model, PrefixTuningConfig(task_type=task_type(model), num_virtual_tokens=self.tokens)
        )
        if read is not None:  # an encoder hands out no keys and values
            initialize_kv_prefix_from_past_key_values(adapted, past_key_values=read)
        return adapted


def opening(lm: LM, data: TrainingData, size: int) -> list[int]:
    """The first `size` token ids of the task told as text: solved training examples in the task's own form."""
    if size >= lm.context:
        raise Unsupported(f"{size} positions before the prompt leave none of the model's {lm.context}")
    last, *shown = islice(data.train, 32)
    ids: Sequence[int] = lm.tokens(data.prompt(last.input, shown))
    if len(ids) < size:
        raise Unsupported(f"{size} positions are more than the {len(ids)} tokens of the training examples")
    return list(ids[:size])
