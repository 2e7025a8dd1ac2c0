"""DPO: LoRA, then training to prefer correct answers to the model's own wrong ones."""

from dataclasses import dataclass
from typing import Annotated, Self

from pydantic import Field, PositiveFloat

from bench.method import LM, Budget, TrainingData, Unsupported, param
from bench.training.gradient import PreferencePair

from .lora import LoRA


@dataclass
class DPO(LoRA):
    """Direct preference optimization (arXiv:2305.18290) after LoRA, within one budget."""

    share: Annotated[float, Field(gt=0, lt=1)] = param(0.9, help="fraction of the steps for LoRA", search=(0.5, 0.95))
    beta: PositiveFloat = param(0.1, help="weight of staying near the LoRA model", search=(0.03, 1.0), log=True)
    pace: PositiveFloat = param(0.01, help="learning rate of DPO as a fraction of lr", search=(1e-3, 1e-1), log=True)

    def fit(self, lm: LM, data: TrainingData, budget: Budget) -> Self:
        """Train as LoRA does, answer the training questions, then train on the wrong answers."""
        from bench.training import distributed
        from bench.training.trainer import train

        if not lm.can_generate:
            raise Unsupported("an encoder generates no answers, so there are no pairs of answers to compare")
        self.lm_, self.data_ = lm, data
        lm.model = self.adapt(lm.model)
        lr = self.peak_learning_rate(lm.model)
        self.curve_, self.kept_weights_ = train(
            lm,
            data,
            budget,
            lr=lr,
            warmup=self.warmup,
            weight_decay=self.weight_decay,
            step_fraction=self.share,
            keep=self.keep,
            patience=self.patience,
        )
        pairs = distributed.broadcast_from_first(lambda: self.preference_pairs(lm, data))
        # Steps that patience has saved are not spent on preferences.
        steps = budget.planned_steps - max(budget.steps, round(self.share * budget.planned_steps))
        if pairs and steps:
            self._train_preferences(pairs, budget, steps)
        return self

    def _train_preferences(self, pairs: list[PreferencePair], budget: Budget, steps: int) -> None:
        """Train on pairs of answers, from the weights that the first stage has kept."""
        from bench.training.dpo_trainer import train_dpo

        lm, kept_weights = self.lm_, self.kept_weights_
        training = train_dpo(
            lm,
            self.data_,
            budget,
            pairs,
            lr=self.pace * self.peak_learning_rate(lm.model),
            weight_decay=self.weight_decay,
            beta=self.beta,
            steps=steps,
        )
        self.curve_ += training.curve
        if self.keep == "best":
            reason = f"training on preferences went on from the weights of step {kept_weights.step}"
            update = {"keep": self.keep, "not_chosen": reason, "copied_mib": kept_weights.copied_mib}
            self.kept_weights_ = training.kept_weights.model_copy(update=update)
        else:
            self.kept_weights_ = training.kept_weights

    def preference_pairs(self, lm: LM, data: TrainingData) -> list[PreferencePair]:
        """Return the correct and a wrong answer to each training question.

        The wrong answer is `rejected` of the example, or else the model's own; a question that the model answers
        correctly is left out.
        """
        prompts = [data.prompt(example.input) for example in data.train]
        pairs = []
        for example, prompt, generated in zip(data.train, prompts, lm.generate(prompts), strict=True):
            completion = data.completion(example)
            answer_start = completion[: completion.rindex(example.target.strip())]
            prompt_ids, chosen = lm.encode(prompt, completion)
            rejected = lm.encode(prompt, answer_start + (example.rejected or data.trim(generated)))[1]
            if rejected != chosen:
                pairs.append((prompt_ids, chosen, rejected))
        return pairs
