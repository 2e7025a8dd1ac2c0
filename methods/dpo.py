"""DPO: after LoRA, preferring the right answers to the model's own wrong ones."""

from dataclasses import dataclass
from typing import Annotated, Self

from pydantic import Field, PositiveFloat

from bench.method import LM, Budget, TrainingData, Unsupported, param
from bench.training import PreferencePair

from .lora import LoRA


@dataclass
class DPO(LoRA):
    """Direct preference optimization (https://arxiv.org/abs/2305.18290) of what LoRA has learnt, in one budget."""

    share: Annotated[float, Field(gt=0, lt=1)] = param(
        0.9, help="share of the steps that LoRA takes first", search=(0.5, 0.95)
    )
    beta: PositiveFloat = param(0.1, help="how dear it is to leave LoRA's answers", search=(0.03, 1.0), log=True)
    pace: PositiveFloat = param(0.01, help="the second data's lr, as a share of lr", search=(1e-3, 1e-1), log=True)

    def fit(self, lm: LM, data: TrainingData, budget: Budget) -> Self:
        """Train as LoRA does, answer the training questions, and learn from what was wrong."""
        from bench.training import distributed
        from bench.training.dpo_trainer import train_dpo
        from bench.training.trainer import train

        if not lm.can_generate:
            raise Unsupported("an encoder writes no answers, so none can be preferred")
        self.lm_, self.data_ = lm, data
        lm.model = self.adapt(lm.model)
        lr = self.peak_learning_rate(lm.model)
        self.curve_ = train(
            lm, data, budget, lr=lr, warmup=self.warmup, weight_decay=self.weight_decay, step_fraction=self.share
        )
        choices = distributed.broadcast_from_first(lambda: self.choices(lm, data))
        if choices and budget.steps < budget.planned_steps:
            self.curve_ += train_dpo(
                lm, data, budget, choices, lr=self.pace * lr, weight_decay=self.weight_decay, beta=self.beta
            )
        return self

    def choices(self, lm: LM, data: TrainingData) -> list[PreferencePair]:
        """For each training question the answer wanted and one that is not: the task's own, or the model's if wrong."""
        prompts = [data.prompt(example.input) for example in data.train]
        made = []
        for example, prompt, said in zip(data.train, prompts, lm.generate(prompts), strict=True):
            completion = data.completion(example)
            lead = completion[: len(completion) - len(completion.lstrip())]
            head, good = lm.encode(prompt, completion)
            bad = lm.encode(prompt, lead + (example.rejected or data.trim(said)))[1]
            if bad != good:
                made.append((head, good, bad))
        return made
