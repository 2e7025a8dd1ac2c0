"""Prompt tuning: learnt vectors before the prompt; the model stays frozen."""

from dataclasses import dataclass
from typing import Any

from pydantic import PositiveFloat, PositiveInt

from bench.method import param
from bench.training import GradientMethod, task_type

from .prefix import opening


@dataclass
class PromptTuning(GradientMethod):
    """Soft prompts (https://arxiv.org/abs/2104.08691) that start as the embeddings of the task's own text."""

    lr: PositiveFloat = param(1e-1, help="peak learning rate of AdamW", search=(1e-2, 1.0), log=True)
    tokens: PositiveInt = param(32, help="learnt vectors before the prompt", search=(10, 100), log=True)

    def adapt(self, model: Any) -> Any:
        """Put the embeddings of the task's opening before every prompt; only they are trained."""
        import torch
        from peft import PromptTuningConfig, get_peft_model

        ids = torch.tensor(opening(self.lm_, self.data_, self.tokens), device=model.device)
        start = model.get_input_embeddings()(ids).detach()
        adapted: Any = get_peft_model(
            model, PromptTuningConfig(task_type=task_type(model), num_virtual_tokens=self.tokens)
        )
        adapted.prompt_encoder[adapted.active_adapter].embedding.weight.data.copy_(start)
        return adapted
