"""Prompt tuning: learned embeddings before the prompt; the model stays frozen."""

from dataclasses import dataclass
from typing import Any, ClassVar

from pydantic import PositiveFloat, PositiveInt

from bench.method import param
from bench.training.gradient import GradientMethod, add_virtual_tokens, task_type

from .prefix import start_text_tokens


@dataclass
class PromptTuning(GradientMethod):
    """Soft prompts (https://arxiv.org/abs/2104.08691) that start from text of the task."""

    changes_base_weights: ClassVar[bool] = False

    lr: PositiveFloat = param(1e-1, help="peak learning rate of AdamW", search=(1e-2, 1.0), log=True)
    tokens: PositiveInt = param(32, help="learned embeddings before the prompt", search=(10, 100), log=True)

    def adapt(self, model: Any) -> Any:
        """Add a soft prompt with the embeddings of the start text of the task."""
        import torch
        from peft import PromptTuningConfig

        token_ids = torch.tensor(start_text_tokens(self.lm_, self.data_, self.tokens), device=model.device)
        embeddings = model.get_input_embeddings()(token_ids).detach()
        config = PromptTuningConfig(task_type=task_type(model), num_virtual_tokens=self.tokens)
        adapted = add_virtual_tokens(model, config)
        adapted.prompt_encoder[adapted.active_adapter].embedding.weight.data.copy_(embeddings)
        return adapted
