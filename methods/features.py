"""Frozen features: a linear or nearest-neighbour reader over what the base model makes of the prompt."""

import json
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, PositiveInt

from bench.method import LM, Budget, Method, TrainingData, Unsupported, param
from bench.records import save_numbers, save_prompt

BATCH = 32
FOLDS = 5
CS = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)

Pool = Literal["last", "mean"]


@dataclass
class Features(Method):
    """Probing (https://arxiv.org/abs/1610.01644): logistic regression on closed labels, neighbours on open answers."""

    preload_modules: ClassVar[tuple[str, ...]] = (
        "bench.modeling.causal_lm",
        "bench.measurement.flops",
        "sklearn.linear_model",
        "sklearn.model_selection",
    )
    export_template = "linear_probe"

    layer: Annotated[float, Field(ge=0, le=1)] = param(
        1.0, help="where features are taken, as a share of the depth", search=(0.5, 0.7, 1.0)
    )
    pool: Pool = param("last", help="of a prompt's tokens: the last, or the mean over all", search=("last", "mean"))
    k: PositiveInt = param(1, help="neighbours that vote on an open answer", search=(1, 5, 15))

    def fit(self, lm: LM, data: TrainingData, budget: Budget) -> Self:
        """Encode the training questions once, as many as the budget pays for, and fit a reader on them."""
        self.lm_, self.data_ = lm, data
        vectors, answers = self._encode(budget)
        if data.labels is not None and len(set(answers)) > 1:
            self.voters_ = 1
            self.mean_, self.scale_, self.weights_, self.bias_, self.answers_ = regress(vectors, answers, data.seed)
        else:
            self.voters_, self.answers_ = self.k, answers
            self.mean_, self.scale_, self.weights_, self.bias_ = remember(vectors)
        return self

    def predict(self, inputs: Sequence[str]) -> list[str]:
        """The label, or the neighbours, with the highest score; of equally frequent answers the nearer one wins."""
        rows = questions(self.lm_, [self.data_.prompt(text) for text in inputs])
        vectors = encode(self.lm_, rows, layer=self.layer, pool=self.pool).numpy()
        scores = (vectors - self.mean_) / self.scale_ @ self.weights_.T + self.bias_
        best = (-scores).argsort(axis=1, kind="stable")[:, : self.voters_]
        return [Counter(self.answers_[place] for place in row).most_common(1)[0][0] for row in best]

    def save(self, folder: Path) -> None:
        """Save the reader: numbers, the answer that each row of `weights` stands for, and where features come from."""
        numbers = {"mean": self.mean_, "scale": self.scale_, "weights": self.weights_, "bias": self.bias_}
        save_numbers(folder / "reader.safetensors", numbers)
        words = {"layer": self.layer, "pool": self.pool, "voters": self.voters_, "answers": self.answers_}
        (folder / "reader.json").write_text(json.dumps(words, ensure_ascii=False, indent=1), "utf-8")
        save_prompt(folder, self.data_.prompt("{input}"))

    def _encode(self, budget: Budget) -> tuple[Any, list[str]]:
        """Vectors (examples, width) and answers, in an order by the seed: a part of them is a fair sample."""
        import numpy

        from bench.measurement.flops import FlopCounter

        train = random.Random(self.data_.seed).sample(list(self.data_.train), len(self.data_.train))
        vectors: list[Any] = []
        answers: list[str] = []
        counted = FlopCounter()
        for start in range(0, len(train), BATCH):
            batch = train[start : start + BATCH]
            rows = [self.lm_.encode(self.data_.prompt(example.input), "")[0] for example in batch]
            tokens = sum(map(len, rows))
            if not budget.can_afford(examples=len(batch), tokens=tokens):
                break
            budget.spend(examples=len(batch), tokens=tokens)
            with counted.count_once(tokens):
                vectors.append(encode(self.lm_, rows, layer=self.layer, pool=self.pool).numpy())
            answers += [example.target for example in batch]
            budget.flops = counted.scaled_to(budget.tokens)
        if not answers:
            raise Unsupported(f"the budget does not pay for reading the first {len(batch)} examples")
        return numpy.concatenate(vectors), answers


def questions(lm: LM, prompts: Sequence[str]) -> list[list[int]]:
    """Token ids of prompts, cut and counted as when they are answered word by word."""
    rows = [lm.encode(prompt, "")[0] for prompt in prompts]
    lm.token_usage.prompt_tokens += sum(map(len, rows))
    lm.token_usage.longest_prompt_tokens = max(lm.token_usage.longest_prompt_tokens, *map(len, rows))
    lm.token_usage.truncated_prompts += sum(
        len(lm.tokens(prompt)) > len(row) for prompt, row in zip(prompts, rows, strict=True)
    )
    return rows


def encode(lm: LM, rows: Sequence[list[int]], *, layer: float = 1.0, pool: Pool = "last") -> Any:
    """Float32 features (rows, width) of token ids, on the CPU; padded on the right, where nothing attends to it."""
    import torch

    order = sorted(range(len(rows)), key=lambda place: len(rows[place]))
    vectors: list[Any] = [None] * len(rows)
    lm.model.eval()
    for start in range(0, len(order), BATCH):
        places = order[start : start + BATCH]
        padded = lm.tokenizer.pad(
            {"input_ids": [rows[place] for place in places]}, padding_side="right", return_tensors="pt"
        ).to(lm.model.device)
        with torch.no_grad():
            states = lm.model.base_model(
                input_ids=padded["input_ids"], attention_mask=padded["attention_mask"], output_hidden_states=True
            ).hidden_states
        chosen = states[round(layer * (len(states) - 1))].float().cpu()
        for place, tokens in zip(places, chosen, strict=True):
            real = tokens[: len(rows[place])]
            vectors[place] = real[-1] if pool == "last" else real.mean(0)
    return torch.stack(vectors)


def regress(vectors: Any, answers: list[str], seed: int) -> tuple[Any, Any, Any, Any, list[str]]:
    """Mean, scale, weights (labels, width), bias and labels of an L2 logistic regression, C by cross-validation.

    Scaler and regression are fitted together, in every fold anew: what a fold is scored on never shapes its features.
    """
    import numpy
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GridSearchCV, StratifiedKFold
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    reader: Any = make_pipeline(StandardScaler(), LogisticRegression(C=CS[2], max_iter=1000))
    # As many folds as leave two labels in each of them.
    folds = min(FOLDS, Counter(answers).most_common(2)[1][1])
    if folds > 1:
        split = StratifiedKFold(folds, shuffle=True, random_state=seed)
        search = GridSearchCV(reader, {"logisticregression__C": CS}, cv=split)
        reader = search.fit(vectors, answers).best_estimator_
    else:
        reader.fit(vectors, answers)
    scaler, regression = reader[0], reader[1]
    weights, bias = regression.coef_, regression.intercept_
    if len(weights) == 1:  # of two labels scikit-learn keeps the second's row alone
        weights, bias = numpy.concatenate([0 * weights, weights]), numpy.concatenate([0 * bias, bias])
    numbers = [array.astype(numpy.float32) for array in (scaler.mean_, scaler.scale_, weights, bias)]
    return numbers[0], numbers[1], numbers[2], numbers[3], [str(label) for label in regression.classes_]


def remember(vectors: Any) -> tuple[Any, Any, Any, Any]:
    """Mean, scale, weights (examples, width) and bias by which scores order the examples by cosine similarity."""
    import numpy
    from sklearn.preprocessing import StandardScaler, normalize

    scaler = StandardScaler().fit(vectors)
    weights = normalize(scaler.transform(vectors))
    numbers = (scaler.mean_, scaler.scale_, weights, numpy.zeros(len(weights)))
    mean, scale, weights, bias = (array.astype(numpy.float32) for array in numbers)
    return mean, scale, weights, bias
